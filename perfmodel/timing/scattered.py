"""Rows selected by index, as torch launches them (Indexing.cu, IndexKernel.cu, ScatterGatherKernel.cu, Loss.cu, 2.9 to 2.11).

A gather of at most 16 rows goes through them one after another. Rows that are multiples of 16 bytes have blocks of
their own, which load vectors. Other rows are gathered by a grid that fills the card once and loops over all elements.
The element-wise gather, and every scatter, is an elementwise kernel of four elements per thread. It computes places from
indices: each element waits for its index and then for its value. A row shorter than a memory access costs a full access.
A short row that is written must be read first.

An addition by index is one atomic addition per element, done in L2, by a grid of the same kind. The gradient of an
embedding sorts the indices first. One kernel adds up to 3072 rows. More rows take a radix sort, a few kernels that find
equal indices, and the addition.

The loss of a row's target is one element per row, read and added by a single block.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, log2, maximum, minimum, where
from perfmodel.op import Op
from perfmodel.runs import Gather, Picked, Scatter, number
from perfmodel.timing.blocks import WARP, Launch, few, in_order, starting
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.movement import SECTOR, STRIDED_THREADS, VECTOR, filled
from perfmodel.timing.part import Part
from perfmodel.timing.stream import kept
from perfmodel.timing.weights import Mechanism

_data = Mechanism("scattered")
ELEMENT, SELECT, ROW, WRITTEN = _data.weights("element", "select", "row", "written")
SERIAL, LONE_SERIAL, ROW_WAITS = _data.weights("serial", "lone serial", "row waits")
SELECT_WAITS, FEW_WAITS, FEW_ADD_WAITS = _data.weights("select waits", "few waits", "few add waits")
GRAIN, TABLE, ATOMIC, ADD, ADD_WAITS = _data.weights("grain", "table", "atomic", "add", "add waits")
ORDERED_WAITS, ORDERED = _data.weights("ordered waits", "ordered")
PICK_WAITS, PICK, PICK_END, PICK_BACK = _data.weights("pick waits", "pick", "pick end", "pick back")

EACH, FEW, VECTOR_THREADS, WALK_BLOCKS = _data.facts("each", "few", "vector threads", "walk blocks")
FEW_ROWS, FEATURES, SEGMENT_KERNELS = _data.facts("few rows", "features", "segment kernels")
PICK_ROWS, PICK_THREADS = _data.facts("pick rows", "pick threads")


def _delivered(card: Card, rows: Size, cols: Size, item: float) -> Size:
    """Bytes of memory traffic for rows at random places: those of the table once, as far as L2 keeps it."""
    row = maximum(GRAIN, 1.0 * ceil(cols * item / SECTOR) * SECTOR)
    table = TABLE * cols * item
    near = where(table < row, kept(card, rows * table), 0.0)
    return rows * (near * table + (1.0 - near) * row)


def gather(card: Card, fact: Gather, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Rows read by index."""
    rows, cols, item, index = number(fact.rows), number(fact.cols), float(fact.item), float(fact.index)
    read = _delivered(card, rows, cols, item) + rows * index
    return in_order(card, _gathering(card, rows, cols, item, read))


@by_paths
def _gathering(card: Card, rows: Size, cols: Size, item: float, read: Size) -> Launch:
    """The kernel that reads rows by index."""
    if cols == 1:
        return _elements(rows, cols, read, rows * item, ELEMENT)
    size = rows * cols * item
    if rows <= FEW:
        return _walking(card, rows, cols, read, size, ELEMENT, FEW_WAITS)._replace(name="row by row")
    if cols * item % VECTOR:
        return _walking(card, rows, cols, read, size, SELECT, SELECT_WAITS)
    vectors = cols * item / VECTOR
    threads = minimum(VECTOR_THREADS, WARP * ceil(vectors / WARP))
    blocks = rows * ceil(vectors / threads)
    # A multiprocessor starts blocks one after another, so short rows are bound by their number.
    slots = maximum(ROW, starting(threads))
    return Launch("vectors", blocks, threads, read, size, slots, ROW_WAITS, mechanism="scattered")


