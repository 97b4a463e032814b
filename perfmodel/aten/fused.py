"""Kernels that a compiler makes: several elementwise calls and reductions at once, and products with padded rows."""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.arithmetic import product
from perfmodel.aten.asking import arithmetic_type
from perfmodel.aten.calls import Call, Launched, Rule
from perfmodel.op import Op, Tensor
from perfmodel.runs import Gemm, Stream

PADDED = 8  # elements of two bytes in 16 bytes


def fused(call: Call) -> Iterable[Launched]:
    """One kernel that does the work of several calls. It reads and writes the tensors of the whole once."""
    from perfmodel.aten import launched

    inner = [kernel for one in call.keywords["calls"] for kernel in launched(one)]
    works = tuple(work for kernel in inner for work in kernel.op.work)
    tensors = (
        *(Tensor(f"x{i}", (x.distinct,), x.item, reads=1) for i, x in enumerate(call.arguments)),
        *(Tensor(f"y{i}", (x.distinct,), x.item, writes=1) for i, x in enumerate(call.results)),
    )
    if not tensors or not works:
        return
    numel = max((x.numel for x in (*call.arguments, *call.results)), default=1)
    sizes = {"numel": numel, "calls": len(call.keywords["calls"])}
    yield Launched("fused", sizes, Op(tensors, works, Stream()), arithmetic_type((*call.arguments, *call.results)))


def padded(call: Call) -> Iterable[Launched]:
    """A product after its rows have been padded: the operands with misaligned rows are copied."""
    from perfmodel.aten import launched
    from perfmodel.aten.asking import asked

    (found,) = launched(call.keywords["call"])
    fact = found.op.runs
    assert isinstance(fact, Gemm)
    operands = call.keywords["call"].operands[-2:]
    misaligned = [x for x in operands if all(type(s) is int for s in x.strides) and max(x.strides[-2:]) % PADDED]
    for x in misaligned:
        yield asked(
            "copy",
            found.dtype,
            numel=product(x.shape),
            distinct=product(x.shape),
            run=product(x.shape),
            act=x.item,
            out=x.item,
        )
    yield found._replace(op=found.op._replace(runs=fact._replace(aligned=16, odd=False)))


def custom(call: Call) -> Iterable[Launched]:
    """A kernel that its author has described."""
    yield call.keywords["launched"]


RULES: dict[str, Rule] = {"fused": fused, "padded": padded, "custom_kernel": custom}
