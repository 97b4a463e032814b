"""Rows selected by index, as torch launches them (Indexing.cu, IndexKernel.cu, ScatterGatherKernel.cu, Loss.cu, 2.9 to 2.11).

A gather whose rows are multiples of 16 bytes has blocks of their own for each row and loads vectors. Any other gather,
and every scatter, is an elementwise kernel of four elements per thread that computes places from indices: each element
waits for its index and then for its value. Memory delivers whole sectors of 32 bytes, so a row that is shorter costs as
much as one of 32 bytes.

An addition by index is one atomic addition per element, done in L2. If indices are sorted first (the gradient of an
embedding), up to 3072 rows are added by one kernel; more rows take a radix sort, a few kernels that find equal indices,
and the addition.

The loss of a row's target is one element per row, read and added by a single block.
"""

from __future__ import annotations

from math import ceil, log2

from perfmodel.op import Op
from perfmodel.runs import Gather, Picked, Scatter, number
from perfmodel.timing.blocks import SCHEDULERS, WARP, Launch, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.movement import SECTOR, STRIDED_THREADS, VECTOR, filled
from perfmodel.timing.part import Part

# Fitted on the suite of programs' kernels and on whole programs (an H100, 2026-11, torch 2.11; the records for fitting).
# Instructions per thread of a row's block; clocks in which a multiprocessor starts such a block; instructions per element
# of an elementwise kernel.
ROW, BLOCK_CLOCKS, ELEMENT = 45.0, 150.0, 105.0
# Of a gather of a few rows, whose blocks go from row to row: memory waits per row.
SMALL_WAITS = 1.8
# Memory waits per element of a thread: for its index, then for its value.
SERIAL = 0.6
# L2 traffic of an atomic addition relative to the bytes that it writes; instructions per addition, with the row and
# column of the element.
ATOMIC, ADD = 2.0, 150.0
# Rows added by one kernel after another in each block: clocks per 32 rows, as memory waits.
ORDERED_WAITS, ORDERED = 2.0, 150.0
# Kernels and clears that find equal indices between a sort and the addition; instructions per element of the addition,
# and of the sum of its parts.
SEGMENT_KERNELS, SEGMENT = 16, 270.0
# A single block: memory waits per row of a thread (two loads; backward, a load and a store), instructions per row, and
# per thread at the end.
PICK_WAITS, PICK_BACK_WAITS, PICK, PICK_END = 2.8, 1.5, 40.0, 3.0

VECTOR_THREADS, EACH = 256, 4
FEW_ROWS, FEATURES = 3072, 32
SMALL_ROWS, SMALL_THREADS, KEY_BITS = 16, 128, 64
GRANULE = 64  # bytes of a memory access of HBM
PICK_ROWS, PICK_THREADS = 16, 1024


def _sectors(rows: int, cols: int, item: float) -> float:
    """Bytes that memory moves for rows in any order."""
    least = GRANULE if cols * item < SECTOR else SECTOR
    return float(rows * ceil(cols * item / least) * least)


def gather(card: Card, fact: Gather, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Rows read by index."""
    rows, cols, item, index = number(fact.rows), number(fact.cols), float(fact.item), float(fact.index)
    read = _sectors(rows, cols, item) + rows * index
    vectors = cols * item / VECTOR
    if rows <= SMALL_ROWS and cols > 1:
        few = Launch(
            "few rows", ceil(cols / SMALL_THREADS), SMALL_THREADS, read, rows * cols * item, ROW * rows, SMALL_WAITS * rows,
            mechanism="scattered",
        )  # fmt: skip
        return in_order(card, few)
    if vectors != int(vectors):
        return in_order(card, _elements(rows * cols, read, rows * cols * item, ELEMENT))
    threads = min(VECTOR_THREADS, 32 * ceil(vectors / 32))
    blocks = rows * ceil(vectors / threads)
    lanes = ROW + BLOCK_CLOCKS * SCHEDULERS / ceil(threads / WARP)
    launch = Launch(
        "vectors", blocks, threads, read, rows * cols * item, lanes, 2.0, path=ROW, mechanism="scattered"
    )  # fmt: skip
    return in_order(card, launch)


def _elements(elements: int, read: float, write: float, lanes: float) -> Launch:
    """An elementwise kernel whose places come from indices."""
    blocks = ceil(elements / (STRIDED_THREADS * EACH))
    each = elements / (blocks * STRIDED_THREADS)
    waits = 2.0 * max(1.0, SERIAL * each)
    return Launch("elements", blocks, STRIDED_THREADS, read, write, lanes * each, waits, mechanism="scattered")


def scatter(card: Card, fact: Scatter, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Rows written or added by index, after the clearing of the table where there is one."""
    rows, cols, item, index = number(fact.rows), number(fact.cols), float(fact.item), float(fact.index)
    size, table = rows * cols * item, _sectors(rows, cols, item)
    cleared = number(fact.cleared) if fact.cleared != 0 else 0
    first = (filled(card, cleared, item),) if cleared else ()
    if fact.ordered:
        return (*first, *in_order(card, *_ordered(rows, cols, size, index)))
    lanes = ELEMENT + (ADD if fact.adds else 0.0)
    # A row of less than a sector is merged with what memory holds around it.
    read = size + rows * index + (table if fact.adds or cols * item < SECTOR else 0.0)
    launch = _elements(rows * cols, read, table, lanes)
    return (*first, *in_order(card, launch._replace(sector_byte=ATOMIC * size if fact.adds else 0.0)))


def _ordered(rows: int, cols: int, size: float, index: float) -> tuple[Launch, ...]:
    """Rows added to a table in a fixed order: one block per 32 columns, or a sort before."""
    if rows <= FEW_ROWS:
        steps = ceil(rows / FEATURES)
        across = ceil(cols / FEATURES)
        return (
            Launch(
                "features", across, 1024, size + rows * index, size, steps * ORDERED, steps * ORDERED_WAITS,
                2.0 * steps, again_byte=rows * index * (across - 1), held_byte=rows * index, mechanism="scattered",
            ),
        )  # fmt: skip
    from perfmodel.timing.orders import radix

    passes = KEY_BITS // 8
    small = Launch(
        "equal indices", ceil(rows / 256), 256, rows * index, rows * index, 40.0, 2.0, 2.0, mechanism="scattered"
    )
    add = _elements(rows * cols, size + rows * index, size, SEGMENT)
    return (*radix(rows, index, passes), *(small,) * SEGMENT_KERNELS, add, add)


def picked(card: Card, fact: Picked, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One element per row by a single block. Backward, all rows are cleared first."""
    rows, item = number(fact.rows), float(fact.item)
    threads = min(PICK_THREADS, max(32, 1 << round(log2(max(1.0, rows / PICK_ROWS)))))
    each = ceil(rows / threads)
    read, write = float(op.read_byte()), rows * item if fact.backward else item
    waits = PICK_BACK_WAITS if fact.backward else PICK_WAITS
    end = 0.0 if fact.backward else PICK_END * threads
    launch = Launch(
        "single block", 1, threads, read, write, PICK * each, max(1.0, waits * each), 1.0, PICK * each + end,
        mechanism="scattered",
    )  # fmt: skip
    if not fact.backward:
        return in_order(card, launch)
    return (filled(card, rows * number(fact.cols), item), *in_order(card, launch))


MECHANISMS = {Gather: gather, Scatter: scatter, Picked: picked}
