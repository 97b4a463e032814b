"""Depthwise convolution: the kernels of this package, by strips of positions, and those of torch, by outputs and
copies.

Ours: a thread requests a strip of positions of a few channels, computes and ends. Filter, window and rows are in
registers, so a longer filter leaves room for fewer blocks. Where the strip does not divide the positions, the last
strip is processed row by row, each with its own wait. The backward kernel walks longer strips, eight positions at a
time, with the filter gradient's sums in registers; a second kernel adds them. The padding kernel has one block per row:
with few channels most of its threads are idle.

torch: its kernel expects (B, D, N), computes the place of every output by divisions, and pads by predicates. The layout
(B, N, D) costs a transposing copy before and one after; both move single elements.
"""

from __future__ import annotations

from math import ceil, prod

from perfmodel.arithmetic import Size, maximum, minimum
from perfmodel.cuda import strips
from perfmodel.cuda.layouts import widest
from perfmodel.op import Op
from perfmodel.runs import Depthwise, number
from perfmodel.timing.blocks import BLOCK_CLOCKS, THREADS
from perfmodel.timing.branches import by_paths, by_points
from perfmodel.timing.card import Card
from perfmodel.timing.launch import ramp_s
from perfmodel.timing.part import Part, item_byte, moved_bytes
from perfmodel.timing.stream import first_latency_s, late_s, moved
from perfmodel.timing.terms import Body, Term, later, overlapped
from perfmodel.timing.weights import Mechanism

_data = Mechanism("convolution")
REGISTERS, OWN_REGISTERS = _data.facts("registers", "own registers")
REGISTER_STEP, BACK_KERNELS = _data.facts("register step", "back kernels")
SHARPNESS, ACCESS, ELEMENT, TAP_EACH = _data.weights("sharpness", "access", "element", "tap each")
ISSUE_CLOCKS, WAIT_LATENCIES, REST_LATENCIES = _data.weights("issue clocks", "wait latencies", "rest latencies")
BACK_TAP, BACK_LATENCIES, GATHER_LATENCIES = _data.weights("back tap", "back latencies", "gather latencies")
# Of torch's kernels.
OUTPUT, TAP, SLICE, TURN = _data.group("output"), *_data.weights("tap", "slice", "turn")
TORCH_SHARPNESS, WEIGHT = _data.weights("torch sharpness", "weight")


_tile, _back_width, _back_strip = by_points(strips.tile), by_points(strips.back_width), by_points(strips.back_strip)


