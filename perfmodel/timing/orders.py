"""Sorting and the largest elements of a row, as torch launches them (Sort.cpp, SortStable.cu, TensorTopK.cu, 2.9 to 2.11).

Sort. Rows of up to 4096 elements: places are written, values are copied, and a row is sorted on chip. A warp merges up
to 128 elements. A block sorts longer rows, four bits of the key per pass, 32 elements per thread. Longer rows: a radix
sort, eight bits of the key per pass over keys and places of 8 bytes. A single row, or rows of a million elements, are
sorted one after another. Fewer than 128 rows are sorted together, with a pass over the row numbers at the end. More rows
have one block each.

Largest elements. Few long rows: eight bits per pass. A pass counts digits in blocks of 256 threads, adds the counts,
and finds the digit of the last chosen element. Otherwise one block per row finds it two bits at a time, reading the row
from cache again. Then the elements are gathered and sorted.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, log2, maximum, minimum, where
from perfmodel.op import Op
from perfmodel.runs import Sort, TopK, number
from perfmodel.timing.blocks import BARRIER_CLOCKS, WARP, Launch, few, in_order
from perfmodel.timing.branches import uniform
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.weights import Mechanism

_data = Mechanism("orders")
STEP, STEP_CLOCKS, CHIP_ELEMENT, CHIP_CLOCKS = _data.weights("step", "step clocks", "chip element", "chip clocks")
RADIX_ELEMENT, COUNT, COLLECT = _data.weights("radix element", "count", "collect")
SELECT_STEP, SELECT_WAITS, SELECT_CLOCKS = _data.weights("select step", "select waits", "select clocks")
SEGMENT = _data.weight("segment")

SMALL, MERGED, ONE_AFTER_ANOTHER, TOGETHER = _data.facts("small", "merged", "one after another", "together")
CHIP_BITS, CHIP_EACH, DIGIT_BITS, SELECT_BITS = _data.facts("chip bits", "chip each", "digit bits", "select bits")
PLACE_BYTE, BLOCK, RADIX_BLOCK, MOST_THREADS = _data.facts("place byte", "block", "radix block", "most threads")
FEWEST_EACH, MOST_EACH, BLOCKS_EACH, IN_FLIGHT = _data.facts("fewest each", "most each", "blocks each", "in flight")
DIGITS = 1 << DIGIT_BITS
# Rows up to so many elements: up to so many rows, several blocks share a row of at least so many elements.
MULTIPLE = _data.pairs("multiple", ":")


def sort(card: Card, fact: Sort, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of a sort with places."""
    rows, cols, item = number(fact.rows), number(fact.cols), float(fact.item)
    keys, places = rows * cols * item, rows * cols * float(PLACE_BYTE)
    if cols <= SMALL:
        return in_order(
            card,
            _simple("places", 0.0, cols * float(PLACE_BYTE), cols),
            _simple("places of all rows", cols * float(PLACE_BYTE), places, rows * cols),
            _simple("values", keys, keys, rows * cols),
            _on_chip(rows, cols, item),
        )
    passes = ceil(item * 8 / DIGIT_BITS)
    if rows == 1 or cols >= ONE_AFTER_ANOTHER:
        one = radix(cols, item, passes)
        return in_order(
            card, _simple("places", 0.0, cols * float(PLACE_BYTE), cols), *one * (1 if rows == 1 else int(rows))
        )
    if rows < TOGETHER:
        bits = maximum(1, ceil(log2(rows)))
        return in_order(
            card,
            _simple("rows and places", 0.0, places, rows * cols),
            *radix(rows * cols, item, passes),
            *radix(rows * cols, float(PLACE_BYTE), ceil(bits / DIGIT_BITS), keys=True),
            _simple("values by place", keys + places, keys + places, rows * cols),
        )
    each = ceil(cols / BLOCK)
    segment = Launch(
        "one block per row", rows, BLOCK, keys + places, keys + places, SEGMENT * each, mechanism="orders"
    )  # fmt: skip
    return in_order(card, _simple("places", 0.0, places, rows * cols), *(segment,) * passes)


def _simple(name: str, read: float, write: float, elements: Size) -> Launch:
    """An elementwise kernel, bound by its bytes."""
    return Launch(name, ceil(elements / BLOCK), BLOCK, read, write, 0.0, mechanism="orders")


def _counted(name: str, read: float, write: float, blocks: Size, waits: Size = 0.0) -> Launch:
    """A kernel of a few values per thread: of digit counts, or of blocks."""
    return few(name, blocks, BLOCK, read, write, "orders", waits)


