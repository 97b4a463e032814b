"""Kernels that Inductor writes in Triton: one kernel for a chain of elementwise operators and a reduction.

The kernel's name lists its operators, each once, and the profiler its tensors. Every tensor counts once, as far as the
index range of the kernel reaches. Each operator of the name counts as the arithmetic of one element over that range.
Operators that the kernel repeats are counted once; the bytes, which bound such kernels, do not depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any

from perfmodel import aten, mixes
from perfmodel.aten.calls import FLOATS, Launched, Operand
from perfmodel.aten.pointwise import MIXES
from perfmodel.op import ADD, MULTIPLY, Engine, Mix, Op, Tensor, Work, each
from perfmodel.runs import Stream
from perfmodel.traces.calls import arguments
from perfmodel.traces.events import Activity, Range

PREFIX = "triton_"
OPERATION = "fused"
_NAME = re.compile(r"triton_(poi|red|per|mix|foreach|tem)_fused_(?P<names>\w+?)_?\d*$")
# Arithmetic of operators that are no elementwise functions, per element that they read.
_OTHERS: dict[str, Mix] = {
    "sum": mixes.SUM, "mean": mixes.SUM, "amax": mixes.LARGEST, "max": mixes.LARGEST, "amin": mixes.LARGEST,
    "var_mean": Mix((2, ADD), MULTIPLY), "_softmax": mixes.SOFTMAX, "_log_softmax": mixes.LOG_SOFTMAX,
    "prepare_softmax_online": mixes.ONLINE_SOFTMAX, "_log_softmax_backward_data": mixes.SOFTMAX_GRADIENT,
    "_softmax_backward_data": mixes.SOFTMAX_GRADIENT, "gelu": mixes.GELU, "gelu_backward": mixes.GELU_GRADIENT,
    "native_layer_norm": Mix((3, ADD), (3, MULTIPLY)), "native_layer_norm_backward": Mix((6, ADD), (6, MULTIPLY)),
    "cumsum": mixes.SUM, "native_dropout": Mix(MULTIPLY, (10, ADD)),
}  # fmt: skip


def launched(operator: Range, activity: Activity) -> tuple[Launched, ...]:
    """The kernel of a Triton operator, from the shapes that the profiler recorded for it."""
    if operator.signature is None:
        return ()
    given = arguments(operator.signature)
    tensors = [one for one in given if isinstance(one, Operand)]
    extents = [one for one in given if type(one) is int and one > 0]
    space = prod(extents) if extents else max((one.numel for one in tensors), default=0)
    if not tensors or not space:
        return ()
    sizes = tuple((min(one.distinct, space), one.item) for one in tensors)
    dtype = next((one.dtype for one in tensors if one.dtype in FLOATS), "fp32")
    return (of(operator.name, sizes, space, dtype),)


@cache
def of(name: str, sizes: tuple[tuple[int, Any], ...], space: int, dtype: str) -> Launched:
    """The kernel of these tensors (elements and bytes each), of which it writes the last."""
    *reads, last = sizes
    tensors = (
        *(Tensor(f"x{i}", (count,), item, reads=1) for i, (count, item) in enumerate(reads)),
        Tensor("y", (last[0],), last[1], writes=1),
    )
    found = [mix for mix in map(_mix, operators(name)) if mix is not None]
    works = tuple(Work(f"{i}", each(mix, space), Engine.VECTOR) for i, mix in enumerate(found))
    op = Op(tensors, works or (Work("move", each(mixes.NOTHING, space), Engine.VECTOR),), Stream())
    return Launched(OPERATION, {"numel": space, "tensors": len(sizes)}, op, dtype)


def _mix(operator: str) -> Mix | None:
    return _OTHERS.get(operator) or MIXES.get(operator)


@lru_cache(maxsize=10_000)
def operators(name: str) -> tuple[str, ...]:
    """The operators in a kernel's name: ``triton_poi_fused_add_mul_3`` has add and mul."""
    found = _NAME.match(name)
    return tuple(_split(found["names"].split("_"))) if found else ()


def _split(words: Sequence[str]) -> Iterable[str]:
    """Joins words to the longest names that are known; an operator's name may begin with an underscore."""
    at = 0
    while at < len(words):
        for end in range(min(len(words), at + 8), at, -1):
            joined = "_".join(words[at:end])
            plain = joined if joined and not joined.startswith("__") else ""
            if plain and (plain in _OTHERS or aten.is_known(plain)):
                yield plain
                at = end
                break
        else:
            at += 1
