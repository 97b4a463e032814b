"""The optimizer step over all parameters, independent of the batch."""

from __future__ import annotations

from perfmodel.arithmetic import Size, is_zero
from perfmodel.mixes import ADAM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Example, operation
from perfmodel.runs import Update


@operation(
    summary="a step of Adam with decoupled weight decay, in mixed precision",
    example=Example(
        at={"params": 10},
        flops=150,
        traffic=280,
        because="10 parameters x (8 multiplications, 4 additions, subtraction, root, quotient); per parameter the gradient "
        "of 2 bytes read, weight of 2 written, and master weight and two moments of 4 each read and written: 28",
    ),
    sources=("Kingma and Ba 2014", "Loshchilov and Hutter 2017", "Rajbhandari et al. 2020 (ZeRO), section 3.1"),
)
def adam(params: Size, weight: Size = 2, acc: Size = 4) -> Op:
    """Float32 state of 12 bytes per parameter (master weight, mean, variance), with a weight and a gradient of 2 bytes
    each.

    Float32 weights are their own master copy.
    """
    moments = tuple(Tensor(name, (params,), acc, reads=1, writes=1) for name in ("mean", "variance"))
    apart = 1 * (weight != acc)  # an array where a sweep has several types
    if is_zero(apart):
        kept: tuple[Tensor, ...] = (Tensor("weight", (params,), weight, reads=1, writes=1),)
    else:
        master = Tensor("master", (params,), acc, reads=apart, writes=apart)
        kept = (master, Tensor("weight", (params,), weight, reads=1 - apart, writes=1))
    return Op(
        tensors=(Tensor("gradient", (params,), weight, reads=1), *moments, *kept),
        work=(Work("update", each(ADAM, params), Engine.VECTOR),),
        runs=Update(params),
    )
