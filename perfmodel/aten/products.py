"""Matrix products: plain, with a bias, batched, of groups and in fp8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.aten.asking import arithmetic_type, asked
from perfmodel.aten.calls import Call, Launched, Operand, Rule
from perfmodel.runs import Gemm

WIDEST, NARROW = 16, 4  # bytes of a wide copy, to which rows should be aligned, and of a narrow one


def _aligned(found: Launched, *operands: Operand, cols: Any) -> Launched:
    """The product with the alignment of its operands' rows as they lie in memory, and of its result's rows."""
    fact = found.op.runs
    if not isinstance(fact, Gemm):
        return found
    steps = [max(x.strides[-2:], default=1) * x.item for x in operands if all(type(s) is int for s in x.strides)]
    result = [cols * fact.items.result] if type(cols) is int else []
    odd = _alignment(steps) >= NARROW > _alignment(result)
    return found._replace(op=found.op._replace(runs=fact._replace(aligned=_alignment(steps + result), odd=odd)))


def _alignment(steps: list[Any]) -> int:
    """Bytes, of those that matter, to which rows of these distances are all aligned."""
    return next((byte for byte in (WIDEST, NARROW, 2) if all(step % byte == 0 for step in steps)), 1)


def mm(call: Call) -> Iterable[Launched]:
    """(m, k) by (k, n)."""
    a, b = call.operands[:2]
    found = asked("matmul", a.dtype, m=a.shape[0], k=a.shape[1], n=b.shape[1], batch=1, act=a.item)
    yield _aligned(found, a, b, cols=b.shape[1])


def addmm(call: Call) -> Iterable[Launched]:
    """A product with a bias of one row, added where the product ends, or with a whole matrix."""
    bias, a, b = call.operands[:3]
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    if len(bias.shape) == 2 and bias.shape[0] == m and m != 1:
        found = asked("gemm", a.dtype, m=m, k=k, n=n, act=a.item)
    else:
        found = asked("linear_bias", a.dtype, B=1, N=m, D_in=k, D_out=n, act=a.item, weight=b.item)
    yield _aligned(found, a, b, cols=n)


def bmm(call: Call) -> Iterable[Launched]:
    """A batch of products."""
    a, b = call.operands[-2:]
    sizes = {"m": a.shape[-2], "k": a.shape[-1], "n": b.shape[-1], "batch": a.shape[0], "act": a.item}
    yield _aligned(asked("matmul", a.dtype, **sizes), a, b, cols=b.shape[-1])


def mv(call: Call) -> Iterable[Launched]:
    """A matrix by a vector."""
    a, x = call.operands[-2:]
    yield asked("matmul", a.dtype, m=a.shape[0], k=x.shape[0], n=1, batch=1, act=a.item)


def dot(call: Call) -> Iterable[Launched]:
    """The inner product of two vectors."""
    a = call.operands[0]
    yield asked("dot", a.dtype, numel=a.numel, act=a.item)


def linear(call: Call) -> Iterable[Launched]:
    """x by the transposed weight, as traces name it where nothing inside is recorded."""
    x, weight = call.operands[:2]
    rows: Any = 1
    for size in x.shape[:-1]:
        rows = rows * size
    sizes = {"B": 1, "N": rows, "D_in": x.shape[-1], "D_out": weight.shape[0], "act": x.item, "weight": weight.item}
    yield asked("linear_bias" if len(call.operands) > 2 else "linear", x.dtype, **sizes)


def grouped_mm(call: Call) -> Iterable[Launched]:
    """Rows of several experts: (T, k) by (E, k, n), or the gradient of the matrices, (m, T) by (T, n)."""
    a, b = call.operands[:2]
    if len(b.shape) == 3 and len(a.shape) == 2:
        yield asked(
            "expert_linear", a.dtype, B=1, N=a.shape[0], D_in=a.shape[1], D_out=b.shape[2], E=b.shape[0], A=1, act=a.item,
            weight=b.item,
        )  # fmt: skip
    elif len(a.shape) == 2 and len(b.shape) == 2:
        yield asked(
            "expert_weight_gradient", a.dtype, B=1, N=a.shape[1], D_in=a.shape[0], D_out=b.shape[1], E=_groups(call), A=1,
            act=a.item, weight=a.item,
        )  # fmt: skip
    else:
        yield from bmm(call)


def _groups(call: Call) -> Any:
    """The number of groups: that of the offsets, or of the result's matrices."""
    offsets = call.argument(2, "offs")
    if isinstance(offsets, Operand):
        return offsets.shape[0]
    return call.results[0].shape[0] if call.results else 1


def scaled_mm(call: Call) -> Iterable[Launched]:
    """A product of scaled 8-bit numbers."""
    a, b = call.operands[:2]
    dtype = "fp8" if a.dtype.startswith("fp8") else arithmetic_type((a,))
    yield asked("matmul", dtype, m=a.shape[0], k=a.shape[1], n=b.shape[1], batch=1, act=a.item)


RULES: dict[str, Rule] = {
    "mm": mm,
    "addmm": addmm,
    "_addmm_activation": addmm,
    "bmm": bmm,
    "baddbmm": bmm,
    "mv": mv,
    "addmv": mv,
    "dot": dot,
    "vdot": dot,
    "linear": linear,
    "_grouped_mm": grouped_mm,
    "_scaled_mm": scaled_mm,
    "_scaled_grouped_mm": grouped_mm,
    "_int_mm": mm,
}
