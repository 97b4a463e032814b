"""Row kernels of our own: their layout of rows over threads, and what their threads do (measured on an H200, 2026-11).

The same rule as the kernels use: accesses of up to 16 bytes that divide the row, four of them a thread, as many threads
as the row needs, rows on their way into shared memory while one is worked on. Rows that fit no block are read twice.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.rows import Plan

SHARED_BYTE = 160 * 1024
HELD_SHARED_BYTE = 227 * 1024
REGISTERS = 65536
WARP = 32
BARRIER_CLOCKS = 52.0  # per warp of a row, all reductions together
PART_ROWS = 16  # a part of the weights' gradients sums over so many rows at least
KERNEL_REGISTERS = 29
REGISTERS_PER_ELEMENT = 1.43
# Instructions of a thread for an access, and for one of less than four bytes, which takes the way over registers.
ACCESS, NARROW_ACCESS = 20.9, 41.6


class Habit(NamedTuple):
    """What a kernel's threads do: instructions per row and element, inputs, accesses at most and where many,
    how many
    times fewer blocks than fit run at once, and registers of an element."""

    per_row: float
    per_element: float
    inputs: int
    most: int
    many: int
    crowd: int


HABITS = {
    "softmax": Habit(97, 3.2, 1, 4, 8, 2),
    "softmax_backward": Habit(14, 1.5, 2, 4, 4, 2),
    "layernorm": Habit(88, 9.7, 1, 2, 4, 1),
    "rmsnorm": Habit(116, 1.5, 1, 2, 4, 1),
    "layernorm_backward": Habit(111, 14.7, 2, 1, 4, 1),
}


class Layout(NamedTuple):
    """Elements of an access, threads of a row, accesses of a thread, rows on their way, threads of a block."""

    wide: int
    row_threads: int
    vectors: int
    stages: int
    threads: int


def layout(card: Card, habit: Habit, rows: int, cols: int, item: int) -> Layout | None:
    """As the kernels choose it; None where a row does not fit a block."""
    wide = widest(cols, item)
    vectors = ceil(cols / wide)
    per_thread = 1 if vectors <= 32 else 2 if vectors <= 64 else habit.many if 256 < vectors <= 1024 else 4
    per_thread = min(per_thread, max(habit.most, 4)) if vectors <= 2048 else habit.most
    row_threads = 1
    while row_threads * per_thread < vectors:
        row_threads *= 2
    if row_threads > 1024:
        return None
    threads = max(128, row_threads)
    if ceil(rows * row_threads / threads) < card.multiprocessors:
        threads = max(32, row_threads)
    stages = 3
    while stages > 1 and habit.inputs * stages * per_thread * threads * 16 > SHARED_BYTE:
        stages -= 1
    return Layout(wide, row_threads, per_thread, stages, threads)


def widest(cols: int, item: int, byte: int = 16) -> int:
    """Elements of the widest access that divides a row."""
    wide = max(1, byte // item)
    while wide > 1 and cols % wide:
        wide //= 2
    return wide


def plan(card: Card, op: str, rows: int, cols: int, item: int) -> tuple[Plan, int]:
    """The kernel's plan, and the blocks that it runs as."""
    habit = HABITS[op]
    found = layout(card, habit, rows, cols, item)
    if found is None or (op == "layernorm_backward" and found.row_threads * found.vectors > 2048):
        wide = widest(cols, item)
        return Plan(
            "a block a row, read twice", 1024, wide, 1, 2048, habit.per_row, ACCESS, habit.per_element, 2, False
        ), 0
    shared = habit.inputs * found.stages * found.vectors * found.threads * 16
    registers = found.threads * (KERNEL_REGISTERS + found.vectors * found.wide * REGISTERS_PER_ELEMENT)
    held = max(1, min(2048 // found.threads, HELD_SHARED_BYTE // (shared + 1024), int(REGISTERS / registers)))
    held = ceil(held / habit.crowd)
    groups = found.threads // found.row_threads
    access = ACCESS if found.wide * item >= 4 else NARROW_ACCESS
    made = Plan(
        f"{found.row_threads} threads a row, {found.stages} rows on their way",
        found.row_threads,
        found.wide,
        found.vectors * found.stages,
        held * found.threads,
        habit.per_row,
        access,
        habit.per_element,
    )
    blocks = min(held * card.multiprocessors, ceil(rows / groups))
    if found.row_threads > WARP:
        made = made._replace(barrier_clocks=BARRIER_CLOCKS * found.row_threads / WARP)
    if op == "layernorm_backward":
        blocks = min(blocks, max(card.multiprocessors // 2, rows // PART_ROWS))
        made = made._replace(at_once=blocks * groups)
    return made, blocks
