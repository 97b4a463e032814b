"""The optimizer's step: every trained number once, whatever the batch."""

from __future__ import annotations

from perfmodel.arithmetic import Size
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
    """State of 12 bytes per parameter in float32 (master weight, mean, variance) beside 2 + 2 of weight and gradient.

    Weights that are stored in float32 are their own master copy.
    """
    moments = tuple(Tensor(name, (params,), acc, reads=1, writes=1) for name in ("mean", "variance"))
    if weight == acc:
        kept: tuple[Tensor, ...] = (Tensor("weight", (params,), weight, reads=1, writes=1),)
    else:
        master = Tensor("master", (params,), acc, reads=1, writes=1)
        kept = (master, Tensor("weight", (params,), weight, writes=1))
    return Op(
        tensors=(Tensor("gradient", (params,), weight, reads=1), *moments, *kept),
        work=(Work("update", each(ADAM, params), Engine.VECTOR),),
        runs=Update(params),
    )
