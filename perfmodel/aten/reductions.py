"""Reductions over dimensions, running sums, sorting and choosing the largest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import around, asked, axes
from perfmodel.aten.calls import FLOATS, Call, Launched, Operand, Rule


def reduction(operation: str, place: int = 1, name: str = "dim") -> Rule:
    """The rule of a reduction whose dimensions stand at this place of the schema."""

    def rule(call: Call) -> Iterable[Launched]:
        x = call.operands[0]
        if isinstance(x.numel, int) and x.numel == 0:
            return
        given = _given(call, place, name)
        over = axes(call, place, name, len(x.shape)) if given else tuple(range(len(x.shape)))
        rows, cols, inner = _laid(x, over)
        sizes = {"rows": rows, "cols": cols, "inner": inner, "act": x.item}
        if operation == "argmax" or (call.name in PLACED and given):
            yield asked("argmax", _float(x), **sizes, index=8 if operation == "argmax" else 8 + x.item)
        else:
            yield asked(operation, _float(x), **sizes, out=_out_byte(call, x))

    return rule


def _given(call: Call, place: int, name: str) -> bool:
    """Whether the argument at this place names dimensions; a tensor, a data type or a flag does not."""
    value = call.argument(place, name)
    return type(value) in (int, tuple, list)


def _out_byte(call: Call, x: Operand) -> Any:
    """Bytes of all results for one row."""
    if call.results:
        return sum(result.item for result in call.results)
    if call.name in ("any", "all"):
        return 1
    item = 8 if call.name in COUNTING and x.dtype not in FLOATS else x.item
    return 8 if call.name == "count_nonzero" else item * (2 if call.name in PAIRS else 1)


def _laid(x: Operand, over: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Returns the sizes (rows, cols, inner) by the memory layout: an expanded or transposed tensor is reduced in its
    own layout.

    Kept dimensions that lie closer together than every reduced one are the inner ones.
    """
    if not over or len(over) == len(x.shape) or not all(isinstance(stride, int) for stride in x.strides):
        return around(x.shape, over)
    kept = [axis for axis in range(len(x.shape)) if axis not in over]
    nearest = min((x.strides[axis] for axis in over if x.shape[axis] != 1), default=None)
    inner = product(x.shape[axis] for axis in kept if nearest is None or x.strides[axis] < nearest)
    rows = product(x.shape[axis] for axis in kept)
    return rows // inner, product(x.shape[axis] for axis in over), inner


def _rows(x: Operand, axis: Any) -> tuple[Any, Any]:
    """Rows and columns of a function along one dimension; a single number is one row."""
    if not x.shape:
        return 1, 1
    along = int(axis) % len(x.shape)
    return product(size for at, size in enumerate(x.shape) if at != along), x.shape[along]


def cumulative(call: Call) -> Iterable[Launched]:
    """cumsum(x, dim): integers are converted to the type of the sum first."""
    x = call.operands[0]
    rows, cols = _rows(x, call.argument(1, "dim", -1))
    narrow = call.name in ("cumsum", "cumprod") and x.dtype not in FLOATS
    act = call.results[0].item if call.results else 8 if narrow else x.item
    if act != x.item:
        yield asked("copy", _float(x), numel=x.numel, distinct=x.distinct, run=x.numel, act=x.item, out=act)
    yield asked("cumulative_sum", _float(x), rows=rows, cols=cols, act=act)


def nonzero(call: Call) -> Iterable[Launched]:
    """nonzero(x): a running count of the elements that are not zero."""
    x = call.operands[0]
    yield asked("cumulative_sum", _float(x), rows=1, cols=x.numel, act=x.item)


def counted(call: Call) -> Iterable[Launched]:
    """bincount(x) and histc(x): one added to a table for every element."""
    x = call.operands[0]
    yield asked(
        "scatter_add", _float(x), rows=x.numel, cols=1, act=call.results[0].item if call.results else 8, index=x.item
    )


def sort(call: Call) -> Iterable[Launched]:
    """sort(x, dim) and argsort. unique sorts all elements."""
    x = call.operands[0]
    places = [value for value in (*call.arguments[1:], call.keywords.get("dim")) if type(value) is int]
    axis = 0 if call.name in ("msort", "unique_dim") else places[0] if places else -1
    rows, cols = (1, x.numel) if call.name in FLAT else _rows(x, axis)
    yield asked("sort", _float(x), rows=rows, cols=cols, act=x.item, index=8)


def top_k(call: Call) -> Iterable[Launched]:
    """topk(x, k, dim)."""
    x = call.operands[0]
    rows, cols = _rows(x, call.argument(2, "dim", -1))
    yield asked("top_k", _float(x), rows=rows, cols=cols, chosen=call.argument(1, "k", 1), act=x.item, index=8)


def _float(x: Operand) -> str:
    return x.dtype if x.dtype in FLOATS else "fp32"


SUMS = (
    "sum", "mean", "prod", "nansum", "logsumexp", "any", "all", "count_nonzero", "var", "std", "var_mean", "std_mean", "trace",
)  # fmt: skip
PLACED = ("max", "min")  # along a dimension these also return places
PAIRS = ("var_mean", "std_mean", "aminmax")
COUNTING = ("sum", "prod", "nansum", "trace")  # of integers these are of eight bytes
FLAT = ("unique", "_unique2", "unique_consecutive")
RULES: dict[str, Rule] = {
    **dict.fromkeys(SUMS, reduction("reduce_sum")),
    **dict.fromkeys(("norm", "linalg_vector_norm"), reduction("reduce_sum", 2)),
    **dict.fromkeys(("amax", "amin", "max", "min", "aminmax"), reduction("reduce_max")),
    **dict.fromkeys(("argmax", "argmin"), reduction("argmax")),
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"), cumulative),
    **dict.fromkeys(("sort", "argsort", "msort", "unique_dim", *FLAT), sort),
    "nonzero": nonzero,
    **dict.fromkeys(("bincount", "histc"), counted),
    "topk": top_k,
}  # fmt: skip
