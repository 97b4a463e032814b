"""Optimizer steps over all parameters, independent of the batch, and the multi-tensor kernels that they consist of.

A step reads and writes every parameter and its moments once, some 15 FLOPs for 14 to 28 bytes: memory-bound. A
multi-tensor kernel goes through many tensors in one launch, so a model of hundreds of small tensors takes few launches.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, is_zero
from perfmodel.mixes import ADAM, ROOT, SGD, SQUARES, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Example, Valid, operation
from perfmodel.runs import Update

EACH = Valid("tensors <= params", "every tensor has at least one element")


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
        runs=Update(params, 1, 4 + apart, acc),
    )


@operation(
    summary="a step of Adam with decoupled weight decay on the weights themselves, in one kernel",
    example=Example(
        at={"params": 10, "tensors": 2},
        flops=150,
        traffic=220,
        because="10 parameters x (8 multiplications, 4 additions, subtraction, root, quotient); per parameter the gradient of "
        "2 bytes read, the weight of 2 and two moments of 4 read and written: 22",
    ),
    sources=("Kingma and Ba 2014", "Loshchilov and Hutter 2017"),
    valid=(EACH,),
)
def adam_step(params: Size, tensors: Size, weight: Size = 2, state: Size = 4) -> Op:
    """A fused kernel over many tensors, without a master copy of the weights."""
    return Op(
        tensors=(
            Tensor("gradient", (params,), weight, reads=1),
            Tensor("weight", (params,), weight, reads=1, writes=1),
            Tensor("mean", (params,), state, reads=1, writes=1),
            Tensor("variance", (params,), state, reads=1, writes=1),
        ),
        work=(Work("update", each(ADAM, params), Engine.VECTOR),),
        runs=Update(params, tensors, 4, weight),
    )


@operation(
    summary="a step of stochastic gradient descent with momentum, in one kernel",
    example=Example(
        at={"params": 10, "tensors": 2},
        flops=40,
        traffic=100,
        because="10 parameters x (2 multiplications, addition, subtraction); the gradient read, weight and momentum read and "
        "written, 2 bytes each: 10 bytes per parameter",
    ),
    sources=("Sutskever et al. 2013 (momentum)",),
    valid=(EACH,),
)
def sgd_step(params: Size, tensors: Size, weight: Size = 2) -> Op:
    """The momentum is stored like the weights."""
    return Op(
        tensors=(
            Tensor("gradient", (params,), weight, reads=1),
            Tensor("momentum", (params,), weight, reads=1, writes=1),
            Tensor("weight", (params,), weight, reads=1, writes=1),
        ),
        work=(Work("update", each(SGD, params), Engine.VECTOR),),
        runs=Update(params, tensors, 3, weight, "sgd"),
    )


@operation(
    summary="one elementwise function of lists of tensors, such as their sum, in one kernel",
    example=Example(
        at={"params": 10, "tensors": 2, "reads": 2},
        flops=20,
        traffic=60,
        because="10 elements x 2 additions; 2 lists read and 1 written, 2 bytes each",
    ),
    sources=("Paszke et al. 2019 (PyTorch)",),
    valid=(EACH,),
)
def foreach(params: Size, tensors: Size, reads: Size, act: Size = 2) -> Op:
    """One addition per element of every list read, the first one to zero."""
    return Op(
        tensors=(Tensor("lists", (reads, params), act, reads=1), Tensor("y", (params,), act, writes=1)),
        work=(Work("add", each(SUM, reads, params), Engine.VECTOR),),
        runs=Update(params, tensors, reads + 1, act, "foreach"),
    )


@operation(
    summary="the 2-norm of every tensor, as gradient clipping needs it",
    example=Example(
        at={"params": 10, "tensors": 2},
        flops=22,
        traffic=24,
        because="10 squares, each added, and 2 roots; 10 elements read and 2 written, 2 bytes each",
    ),
    sources=("Pascanu et al. 2013 (gradient clipping)",),
    valid=(EACH,),
)
def gradient_norm(params: Size, tensors: Size, act: Size = 2) -> Op:
    """The norm of all gradients follows from these few numbers. Clipping itself is a multiplication of every tensor."""
    return Op(
        tensors=(Tensor("gradient", (params,), act, reads=1), Tensor("norms", (tensors,), act, writes=1)),
        work=(
            Work("squares", each(SQUARES, params), Engine.VECTOR),
            Work("roots", each(ROOT, tensors), Engine.VECTOR),
        ),
        runs=Update(params, tensors, 1, act, "norm"),
    )
