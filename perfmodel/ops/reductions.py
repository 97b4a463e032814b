"""Reductions, running sums and orders: each row is read once, and one or a few numbers are left of it.

A tensor of (rows, cols, inner) is reduced over its middle axis: over each row if inner is 1, down each column of a
matrix if rows is 1. One operation per element read keeps the intensity below 1, so all of them are memory-bound.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import COMPARISON, LARGEST, NOTHING, SUM
from perfmodel.op import Engine, Mix, Op, Tensor, Work, each
from perfmodel.operation import Example, Valid, operation
from perfmodel.runs import Cumulative, Reduction, Sort, TopK

LIBRARY = ("Paszke et al. 2019 (PyTorch)",)


def _reduced(function: str, mix: Mix, rows: Size, cols: Size, inner: Size, act: Size, result: Size) -> Op:
    return Op(
        tensors=(
            Tensor("x", (rows, cols, inner), act, reads=1),
            Tensor("y", (rows, inner), result, writes=1),
        ),
        work=(Work(function, each(mix, rows, cols, inner), Engine.VECTOR),),
        runs=Reduction(rows, cols, inner, act, result, function),
    )


@operation(
    summary="y = sum of x over its middle axis",
    example=Example(
        at={"rows": 2, "cols": 5, "inner": 3},
        flops=30,
        traffic=72,
        because="2 x 5 x 3 = 30 additions; 30 elements read, 6 written, 2 bytes each",
    ),
    sources=LIBRARY,
)
def reduce_sum(rows: Size, cols: Size, inner: Size, act: Size = 2, out: Size = 2) -> Op:
    """Also the mean, whose one division per result is not counted. The first addition of each sum, to zero, is."""
    return _reduced("sum", SUM, rows, cols, inner, act, out)


@operation(
    summary="y = largest element of x along its middle axis",
    example=Example(
        at={"rows": 2, "cols": 5, "inner": 3},
        flops=30,
        traffic=72,
        because="2 x 5 x 3 = 30 maxima; 30 elements read, 6 written, 2 bytes each",
    ),
    sources=LIBRARY,
)
def reduce_max(rows: Size, cols: Size, inner: Size, act: Size = 2, out: Size = 2) -> Op:
    """Also the smallest element, and whether all or any are set."""
    return _reduced("max", LARGEST, rows, cols, inner, act, out)


@operation(
    summary="y = place of the largest element of x along its middle axis",
    example=Example(
        at={"rows": 2, "cols": 5, "inner": 3},
        flops=30,
        traffic=108,
        because="2 x 5 x 3 = 30 comparisons; 30 elements of 2 bytes read, 6 places of 8 written",
    ),
    sources=LIBRARY,
)
def argmax(rows: Size, cols: Size, inner: Size, act: Size = 2, index: Size = 8) -> Op:
    """Greedy decoding chooses the next token this way."""
    return _reduced("argmax", COMPARISON, rows, cols, inner, act, index)


@operation(
    summary="y = running sum of each row",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=10,
        traffic=40,
        because="10 additions; 10 elements read and 10 written, 2 bytes each",
    ),
    sources=("Blelloch 1990 (prefix sums)",),
)
def cumulative_sum(rows: Size, cols: Size, act: Size = 2) -> Op:
    """NB a parallel scan adds about twice as often; the additions of the definition are counted."""
    return Op(
        tensors=(Tensor("x", (rows, cols), act, reads=1), Tensor("y", (rows, cols), act, writes=1)),
        work=(Work("add", each(SUM, rows, cols), Engine.VECTOR),),
        runs=Cumulative(rows, cols, act),
    )


@operation(
    summary="the largest elements of each row, and their places",
    example=Example(
        at={"rows": 2, "cols": 5, "chosen": 3},
        flops=10,
        traffic=80,
        because="10 comparisons; 10 elements of 2 bytes read; 6 elements of 2 bytes and 6 places of 8 written",
    ),
    sources=("Alabi et al. 2012 (selection on GPUs)",),
    valid=(Valid("chosen <= cols", "a row has cols elements, so no more can be chosen"),),
)
def top_k(rows: Size, cols: Size, chosen: Size, act: Size = 2, index: Size = 8) -> Op:
    """Each element is compared once with the smallest that is chosen.

    NB finding that element takes several passes over digits, which are no FLOPs; the time includes them.
    """
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("values", (rows, chosen), act, writes=1),
            Tensor("places", (rows, chosen), index, writes=1),
        ),
        work=(Work("compare", each(COMPARISON, rows, cols), Engine.VECTOR),),
        runs=TopK(rows, cols, chosen, act),
    )


@operation(
    summary="each row sorted, with the places of its elements",
    example=Example(
        at={"rows": 2, "cols": 5},
        flops=0,
        traffic=120,
        because="no arithmetic; 10 elements of 2 bytes read; 10 elements of 2 bytes and 10 places of 8 written",
    ),
    sources=("Satish et al. 2009 (radix sort on GPUs)",),
)
def sort(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """A radix sort counts digits and compares nothing, so there are no FLOPs. The bytes are those of one pass."""
    return Op(
        tensors=(
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("values", (rows, cols), act, writes=1),
            Tensor("places", (rows, cols), index, writes=1),
        ),
        work=(Work("order", each(NOTHING, rows, cols), Engine.VECTOR),),
        runs=Sort(rows, cols, act),
    )