def _on_chip(rows: int, cols: int, item: float) -> Launch:
    """A block, or a warp for a short row, that keeps its row on chip."""
    held, byte = maximum(2, 1 << maximum(0, cols - 1).bit_length()), rows * cols * (item + PLACE_BYTE)
    if held <= MERGED:
        steps = log2(held) * (log2(held) + 1) / 2
        return Launch(
            "one warp per row", ceil(rows / 4), 128, byte, byte, steps * STEP * maximum(1.0, held / WARP), 1.0,
            steps * STEP_CLOCKS / BARRIER_CLOCKS, mechanism="orders",
        )  # fmt: skip
    passes = item * 8 / CHIP_BITS
    return Launch(
        f"{held // CHIP_EACH} threads per row", rows, held // CHIP_EACH, byte, byte, passes * CHIP_EACH * CHIP_ELEMENT, 1.0,
        passes * CHIP_CLOCKS / BARRIER_CLOCKS, mechanism="orders",
    )  # fmt: skip


def radix(elements: int, item: float, passes: int, *, keys: bool = False) -> tuple[Launch, ...]:
    """The kernels of a radix sort: digit counts of all passes, their sums, and the passes."""
    key = elements * item
    byte = key if keys else key + elements * float(PLACE_BYTE)
    blocks = ceil(elements / RADIX_BLOCK)
    each = elements / (blocks * BLOCK)
    one = Launch("radix pass", blocks, BLOCK, byte, byte, each * RADIX_ELEMENT, mechanism="orders")
    counts = _simple("digits", key, 0.0, elements)
    sums = _counted("sums of digits", 4 * DIGITS * passes, 4 * DIGITS * passes, passes)
    return (counts, sums, *(one,) * uniform(passes))


def top_k(card: Card, fact: TopK, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of a selection, and the sort of what is chosen."""
    rows, cols, chosen, item = (
        number(fact.rows), number(fact.cols), number(fact.chosen), float(fact.item),
    )  # fmt: skip
    last = () if chosen == 1 else (_on_chip(rows, chosen, item),)
    several = cols >= MULTIPLE[-1][1]
    for most, least in MULTIPLE[-2::-1]:
        several = where(rows <= most, cols >= least, several)
    select = (
        _by_blocks(rows, cols, chosen, item, card.multiprocessors) if several else _by_row(rows, cols, chosen, item)
    )
    return in_order(card, *select, *last)


def _by_row(rows: int, cols: int, chosen: int, item: float) -> tuple[Launch, ...]:
    """One block per row, which reads it once more for every two bits, and twice to gather."""
    threads = minimum(MOST_THREADS, 32 * ceil(cols / 32))
    steps = ceil(cols / threads)
    passes = item * 8 / SELECT_BITS + 1
    byte, write = rows * cols * item, rows * chosen * (item + PLACE_BYTE)
    return (
        Launch(
            "one block per row", rows, threads, byte, write, (passes + 1) * steps * SELECT_STEP, steps * SELECT_WAITS,
            (passes + 1) * SELECT_CLOCKS / BARRIER_CLOCKS, near_waits=passes * steps * SELECT_WAITS,
            again_byte=passes * byte, held_byte=cols * item, mechanism="orders",
        ),
    )  # fmt: skip


def _by_blocks(rows: int, cols: int, chosen: int, item: float, multiprocessors: int) -> tuple[Launch, ...]:
    """Several blocks per row, with three kernels for every eight bits."""
    each = minimum(MOST_EACH, maximum(FEWEST_EACH, ceil(rows * cols / (multiprocessors * BLOCKS_EACH * BLOCK))))
    parts = ceil(cols / (each * BLOCK))
    blocks, byte = rows * parts, rows * cols * item
    filled = cols / (parts * BLOCK)
    digits = Launch("digits", blocks, BLOCK, byte, 2 * DIGITS * blocks, filled * COUNT, filled, mechanism="orders")
    sums = _counted("sums of digits", 2 * DIGITS * blocks, 4 * DIGITS * rows, rows, parts / IN_FLIGHT)
    within = _counted("digit of the last", 4 * DIGITS * rows, PLACE_BYTE * blocks, blocks)
    small = _counted("offsets", PLACE_BYTE * blocks, PLACE_BYTE * blocks, ceil(blocks / BLOCK))
    gather = Launch(
        "gather", blocks, BLOCK, byte, rows * chosen * (item + PLACE_BYTE), filled * COLLECT, filled, mechanism="orders"
    )  # fmt: skip
    passes = ceil(item * 8 / DIGIT_BITS)
    return (small, small, *(digits, sums, within) * passes, small, small, small, gather)


MECHANISMS = {Sort: sort, TopK: top_k}
