"""Our own row kernels: from the launch layout (``cuda/layouts.py``) to the time of their blocks.

A block requests its rows, waits, computes, writes and ends; then the next block starts. Registers and shared memory
limit the resident blocks per multiprocessor. The time is the slowest of five, which overlap:

- Memory: every input and output crosses it once.
- L2: it serves the weights once to every multiprocessor, whose L1 keeps them.
- Instructions, one per lane and clock: those of the machine code, for a block's start, a row, and the elements of a thread.
  A slot of the layout that has no element costs part of them.
- The load-store units, one cache line of 128 bytes per clock: rows that do not start at a line touch more of them, and
  elements narrower than four bytes fill half a line. Rows in shared memory pass through it twice, shuffles once.
- The durations of blocks in turn: a latency, the block's bytes at one multiprocessor's share of L2, its dependent
  instructions, and the barriers. A few long rows are bound by this, because most multiprocessors are idle.

The next rows of a block arrive while it computes, with two exceptions. Elements of two bytes cannot be copied
asynchronously if a row has an odd number of them: every turn waits for memory. Before the blocks of a cluster exchange
sums, their writes must have reached L2.

Weight gradients are summed by persistent blocks. A second kernel adds their partial sums. A row that is too long for a
block is read twice (``blocks.Launch``): four or sixteen loads at once, the rest one by one. NB its writes are not
vectorised: a store of 16 bytes is four of 4 bytes, which touch as many lines each.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum, where
from perfmodel.cuda.layouts import LONG_THREADS, Chip, Layout, asked_byte, layout, long_parts, most_parts, widest
from perfmodel.timing.blocks import SCHEDULERS, WARP, Launch
from perfmodel.timing.blocks import body as of_blocks
from perfmodel.timing.branches import by_paths, by_points
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.rows import Row
from perfmodel.timing.stream import first_latency_s, late_s, moved
from perfmodel.timing.terms import Body, Term, later, overlapped
from perfmodel.timing.weights import Mechanism

_data = Mechanism("own_rows")
REGISTER_STEP, BLOCK_BYTE, ASYNC_BYTE = _data.facts("register step", "block byte", "async byte")
WORD, LINE_BYTE, CLUSTERS = _data.facts("word", "line byte", "clusters")
LONG_ROW, LONG_BARRIERS, MOST_AHEAD = _data.facts("long row", "long barriers", "most ahead")
SHARPNESS, ISSUE_CLOCKS, BARRIER_CLOCKS = _data.weights("sharpness", "issue clocks", "barrier clocks")
WAIT_LATENCIES, PART_WRITES, IDLE = _data.weights("wait latencies", "part writes", "idle")
CROSSING, TURN_WAIT, RELEASE = _data.weights("crossing", "turn wait", "release")
SUMS_AHEAD, SUM_LATENCIES, SUM_START = _data.weights("sums ahead", "sum latencies", "sum start")
COLUMN_WRITES = _data.weight("column writes")


class Usage(NamedTuple):
    """How a kernel uses its resources.

    ``inputs``, ``weights``: tensors that it reads. ``start``: instructions of a thread per block. ``row``, ``exchange``:
    per row, and if more than a warp shares it. ``element``, ``half``: per element, and in addition per element of two
    bytes. ``edge``: per access if some threads have fewer. ``long_access``, ``long_element``, ``long_half``: of a row that
    is read twice. ``alone``, ``alone_half``: elements per access from which a multiprocessor has registers for one such
    block only. ``registers``: of a thread, fixed. ``floats``, ``words``: floats and packed words per element that a thread
    holds. ``again``, ``unfilled``: registers of a row read again from shared memory, and of its unfilled end.
    """

    inputs: int
    weights: int
    start: float
    row: float
    exchange: float
    element: float
    half: float
    edge: float
    registers: float
    long_access: float = 0.0
    long_element: float = 0.0
    long_half: float = 0.0
    alone: float = 0.0
    alone_half: float = 0.0
    floats: float = 0.0
    words: float = 0.0
    again: float = 0.0
    unfilled: float = 0.0


# Inputs and weights are tensors of the kernel; the other figures are stated under its name.
USAGES = {
    name: Usage(
        inputs, weights, **{key.replace(" ", "_"): one for key, one in _data.group(name.replace("_", " ")).items()}
    )
    for name, inputs, weights in (
        ("softmax_forward", 1, 0),
        ("softmax_backward", 2, 0),
        ("layernorm_forward", 1, 2),
        ("rmsnorm_forward", 1, 1),
        ("layernorm_backward", 2, 1),
    )
}


class Placement(NamedTuple):
    """A launch layout on a card: resident blocks per multiprocessor, and all blocks of the launch."""

    found: Layout
    held: int
    blocks: int


def chip(card: Card) -> Chip:
    """Returns the figures that the launcher reads from the card."""
    shared = int(card.of_each("shared_memory_per_block", 48 * 1024)) - 2048
    return Chip(card.multiprocessors, shared, float(card.gpu.compute_capability or 0) >= CLUSTERS)


def registers(name: str, found: Layout, item: int) -> Size:
    """Registers per thread, rounded as they are allocated."""
    usage = USAGES[name]
    words = usage.words - (0 if found.held else 1)
    each = usage.floats + words * item / 4
    again = 0.0 if found.held else usage.again + (0.0 if found.full else usage.unfilled)
    most = minimum(255, 65536 // found.threads)
    wanted = usage.registers + again + each * found.vectors * found.wide
    return minimum(most, REGISTER_STEP * ceil(wanted / REGISTER_STEP))


@by_points
def placement(card: Card, name: str, row: Row) -> Placement | None:
    """The layout that the launcher chooses; None where the rows are read twice."""
    usage = USAGES[name]
    found = layout(name, row.rows, row.cols, widest(row.cols, row.item), usage.inputs, chip(card))
    if found is None:
        return None
    shared = asked_byte(name, found, row.cols, usage.inputs) + BLOCK_BYTE
    by_registers = card.of_each("registers", 65536 * 4) / 4 // (found.threads * registers(name, found, row.item))
    by_shared = card.of_each("shared_memory", 65536) // shared
    by_threads = min(card.of_each("threads", 2048) // found.threads, card.of_each("blocks", 32))
    held = max(1, int(min(by_registers, by_shared, by_threads)))
    most = most_parts(row.rows, row.cols, card.multiprocessors)
    at_most = most if name == "layernorm_backward" else row.rows
    return Placement(found, held, found.blocks(row.rows, held * card.multiprocessors, at_most) * found.cluster)


def forward(card: Card, name: str, row: Row, outputs: int = 1, mask_byte: int = 0) -> tuple[Part, ...]:
    """A kernel that reads its rows once, or twice where they are too long. A mask that rows share crosses memory once; L2
    serves it to every row.
    NB without the instructions of a mask.
    """
    usage = USAGES[name]
    byte = (usage.inputs + outputs) * row.byte + mask_byte
    on = placement(card, name, row)
    if on is None:
        return (Part(lambda found: twice(card, name, row, found, mask_byte), byte),)
    return (Part(lambda found: once(card, name, row, on, found, mask_byte), byte),)


@by_paths
def once(card: Card, name: str, row: Row, on: Placement, found: float, mask_byte: int = 0) -> Body:
    """Rows that one block, or a cluster of blocks, holds."""
    usage, lay = USAGES[name], on.found
    stream = moved(card, usage.inputs * row.byte + mask_byte, row.byte, found)
    turns = lay.turns or ceil(row.rows * lay.cluster / (on.blocks * lay.groups))
    issued, lines = _work(usage, lay, row, name)
    warps, clocks = on.blocks * maximum(1, lay.threads / WARP), card.multiprocessors * card.clock_hz
    # Each row of a turn, and the weights once per block; partial weight sums are written as floats.
    turn_byte = (usage.inputs + 1 + bool(mask_byte)) * lay.groups * row.cols * row.item / lay.cluster
    once_byte = usage.weights * row.cols * row.item / lay.cluster
    first = minimum(on.blocks, card.multiprocessors)
    l2_s = (on.blocks * turns * turn_byte + first * once_byte) / card.l2_byte_per_s
    life_s = WAIT_LATENCIES * first_latency_s(card, found) + turns * _turn_s(
        card, name, lay, row, turns, turn_byte, found
    )
    waves = ceil(on.blocks / (on.held * card.multiprocessors))
    issued_s = warps * (usage.start + turns * issued) / SCHEDULERS / clocks
    slower = maximum(1.0, clocks * WARP * SCHEDULERS / card.lane_per_s)
    body = _slowest(
        (
            ("memory", stream.dram_s),
            ("L2", l2_s),
            ("instructions", issued_s * slower),
            ("load and store", warps * turns * lines / clocks),
            ("blocks", waves * life_s),
        ),
        f"{lay.row_threads * lay.cluster} threads per row, {on.held} blocks per multiprocessor",
        late_s(card, (1.0 - found) * usage.inputs * row.byte, (1.0 - found) * row.byte),
    )
    if name != "layernorm_backward":
        return body
    live = minimum(on.held, ceil(on.blocks / card.multiprocessors))
    leave_s = PART_WRITES * live * 8 * row.cols / lay.cluster * card.multiprocessors / card.l2_byte_per_s
    return body._replace(seconds=body.seconds + leave_s, terms=(*body.terms, Term("write partial sums", leave_s)))


def _work(usage: Usage, lay: Layout, row: Row, name: str) -> tuple[Size, Size]:
    """Instructions of a thread, and cache lines of a warp, per row."""
    across, warp = lay.row_threads * lay.cluster, minimum(WARP, lay.row_threads * lay.cluster)
    held = ceil(ceil(row.cols / lay.wide) / warp) * warp / (across * lay.vectors)
    slots = lay.vectors * (1.0 - IDLE * (1.0 - minimum(1.0, held)))
    each = lay.wide * (usage.element + (usage.half if row.item < WORD else 0.0)) + (0.0 if lay.full else usage.edge)
    issued = usage.row + (usage.exchange if across > WARP else 0.0) + slots * each
    # Two shuffles per halving of a warp, and again over its warps, with a write and a read of shared memory.
    shuffles = 2 * (warp.bit_length() - 1) + (2 * (across // WARP).bit_length() if across > WARP else 0)
    aligned, crossed = _lines(row, lay.wide)
    # The gradient reads the row again, and gamma twice.
    shared = (2 * usage.inputs if lay.stages else 0) + (
        usage.inputs + 2 if name == "layernorm_backward" else not lay.held
    )
    return issued, shuffles + slots * ((usage.inputs + 1) * (aligned + crossed) + shared * aligned)


def _lines(row: Row, wide: int) -> tuple[float, float]:
    """Cache lines of an access of a warp, and those in addition where rows do not start at a line."""
    share = wide * row.item * WARP / LINE_BYTE
    return maximum(1.0, share), where(row.cols * row.item % LINE_BYTE == 0, 0.0, CROSSING * minimum(1.0, share))


def _turn_s(card: Card, name: str, lay: Layout, row: Row, turns: Size, turn_byte: Size, found: Size) -> Size:
    """Seconds of a turn of a block."""
    issued, _ = _work(USAGES[name], lay, row, name)
    warps = lay.row_threads * lay.cluster / WARP
    clocks = issued * maximum(ISSUE_CLOCKS, lay.threads / WARP / SCHEDULERS) + (
        BARRIER_CLOCKS * warps if warps > 1 else 0.0
    )
    load_s, work_s = turn_byte * card.multiprocessors / card.l2_byte_per_s, clocks / card.clock_hz
    if turns == 1:
        return load_s + work_s
    release_s = RELEASE * card.l2_latency_s if lay.cluster > 1 else 0.0
    if lay.stages and lay.wide * row.item < ASYNC_BYTE:
        loads = 1 + (ceil(lay.vectors / 2) if name == "layernorm_backward" else 0)
        latency_s = (1.0 - found) * card.dram_latency_s + found * card.l2_latency_s
        return load_s + work_s + loads * TURN_WAIT * latency_s + release_s
    # The next row arrives meanwhile.
    return (maximum(load_s, work_s) if lay.stages > 1 else load_s + work_s) + release_s


@by_paths
def twice(card: Card, name: str, row: Row, found: float, mask_byte: int = 0) -> Body:
    """One block per row, which it reads twice."""
    usage, wide, half = USAGES[name], widest(row.cols, row.item), row.item < WORD
    each = row.cols / (wide * LONG_THREADS)
    issued = usage.long_access + wide * (usage.long_half if half else usage.long_element)
    words = maximum(1, wide * row.item // WORD)  # stores per access
    aligned, crossed = _lines(row, wide)
    passes = usage.weights * (1 if name != "layernorm_backward" else 2)  # over the weights
    lines = (2 * usage.inputs + words) * (aligned + crossed) + passes * aligned
    count, alone = ceil(each), usage.alone_half if half else usage.alone
    few, by_four = count % 4, count // 4
    batches = by_four if name == "softmax_forward" else count // MOST_AHEAD + count % MOST_AHEAD // 8 + count % 8 // 4
    size, inputs, barriers = 1.0 * row.byte, 1.0 * usage.inputs * row.byte, LONG_BARRIERS - (name == "rmsnorm_forward")
    launch = Launch(
        "one block per row, read twice", row.rows, LONG_THREADS, inputs + mask_byte, size,
        LONG_ROW + each * maximum(issued, SCHEDULERS * lines), few + batches, barriers, LONG_ROW + count * issued,
        few + by_four, inputs, inputs / row.rows, 1 if alone and wide >= alone else 2, sector_byte=(words - 1) * size,
        shared_waits=(few + by_four) if usage.weights else 0,
    )  # fmt: skip
    return of_blocks(card, launch, found)


def _slowest(streams: tuple[tuple[str, float], ...], choice: str, late: float = 0.0) -> Body:
    seconds, terms = overlapped(streams, SHARPNESS)
    return Body(seconds, terms, "rows", choice, later(streams, SHARPNESS, seconds, late))


def norm_backward(card: Card, row: Row) -> tuple[Part, ...]:
    """The kernels of LayerNorm's gradients: one for the rows, and one that adds the partial sums of the blocks. Long
    rows need a kernel that computes the partial sums first.
    """
    name = "layernorm_backward"
    on, rows_ = placement(card, name, row), forward(card, name, row)
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
