"""Row kernels of torch: how it lays softmax and normalisation over threads (torch 2.1 to 2.11, its CUDA sources).

Softmax: rows of up to 2048 elements by a warp that holds a power of two of them; up to 9216 by a block of 1024 threads
with an element at a time in registers (torch 2.3 on); longer ones through shared memory where they fit 48 KiB, else in
three passes. Its gradient multiplies y and dy in a kernel of its own first. LayerNorm and RMSNorm: a block of 128
threads and two passes where the row divides by 4, else a kernel for the statistics and one that applies them. Their
gradients: a kernel of two passes for the input's, one down the columns for the weights'.

Instruction counts are fitted on an H200 (2026-11, torch 2.11); they belong to the compiled kernels, not to the card.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.rows import Plan, Row
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, Term, overlapped


class Cost(NamedTuple):
    """Instructions of a thread for a row, for an access, and for an element."""

    row: float
    access: float
    element: float


WARP, REGISTERS, SHARED, GENERAL = Cost(44, 0, 35.2), Cost(0, 0, 17.4), Cost(0, 4, 52.9), Cost(0, 0, 45.8)
WARP_BACK, SHARED_BACK, GENERAL_BACK = Cost(37, 0, 21.3), Cost(0, 4, 12.4), Cost(0, 169, 12.4)
LAYERNORM, RMSNORM = Cost(226, 0, 26.7), Cost(107, 0, 4.5)
STATISTICS, NORMALISE = Cost(0, 0, 12.7), Cost(566, 0, 51.3)
LAYERNORM_BACK, RMSNORM_BACK, NORM_BACK_BY_ELEMENTS = Cost(112, 0, 54.3), Cost(112, 0, 46.3), Cost(249, 0, 51.4)
# Accesses of a thread that are on their way at once: fewer than one where an iteration waits for more than its own.
NORM_AHEAD, ELEMENTS_AHEAD, NORM_BACK_AHEAD = 0.82, 0.95, 4.4

WARP_COLS = 2048
BACK_COLS, BACK_BYTE = 1024, 4096
REGISTERS_COLS = 9 * 1024
SHARED_BYTE = 47 * 1024
REGISTERS_OF_ALL, OWN_REGISTERS = 65536, 22.6  # of a multiprocessor; of a thread besides its elements
PADDING = 0.55  # what an element beyond the row's end costs of one within
VECTOR_BYTE = 16
NORM_VECTOR = 4
WIDE_ROW = 1.25  # of a row's own instructions, where its elements are of four bytes


def softmax(cols: int, item: int) -> Plan:
    """The kernel that torch takes for rows of that length."""
    if cols <= WARP_COLS:
        held = _power_of_two(cols)
        padded = cols + PADDING * (held - cols)
        return Plan("a warp a row", min(32, held), 1, 32, _resident(held), *WARP, padded=padded)
    if cols <= REGISTERS_COLS:
        return Plan("a block a row, in registers", 1024, 1, 1, 1024, *REGISTERS)
    wide = max(1, VECTOR_BYTE // item)
    if cols % wide == 0 and cols * item < SHARED_BYTE:
        return Plan("a block a row, in shared memory", 1024, wide, 2, 2048, *SHARED)
    return Plan("a block a row, three passes", 1024, wide if cols % wide == 0 else 1, 2, 2048, *GENERAL, 3, False)


def softmax_backward(cols: int, item: int) -> Plan:
    """The reduction behind the product of y and dy."""
    if cols <= BACK_COLS and cols * item <= BACK_BYTE:
        held = _power_of_two(cols)
        padded = cols + PADDING * (held - cols)
        return Plan("a warp a row", min(32, held), 1, 32, 2048, *WARP_BACK, padded=padded)
    wide = max(1, VECTOR_BYTE // item)
    threads = min(1024, max(32, _power_of_two(cols // wide)))
    if cols % wide == 0 and cols * item < SHARED_BYTE:
        return Plan("a block a row, in shared memory", threads, wide, 2, 2048, *SHARED_BACK)
    return Plan("a block a row, two passes", threads, wide, 2, 2048, *GENERAL_BACK, 2, False)


def norm(cols: int, rms: bool, item: int) -> tuple[Plan, ...]:
    """LayerNorm's or RMSNorm's kernels."""
    if cols % NORM_VECTOR == 0:
        cost = RMSNORM if rms else LAYERNORM
        if item == 4:
            cost = cost._replace(row=cost.row * WIDE_ROW)
        padded = ceil(cols / (32 * NORM_VECTOR)) * 32.0 * NORM_VECTOR
        return (Plan("128 threads a row, two passes", 128, 4, NORM_AHEAD, 2048, *cost, 2, False, padded),)
    return (
        Plan("statistics", 512, 1, ELEMENTS_AHEAD, 2048, *STATISTICS),
        Plan("normalise", 256, 1, ELEMENTS_AHEAD, 2048, *NORMALISE),
    )


def norm_backward(cols: int, rms: bool) -> Plan:
    """The kernel of the input's gradient."""
    if cols % NORM_VECTOR == 0:
        cost = RMSNORM_BACK if rms else LAYERNORM_BACK
        return Plan("128 threads a row, two passes", 128, 4, NORM_BACK_AHEAD, 2048, *cost, 2, False)
    return Plan("128 threads a row, by elements", 128, 1, NORM_BACK_AHEAD, 2048, *NORM_BACK_BY_ELEMENTS, 2, False)


# Down the columns: 32 of them a block; parts of the rows only where the rows are many and the columns few.
COLUMNS = 32
MANY_ROWS = 65536
PART_ROWS = 256
COLUMN_INSTRUCTIONS = 20.6
COLUMN_TURN_ROWS = 256
COLUMN_TURN_S = 0.01e-6
COLUMN_START_S = 0.87e-6


def columns(card: Card, row: Row, found: float) -> Body:
    """The kernel of the weights' gradients: every column's sum over all rows."""
    stream = moved(card, 2 * row.byte, 0, found)
    blocks = ceil(row.cols / COLUMNS)
    parts = 1
    if row.rows > MANY_ROWS and blocks < card.multiprocessors // 2:
        parts = max(1, min(ceil(row.rows / PART_ROWS), ceil(1.1 * card.multiprocessors / blocks)))
    busy = min(card.multiprocessors, blocks * parts)
    lanes_s = row.rows * row.cols * COLUMN_INSTRUCTIONS / card.lane_per_s * card.multiprocessors / busy
    turns_s = ceil(row.rows / parts / COLUMN_TURN_ROWS) * COLUMN_TURN_S
    seconds, terms = overlapped(
        (("memory", stream.dram_s), ("L2", stream.l2_s), ("instructions", lanes_s), ("latency", turns_s)), 3.5
    )
    terms = (*terms, Term("pipeline, first to last", COLUMN_START_S))
    return Body(seconds + COLUMN_START_S, terms, "rows", f"columns, {blocks} x {parts} blocks")


def _resident(held: int) -> int:
    """Threads that a multiprocessor holds of a kernel that keeps a row in a warp's registers."""
    return min(2048, 32 * int(REGISTERS_OF_ALL / (32 * (OWN_REGISTERS + held / 32))))


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()
