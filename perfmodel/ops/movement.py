"""Movement: bytes from one place to another, without arithmetic.

A copy of n elements reads and writes n items each, so its intensity is 0 and its least time is bytes divided by
bandwidth. A broadcast source has fewer elements in memory than the result. A transposed source is contiguous over short
runs only: the bytes are the same, and the time is longer.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Example, Valid, operation
from perfmodel.runs import Concatenate, Copy, Fill

LIBRARY = ("Paszke et al. 2019 (PyTorch)",)
RUN = Valid("run <= numel", "the elements that are contiguous are among those that are copied")


@operation(
    summary="y = x, element by element, in another layout or data type",
    example=Example(
        at={"numel": 12, "distinct": 4, "run": 4},
        flops=0,
        traffic=32,
        because="no arithmetic; 4 elements read and 12 written, 2 bytes each",
    ),
    sources=LIBRARY,
    valid=(Valid("distinct <= numel", "a broadcast source has fewer elements than the result, never more"), RUN),
)
def copy(numel: Size, distinct: Size, run: Size, act: Size = 2, out: Size = 2) -> Op:
    """Reads each element of the source's memory once. With other bytes per element, the copy is a conversion."""
    return Op(
        tensors=(Tensor("x", (distinct,), act, reads=1), Tensor("y", (numel,), out, writes=1)),
        work=(Work("copy", each(NOTHING, numel), Engine.VECTOR),),
        runs=Copy(numel, distinct, run, act, out),
    )


@operation(
    summary="tensors copied behind one another along an axis",
    example=Example(
        at={"numel": 12, "run": 6},
        flops=0,
        traffic=48,
        because="no arithmetic; 12 elements read and 12 written, 2 bytes each",
    ),
    sources=LIBRARY,
    valid=(RUN,),
)
def concatenate(numel: Size, run: Size, act: Size = 2) -> Op:
    """All inputs together have the elements of the result. Pieces of ``run`` elements are contiguous."""
    return Op(
        tensors=(Tensor("x", (numel,), act, reads=1), Tensor("y", (numel,), act, writes=1)),
        work=(Work("copy", each(NOTHING, numel), Engine.VECTOR),),
        runs=Concatenate(numel, run, act),
    )


@operation(
    summary="y = c, with one number c",
    example=Example(at={"numel": 12}, flops=0, traffic=24, because="no arithmetic; 12 elements written, 2 bytes each"),
    sources=LIBRARY,
)
def fill(numel: Size, act: Size = 2) -> Op:
    """Writes every element and reads nothing."""
    return Op(
        tensors=(Tensor("y", (numel,), act, writes=1),),
        work=(Work("fill", each(NOTHING, numel), Engine.VECTOR),),
        runs=Fill(numel, act),
    )
