"""Estimates of values that depend on data: the share of ones in a mask, the number of tokens for an expert.

Estimates belong to storages, so that all views of a mask have the same. They follow from how a tensor is made: a one-hot
tensor over n classes has one in n, the indices of the largest of n are any of n numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

_Tensor = torch.Tensor


class Estimate(NamedTuple):
    """``kind`` is ``share`` (of elements that are not zero), ``classes`` (any of so many numbers) or ``count`` (a mean)."""

    kind: str
    value: float

    @property
    def share(self) -> float:
        """The expected share of elements that are not zero."""
        if self.kind == "share":
            return self.value
        return 1 - 1 / self.value if self.kind == "classes" else 1 - math.exp(-self.value)

    @property
    def number(self) -> float:
        """The expected value of one element."""
        return (self.value - 1) / 2 if self.kind == "classes" else self.value


Reader = Callable[[Any], Estimate | None]


def expected(name: str, args: Any, kwargs: Any, known: Reader) -> Estimate | None:
    """The estimate of an operator's first result, or None."""
    rule = _RULES.get(name)
    if rule is None:
        return None
    given = next((known(x) for x in _tensors(args) if known(x)), None)
    return rule(args, kwargs, given)


def _tensors(args: Any) -> list[Any]:
    return [
        x for value in args for x in (value if isinstance(value, (list, tuple)) else (value,)) if isinstance(x, _Tensor)
    ]


def _same(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    return given


def _opposite(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    return Estimate("share", 1 - given.share) if given else None


def _some(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    return Estimate("share", given.share) if given else None


def _equal(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    if given is None:
        return None
    if given.kind == "classes":
        return Estimate("share", 1 / given.value)
    return Estimate("share", 1 - given.share if args[1] == 0 and not isinstance(args[1], _Tensor) else given.share)


def _unequal(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    equal = _equal(args, kwargs, given)
    return Estimate("share", 1 - equal.share) if equal else None


def _summed(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    return Estimate("count", given.number * _reduced(args)) if given else None


def _any(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    return Estimate("share", 1 - (1 - given.share) ** _reduced(args)) if given else None


def _reduced(args: Any) -> int:
    """Returns the number of elements from which one result of a reduction is computed."""
    x, dims = args[0], args[1] if len(args) > 1 else None
    if dims is None or dims == []:
        return typical(x.numel())
    return math.prod(typical(x.shape[dim]) for dim in (dims if isinstance(dims, (list, tuple)) else (dims,)))


def typical(size: Any) -> int:
    """A size, or the value of one that is a symbol."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def _scattered(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    """Ones scattered into zeros along a dimension."""
    x, dim, index = args[0], args[1], args[2]
    constant = len(args) > 3 and isinstance(args[3], (int, float))
    return (
        Estimate("share", min(1.0, typical(index.shape[dim]) / typical(x.shape[dim]))) if constant and x.dim() else None
    )


def _chosen(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    """Indices along the last or the given dimension."""
    x, dim = args[0], args[-1] if len(args) > 1 and type(args[-1]) is int and len(args) < 3 else -1
    return Estimate("classes", typical(x.shape[dim])) if x.dim() else None


def _best(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    x, dim = args[0], args[2] if len(args) > 2 else -1
    return Estimate("classes", typical(x.shape[dim])) if x.dim() else None


def _counted(args: Any, kwargs: Any, given: Estimate | None) -> Estimate | None:
    bins = args[2] if len(args) > 2 else args[1] if len(args) > 1 else 100
    return Estimate("count", typical(args[0].numel()) / bins) if isinstance(bins, int) and bins else None


_RULES: dict[str, Callable[[Any, Any, Estimate | None], Estimate | None]] = {
    **dict.fromkeys(("_to_copy", "clone", "cat", "stack", "index", "index_select", "gather", "repeat", "copy_", "roll", "max"), _same),
    **dict.fromkeys(("logical_not", "bitwise_not"), _opposite),
    **dict.fromkeys(("gt", "logical_and", "bitwise_and", "mul"), _some),
    "eq": _equal,
    "ne": _unequal,
    "sum": _summed,
    "any": _any,
    **dict.fromkeys(("scatter", "scatter_"), _scattered),
    **dict.fromkeys(("argmax", "argmin", "argsort"), _chosen),
    **dict.fromkeys(("topk", "sort"), _best),
    **dict.fromkeys(("bincount", "histc"), _counted),
}  # fmt: skip
# Of these, the estimate is that of the second result, the indices.
SECOND = frozenset(("topk", "sort"))
