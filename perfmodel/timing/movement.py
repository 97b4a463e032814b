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

from math import ceil

from perfmodel.op import Op
from perfmodel.runs import Concatenate, Copy, Fill, Random, number
from perfmodel.timing import instructions
from perfmodel.timing.blocks import WARP, Launch, elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

# First guesses, not fitted yet. Instructions per element: of a contiguous copy, of a conversion, of a fill.
COPY, CONVERT, FILL = 1.0, 8.0, 1.0
# Of a strided kernel, instructions per element (divisions by the sizes of its dimensions), and per element and operand.
PLACE, OPERAND = 26.0, 9.0
# Issue slots of a multiprocessor per cache line that a warp's access touches beyond the first.
LINE = 4.0
# Memory waits per element of a thread, where the store of one precedes the load of the next.
SERIAL = 0.8
# Of a concatenation, instructions per vector of 16 bytes, and per element where pieces are not multiples of 16 bytes.
CAT_VECTOR, CAT_ELEMENT = 60.0, 55.0
# Of random numbers, instructions per thread and per number.
RANDOM_START, RANDOM = 160.0, 42.0

STRIDED_THREADS, SECTOR, VECTOR = 128, 32, 16
CAT_BLOCKS, CAT_TENSORS = 32, 2  # blocks per multiprocessor and tensor; tensors assumed
RANDOM_THREADS, RANDOM_BLOCKS, RANDOM_EACH = 256, 8, 4


def copy(card: Card, fact: Copy, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A copy in the cheapest form that its layout allows."""
    numel, distinct, run = number(fact.numel), number(fact.distinct), number(fact.run)
    item, result = float(fact.item), float(fact.result)
    if run >= numel and distinct >= numel:
        lanes = (COPY if item == result else CONVERT) * numel
        read, write = numel * item, numel * result
        part = Part(lambda found: elementwise(card, read, write, lanes, found, "contiguous"), int(read + write))
        return (part,)
    # A source with fewer elements and runs of one is taken as broadcast along the fastest dimension.
    pieces = WARP / min(WARP, max(run, numel // distinct))
    sectors = pieces * ceil(min(run, WARP) * item / SECTOR)
    lanes = PLACE + 2 * OPERAND + (CONVERT if item != result else 0.0)
    launch = strided(numel, result, distinct * item, numel * result, lanes + LINE * (pieces - 1.0))
    more = max(0.0, numel / WARP * sectors * SECTOR - distinct * item)
    return in_order(card, launch._replace(sector_byte=more))


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
    return Launch("strided", blocks, STRIDED_THREADS, read, write, filled * lanes, waits, mechanism="movement")


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
    return Part(lambda found: elementwise(card, 0.0, numel * item, FILL * numel, found, "fill"), int(numel * item))


def random(card: Card, fact: Random, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A grid that fills the card once; each thread walks over the tensor, four numbers at a time."""
    numel = number(fact.numel)
    most = RANDOM_BLOCKS * card.multiprocessors
    blocks = max(1, min(most, ceil(numel / (RANDOM_THREADS * RANDOM_EACH))))
    lanes = RANDOM_START + RANDOM * numel / (blocks * RANDOM_THREADS)
    byte = numel * float(fact.item)
    return in_order(card, Launch("counter-based", blocks, RANDOM_THREADS, 0.0, byte, lanes, 0.0, mechanism="movement"))


MECHANISMS = {Copy: copy, Concatenate: concatenate, Fill: fill, Random: random}