def depthwise(card: Card, fact: Depthwise, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernel of a depthwise convolution, its gradients or its padding: torch's, or one of this package."""
    B, N, D, K = (number(size) for size in (fact.B, fact.N, fact.D, fact.K))
    item, back = item_byte(fact.item), fact.part == "backward"
    byte = moved_bytes(op).both
    if fact.part == "pad":
        return (Part(lambda found: pad(card, B, N, N + 2 * (K - 1), D, item, found), byte),)
    if impl in ("torch", "torch_channels_first"):
        run = torch_backward if back else by_torch
        return (Part(lambda found: run(card, B, N, D, K, item, dtype, turned=impl == "torch"), byte),)
    ours = own_backward if back else own
    return (Part(lambda found: ours(card, B, N, D, K, item, found), byte),)


def _held(card: Card, threads: Size, registers: Size) -> Size:
    """Resident blocks per multiprocessor."""
    dealt = REGISTER_STEP * ceil(registers / REGISTER_STEP)
    resident = minimum(int(card.of_each("threads", THREADS)) // threads, REGISTERS // (threads * dealt))
    return maximum(1, minimum(32, resident))


@by_paths
def own(card: Card, B: int, N: int, D: int, K: int, item: int, found: float) -> Body:
    """Our fused forward kernel."""
    lay = _tile(B, N, D, K, widest(D, item), item, card.multiprocessors)
    if lay is None:  # a filter too long for registers is read through the cache, tap by tap
        lay = strips.Tile(widest(D, item), 1, strips.THREADS, 1)
    threads, blocks = lay.across * lay.tall, prod(lay.grid(B, N, D))
    held = _held(card, threads, OWN_REGISTERS + lay.wide * (2 * K - 1 + lay.strip * item / 4))
    size = B * N * D * item
    stream = moved(card, size, size, found)
    l2_s = stream.l2_s + size * (K - 1) / (lay.strip * lay.tall) / card.l2_byte_per_s
    per_row = ACCESS + lay.wide * (ELEMENT + TAP_EACH * K)
    lanes = B * N * ceil(D / lay.wide) * per_row
    latency_s = first_latency_s(card, found)
    life_s = WAIT_LATENCIES * latency_s + lay.strip * per_row * ISSUE_CLOCKS / card.clock_hz
    turns_s = ceil(blocks / (held * card.multiprocessors)) * life_s
    rest_s = N % lay.strip * REST_LATENCIES * latency_s
    late = late_s(card, (1.0 - found) * size, (1.0 - found) * size)
    seconds, terms, late = _overlapped(stream.dram_s, l2_s, lanes / card.lane_per_s, turns_s, late)
    if terms and rest_s:
        terms = (*terms, Term("remainder rows", rest_s))
    return Body(
        seconds + rest_s, terms, "convolution", f"strips of {lay.strip}, {held} blocks per multiprocessor", late
    )


def _overlapped(
    dram_s: float, l2_s: float, lanes_s: float, turns_s: float, late: float
) -> tuple[float, tuple[Term, ...], float]:
    """The time of the overlapping streams, their terms, and the delayed write-back that the next kernel pays."""
    streams = (("memory", dram_s), ("L2", l2_s), ("instructions", lanes_s), ("blocks", turns_s))
    seconds, terms = overlapped(streams, SHARPNESS)
    return seconds, terms, later(streams, SHARPNESS, seconds, late)


@by_paths
def pad(card: Card, B: int, N: int, rows: int, D: int, item: int, found: float) -> Body:
    """The kernel that writes the padded signal: one block per row and group of channels."""
    K = (rows - N) // 2 + 1
    lay = _tile(B, N, D, K, widest(D, item), item, card.multiprocessors)
    wide, threads = (lay.wide, lay.across * lay.tall) if lay else (widest(D, item), strips.THREADS)
    blocks = strips.over(D, wide * threads) * rows * B
    stream = moved(card, B * N * D * item, B * rows * D * item, found)
    taken_s = blocks / card.multiprocessors * BLOCK_CLOCKS / card.clock_hz
    late = late_s(card, (1.0 - found) * B * N * D * item, (1.0 - found) * B * rows * D * item)
    seconds, terms, late = _overlapped(stream.dram_s, stream.l2_s, 0.0, taken_s, late)
    return Body(seconds, terms, "convolution", f"{blocks} blocks of {threads}", late)


@by_paths
def own_backward(card: Card, B: int, N: int, D: int, K: int, item: int, found: float) -> Body:
    """Our backward kernel, and the kernel that adds its sums."""
    wide = _back_width(K, widest(D, item, 8)) if strips.held_back(K) else widest(D, item)
    strip = _back_strip(B, N, D, wide, card.multiprocessors) if strips.held_back(K) else strips.STRIP
    count = B * strips.over(N, strip)
    blocks = strips.over(D, wide * strips.THREADS) * count
    size, partial = B * N * D * item, count * (K + 1) * D * 4
    stream = moved(card, 2 * size, size, found)
    l2_s = stream.l2_s + partial / card.l2_byte_per_s
    held = _held(card, strips.THREADS, OWN_REGISTERS + wide * (3 * K + 1 + 2 * strips.BACK_RUN * item / 4))
    per_row = 2 * ACCESS + wide * (ELEMENT + 2 * BACK_TAP * K)
    lanes = B * N * ceil(D / wide) * per_row
    latency_s = first_latency_s(card, found)
    runs = ceil(minimum(strip, N) / strips.BACK_RUN)
    life_s = runs * BACK_LATENCIES * latency_s + strip * per_row * ISSUE_CLOCKS / card.clock_hz
    turns_s = ceil(blocks / (held * card.multiprocessors)) * life_s
    # The last strip has no full run where it reads past its end.
    rest_s = (K - 1 + (N - K + 1) % strips.BACK_RUN) * REST_LATENCIES * latency_s
    late = late_s(card, (1.0 - found) * 2 * size, (1.0 - found) * size)
    seconds, terms, late = _overlapped(stream.dram_s, l2_s, lanes / card.lane_per_s, turns_s, late)
    across = ceil(ceil(D / 32) * (K + 1) / (8 * card.multiprocessors))
    gather_s = card.node_s + ramp_s(card, False) + across * ceil(count / 8) * GATHER_LATENCIES * card.l2_latency_s
    gather_s += partial / card.l2_byte_per_s
    terms = (*terms, Term("remainder rows", rest_s), Term("reduce partial sums", gather_s))
    choice = f"strips of {strip}, {held} blocks per multiprocessor"
    return Body(seconds + rest_s + gather_s, terms, "convolution", choice, late)


def by_torch(card: Card, B: int, N: int, D: int, K: int, item: int, dtype: str, *, turned: bool) -> Body:
    """torch's depthwise kernel with the copies around it."""
    elements = B * N * D
    each = OUTPUT.get(dtype, OUTPUT["fp32"]) + TAP * K
    copies = 2 * TURN if turned else SLICE
    lanes_s = elements * (each + copies) / card.lane_per_s
    trips = 3 if turned else 2
    stream = moved(card, trips * elements * item, trips * elements * item)
    seconds, terms = overlapped((("instructions", lanes_s), ("memory", stream.dram_s)), TORCH_SHARPNESS)
    gaps_s = trips * (card.node_s + ramp_s(card, True))
    words = "copies to and from (B, D, N)" if turned else "(B, D, N)"
    return Body(seconds + gaps_s, (*terms, Term("gaps between kernels", gaps_s)), "layout", words)


def torch_backward(card: Card, B: int, N: int, D: int, K: int, item: int, dtype: str, *, turned: bool) -> Body:
    """The gradients in torch: the input gradient (same kind of kernel), the weight gradient (a reduction), and the
    layout copies again.
    """
    elements = B * N * D
    each = OUTPUT.get(dtype, OUTPUT["fp32"]) + TAP * K + WEIGHT
    lanes_s = elements * (each + (2 * TURN if turned else SLICE)) / card.lane_per_s
    stream = moved(card, 5 * elements * item, 3 * elements * item)
    seconds, terms = overlapped((("instructions", lanes_s), ("memory", stream.dram_s)), TORCH_SHARPNESS)
    gaps_s = BACK_KERNELS * card.node_s
    return Body(seconds + gaps_s, (*terms, Term("gaps between kernels", gaps_s)), "layout")


MECHANISMS = {Depthwise: depthwise}
