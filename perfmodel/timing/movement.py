"""Copies, concatenations, fills and random numbers, as torch launches them (its CUDA sources, 2.9 to 2.11).

A copy between contiguous tensors of one data type is a memory copy; with a conversion it is a vectorised elementwise
kernel. Any other copy, and every elementwise kernel with a strided or broadcast operand, computes the place of each
element by divisions: 128 threads per block, two or four elements per thread. The compiler cannot move a load before the
previous store, so a thread waits for memory once per element.

A warp accesses 32 neighbouring elements of the result. If these lie in several runs of the source, the access is split
into as many cache lines, and each run is read in whole sectors of 32 bytes. The rest of a sector is used by other warps,
so the extra bytes come from L2.

A concatenation moves 16 bytes at once where every piece is a multiple of 16 bytes. Otherwise it computes a place for
every element. Random numbers take a counter-based generator of ten rounds for every four numbers.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from perfmodel.op import Op
from perfmodel.runs import Concatenate, Copy, Fill, Random, number
from perfmodel.timing import instructions
from perfmodel.timing.blocks import WARP, Launch, elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.stream import HELD_BACK
from perfmodel.timing.terms import Body, later, overlapped

# Instructions per element of a contiguous copy and of a conversion to a narrower type; of a conversion to a wider one,
# which looks up both types for every element (H100, 2026-11, torch 2.11, as all below).
COPY, NARROWED, WIDENED = 1.0, 8.0, 78.0
# Of a strided kernel, instructions per element (divisions by the sizes of its dimensions), and per element and operand.
PLACE, OPERAND = 31.0, 8.25
# Issue slots of a multiprocessor per cache line that a warp's access touches beyond the first.
LINE = 5.4
# Memory waits per element of a thread, where the store of one precedes the load of the next.
SERIAL = 1.14
# Exponent of the overlap of a strided kernel: each thread alternates between computing places and waiting.
MIXED = 2.6
# Of a concatenation, instructions per vector of 16 bytes, and per element where pieces are not multiples of 16 bytes.
CAT_VECTOR, CAT_ELEMENT = 60.0, 113.0
# Of random numbers, instructions per thread and per number.
RANDOM_START, RANDOM = 160.0, 42.0
# Of a fill: the share of the bandwidth that writes alone reach, and the shares of the L2 read rate at which L2 takes
# writes, sustained and in a burst that it holds.
FILL_DRAM, FILL_SUSTAINED, FILL_L2 = 0.97, 0.48, 0.6
FILL_SHARPNESS = 6.0

STRIDED_THREADS, SECTOR, VECTOR, WIDEN_EACH = 128, 32, 16, 4
CAT_BLOCKS, CAT_TENSORS = 32, 2  # blocks per multiprocessor and tensor; tensors assumed
RANDOM_THREADS, RANDOM_BLOCKS, RANDOM_EACH = 256, 8, 4


def copy(card: Card, fact: Copy, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A copy in the cheapest form that its layout allows."""
    numel, distinct, run = number(fact.numel), number(fact.distinct), number(fact.run)
    item, result = float(fact.item), float(fact.result)
    if run >= numel and distinct >= numel:
        return (contiguous(card, numel, item, result),)
    # A source with fewer elements and runs of one is taken as broadcast along the fastest dimension.
    pieces = WARP / min(WARP, max(run, numel // distinct))
    sectors = pieces * ceil(min(run, WARP) * item / SECTOR)
    lanes = PLACE + 2 * OPERAND + (NARROWED if item > result else WIDENED if item < result else 0.0)
    launch = strided(numel, result, distinct * item, numel * result, lanes + LINE * (pieces - 1.0))
    more = max(0.0, numel / WARP * sectors * SECTOR - distinct * item)
    return in_order(card, launch._replace(sector_byte=more))


def contiguous(card: Card, numel: int, item: float, result: float) -> Part:
    """A memory copy, or a conversion; to a wider type, with four single elements per thread."""
    read, write = numel * item, numel * result
    if item >= result:
        lanes = (COPY if item == result else NARROWED) * numel
        return Part(lambda found: elementwise(card, read, write, lanes, found, "contiguous"), int(read + write))
    blocks = ceil(numel / (STRIDED_THREADS * WIDEN_EACH))
    each = WIDENED * numel / (blocks * STRIDED_THREADS)
    return in_order(card, Launch("elements", blocks, STRIDED_THREADS, read, write, each, mechanism="movement"))[0]


def strided_stream(card: Card, op: Op) -> tuple[Part, ...]:
    """An elementwise kernel with a strided or broadcast operand."""
    moved = [t for t in op.tensors if not t.spill and (t.reads or t.writes)]
    elements = max((t.elements for t in moved if t.writes), default=0) or max(t.elements for t in moved)
    result = max((float(t.item) for t in moved if t.writes), default=4.0)
    lanes = PLACE + OPERAND * len(moved) + instructions.of_op(op, elements) / elements
    return in_order(card, strided(elements, result, op.read_byte(), op.write_byte(), lanes))


def strided(elements: int, item: float, read: float, write: float, lanes: float) -> Launch:
    """A kernel of two or four elements per thread, with so many instructions per element."""
    each = 2 if item >= 4 else 4
    blocks = ceil(elements / (STRIDED_THREADS * each))
    filled = elements / (blocks * STRIDED_THREADS)
    waits = max(1.0, SERIAL * min(each, ceil(elements / STRIDED_THREADS)))
    return Launch(
        "strided", blocks, STRIDED_THREADS, read, write, filled * lanes, waits, mechanism="movement", sharpness=MIXED
    )  # fmt: skip


def concatenate(card: Card, fact: Concatenate, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All tensors in one kernel, one row of blocks per tensor."""
    numel, run, item = number(fact.numel), number(fact.run), float(fact.item)
    byte = numel * item
    whole = run * item % VECTOR == 0
    vectors = ceil(byte / (VECTOR if whole or item > 2 else VECTOR / 2))
    most = CAT_BLOCKS * CAT_TENSORS * card.multiprocessors
    blocks = min(most, ceil(vectors / STRIDED_THREADS))
    each = vectors / (blocks * STRIDED_THREADS)
    lanes = CAT_VECTOR if whole else CAT_ELEMENT * numel / vectors
    name = "vectors" if whole else "elements"
    waits = max(1.0, each)
    return in_order(
        card, Launch(name, blocks, STRIDED_THREADS, byte, byte, each * lanes, waits, mechanism="movement")
    )  # fmt: skip


def fill(card: Card, fact: Fill, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Writes alone."""
    return (filled(card, number(fact.numel), float(fact.item)),)


def filled(card: Card, numel: int, item: float) -> Part:
    """The kernel that sets every element to one value."""
    return Part(partial(_fill, card, numel * item), int(numel * item), reads=False)


def _fill(card: Card, byte: float, found: float) -> Body:
    """Writes alone do not turn the memory bus. What L2 holds at the end is left to the next kernel."""
    dram, sustained = FILL_DRAM * card.gpu.bandwidth_byte_per_s.value, FILL_SUSTAINED * card.l2_byte_per_s
    rate = max(card.write_byte_per_s, min(dram, sustained))
    held = min(byte, HELD_BACK * card.l2_byte)
    streams = (("memory", (1.0 - found) * (byte - held) / rate), ("L2", byte / (FILL_L2 * card.l2_byte_per_s)))
    seconds, terms = overlapped(streams, FILL_SHARPNESS)
    late = later(streams, FILL_SHARPNESS, seconds, (1.0 - found) * held / rate)
    return Body(seconds, terms, "movement", "fill", late)


def random(card: Card, fact: Random, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A grid that fills the card once; each thread walks over the tensor, four numbers at a time."""
    numel = number(fact.numel)
    most = RANDOM_BLOCKS * card.multiprocessors
    blocks = max(1, min(most, ceil(numel / (RANDOM_THREADS * RANDOM_EACH))))
    lanes = RANDOM_START + RANDOM * numel / (blocks * RANDOM_THREADS)
    byte = numel * float(fact.item)
    launch = Launch("counter-based", blocks, RANDOM_THREADS, 0.0, byte, lanes, 0.0, mechanism="movement")
    return in_order(card, launch)


MECHANISMS = {Copy: copy, Concatenate: concatenate, Fill: fill, Random: random}
