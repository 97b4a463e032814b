"""Multi-tensor kernels, as torch launches them (MultiTensorApply.cuh, CUDA 13 builds of 2.9 to 2.11).

A kernel goes through lists of tensors in chunks of 65536 elements, one block of 512 threads per chunk; the last chunk of
a tensor may be short. A launch takes at most 2240 blocks, and a number of tensors that falls with the number of lists.
A thread loads four elements of every list at once. The norms of tensors take a second kernel, which adds the sums of
the chunks.
"""

from __future__ import annotations

from math import ceil

from perfmodel.op import Op
from perfmodel.runs import Update, number
from perfmodel.timing.blocks import Launch, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

# First guesses, not fitted yet. Instructions per element by function, and per element and list for loads and stores.
ELEMENT = {"adam": 34.0, "sgd": 8.0, "foreach": 3.0, "norm": 3.0}
LIST = 2.0
# Memory waits of a thread per step of four elements; instructions of a thread before its first step.
AHEAD, START = 0.9, 120.0

CHUNK, BLOCK, VECTOR = 65536, 512, 4
MOST_BLOCKS = 2240
MOST_TENSORS = (770, 448, 336, 252, 210)


def update(card: Card, fact: Update, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All launches over all tensors, taken as equally large."""
    params, tensors, lists = number(fact.params), number(fact.tensors), number(fact.lists)
    chunks = tensors * ceil(params / tensors / CHUNK)
    most = MOST_TENSORS[min(lists, len(MOST_TENSORS)) - 1]
    count = max(ceil(chunks / MOST_BLOCKS), ceil(tensors / most))
    blocks = ceil(chunks / count)
    steps = params / chunks / (BLOCK * VECTOR)
    lanes = START + steps * VECTOR * (ELEMENT[fact.function] + LIST * lists)
    one = Launch(
        f"{count} x {blocks} blocks", blocks, BLOCK, op.read_byte() / count, op.write_byte() / count, lanes,
        max(1.0, AHEAD * steps), 3.0 if fact.function == "norm" else 0.0, mechanism="updates",
    )  # fmt: skip
    if fact.function != "norm":
        return in_order(card, *(one,) * count)
    each = ceil(chunks / tensors)
    last = Launch(
        "norms", tensors, BLOCK, 4.0 * chunks, float(op.write_byte()), 60.0, ceil(each / BLOCK), 3.0, mechanism="updates"
    )  # fmt: skip
    return in_order(card, *(one,) * count, last)


MECHANISMS = {Update: update}
