"""Selection: elementwise operations on masks and indices, and random numbers.

One comparison or choice per element is far below the ridge of every card, so all of them are memory-bound. A mask of
one byte per element adds a third to the bytes of a copy in fp16.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import CHOICE, COMPARISON, SUM, UNIFORM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Example, operation
from perfmodel.runs import Random, Stream

LIBRARY = ("Paszke et al. 2019 (PyTorch)",)


@operation(
    summary="y = a where the mask is set, otherwise b",
    example=Example(
        at={"numel": 10},
        flops=10,
        traffic=70,
        because="10 choices; 20 elements read and 10 written, 2 bytes each; 10 mask bytes read",
    ),
    sources=LIBRARY,
)
def where(numel: Size, act: Size = 2, mask: Size = 1) -> Op:
    """Both alternatives are read in full: neighbouring threads load whole sectors."""
    return Op(
        tensors=(
            Tensor("mask", (numel,), mask, reads=1),
            Tensor("a", (numel,), act, reads=1),
            Tensor("b", (numel,), act, reads=1),
            Tensor("y", (numel,), act, writes=1),
        ),
        work=(Work("choose", each(CHOICE, numel), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="y = c where the mask is set, otherwise x",
    example=Example(
        at={"numel": 10},
        flops=10,
        traffic=50,
        because="10 choices; 10 elements read and 10 written, 2 bytes each; 10 mask bytes read",
    ),
    sources=LIBRARY,
)
def masked_fill(numel: Size, act: Size = 2, mask: Size = 1) -> Op:
    """One number c replaces the elements under the mask. torch copies x first and then fills the copy."""
    return Op(
        tensors=(
            Tensor("mask", (numel,), mask, reads=1),
            Tensor("x", (numel,), act, reads=1),
            Tensor("y", (numel,), act, writes=1),
        ),
        work=(Work("choose", each(CHOICE, numel), Engine.VECTOR),),
        runs=Stream(special="copied"),
    )


@operation(
    summary="y = a > b, as one byte per element",
    example=Example(
        at={"numel": 10},
        flops=10,
        traffic=50,
        because="10 comparisons; 20 elements of 2 bytes read, 10 booleans of 1 byte written",
    ),
    sources=LIBRARY,
)
def compare(numel: Size, act: Size = 2) -> Op:
    """Two tensors of equal shape. The booleans are the mask of a choice."""
    return Op(
        tensors=(
            Tensor("a", (numel,), act, reads=1),
            Tensor("b", (numel,), act, reads=1),
            Tensor("y", (numel,), 1, writes=1),
        ),
        work=(Work("compare", each(COMPARISON, numel), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="y = a + b, of two tensors of indices",
    example=Example(
        at={"numel": 10},
        flops=10,
        traffic=240,
        because="10 additions; 20 indices read and 10 written, 8 bytes each",
    ),
    sources=LIBRARY,
)
def integer(numel: Size, index: Size = 8) -> Op:
    """Arithmetic on positions and token numbers, which torch stores in 64 bits."""
    return Op(
        tensors=(
            Tensor("a", (numel,), index, reads=1),
            Tensor("b", (numel,), index, reads=1),
            Tensor("y", (numel,), index, writes=1),
        ),
        work=(Work("add", each(SUM, numel), Engine.VECTOR),),
        runs=Stream(),
    )


@operation(
    summary="random numbers between two limits, or normally distributed",
    example=Example(
        at={"numel": 10},
        flops=20,
        traffic=20,
        because="10 x (multiplication, addition); 10 elements written, 2 bytes each",
    ),
    sources=("Salmon et al. 2011 (Philox)",),
)
def random(numel: Size, act: Size = 2) -> Op:
    """A counter-based generator makes four integers at a time, and each is scaled to the limits.

    NB its integer operations (some sixty for four numbers) are not FLOPs and not counted; the time includes them.
    """
    return Op(
        tensors=(Tensor("y", (numel,), act, writes=1),),
        work=(Work("scale", each(UNIFORM, numel), Engine.VECTOR),),
        runs=Random(numel, act),
    )
