"""Depthwise convolution: our kernels by strips of positions, torch's by outputs and copies.

Ours: a thread owns a few channels and walks down a strip of positions, sixteen at a time; it waits for its filter
and their arrival, then computes. Its filter and its past lie in registers, so a longer filter leaves room for fewer blocks, and fewer blocks
hide less of the wait. Short signals give few strips, and the last round of blocks is not full.

torch: its kernel is made for (B, D, N), finds every output's place by divisions, and pads by predicates. The other
layout, (B, N, D), costs a copy that turns it round before, and one behind; both move single elements.
"""

from __future__ import annotations

from math import ceil

from perfmodel.timing.card import Card
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, Term, overlapped

THREADS = 128
RUN = 16  # positions asked for at once
STRIP, SHORT_TAPS = 128, 4
REGISTERS = 65536
OWN_REGISTERS = 5.5
TAP_REGISTERS = 56  # of filter elements a thread
# A warp's 256 bytes touch a third line where rows do not begin on one.
LINE_BYTE, CROOKED = 128, 1.24
START_LATENCIES = 0.22  # per tap: a block's filter and the rows above its strip come first
INSTRUCTIONS, TAP_INSTRUCTIONS = 20.0, 0.87  # per element, and per element and tap
SHARPNESS = 12.0


def own(card: Card, B: int, N: int, D: int, K: int, item: int, found: float) -> Body:
    """Our fused forward kernel."""
    wide = _width(D, K, item)
    longest = RUN if K <= SHORT_TAPS else STRIP
    across = ceil(D / (wide * THREADS))
    strip = longest
    while strip > RUN and B * ceil(N / strip) * across < 8 * card.multiprocessors:
        strip //= 2
    crooked = CROOKED if D * item % LINE_BYTE else 1.0
    stream = moved(card, crooked * B * N * D * item, crooked * B * N * D * item, found)
    # Filter and past as floats, sixteen positions as they come.
    registers = OWN_REGISTERS + wide * 2 * K + RUN * wide * item // 4
    held = max(1, REGISTERS // (THREADS * 8 * ceil(registers / 8)))
    blocks = B * ceil(N / strip) * across
    rounds = blocks / (card.multiprocessors * held)
    turn = ceil(strip / RUN)
    each = INSTRUCTIONS + TAP_INSTRUCTIONS * K
    compute_s = RUN * wide * THREADS * each / (card.lane_per_s / card.multiprocessors)
    live = min(float(held), blocks / card.multiprocessors)
    life_s = turn * compute_s * live + START_LATENCIES * K * card.dram_latency_s
    turns_s = max(rounds, 1.0) * life_s
    seconds, terms = overlapped(
        (("memory", stream.dram_s), ("L2", stream.l2_s), ("waiting and computing by turns", turns_s)), SHARPNESS
    )
    return Body(seconds, terms, "convolution", f"strips of {strip}, {held} blocks a multiprocessor")


def own_backward(card: Card, B: int, N: int, D: int, K: int, item: int, found: float) -> Body:
    """Our backward kernel: eight positions at a time, sums of the filter's gradients in registers, and their gathering."""
    wide = _width(D, 2 * K, item)
    across = ceil(D / (wide * THREADS))
    strip = STRIP
    while strip > RUN and B * ceil(N / strip) * across < 8 * card.multiprocessors:
        strip //= 2
    size, partial = B * N * D * item, B * ceil(N / strip) * (K + 1) * D * 4
    stream = moved(card, 2 * size, size + partial, found)
    registers = OWN_REGISTERS + wide * (3 * K + 1) + 2 * BACK_RUN * wide * item // 4
    held = max(1, min(8, REGISTERS // (THREADS * 8 * ceil(registers / 8))))
    blocks = B * ceil(N / strip) * across
    live = min(float(held), blocks / card.multiprocessors)
    each = BACK_TAP * K
    compute_s = BACK_RUN * wide * THREADS * each / (card.lane_per_s / card.multiprocessors)
    life_s = ceil(strip / BACK_RUN) * (BACK_WAIT_LATENCIES * card.dram_latency_s + compute_s * live)
    turns_s = max(blocks / (card.multiprocessors * held), 1.0) * life_s
    seconds, terms = overlapped(
        (("memory", stream.dram_s), ("L2", stream.l2_s), ("waiting and computing by turns", turns_s)), SHARPNESS
    )
    gather_s = GATHER_S + card.node_s + partial / card.l2_byte_per_s
    return Body(seconds + gather_s, (*terms, Term("sums of the parts", gather_s)), "convolution", f"strips of {strip}")


def _width(D: int, K: int, item: int) -> int:
    """Channels of a thread: 8 bytes of them, fewer where they do not divide or the filter would leave the registers."""
    wide = max(1, 8 // item)
    while wide > 1 and (D % wide or wide * K > TAP_REGISTERS):
        wide //= 2
    return wide


# The backward kernel: positions at once, its wait, instructions per element and tap; the gathering kernel.
BACK_RUN, BACK_WAIT_LATENCIES, BACK_TAP, GATHER_S = 8, 1.33, 9.0, 5.3e-6

# Instructions of torch's kernel per output, and per output and tap; of a copy that turns a layout round, per element.
OUTPUT = {"fp16": 140.0, "bf16": 288.0, "fp32": 307.0}
TAP = 10.7
SLICE = 73.0
TURN = 200.0
WEIGHT = 164.0  # of the weights' gradient
BACK_KERNELS = 10


def by_torch(card: Card, B: int, N: int, D: int, K: int, item: int, dtype: str, *, turned: bool) -> Body:
    """torch's depthwise kernel with the copies around it."""
    elements = B * N * D
    each = OUTPUT.get(dtype, OUTPUT["fp32"]) + TAP * K
    copies = 2 * TURN if turned else SLICE
    lanes_s = elements * (each + copies) / card.lane_per_s
    trips = 3 if turned else 2
    stream = moved(card, trips * elements * item, trips * elements * item)
    seconds, terms = overlapped((("instructions", lanes_s), ("memory", stream.dram_s)), SHARPNESS)
    gaps_s = (trips - 1) * card.node_s
    words = "copies to and from (B, D, N)" if turned else "(B, D, N)"
    return Body(seconds + gaps_s, (*terms, Term("from kernel to kernel", gaps_s)), "layout", words)


def torch_backward(card: Card, B: int, N: int, D: int, K: int, item: int, dtype: str, *, turned: bool) -> Body:
    """torch's gradients: the input's by the same kind of kernel, the weights' by a reduction, and the copies again."""
    elements = B * N * D
    each = OUTPUT.get(dtype, OUTPUT["fp32"]) + TAP * K + WEIGHT
    lanes_s = elements * (each + (2 * TURN if turned else SLICE)) / card.lane_per_s
    stream = moved(card, 5 * elements * item, 3 * elements * item)
    seconds, terms = overlapped((("instructions", lanes_s), ("memory", stream.dram_s)), SHARPNESS)
    gaps_s = BACK_KERNELS * card.node_s
    return Body(seconds + gaps_s, (*terms, Term("from kernel to kernel", gaps_s)), "layout")
