"""Multi-tensor kernels, as torch launches them (MultiTensorApply.cuh, 2.9 to 2.11).

A kernel goes through lists of tensors in chunks of 65536 elements, one block of 512 threads per chunk; the last chunk of
a tensor may be short. A launch takes at most 320 blocks, and a number of tensors that falls with the number of lists. A
thread loads four elements of every list at once, or one by one in a chunk whose length is not a multiple of four. The
norms of tensors take a second kernel, which adds the sums of the chunks.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, floor_div, largest, maximum, minimum, where
from perfmodel.op import Op
from perfmodel.runs import Update, number
from perfmodel.timing.blocks import Launch, few, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.weights import Mechanism

_data = Mechanism("updates")
ELEMENT = _data.group("element")
LIST, ODD, AHEAD, START, OVERLAP = _data.weights("list", "odd", "ahead", "start", "overlap")

CHUNK, BLOCK, VECTOR, MOST_BLOCKS = _data.facts("chunk", "block", "vector", "most blocks")
MOST_LAUNCHES, MOST_TENSORS = _data.weight("most launches"), _data.sizes("most tensors")


def update(card: Card, fact: Update, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """All launches over all tensors: full ones, and a last one for the rest."""
    params, tensors, lists = number(fact.params), number(fact.tensors), number(fact.lists)
    sizes, alike = (fact.sizes, 1) if fact.sizes else ((params / tensors,), tensors)
    chunks = alike * sum(ceil(size / CHUNK) for size in sizes)
    odd = alike * sum(where(size % VECTOR > 0, size, 0) for size in sizes) / params
    most = MOST_TENSORS[-1]
    for number_of, tensors_of in enumerate(MOST_TENSORS, 1):
        most = where(lists == number_of, tensors_of, most)
    count = largest((1.0, chunks / MOST_BLOCKS, tensors / most))
    each = (ELEMENT[fact.function] + LIST * lists) * (1.0 + (ODD - 1.0) * odd)
    longest = ceil(minimum(CHUNK, largest(sizes)) / (BLOCK * VECTOR)) * VECTOR
    count = minimum(count, MOST_LAUNCHES)  # beyond it, each stands for several
    share = 1.0 / count
    one = Launch(
        f"{ceil(count)} launches", ceil(chunks * share), BLOCK, op.read_byte() * share, op.write_byte() * share,
        START + params / chunks / BLOCK * each, maximum(1.0, AHEAD * longest / VECTOR),
        1.0 if fact.function == "norm" else 0.0, START + longest * each, mechanism="updates",
        sharpness=OVERLAP, abreast=VECTOR,
    )  # fmt: skip
    launches = _in_order(card, one, count)
    if fact.function != "norm":
        return launches
    turns = ceil(chunks / tensors / BLOCK)
    norms = few("norms", tensors, BLOCK, 4 * chunks, op.write_byte(), "updates", turns - 1)
    return (*launches, *in_order(card, norms))


def _in_order(card: Card, one: Launch, count: Size) -> tuple[Part, ...]:
    """So many launches: full ones, and a smaller one for the rest. Of many points, all between the first and the last are
    one part.
    """
    full = floor_div(count, 1)
    rest = count - full
    last = one._replace(
        blocks=ceil(one.blocks * rest), read_byte=one.read_byte * rest, write_byte=one.write_byte * rest
    )
    if isinstance(full, int):
        return in_order(card, one) * full + (in_order(card, last) if rest else ())
    if count <= 1:
        return in_order(card, one)
    names = ("blocks", "read_byte", "write_byte")
    last = last._replace(**{name: where(rest > 0, getattr(last, name), getattr(one, name)) for name in names})
    first, end = in_order(card, one, last)
    return first, first._replace(times=ceil(count) - 2), end


MECHANISMS = {Update: update}
