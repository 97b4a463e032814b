"""Reductions and running sums, as torch launches them (Reduce.cuh and ScanUtils.cuh, 2.9 to 2.11).

A reduction has at most 512 threads per block. Along the fastest dimension, the threads of a warp share a row and load
four elements at once, one load after another. Across it, each thread has up to four columns and four loads in flight.
Where a thread would have many values, the warps of a block share an output, and then several blocks do. Each block
writes its sums to memory, and the last one adds them, which needs a cleared counter. Nothing overlaps with that
addition.

A running sum of one row is a scan in a single pass over memory. Of several rows, a block scans parts of a row one after
another, with a barrier after each of log2 steps.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from perfmodel.arithmetic import common_divisor, floor_div, log2, maximum, minimum, where
from perfmodel.op import Op
from perfmodel.runs import Cumulative, Reduction, number
from perfmodel.timing.blocks import BARRIER_CLOCKS, THREADS, WAIT, WARP, Launch, body, in_order
from perfmodel.timing.branches import by_points
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.terms import Body, Term
from perfmodel.timing.weights import Mechanism

_data = Mechanism("reductions")
ROW_START, COLUMN_START, NARROW, OVERLAP = _data.weights("row start", "column start", "narrow", "overlap")
VALUE = _data.group("value")
ROW_AHEAD, COLUMN_AHEAD, ROW_CHAIN = _data.weights("row ahead", "column ahead", "row chain")
ROW_JOIN, COLUMN_JOIN, JOIN_EACH = _data.weights("row join", "column join", "join each")
SCAN_START, SCAN_STEP, SCAN_CLOCKS = _data.weights("scan start", "scan step", "scan clocks")
SCAN_ELEMENT, SCAN_WAITS = _data.weights("scan element", "scan waits")

MOST_THREADS, IN_FLIGHT, ROW_VECTOR, LONG_ROW = _data.facts("most threads", "in flight", "row vector", "long row")
FEWEST_VALUES, MOST_VALUES = _data.facts("fewest values", "most values")
SCAN_THREADS, SCAN_EACH = _data.facts("scan threads", "scan each")


def reduction(card: Card, fact: Reduction, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernel of a reduction, after the clearing of its counters where blocks share an output."""
    outer, axis, inner = (number(size) for size in (fact.outer, fact.axis, fact.inner))
    resident = int(card.of_each("threads", THREADS))
    grid, shared, width, height, values, split = launched(outer, axis, inner, card.multiprocessors, resident)
    each = VALUE[fact.function] + (NARROW if float(fact.item) < 4 else 0.0)
    along = inner == 1
    barriers = where(along, log2(maximum(1, width // WARP)), 0.0) + where(split, log2(height), 0.0)
    start = where(along, ROW_START, COLUMN_START)
    loads = values / where(along, ROW_VECTOR, common_divisor(ROW_VECTOR, outer * inner) * IN_FLIGHT)
    kernel = Launch(
        f"{grid} x {shared} blocks of {width} x {height}", grid * shared, width * height, op.read_byte(), op.write_byte(),
        start + values * each, 1.0 + where(along, ROW_AHEAD, COLUMN_AHEAD) * (loads - 1.0), barriers,
        where(along, start + values * (each + ROW_CHAIN), 0.0), mechanism="reductions", sharpness=where(along, 0.0, OVERLAP),
    )  # fmt: skip
    if shared == 1:
        return in_order(card, kernel)
    clear = Launch("clear counters", 1, WARP, 0.0, 4 * grid, 0.0, 0.0, mechanism="reductions")
    together = where(along, width * height, height)
    join_s = (where(along, ROW_JOIN, COLUMN_JOIN) + JOIN_EACH * shared / together) * WAIT * card.l2_latency_s
    (cleared,) = in_order(card, clear)
    return (cleared, Part(partial(_joined, card, kernel, join_s), floor_div(op.read_byte() + op.write_byte(), 1)))


def _joined(card: Card, kernel: Launch, join_s: float, found: float) -> Body:
    """Returns the time of the kernel, with the addition by the last block at its end."""
    own = body(card, kernel, found)
    return own._replace(seconds=own.seconds + join_s, terms=(*own.terms, Term("addition of the last block", join_s)))


@by_points
def launched(
    outer: int, axis: int, inner: int, multiprocessors: int, resident: int
) -> tuple[int, int, int, int, float, bool]:
    """Blocks, blocks per output, both sides of a block, values per thread, and whether warps share an output."""
    outputs, along = outer * inner, inner == 1
    vector = 1 if along else common_divisor(4, inner)
    wide = axis // ROW_VECTOR if along and axis > LONG_ROW else axis if along else outputs // vector
    tall, most = (outputs if along else axis), MOST_THREADS // vector
    width = min(_below(wide, most), WARP)
    height = min(_below(tall, most), most // width)
    width = min(_below(wide, most), most // height)
    shares, together = (width, 1) if along else (1, width * vector)
    split = ceil(axis / shares) >= min(16 * height, MOST_VALUES)
    shares, together = (shares * height, together) if split else (shares, together * height)
    grid, values = ceil(outputs / together), ceil(axis / shares)
    target = multiprocessors * (resident // (width * height))
    shared = 1
    if split and values >= MOST_VALUES and grid <= target:
        shared = max(min(ceil(target / grid), ceil(values / FEWEST_VALUES)), ceil(values / MOST_VALUES))
    return grid, shared, width, height, axis / (shares * shared) * vector, split


def _below(size: int, most: int) -> int:
    """The largest power of two that is at most both."""
    return most if size >= most else 1 << maximum(0, size.bit_length() - 1)


def cumulative(card: Card, fact: Cumulative, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One pass over a single row; blocks of 512 threads over the parts of several rows."""
    rows, cols = number(fact.rows), number(fact.cols)
    byte = rows * cols * float(fact.item)
    if rows == 1:
        blocks = ceil(cols / (SCAN_THREADS * SCAN_EACH))
        state = Launch("clear states", ceil(blocks / SCAN_THREADS), SCAN_THREADS, 0.0, 16 * blocks, 0.0, 0.0)
        scan = Launch(
            "single pass", blocks, SCAN_THREADS, byte, byte, SCAN_START + SCAN_EACH * SCAN_ELEMENT, SCAN_WAITS, 1.0,
            mechanism="reductions",
        )  # fmt: skip
        return in_order(card, state._replace(mechanism="reductions"), scan)
    log = minimum(9, maximum(4, (9 + ceil(log2(cols)) - ceil(log2(rows))) // 2))
    parts = ceil(cols / (2 << log))
    steps = parts * (log + 3)
    return in_order(
        card,
        Launch(
            f"{1 << log} threads per row", ceil(rows / (MOST_THREADS >> log)), MOST_THREADS, byte, byte,
            SCAN_START + steps * SCAN_STEP, parts, steps * SCAN_CLOCKS / BARRIER_CLOCKS, mechanism="reductions",
        ),
    )  # fmt: skip


MECHANISMS = {Reduction: reduction, Cumulative: cumulative}
