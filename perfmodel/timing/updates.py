"""Multi-tensor kernels, as torch launches them (MultiTensorApply.cuh, 2.9 to 2.11).

A kernel goes through lists of tensors in chunks of 65536 elements, one block of 512 threads per chunk; the last chunk of
a tensor may be short. A launch takes at most 320 blocks, and a number of tensors that falls with the number of lists. A
thread loads four elements of every list at once, or one by one in a chunk whose length is not a multiple of four. The
norms of tensors take a second kernel, which adds the sums of the chunks.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import floor_div, largest, maximum, minimum
from perfmodel.op import Op
from perfmodel.runs import Update, number
from perfmodel.timing.blocks import Launch, in_order
from perfmodel.timing.branches import uniform
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

# Fitted on optimizer steps of whole programs and of the suite of programs' kernels (an H100, 2026-11, torch 2.11; the
# records for fitting). Instructions per element by function, per element and list for loads and stores, and what both
# grow by in chunks that are not a multiple of four elements long.
ELEMENT = {"adam": 88.0, "sgd": 57.0, "foreach": 12.0, "norm": 10.0}
LIST, ODD = 1.9, 2.0
# Memory waits of a thread per step of four elements; instructions of a thread before its first step.
AHEAD, START = 1.4, 120.0
# Exponent of the overlap: a block loads, computes and stores one step after another.
OVERLAP = 2.8

CHUNK, BLOCK, VECTOR = 65536, 512, 4
MOST_BLOCKS = 320
MOST_LAUNCHES = 1024.0
MOST_TENSORS = (110, 64, 48, 36, 30)


def update(card: Card, fact: Update, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All launches over all tensors: full ones, and a last one for the rest."""
    params, tensors, lists = number(fact.params), number(fact.tensors), number(fact.lists)
    sizes, alike = (fact.sizes, 1) if fact.sizes else ((params / tensors,), tensors)
    chunks = alike * sum(ceil(size / CHUNK) for size in sizes)
    odd = alike * sum(size for size in sizes if size % VECTOR) / params
    most = MOST_TENSORS[uniform(minimum(lists, len(MOST_TENSORS))) - 1]
    count = largest((1.0, chunks / MOST_BLOCKS, tensors / most))
    each = (ELEMENT[fact.function] + LIST * lists) * (1.0 + (ODD - 1.0) * odd)
    longest = ceil(minimum(CHUNK, largest(sizes)) / (BLOCK * VECTOR)) * VECTOR
    count = minimum(count, MOST_LAUNCHES)  # beyond it, each stands for several
    share = 1.0 / count
    one = Launch(
        f"{ceil(count)} launches", ceil(chunks * share), BLOCK, op.read_byte() * share, op.write_byte() * share,
        START + params / chunks / BLOCK * each, maximum(1.0, AHEAD * longest / VECTOR),
        3.0 if fact.function == "norm" else 0.0, START + longest * each, mechanism="updates",
        sharpness=OVERLAP, abreast=VECTOR,
    )  # fmt: skip
    full = uniform(floor_div(count, 1))
    rest = count - full
    last_one = one._replace(
        blocks=ceil(one.blocks * rest), read_byte=one.read_byte * rest, write_byte=one.write_byte * rest
    )
    launches = in_order(card, one) * full + (in_order(card, last_one) if rest else ())
    if fact.function != "norm":
        return launches
    norms = Launch(
        "norms", tensors, BLOCK, 4.0 * chunks, 1.0 * op.write_byte(), 60.0, ceil(chunks / tensors / BLOCK), 3.0, mechanism="updates"
    )  # fmt: skip
    return (*launches, *in_order(card, norms))


MECHANISMS = {Update: update}
