"""Copies, concatenations, fills and random numbers, as torch launches them (its CUDA sources, 2.9 to 2.11).

A copy between contiguous tensors of one data type is a memory copy; with a conversion it is a vectorised elementwise
kernel. Any other copy, and every elementwise kernel with a strided or broadcast operand, computes the place of each
element by divisions: 128 threads per block, two or four elements per thread. The compiler cannot move a load before the
previous store, so a thread waits for memory once per element.

A warp accesses 32 neighbouring elements of the result. If these lie in several runs of the source, the access is split
into as many cache lines. Each run is read in whole sectors of 32 bytes. The rest of a sector is used by other warps, so
the extra bytes come from L2.

A concatenation moves 16 bytes at once where every piece is a multiple of 16 bytes. Otherwise it computes a place for
every element. Random numbers take a counter-based generator of ten rounds for every four numbers.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from perfmodel.arithmetic import floor_div, maximum, minimum
from perfmodel.op import Op
from perfmodel.runs import Concatenate, Copy, Fill, Random, Stream, number
from perfmodel.timing import instructions
from perfmodel.timing.blocks import WARP, Launch, body, elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.stream import HELD_BACK
from perfmodel.timing.terms import Body, later, overlapped
from perfmodel.timing.weights import Mechanism

_data = Mechanism("movement")
COPY, CONVERT, CAST, STRIDED_CAST, CAST_WAITS = _data.weights("copy", "convert", "cast", "strided cast", "cast waits")
THREAD, ELEMENT, TENSOR, DIMENSION = _data.weights("thread", "element", "tensor", "dimension")
ADVANCE, OVERLAP, LINE, SERIAL = _data.weights("advance", "overlap", "line", "serial")
CAT_VECTOR, CAT_ELEMENT, CAT_DIVISION = _data.weights("cat vector", "cat element", "cat division")
CAT_START, CAT_WAITS, RANDOM_START, RANDOM = _data.weights("cat start", "cat waits", "random start", "random")
FILL_DRAM, FILL_SUSTAINED, FILL_L2, FILL_SHARPNESS = _data.weights(
    "fill dram", "fill sustained", "fill l2", "fill sharpness"
)

STRIDED_THREADS, CAST_EACH, SECTOR, VECTOR = _data.facts("strided threads", "cast each", "sector", "vector")
USUAL_DIMS, CAT_BLOCKS, CAT_THREADS, CAT_TENSORS = _data.facts("usual dims", "cat blocks", "cat threads", "cat tensors")
VECTOR_BLOCKS = _data.fact("vector blocks")
RANDOM_THREADS, RANDOM_BLOCKS, RANDOM_EACH = _data.facts("random threads", "random blocks", "random each")


def copy(card: Card, fact: Copy, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A copy in the cheapest form that its layout allows."""
    numel, distinct, run = number(fact.numel), number(fact.distinct), number(fact.run)
    item, result = float(fact.item), float(fact.result)
    if run >= numel and distinct >= numel:
        read, write = numel * item, numel * result
        if fact.converts or result > item:  # torch has vectorised conversions to narrower types alone
            return in_order(card, cast(numel, read, write, 2))
        lanes = (COPY if item == result else CONVERT) * numel
        part = Part(
            lambda found: elementwise(card, read, write, lanes, found, "contiguous"), floor_div(read + write, 1)
        )
        return (part,)
    # A source with fewer elements and runs of one is taken as broadcast along the fastest dimension.
    pieces = WARP / minimum(WARP, maximum(run, numel // distinct))
    sectors = pieces * ceil(minimum(run, WARP) * item / SECTOR)
    lanes = places(fact.dims or USUAL_DIMS, 2) + (2 * STRIDED_CAST if fact.converts else 0.0) + LINE * (pieces - 1.0)
    launch = strided(numel, result, distinct * item, numel * result, lanes)
    more = maximum(0.0, numel / WARP * sectors * SECTOR - distinct * item)
    first = distinct / numel  # a repeated element is in L2 from its first use
    launch = launch._replace(waits=launch.waits * first, near_waits=launch.waits * (1.0 - first), sector_byte=more)
    return in_order(card, launch)


def strided_stream(card: Card, fact: Stream, op: Op) -> tuple[Part, ...]:
    """An elementwise kernel with a strided or broadcast operand, or with operands that are converted one by one."""
    moved = [t for t in op.tensors if not t.spill and (t.reads or t.writes)]
    elements = max((t.elements for t in moved if t.writes), default=0) or max(t.elements for t in moved)
    if fact.special == "cast":
        return in_order(card, cast(elements, op.read_byte(), op.write_byte(), len(moved)))
    result = max((float(t.item) for t in moved if t.writes), default=4)
    lanes = (
        places(fact.dims or USUAL_DIMS, len(moved)) + LINE * fact.lines + instructions.of_op(op, elements) / elements
    )
    lanes += STRIDED_CAST * len(moved) if fact.converts else 0.0
    return in_order(card, strided(elements, result, op.read_byte(), op.write_byte(), lanes))


def places(dims: int, tensors: int) -> float:
    """Returns the instructions per element that compute its address in every tensor, load it and store it."""
    return ELEMENT + TENSOR * tensors + dims * (DIMENSION + ADVANCE * tensors)


def strided(elements: int, item: float, read: float, write: float, lanes: float) -> Launch:
    """A kernel of two or four elements per thread, with so many instructions per element."""
    each = 2 if item >= 4 else 4
    blocks = ceil(elements / (STRIDED_THREADS * each))
    filled = elements / (blocks * STRIDED_THREADS)
    waits = maximum(1.0, SERIAL * minimum(each, ceil(elements / STRIDED_THREADS)))
    return Launch(
        "strided", blocks, STRIDED_THREADS, read, write, THREAD + filled * lanes, waits, mechanism="movement",
        sharpness=OVERLAP,
    )  # fmt: skip


def cast(elements: int, read: float, write: float, tensors: int) -> Launch:
    """A contiguous kernel of four elements per thread that converts each of them."""
    blocks = ceil(elements / (STRIDED_THREADS * CAST_EACH))
    lanes = elements / (blocks * STRIDED_THREADS) * tensors * CAST
    return Launch(
        "cast", blocks, STRIDED_THREADS, read, write, lanes, CAST_WAITS, mechanism="movement", sharpness=OVERLAP
    )  # fmt: skip


def concatenate(card: Card, fact: Concatenate, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All tensors in one kernel, one row of blocks per tensor.

    A multiprocessor has few blocks for each tensor. One tensor alone, or the rest of the longest one, leaves half of
    the threads idle.
    """
    numel, run, item = number(fact.numel), number(fact.run), float(fact.item)
    byte = numel * item
    sizes = [float(number(size)) for size in sorted(fact.each)] or [numel / CAT_TENSORS] * CAT_TENSORS
    if run * item % VECTOR == 0 and not fact.dims:
        vectors = ceil(byte / VECTOR)
        blocks = minimum(VECTOR_BLOCKS * len(sizes) * card.multiprocessors, ceil(vectors / STRIDED_THREADS))
        each = vectors / (blocks * STRIDED_THREADS)
        kernel = Launch(
            "vectors", blocks, STRIDED_THREADS, byte, byte, each * CAT_VECTOR, maximum(1.0, each), mechanism="movement"
        )  # fmt: skip
        return in_order(card, kernel)
    lanes = CAT_ELEMENT + CAT_DIVISION * (2 * (fact.dims - 1) if fact.dims else 1)
    return (Part(partial(_together, card, sizes, item, lanes), floor_div(2 * byte, 1)),)


def _together(card: Card, sizes: list[float], item: float, lanes: float, found: float) -> Body:
    """Returns the tensors of a concatenation that are copied at the same time: first all of them, then those longer
    than the shortest.
    """
    bodies = []
    done = 0.0
    most = CAT_BLOCKS * card.multiprocessors
    for place, size in enumerate(sizes):
        if size <= done:
            continue
        count = len(sizes) - place
        blocks = maximum(1, minimum(most, ceil((size - done) / CAT_THREADS)))
        each = (size - done) / (blocks * CAT_THREADS)
        byte = (size - done) * count * item
        launch = Launch(
            "elements", blocks * count, CAT_THREADS, byte, byte, each * lanes, CAT_START + CAT_WAITS * each,
            mechanism="movement", sharpness=OVERLAP,
        )  # fmt: skip
        bodies.append(body(card, launch, found))
        done = size
    terms = tuple(term for one in bodies for term in one.terms)
    late_s = sum(one.late_s for one in bodies)
    return Body(sum(one.seconds for one in bodies), terms, "movement", "elements", late_s)


def fill(card: Card, fact: Fill, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Writes alone."""
    return (filled(card, number(fact.numel), float(fact.item)),)


def filled(card: Card, numel: int, item: float) -> Part:
    """The kernel that sets every element to one value."""
    return Part(partial(_fill, card, numel * item), floor_div(numel * item, 1), reads=False)


def _fill(card: Card, byte: float, found: float) -> Body:
    """A kernel that only writes, so that the memory bus does not switch direction. The next kernel pays for the writes
    that are still in L2.
    """
    dram, sustained = FILL_DRAM * card.gpu.bandwidth_byte_per_s.value, FILL_SUSTAINED * card.l2_byte_per_s
    rate = maximum(card.write_byte_per_s, minimum(dram, sustained))
    held = minimum(byte, HELD_BACK * card.l2_byte)
    streams = (("memory", (1.0 - found) * (byte - held) / rate), ("L2", byte / (FILL_L2 * card.l2_byte_per_s)))
    seconds, terms = overlapped(streams, FILL_SHARPNESS)
    late = later(streams, FILL_SHARPNESS, seconds, (1.0 - found) * held / rate)
    return Body(seconds, terms, "movement", "fill", late)


def random(card: Card, fact: Random, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A grid that fills the card once; each thread walks over the tensor, four numbers at a time."""
    numel = number(fact.numel)
    most = RANDOM_BLOCKS * card.multiprocessors
    blocks = maximum(1, minimum(most, ceil(numel / (RANDOM_THREADS * RANDOM_EACH))))
    lanes = RANDOM_START + RANDOM * numel / (blocks * RANDOM_THREADS)
    byte = numel * float(fact.item)
    return in_order(card, Launch("counter-based", blocks, RANDOM_THREADS, 0.0, byte, lanes, 0.0, mechanism="movement"))


MECHANISMS = {Copy: copy, Concatenate: concatenate, Fill: fill, Random: random}
