"""Our own row kernels: from the launch layout (``cuda/layouts.py``) to the time of their blocks.

A block requests its rows, waits, computes, writes and ends; then the next block starts. Registers and shared memory
limit the resident blocks per multiprocessor. The time is the slowest of four, which overlap:

- Memory: every input and output crosses it once.
- L2: it serves the weights once to every multiprocessor, whose L1 keeps them.
- Instructions, one per lane and clock: a thread pays for its share of the row's reductions, for each access slot of its
  layout (rows of odd length leave many slots empty), and for its elements.
- The durations of blocks in turn: a latency, the block's bytes at one multiprocessor's share of L2, its dependent
  instructions, and the barriers. A few long rows are bound by this, because most multiprocessors are idle.

Weight gradients are summed by persistent blocks, whose rows arrive in stages while others are processed. A second
kernel adds their partial sums. A row that is too long for a block is read twice, access by access.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum
from perfmodel.cuda.layouts import LONG_THREADS, Chip, Layout, asked_byte, layout, long_parts, most_parts, widest
from perfmodel.timing.blocks import SCHEDULERS, WARP
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.rows import Row
from perfmodel.timing.stream import first_latency_s, kept, late_s, moved, rate
from perfmodel.timing.terms import Body, Term, later, overlapped
from perfmodel.timing.weights import Mechanism

_data = Mechanism("own_rows")
REGISTER_STEP, BLOCK_BYTE, ASYNC_BYTE = _data.facts("register step", "block byte", "async byte")
SHARPNESS, ISSUE_CLOCKS, BARRIER_CLOCKS = _data.weights("sharpness", "issue clocks", "barrier clocks")
WAIT_LATENCIES, LONG_WAIT, PART_WRITES = _data.weights("wait latencies", "long wait", "part writes")
LONG_ROW, LONG_ELEMENT = _data.weights("long row", "long element")


class Habit(NamedTuple):
    """How a kernel uses its resources: inputs and weights, registers, and instructions of a thread per row, per access
    slot and per element. Registers: a fixed number, floats and packed words per element, those of a row read again from
    shared memory, and those of its unfilled end.
    """

    inputs: int
    weights: int
    row: float
    place: float
    element: float
    registers: float
    floats: float = 0.0
    words: float = 0.0
    again: float = 0.0
    unfilled: float = 0.0


# Inputs and weights are tensors of the kernel; the other figures are stated under its name.
HABITS = {
    name: Habit(inputs, weights, **_data.group(name.replace("_", " ")))
    for name, inputs, weights in (
        ("softmax_forward", 1, 0),
        ("softmax_backward", 2, 0),
        ("layernorm_forward", 1, 2),
        ("rmsnorm_forward", 1, 1),
        ("layernorm_backward", 2, 1),
    )
}


class Footing(NamedTuple):
    """A launch layout on a card: resident blocks per multiprocessor, and all blocks of the launch."""

    found: Layout
    held: int
    blocks: int


def chip(card: Card) -> Chip:
    """Returns the figures that the launcher reads from the card."""
    shared = int(card.of_each("shared_memory_per_block", 48 * 1024)) - 2048
    return Chip(card.multiprocessors, shared, float(card.gpu.compute_capability or 0) >= 9)


def registers(name: str, found: Layout, item: int) -> Size:
    """Registers per thread, rounded as they are allocated."""
    habit = HABITS[name]
    words = habit.words - (0 if found.held else 1)
    each = habit.floats + words * item / 4
    again = 0.0 if found.held else habit.again + (0.0 if found.full else habit.unfilled)
    most = minimum(255, 65536 // found.threads)
    wanted = habit.registers + again + each * found.vectors * found.wide
    return minimum(most, REGISTER_STEP * ceil(wanted / REGISTER_STEP))


def footing(card: Card, name: str, row: Row) -> Footing | None:
    """The layout that the launcher chooses; None where the rows are read twice."""
    habit = HABITS[name]
    found = layout(name, row.rows, row.cols, widest(row.cols, row.item), habit.inputs, chip(card))
    if found is None:
        return None
    shared = asked_byte(name, found, row.cols, habit.inputs) + BLOCK_BYTE
    by_registers = card.of_each("registers", 65536 * 4) / 4 // (found.threads * registers(name, found, row.item))
    by_shared = card.of_each("shared_memory", 65536) // shared
    by_threads = min(card.of_each("threads", 2048) // found.threads, card.of_each("blocks", 32))
    held = max(1, int(min(by_registers, by_shared, by_threads)))
    most = most_parts(row.rows, row.cols, card.multiprocessors)
    at_most = most if name == "layernorm_backward" else row.rows
    return Footing(found, held, found.blocks(row.rows, held * card.multiprocessors, at_most) * found.cluster)


def forward(card: Card, name: str, row: Row, outputs: int = 1, mask_byte: int = 0) -> tuple[Part, ...]:
    """A kernel that reads its rows once, or twice where they are too long. A mask that rows share crosses memory once; L2
    serves it to every row.

    NB the instructions of a mask, one addition and one conversion of an element, are not in the measured weights.
    """
    habit = HABITS[name]
    byte = (habit.inputs + outputs) * row.byte + mask_byte
    on = footing(card, name, row)
    if on is None:
        return (Part(lambda found: twice(card, name, row, found, mask_byte), byte),)
    return (Part(lambda found: once(card, name, row, on, found, mask_byte), byte),)


def once(card: Card, name: str, row: Row, on: Footing, found: float, mask_byte: int = 0) -> Body:
    """Rows that one block, or a cluster of blocks, holds."""
    habit, lay = HABITS[name], on.found
    stream = moved(card, habit.inputs * row.byte + mask_byte, row.byte, found)
    turns = lay.turns or ceil(row.rows * lay.cluster / (on.blocks * lay.groups))
    per_row = habit.row + lay.vectors * (habit.place + lay.wide * habit.element)
    lanes = row.rows * lay.row_threads * lay.cluster * per_row
    # Each row of a turn, and the weights once per block; partial weight sums are written as floats.
    turn_byte = (habit.inputs + 1 + bool(mask_byte)) * lay.groups * row.cols * row.item / lay.cluster
    once_byte = habit.weights * row.cols * row.item / lay.cluster
    first = minimum(on.blocks, card.multiprocessors)
    l2_s = (on.blocks * turns * turn_byte + first * once_byte) / card.l2_byte_per_s
    share = card.l2_byte_per_s / card.multiprocessors
    latency_s = first_latency_s(card, found)
    # Two-byte elements pass through registers: each access waits for the one before.
    waits = lay.vectors if lay.stages and lay.wide * row.item < ASYNC_BYTE else 1
    warps = lay.row_threads * lay.cluster / WARP
    issue = maximum(ISSUE_CLOCKS, lay.threads / WARP / SCHEDULERS)
    clocks = per_row * issue + (BARRIER_CLOCKS * warps if warps > 1 else 0.0)
    own_s = turn_byte / share + clocks / card.clock_hz
    if lay.stages > 1 and turns > 1:
        own_s = maximum(turn_byte / share, clocks / card.clock_hz)
    ahead = lay.stages - (2 if name == "layernorm_backward" else 1)
    if turns > maximum(1, ahead):
        own_s = maximum(own_s, WAIT_LATENCIES * latency_s / maximum(1, ahead))
    if waits > 1:
        own_s += waits * WAIT_LATENCIES * latency_s
    life_s = WAIT_LATENCIES * latency_s + turns * own_s
    waves = ceil(on.blocks / (on.held * card.multiprocessors))
    body = _slowest(
        (
            ("memory", stream.dram_s),
            ("L2", l2_s),
            ("instructions", lanes / card.lane_per_s),
            ("blocks", waves * life_s),
        ),
        f"{lay.row_threads * lay.cluster} threads per row, {on.held} blocks per multiprocessor",
        late_s(card, (1.0 - found) * habit.inputs * row.byte, (1.0 - found) * row.byte),
    )
    if name != "layernorm_backward":
        return body
    live = minimum(on.held, ceil(on.blocks / card.multiprocessors))
    leave_s = PART_WRITES * live * 8 * row.cols / lay.cluster / share
    return body._replace(seconds=body.seconds + leave_s, terms=(*body.terms, Term("write partial sums", leave_s)))


def twice(card: Card, name: str, row: Row, found: float, mask_byte: int = 0) -> Body:
    """One block per row, which it reads twice."""
    habit = HABITS[name]
    wide = widest(row.cols, row.item)
    held = maximum(1, int(card.of_each("threads", 2048) // LONG_THREADS))
    turns = ceil(row.cols / (wide * LONG_THREADS))
    stream = moved(card, habit.inputs * row.byte + mask_byte, row.byte, found)
    near = held * row.cols * row.item * (habit.inputs + habit.weights) <= card.of_each("l1_and_shared", 131072)
    row_byte = (
        row.cols
        * row.item
        * (habit.inputs * (1 if near else 2) + 1 + 2 * bool(mask_byte) + (0 if near else habit.weights))
    )
    per_row = LONG_ROW + turns * habit.inputs * wide * LONG_ELEMENT
    latency_s = first_latency_s(card, found)
    waves = ceil(row.rows / (held * card.multiprocessors))
    wait_s = LONG_WAIT * turns * (latency_s + card.l2_latency_s)
    clocks = per_row * ISSUE_CLOCKS + 4 * BARRIER_CLOCKS * LONG_THREADS / WARP
    life_s = wait_s + row_byte * card.multiprocessors / card.l2_byte_per_s + clocks / card.clock_hz
    active = minimum(row.rows, held * card.multiprocessors) * row.cols * row.item * habit.inputs
    again_s = (1.0 - kept(card, active)) * habit.inputs * row.byte / rate(card, row.byte, 0.0)
    lanes = row.rows * LONG_THREADS * per_row
    return _slowest(
        (
            ("memory", stream.dram_s + again_s), ("L2", row.rows * row_byte / card.l2_byte_per_s),
            ("instructions", lanes / card.lane_per_s), ("blocks", waves * life_s),
        ),
        "one block per row, read twice", late_s(card, (1.0 - found) * habit.inputs * row.byte, (1.0 - found) * row.byte),
    )  # fmt: skip


def _slowest(streams: tuple[tuple[str, float], ...], choice: str, late: float = 0.0) -> Body:
    seconds, terms = overlapped(streams, SHARPNESS)
    return Body(seconds, terms, "rows", choice, later(streams, SHARPNESS, seconds, late))


def norm_backward(card: Card, row: Row) -> tuple[Part, ...]:
    """The kernels of LayerNorm's gradients: one for the rows, and one that adds the partial sums of the blocks. Long
    rows need a kernel that computes the partial sums first.
    """
    name = "layernorm_backward"
    on = footing(card, name, row)
    rows_ = forward(card, name, row)
    if on is not None:
        return (*rows_, _sums(card, row, on.blocks // on.found.cluster))
    parts = long_parts(row.rows, row.cols, card.multiprocessors)
    return (*rows_, Part(lambda found: _columns(card, row, parts, found), 2 * row.byte), _sums(card, row, parts))


def _sums(card: Card, row: Row, parts: int) -> Part:
    """A kernel whose blocks add the partial sums of 128 or 32 columns. The 32 warps of a block take turns, with four
    loads in flight.
    """
    across = 32 if row.cols % 4 else 128
    blocks = 2 * ceil(row.cols / across)
    rounds = ceil(blocks / (2 * card.multiprocessors))
    live = minimum(2, ceil(blocks / card.multiprocessors))
    turns = ceil(parts / WARP / SUMS_AHEAD)

    def body(found: float) -> Body:
        byte_s = live * parts * minimum(across, row.cols) * 4 * card.multiprocessors / card.l2_byte_per_s
        seconds = rounds * (byte_s + (SUM_START + SUM_LATENCIES * turns) * card.l2_latency_s)
        return Body(seconds, (Term("reduce partial sums", seconds),), "rows", "column sums")

    return Part(body, 8 * parts * row.cols)


SUMS_AHEAD, SUM_LATENCIES, SUM_START = _data.weights("sums ahead", "sum latencies", "sum start")


def _columns(card: Card, row: Row, parts: int, found: float) -> Body:
    """A kernel that computes partial weight gradients where rows are read twice: a thread reads its columns of every
    n-th row, n being the number of parts.
    """
    wide = widest(row.cols, row.item)
    blocks = parts * ceil(row.cols / (LONG_THREADS * wide))
    held = maximum(1, int(card.of_each("threads", 2048) // LONG_THREADS))
    partial = 8 * parts * row.cols
    stream = moved(card, 2 * row.byte, partial, found)
    turns = ceil(row.rows / parts)
    live = minimum(held, ceil(blocks / card.multiprocessors))
    waves = ceil(blocks / (held * card.multiprocessors))
    block_byte = LONG_THREADS * wide * (2 * turns * row.item + 8 * COLUMN_WRITES)
    life_s = (turns + 1) * card.dram_latency_s + live * block_byte * card.multiprocessors / card.l2_byte_per_s
    l2_s = (2 * row.byte + COLUMN_WRITES * partial) / card.l2_byte_per_s
    return _slowest((("memory", stream.dram_s), ("L2", l2_s), ("blocks", waves * life_s)), "parts of the columns")


COLUMN_WRITES = _data.weight("column writes")
