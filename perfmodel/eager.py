"""The kernels that eager code launches for an operation, each with its own bytes.

``naive`` attention scales the scores into a new tensor. With a causal mask it also creates the mask, copies the scores
and fills them.

``math`` is torch's fallback. It converts half-precision inputs to fp32, repeats keys and values for every query head,
scales queries and keys, and adds the mask as a matrix. After the softmax it checks for fully masked rows.

``torch`` runs the activation and the product of a gated network as two kernels. The product before a softmax gradient
is added by ``timing.row_kernels``.

The added kernels have no FLOPs: the operation's own work already includes the scale and the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from perfmodel import ops
from perfmodel.arithmetic import ceil_div
from perfmodel.block import Kernel
from perfmodel.mixes import NOTHING, SCALE
from perfmodel.op import MULTIPLY, Engine, Mix, Op, Tensor, Work, each
from perfmodel.runs import BY_TORCH, NARROW, SCALES, TORCH_SCALES, Gemm, Stage, Stream, number
from perfmodel.units import ITEM_BYTES

EAGER = ("naive", "math")
WIDE = "fp32"
HALF = 2  # bytes of half precision
WIDE_COPY = 16  # bytes
ALIGNED = 8  # elements; with one row of scores per head, the number of keys is rounded up to a multiple


def launched(kernels: Iterable[Kernel], impl: str, dtype: str) -> Iterator[Kernel]:
    """The kernels that run under an implementation, in execution order."""
    for kernel in kernels:
        fact = kernel.op.runs
        if impl in EAGER and isinstance(fact, Stage):
            yield from _math(kernel, fact, dtype) if impl == "math" else _naive(kernel, fact, dtype)
        elif impl == "torch" and isinstance(fact, Stream) and fact.gate:
            yield from _gate(kernel)
        elif impl in SCALES and isinstance(fact, Gemm) and (kernel.dtype or dtype) in NARROW:
            yield from _quantised(kernel, fact, impl)
        elif impl == "torch" and isinstance(fact, Gemm) and fact.scales in BY_TORCH:
            yield kernel._replace(op=kernel.op._replace(runs=fact._replace(scales=BY_TORCH[fact.scales])))
        else:
            yield kernel


def _quantised(kernel: Kernel, fact: Gemm, impl: str) -> Iterator[Kernel]:
    """The quantisation of the left operand, and the product with a result in half precision."""
    scales = SCALES[impl]
    left, *rest = kernel.op.tensors
    rows, cols = number(fact.batch) * number(fact.m), number(fact.k)
    quantise = ops.find(f"quantise_{scales}")
    op = quantise.function(rows, cols, act=HALF, packed=fact.items.left)
    yield kernel._replace(name=f"{kernel.name}.quantise", op=op)
    results = tuple(tensor._replace(item=HALF) if tensor.writes else tensor for tensor in rest)
    by = BY_TORCH[scales] if impl in TORCH_SCALES else scales
    product = fact._replace(items=fact.items._replace(result=HALF), scales=by)
    factors = op.tensor("scales")._replace(reads=1, writes=0)
    yield kernel._replace(op=kernel.op._replace(tensors=(left, factors, *results), runs=product))


def _naive(kernel: Kernel, stage: Stage, dtype: str) -> Iterator[Kernel]:
    item = ITEM_BYTES[dtype]
    yield _own(kernel, stage)
    if stage.role not in ("scores", "dscores"):
        return
    elements, square, masked = _table(kernel.op, stage)
    scale = _copy(kernel, "scale", elements, item, item)
    if not masked:
        yield scale
        return
    fill = (
        _copy(kernel, "copy", elements, item, item),
        _copy(kernel, "fill", elements, item, item, "broadcast"),
    )
    if stage.role == "dscores":
        yield from (*fill, scale)
    else:
        yield from (scale, _copy(kernel, "mask", square, 0, 1), _copy(kernel, "triangle", square, 1, 1), *fill)


def _math(kernel: Kernel, stage: Stage, dtype: str) -> Iterator[Kernel]:
    """One stage of ``math`` attention in fp32, with the conversions before and after it."""
    item, wide = ITEM_BYTES[dtype], ITEM_BYTES[WIDE]
    yield from _before_math(kernel, stage, item, wide)
    widened = _own(kernel, stage)
    tensors = tuple(tensor._replace(item=wide) for tensor in widened.op.tensors)
    runs = _stage_of(widened)._replace(kernel=_stage_of(widened).kernel.widened(wide))
    yield widened._replace(op=widened.op._replace(tensors=tensors, runs=runs), dtype=WIDE)
    yield from _after_math(kernel, stage, item, wide)


def _own(kernel: Kernel, stage: Stage) -> Kernel:
    """The kernel of the stage itself.

    With one query per head, the scores are contiguous along the heads, so the number of keys never misaligns rows. With
    more, an odd number of keys misaligns the rows of the scores alone: q and k are read along the head size.
    """
    gemm, (q, k) = stage.kernel, kernel.op.tensors[:2]
    if stage.role != "scores" or not isinstance(gemm, Gemm):
        return kernel
    if q.shape[2] == 1 and q.shape[1] == k.shape[1]:
        gemm = gemm._replace(n=ceil_div(number(gemm.n), ALIGNED) * ALIGNED)
    elif number(gemm.n) * gemm.items.result % 4 != 0 and number(gemm.k) * gemm.items.left % WIDE_COPY == 0:
        gemm = gemm._replace(odd=True)
    return kernel._replace(op=kernel.op._replace(runs=stage._replace(kernel=gemm)))


def _stage_of(kernel: Kernel) -> Stage:
    assert isinstance(kernel.op.runs, Stage)
    return kernel.op.runs


def _before_math(kernel: Kernel, stage: Stage, item: Any, wide: Any) -> Iterator[Kernel]:
    """Kernels before a stage: conversions of the inputs, repeated keys and values, and the scaling of q and k."""
    op = kernel.op
    if stage.role == "dv":
        yield from _cast(kernel, op.tensor("dout").elements, item, wide)
    if stage.role != "scores":
        return
    q, k = op.tensors[0], op.tensors[1]
    every = k.elements * (q.shape[1] // k.shape[1])
    yield from _cast(kernel, q.elements, item, wide)
    yield from (*_cast(kernel, k.elements, item, wide), *_cast(kernel, k.elements, item, wide))
    yield _copy(kernel, "scale", q.elements, wide, wide)
    if every > k.elements:
        yield from (_copy(kernel, "repeat", every, wide, wide),) * 2
    yield _copy(kernel, "scale", every, wide, wide)


def _after_math(kernel: Kernel, stage: Stage, item: Any, wide: Any) -> Iterator[Kernel]:
    """Kernels after a stage: the mask, the check for fully masked rows, scaling, and conversions of the results."""
    op, role = kernel.op, stage.role
    if role == "scores":
        elements, square, masked = _table(op, stage)
        if masked:
            yield _copy(kernel, "mask", square, 0, 1)
            yield _copy(kernel, "triangle", square, 1, 1)
            yield _copy(kernel, "zero", 1, 0, wide)
            yield _copy(kernel, "fill", square, 1, wide)
            yield _copy(kernel, "add mask", elements, wide, wide, "broadcast")
    elif role == "softmax":
        elements = op.tensors[0].elements
        yield _copy(kernel, "zero", 1, 0, wide)
        yield _copy(kernel, "compare", elements, wide, 1, "compare")
        yield _copy(kernel, "all masked", elements, 1, 0, "reduce")
        yield _copy(kernel, "zero", 1, 0, wide)
        yield _copy(kernel, "select", elements, wide, wide, "broadcast")
    elif role == "dprobs":
        yield _copy(kernel, "select", op.tensor("dprobs").elements, wide, wide, "broadcast")
    elif role in ("dq", "dk"):
        yield _copy(kernel, "scale", op.tensor(role).elements, wide, wide)
        yield from _cast(kernel, op.tensor(role).elements, wide, item)
    elif role in ("output", "dv"):
        yield from _cast(kernel, op.tensor("out" if role == "output" else "dv").elements, wide, item)


def _table(op: Op, stage: Stage) -> tuple[int, int, bool]:
    """Elements of all scores, elements of one head's scores, and whether a mask hides some of them."""
    table = op.tensor(stage.role)
    rows, cols = table.shape[-2:]
    return table.elements, rows * cols, bool(stage.masked) and rows > 1


