"""Multi-tensor kernels, as torch launches them (MultiTensorApply.cuh, 2.1 to 2.11).

A kernel goes through lists of tensors in chunks of 65536 elements, one block of 512 threads per chunk; the last chunk of
a tensor may be short. A launch takes at most 320 blocks, and a number of tensors that falls with the number of lists,
because their addresses are arguments of the kernel. A thread loads four elements of every list at once, one by one where
a tensor's size is no multiple of four. So few blocks rarely fill the card: the busiest multiprocessor decides, by its
instructions or by the waits of its longest chunk. The norms of tensors take a second kernel, which adds the sums of the
chunks.

Fused optimizer steps compute with double-precision rates, so their instructions are mostly conversions.
NB these counts hold for cards with a double-precision rate of half the single-precision one.
"""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import NamedTuple

from perfmodel.op import Op
from perfmodel.runs import Update, number
from perfmodel.timing.blocks import CHAIN_CLOCKS, SCHEDULERS, WAIT, WARP, Launch, in_order, slowness
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.stream import late_s, rate, through_l2
from perfmodel.timing.terms import Body, later, overlapped

# Issue slots of a lane per element, by function (H100, 2026-11, torch 2.11, as all below).
ELEMENT = {"adam": 105.0, "sgd": 65.0, "foreach": 4.0, "norm": 4.0}
# Per element and access to a list, in vectors and one by one.
ACCESS, SINGLE = 2.0, 13.5
# Memory waits of a thread per step of four elements, and before its first step; instructions before its first step (Adam
# raises its rates to the power of the step, in double precision).
AHEAD, FIRST = 2.0, 1.5
START = {"adam": 550.0, "sgd": 100.0, "foreach": 50.0, "norm": 50.0}
# Exponent of the overlap.
SHARPNESS = 3.0

CHUNK, BLOCK, VECTOR = 65536, 512, 4
MOST_BLOCKS = 320
MOST_TENSORS = (110, 64, 48, 36, 30)


class Chunks(NamedTuple):
    """One launch: elements of its busiest multiprocessor and of its longest chunk, issue slots per element, and
    instructions of a thread before its first.
    """

    busiest: float
    longest: float
    slots: float
    start: float
    read_byte: float
    write_byte: float


def update(card: Card, fact: Update, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All launches over all tensors, taken as equally large."""
    params, tensors, lists = number(fact.params), number(fact.tensors), number(fact.lists)
    chunks = tensors * ceil(params / tensors / CHUNK)
    most = MOST_TENSORS[min(lists, len(MOST_TENSORS)) - 1]
    count = max(ceil(chunks / MOST_BLOCKS), ceil(tensors / most))
    blocks, longest = ceil(chunks / count), min(CHUNK, params / tensors)
    accesses = sum((t.read_byte + t.write_byte) / (t.item * params) for t in op.tensors)
    single = params // tensors % VECTOR != 0
    one = Chunks(
        max(longest, ceil(blocks / card.multiprocessors) * params / chunks), longest,
        ELEMENT[fact.function] + (SINGLE if single else ACCESS) * accesses, START[fact.function],
        op.read_byte() / count, op.write_byte() / count,
    )  # fmt: skip
    part = Part(partial(_chunks, card, one), int(one.read_byte + one.write_byte))
    if fact.function != "norm":
        return (part,) * count
    each = ceil(chunks / tensors)
    last = Launch(
        "norms", tensors, BLOCK, 4.0 * chunks, float(op.write_byte()), 60.0, ceil(each / BLOCK), 3.0, mechanism="updates"
    )  # fmt: skip
    return (*(part,) * count, *in_order(card, last))


def _chunks(card: Card, one: Chunks, found: float) -> Body:
    """The time of a launch: memory, L2, the instructions of the busiest multiprocessor, the waits of the longest chunk."""
    read, write = one.read_byte * (1.0 - found), one.write_byte * (1.0 - found)
    late = late_s(card, read, write)
    dram_s = (read + write) / rate(card, read, write) - late if read + write else 0.0
    slots = one.busiest * one.slots / (SCHEDULERS * WARP) * slowness(card)
    latency_s = WAIT * ((1.0 - found) * card.dram_latency_s + found * card.l2_latency_s)
    waits = FIRST + AHEAD * one.longest / (BLOCK * VECTOR)
    streams = (
        ("memory", dram_s), ("L2", sum(through_l2(card, one.read_byte, one.write_byte))),
        ("instructions", slots / card.clock_hz),
        ("block latency", waits * latency_s + one.start * CHAIN_CLOCKS / card.clock_hz),
    )  # fmt: skip
    seconds, terms = overlapped(streams, SHARPNESS)
    return Body(seconds, terms, "updates", "chunks of 65536", later(streams, SHARPNESS, seconds, late))


MECHANISMS = {Update: update}
