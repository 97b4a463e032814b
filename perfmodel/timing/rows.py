"""Rows: kernels that reduce along a row and then go over it again (softmax, normalisation, their gradients).

Three clocks run at once, and the slowest is the time.

- Memory: the first pass brings every input once. A further pass costs memory only where the rows in work are more than
  the caches hold; otherwise L2 serves it.
- Instructions: every thread pays for its share of the row's reductions, every access for its address and predicate,
  every element for its arithmetic, at one instruction per lane and clock. Short rows are dear because a whole warp or
  block reduces a handful of elements; rows of odd length are dear because their elements come one at a time.
- Latency: a block lives as long as its accesses, one behind the other, and its own instructions, each waiting for the
  one before; so many blocks fit a multiprocessor, and the rows come in waves of them.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.stream import moved, rate
from perfmodel.timing.terms import Body, overlapped

SHARPNESS = 2.9
# An access under load takes that many unloaded latencies.
LOADED = 1.06
# Clocks from an instruction to the next that needs its result.
ISSUE_CLOCKS = 7.2


class Row(NamedTuple):
    """So many rows of so many elements of so many bytes."""

    rows: int
    cols: int
    item: int

    @property
    def byte(self) -> int:
        return self.rows * self.cols * self.item


class Plan(NamedTuple):
    """How a library lays rows over threads, and what its threads do.

    ``threads`` share a row, ``width`` elements come with one access and ``ahead`` accesses of a thread are on their way
    at once; ``resident`` threads fit a multiprocessor. A thread spends ``per_row`` instructions on a row, ``per_access``
    on an access, ``per_element`` on an element (of all passes together); ``passes`` times it reads the row, and
    ``on_chip`` says that only the first reading leaves the chip. ``padded`` elements of a row are gone through.
    ``at_once``: rows in work, where the launch has fewer blocks than fit. ``barrier_clocks``: what its threads
    wait for one another in a row. ``staged``: the next rows are on their way while one is worked on, so that only the
    first is waited for. ``sharpness``: how well its blocks overlap one another.
    """

    name: str
    threads: int
    width: int
    ahead: float
    resident: int
    per_row: float
    per_access: float
    per_element: float
    passes: int = 1
    on_chip: bool = True
    padded: float = 0.0
    at_once: int = 0
    barrier_clocks: float = 0.0
    staged: bool = False
    sharpness: float = SHARPNESS


def body(card: Card, plan: Plan, row: Row, inputs: int, outputs: int, found: float) -> Body:
    """The time of one such kernel; ``found`` is the share of its bytes that L2 holds already."""
    rows, cols, size = row.rows, row.cols, row.byte
    stream = moved(card, inputs * size, outputs * size, found)
    through = plan.padded or cols
    accesses = through / plan.width * plan.per_access * plan.passes
    lanes = rows * (plan.threads * plan.per_row + accesses + through * plan.per_element)
    in_work = plan.at_once or max(1, plan.resident // plan.threads) * card.multiprocessors
    turns = ceil(through / (plan.threads * plan.width * plan.ahead))
    latency_s = card.dram_latency_s if found < 0.5 else card.l2_latency_s
    again = 0 if plan.on_chip else plan.passes - 1
    own = plan.per_row + (accesses + through * plan.per_element) / plan.threads
    wait_s = turns * LOADED * (latency_s + again * card.l2_latency_s)
    life_s = (own * ISSUE_CLOCKS + plan.barrier_clocks) / card.clock_hz
    waves = ceil(rows / in_work)
    waiting_s = wait_s + waves * life_s if plan.staged else waves * (wait_s + life_s)
    dram_s, l2_s = stream.dram_s, stream.l2_s
    if again:
        byte = again * inputs * size
        active = min(rows, in_work) * cols * row.item * inputs
        missed = min(1.0, max(0.0, (active / card.l2_byte - 1.0) / 1.5))
        dram_s += byte * missed / rate(card, byte, 0.0)
        l2_s += byte / card.l2_byte_per_s
    seconds, terms = overlapped(
        (
            ("memory", dram_s),
            ("L2", l2_s),
            ("instructions", lanes / card.lane_per_s),
            ("latency", waiting_s),
        ),
        plan.sharpness,
    )
    return Body(seconds, terms, "rows", plan.name)