def _gate(kernel: Kernel) -> Iterator[Kernel]:
    """A gated network's activation and product as two kernels."""
    gate, up, *_, y = kernel.op.tensors
    (work,) = kernel.op.work
    mix = _less_a_product(work.amount.mix)
    active = y._replace(name="active")
    first = Op((gate, active), (Work("activation", each(mix, *work.amount.dims), Engine.VECTOR),), Stream())
    second = Op(
        (active._replace(reads=1, writes=0), up, y),
        (Work("product", each(SCALE, *work.amount.dims), Engine.VECTOR),),
        Stream(),
    )
    yield kernel._replace(name=f"{kernel.name}.activation", op=first)
    yield kernel._replace(name=f"{kernel.name}.product", op=second)


def _less_a_product(mix: Mix) -> Mix:
    """The primitives of a gate's activation, without the product."""
    counts = [(number - (primitive == MULTIPLY), primitive) for number, primitive in mix.primitives]
    return Mix(*((number, primitive) for number, primitive in counts if number))


def _cast(kernel: Kernel, elements: int, read: Any, write: Any) -> tuple[Kernel, ...]:
    """A conversion between data types; none where they are equal."""
    return (_copy(kernel, "cast", elements, read, write),) if read != write else ()


def _copy(kernel: Kernel, name: str, elements: int, read: Any, write: Any, special: str = "plain") -> Kernel:
    """An elementwise kernel that reads and writes the given bytes per element."""
    tensors = (
        *((Tensor("x", (elements,), read, reads=1),) if read else ()),
        *((Tensor("y", (elements,), write, writes=1),) if write else ()),
    )
    op = Op(tensors, (Work(name, each(NOTHING, elements), Engine.VECTOR),), Stream(special=special))
    return kernel._replace(name=f"{kernel.name}.{name}", op=op)
