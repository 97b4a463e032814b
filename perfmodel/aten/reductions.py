"""Reductions over dimensions, running sums, sorting and choosing the largest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import around, asked, axes, result_of
from perfmodel.aten.calls import FLOATS, Call, Launched, Operand, Rule


def reduction(operation: str, place: int = 1, name: str = "dim") -> Rule:
    """The rule of a reduction whose dimensions stand at this place of the schema."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        if isinstance(x.numel, int) and x.numel == 0:
            return
        over = axes(call, place, name, len(x.shape)) if _given(call, place, name) else tuple(range(len(x.shape)))
        rows, cols, inner = _laid(x, over)
        last = {"index": 8} if operation == "argmax" else {"out": _item(result_of(call, x))}
        yield asked(operation, _float(x), rows=rows, cols=cols, inner=inner, act=x.item, **last)

    return rule


def _given(call: Call, place: int, name: str) -> bool:
    """Whether the argument at this place names dimensions; a data type or a flag does not."""
    value = call.argument(place, name)
    return isinstance(value, (int, tuple, list)) and not isinstance(value, bool)


def _laid(x: Operand, over: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Sizes (rows, cols, inner) by how the tensor lies in memory: an expanded or transposed one is reduced as it lies."""
    kept = [axis for axis in range(len(x.shape)) if axis not in over]
    strides = x.strides
    if all(isinstance(stride, int) for stride in strides) and kept and over:
        innermost = min(
            (axis for axis in range(len(x.shape)) if x.shape[axis] != 1), key=lambda axis: strides[axis], default=None
        )
        cols = product(x.shape[axis] for axis in over)
        rows = product(x.shape[axis] for axis in kept)
        if innermost in kept:
            inner_axes = (
                [axis for axis in kept if strides[axis] < min(strides[a] for a in over if x.shape[a] != 1)]
                if any(x.shape[a] != 1 for a in over)
                else kept
            )
            inner = product(x.shape[axis] for axis in inner_axes) or 1
            return rows // inner, cols, inner
        return rows, cols, 1
    return around(x.shape, over)


def _item(x: Operand) -> Any:
    return x.item


def cumulative(call: Call) -> Iterable[Launched]:
    """cumsum(x, dim)."""
    x = call.operands[0]
    axis = int(call.argument(1, "dim", -1)) % max(1, len(x.shape))
    cols = x.shape[axis] if x.shape else 1
    rows = x.numel // cols if isinstance(x.numel, int) else product(s for at, s in enumerate(x.shape) if at != axis)
    yield asked("cumulative_sum", _float(x), rows=rows, cols=cols, act=x.item)


def sort(call: Call) -> Iterable[Launched]:
    """sort(x, dim) and argsort."""
    x = call.operands[0]
    places = [value for value in (*call.arguments[1:], call.keywords.get("dim")) if type(value) is int]
    axis = (places[0] if places else -1) % max(1, len(x.shape))
    rows = product(size for at, size in enumerate(x.shape) if at != axis)
    yield asked("sort", _float(x), rows=rows, cols=x.shape[axis] if x.shape else 1, act=x.item, index=8)


def top_k(call: Call) -> Iterable[Launched]:
    """topk(x, k, dim)."""
    x = call.operands[0]
    chosen = call.argument(1, "k", 1)
    axis = int(call.argument(2, "dim", -1)) % max(1, len(x.shape))
    rows = product(size for at, size in enumerate(x.shape) if at != axis)
    yield asked("top_k", _float(x), rows=rows, cols=x.shape[axis], chosen=chosen, act=x.item, index=8)


def _float(x: Operand) -> str:
    return x.dtype if x.dtype in FLOATS else "fp32"


SUMS = [
    "sum",
    "mean",
    "prod",
    "nansum",
    "logsumexp",
    "any",
    "all",
    "count_nonzero",
    "norm",
    "linalg_vector_norm",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "trace",
]
RULES: dict[str, Rule] = {
    **dict.fromkeys(SUMS, reduction("reduce_sum")),
    **dict.fromkeys(("norm", "linalg_vector_norm"), reduction("reduce_sum", 2)),
    **dict.fromkeys(("amax", "amin", "max", "min", "aminmax"), reduction("reduce_max")),
    **dict.fromkeys(("argmax", "argmin"), reduction("argmax")),
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"), cumulative),
    **dict.fromkeys(("sort", "argsort", "unique", "_unique2", "unique_dim", "unique_consecutive", "msort"), sort),
    **dict.fromkeys(("nonzero", "bincount", "searchsorted", "histc", "bucketize"), cumulative),
    "topk": top_k,
}  # fmt: skip