def _walking(card: Card, rows: int, cols: int, read: float, write: float, lanes: float, waits: float) -> Launch:
    """A grid that fills the card at most once. Threads loop over all elements, or over a few rows of their column."""
    elements = where(rows <= FEW, cols, rows * cols)
    blocks = minimum(WALK_BLOCKS * card.multiprocessors, ceil(elements / STRIDED_THREADS))
    each = rows * cols / (blocks * STRIDED_THREADS)
    return Launch(
        "elements", blocks, STRIDED_THREADS, read, write, lanes * each, 1.0 + waits * each, mechanism="scattered"
    )  # fmt: skip


def _elements(rows: int, cols: int, read: float, write: float, lanes: float) -> Launch:
    """An elementwise kernel whose places come from indices."""
    elements = rows * cols
    blocks = ceil(elements / (STRIDED_THREADS * EACH))
    each = elements / (blocks * STRIDED_THREADS)
    waits = 2.0 * maximum(1.0, where(cols == 1, LONE_SERIAL, SERIAL) * each)
    return Launch("elements", blocks, STRIDED_THREADS, read, write, lanes * each, waits, mechanism="scattered")


def scatter(card: Card, fact: Scatter, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Rows written or added by index, after the clearing of the table where there is one."""
    rows, cols, item, index = number(fact.rows), number(fact.cols), float(fact.item), float(fact.index)
    size, table = rows * cols * item, _delivered(card, rows, cols, item)
    cleared = number(fact.cleared) if fact.cleared != 0 else 0
    first = (filled(card, cleared, item),) if cleared else ()
    if fact.ordered:
        return (*first, *in_order(card, *_ordered(rows, cols, size, index)))
    filling = where(cols * item < SECTOR, table, 0.0)
    read = size + rows * index
    if not fact.adds:
        lanes = where(cols == 1, ELEMENT, WRITTEN)
        return (*first, *in_order(card, _elements(rows, cols, read + filling, table, lanes)))
    launch = _adding(card, rows, cols, read + table, table)
    return (*first, *in_order(card, launch._replace(sector_byte=ATOMIC * size)))


@by_paths
def _adding(card: Card, rows: Size, cols: Size, read: Size, write: Size) -> Launch:
    """The kernel that adds rows by index."""
    if cols == 1:
        return _elements(rows, 1, read, write, ELEMENT + ADD)
    waits = where(rows <= FEW, FEW_ADD_WAITS, ADD_WAITS)
    return _walking(card, rows, cols, read, write, ADD, waits)._replace(name="additions")


def _ordered(rows: int, cols: int, size: float, index: float) -> tuple[Launch, ...]:
    """Rows added to a table in a fixed order: one block per 32 columns, or a sort before."""
    if rows <= FEW_ROWS:
        steps = ceil(rows / FEATURES)
        across = ceil(cols / FEATURES)
        return (
            Launch(
                "features", across, 1024, size + rows * index, size, steps * ORDERED, steps * ORDERED_WAITS,
                again_byte=rows * index * (across - 1), held_byte=rows * index, mechanism="scattered",
            ),
        )  # fmt: skip
    from perfmodel.timing.orders import radix

    passes = ceil(log2(maximum(2, rows)) / 8)
    small = few("equal indices", ceil(rows / 256), 256, rows * index, rows * index, "scattered")
    add = _elements(rows, cols, size + rows * index, size, ELEMENT + ADD)
    return (*radix(rows, index, passes), *(small,) * SEGMENT_KERNELS, add)


def picked(card: Card, fact: Picked, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One element per row by a single block. Backward, all rows are cleared first."""
    rows, item = number(fact.rows), float(fact.item)
    threads = minimum(PICK_THREADS, maximum(32, 1 << round(log2(maximum(1.0, rows / PICK_ROWS)))))
    each = ceil(rows / threads)
    read, write = 1.0 * op.read_byte(), rows * item if fact.backward else item
    end, lanes = (0.0, PICK_BACK * each) if fact.backward else (PICK_END * threads, PICK * each)
    launch = Launch(
        "single block", 1, threads, read, write, lanes, maximum(1.0, PICK_WAITS * each), 1.0, lanes + end,
        mechanism="scattered",
    )  # fmt: skip
    if not fact.backward:
        return in_order(card, launch)
    return (filled(card, rows * number(fact.cols), item), *in_order(card, launch))


MECHANISMS = {Gather: gather, Scatter: scatter, Picked: picked}
