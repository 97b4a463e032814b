"""Pooling: one vector per sequence, the mean of its tokens' vectors.

The mean of N vectors of width D takes N D additions and D multiplications by 1 / N. It reads every element once and
writes one vector, so it is memory-bound.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import SCALE, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, operation
from perfmodel.runs import Reduction, Stream


@operation(
    summary="y = mean over the tokens of a sequence",
    example=Example(
        at={"B": 1, "N": 4, "D": 3},
        flops=15,
        traffic=30,
        because="12 additions and 3 multiplications by 1/4; x 12 and y 3 elements, 2 bytes each",
    ),
    sources=("Lin et al. 2013 (global average pooling)",),
    backward=(Backward("mean_backward"),),
)
def mean(B: Size, N: Size, D: Size, act: Size = 2) -> Op:
    """NB the first addition of each sum, to zero, is counted."""
    return Op(
        tensors=(Tensor("x", (B, N, D), act, reads=1), Tensor("y", (B, D), act, writes=1)),
        work=(
            Work("sum", each(SUM, B, N, D), Engine.VECTOR),
            Work("divide", each(SCALE, B, D), Engine.VECTOR),
        ),
        runs=Reduction(B, N, D, act, act),
    )


@operation(
    summary="dx = dy / N for every token",
    example=Example(
        at={"B": 1, "N": 4, "D": 3},
        flops=3,
        traffic=30,
        because="3 multiplications by 1/4; dy 3 and dx 12 elements, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 6.5",),
)
def mean_backward(B: Size, N: Size, D: Size, act: Size = 2) -> Op:
    """Writes the same vector N times."""
    return Op(
        tensors=(Tensor("dy", (B, D), act, reads=1), Tensor("dx", (B, N, D), act, writes=1)),
        work=(Work("divide", each(SCALE, B, D), Engine.VECTOR),),
        runs=Stream(),
    )
