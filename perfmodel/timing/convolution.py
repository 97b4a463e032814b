"""Depthwise convolution: our kernels by strips of positions, torch's by outputs and copies.

Ours: a thread owns a few channels and walks down a strip of positions, sixteen at a time; it waits for their arrival,
then computes. Its filter and its past lie in registers, so a longer filter leaves room for fewer blocks, and fewer blocks
hide less of the wait. Short signals give few strips, and the last round of blocks is not full.

torch: its kernel is made for (B, D, N), finds every output's place by divisions, and pads by predicates. The other
layout, (B, N, D), costs a copy that turns it round before, and one behind; both move single elements.
"""

from __future__ import annotations

from math import ceil

from perfmodel.timing.card import Card
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, overlapped

THREADS = 256
RUN = 16  # positions asked for at once
STRIP, SHORT_TAPS = 128, 4
REGISTERS = 65536
OWN_REGISTERS = 4
TAP_REGISTERS = 56  # of filter elements a thread
WAIT_LATENCIES = 6.7  # from asking for sixteen positions to their arrival, in DRAM latencies
INSTRUCTIONS = 16.9  # per element
SHARPNESS = 3.5


def own(card: Card, B: int, N: int, D: int, K: int, item: int, found: float) -> Body:
    """Our fused forward kernel."""
    wide = _width(D, K, item)
    longest = RUN if K <= SHORT_TAPS else STRIP
    across = ceil(D / (wide * THREADS))
    strip = longest
    while strip > RUN and B * ceil(N / strip) * across < 8 * card.multiprocessors:
        strip //= 2
    stream = moved(card, B * N * D * item, B * N * D * item, found)
    # Filter and past as floats, sixteen positions as they come.
    registers = OWN_REGISTERS + wide * 2 * K + RUN * wide * item // 4
    held = max(1, REGISTERS // (THREADS * 8 * ceil(registers / 8)))
    blocks = B * ceil(N / strip) * across
    rounds = blocks / (card.multiprocessors * held)
    turn = ceil(strip / RUN)
    compute_s = RUN * wide * THREADS * INSTRUCTIONS / (card.lane_per_s / card.multiprocessors)
    live = min(float(held), blocks / card.multiprocessors)
    life_s = turn * (WAIT_LATENCIES * card.dram_latency_s + compute_s * live)
    turns_s = max(rounds, 1.0) * life_s
    seconds, terms = overlapped(
        (("memory", stream.dram_s), ("L2", stream.l2_s), ("waiting and computing by turns", turns_s)), SHARPNESS
    )
    return Body(seconds, terms, "convolution", f"strips of {strip}, {held} blocks a multiprocessor")


def _width(D: int, K: int, item: int) -> int:
    """Channels of a thread: 8 bytes of them, fewer where they do not divide or the filter would leave the registers."""
    wide = max(1, 8 // item)
    while wide > 1 and (D % wide or wide * K > TAP_REGISTERS):
        wide //= 2
    return wide


# Instructions of torch's kernel per output, and per output and tap; of a copy that turns a layout round, per element.
OUTPUT = {2: 190.0, 4: 280.0}
TAP = 10.0
SLICE = 50.0
TURN = 175.0


def by_torch(card: Card, B: int, N: int, D: int, K: int, item: int, *, turned: bool) -> Body:
    """torch's depthwise kernel with the copies around it."""
    elements = B * N * D
    each = OUTPUT[item if item in OUTPUT else 4] + TAP * K
    copies = 2 * TURN if turned else SLICE
    lanes_s = elements * (each + copies) / card.lane_per_s
    trips = 3 if turned else 2
    stream = moved(card, trips * elements * item, trips * elements * item)
    seconds, terms = overlapped((("instructions", lanes_s), ("memory", stream.dram_s)), SHARPNESS)
    return Body(
        seconds + (trips - 1) * card.node_s, terms, "layout", "copies to and from (B, D, N)" if turned else "(B, D, N)"
    )
