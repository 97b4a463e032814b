"""Row kernels of our own: their layout of rows over threads, and what their threads do (measured on an H200, 2026-11).

A rule near the one that the kernels use: accesses of up to 16 bytes that divide the row, for each length of a row so many of
them a thread, blocks of so many threads, and so many rows on their way into shared memory while one is worked on. Rows
that fit no block are read twice.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.rows import Plan

REGISTERS = 65536
KERNEL_REGISTERS = 29
REGISTERS_PER_ELEMENT = 1.43
SHARPNESS = 3.2
WARP = 32
BARRIER_CLOCKS = 65.0  # per warp of a row, all reductions together
# A part of the weights' gradients sums over so many rows at least, unless the parts stay in the cache.
PART_ROWS, CHEAP_BYTE = 16, 4 << 20
# Instructions of a thread for an access, and for one of less than four bytes, which takes the way over registers.
ACCESS, NARROW_ACCESS = 1.7, 20.6

# As the kernels' own table: rows of up to so many accesses; accesses of a thread, threads of a block, rows on their
# way, blocks of a multiprocessor.
LAYOUTS = {
    "softmax": (
        (16, 1, 1024, 2, 1), (32, 1, 1024, 2, 1), (64, 4, 256, 3, 1), (128, 4, 256, 1, 3), (256, 8, 128, 1, 4),
        (512, 8, 128, 3, 2), (1024, 8, 128, 3, 2), (2048, 2, 1024, 3, 1), (4096, 8, 512, 3, 1),
    ),
    "softmax_backward": (
        (16, 2, 256, 1, 3), (32, 2, 128, 1, 6), (128, 4, 128, 4, 1), (256, 2, 512, 2, 1), (512, 4, 256, 2, 1),
        (1024, 2, 512, 2, 1), (2048, 4, 512, 3, 1), (4096, 8, 512, 1, 1),
    ),
    "layernorm": (
        (32, 1, 1024, 2, 1), (64, 2, 128, 3, 3), (128, 4, 256, 3, 1), (256, 8, 256, 2, 1), (512, 4, 512, 2, 1),
        (1024, 4, 256, 3, 1), (2048, 4, 512, 2, 1),
    ),
    "layernorm_backward": (
        (16, 1, 128, 2, 8), (128, 2, 128, 2, 5), (512, 4, 128, 2, 3), (1024, 2, 512, 2, 1), (2048, 2, 1024, 2, 1),
    ),
}  # fmt: skip
LAYOUTS["rmsnorm"] = LAYOUTS["layernorm"]


class Habit(NamedTuple):
    """What a kernel's threads do: instructions per row and element; and how many inputs it has."""

    per_row: float
    per_element: float
    inputs: int


HABITS = {
    "softmax": Habit(53, 2.05, 1),
    "softmax_backward": Habit(42, 0.1, 2),
    "layernorm": Habit(1, 3.9, 1),
    "rmsnorm": Habit(37, 3.4, 1),
    "layernorm_backward": Habit(28, 4.1, 2),
}


class Layout(NamedTuple):
    """Elements of an access, threads of a row, accesses of a thread, rows on their way, threads of a block; and blocks
    of a multiprocessor, or 0 for as many as it holds."""

    wide: int
    row_threads: int
    vectors: int
    stages: int
    threads: int
    crowd: int


def layout(card: Card, op: str, rows: int, cols: int, item: int) -> Layout | None:
    """As the kernels choose it; None where a row does not fit a block."""
    wide = widest(cols, item)
    accesses = ceil(cols / wide)
    best = next((one for one in LAYOUTS[op] if accesses <= one[0]), None)
    if best is None:
        return None
    _, vectors, threads, stages, crowd = best
    row_threads = 1
    while row_threads * vectors < accesses:
        row_threads *= 2
    threads = max(threads, row_threads)
    if ceil(rows * row_threads / threads) < 2 * card.multiprocessors:
        threads = max(128 if rows * row_threads >= 128 * card.multiprocessors else 32, row_threads)
        crowd = 0
    while stages > 1 and HABITS[op].inputs * stages * vectors * threads * 16 > _shared_byte(card):
        stages -= 1
    return Layout(wide, row_threads, vectors, stages, threads, crowd)


def _shared_byte(card: Card) -> float:
    figure = card.gpu.multiprocessor.get("shared_memory_per_block")
    return (figure.value if figure else 48 * 1024) - 2048


def widest(cols: int, item: int, byte: int = 16) -> int:
    """Elements of the widest access that divides a row."""
    wide = max(1, byte // item)
    while wide > 1 and cols % wide:
        wide //= 2
    return wide


def plan(card: Card, op: str, rows: int, cols: int, item: int) -> tuple[Plan, int]:
    """The kernel's plan, and the blocks that it runs as; none where its rows are read twice."""
    habit = HABITS[op]
    found = layout(card, op, rows, cols, item)
    if found is None:
        wide = widest(cols, item)
        cost = (habit.per_row, ACCESS, habit.per_element)
        return Plan("a block a row, read twice", 1024, wide, 1, 2048, *cost, 2, False), 0
    shared = habit.inputs * found.stages * found.vectors * found.threads * 16
    registers = found.threads * (KERNEL_REGISTERS + found.vectors * found.wide * REGISTERS_PER_ELEMENT)
    fit = int(min(2048 / found.threads, (_shared_byte(card) + 2048) / (shared + 1024), REGISTERS / registers))
    held = max(1, min(fit, found.crowd or fit))
    groups = found.threads // found.row_threads
    blocks = min(held * card.multiprocessors, ceil(rows / groups))
    if op == "layernorm_backward":
        blocks = min(blocks, most_parts(card, rows, cols))
    made = Plan(
        f"{found.row_threads} threads a row, {found.stages} rows on their way",
        found.row_threads,
        found.wide,
        found.vectors * found.stages,
        held * found.threads,
        habit.per_row,
        ACCESS if found.wide * item >= 4 else NARROW_ACCESS,
        habit.per_element,
        at_once=blocks * groups,
        staged=found.stages > 1,
        sharpness=SHARPNESS,
        barrier_clocks=BARRIER_CLOCKS * found.row_threads / WARP if found.row_threads > WARP else 0.0,
    )
    return made, blocks


def most_parts(card: Card, rows: int, cols: int) -> int:
    """Parts at most that the rows are dealt into for the weights' gradients."""
    cheap = min(2 * card.multiprocessors, CHEAP_BYTE // (8 * cols))
    return max(card.multiprocessors // 2, rows // PART_ROWS, cheap)
