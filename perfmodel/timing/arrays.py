"""Sizes at many points at once: arrays in place of integers.

``Points`` are float64 arrays that stand where the mechanisms expect numbers. Sizes are exact up to 2^53. A condition on
them is a truth value only if it agrees at all points; otherwise it raises ``MixedError`` (see ``branches``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arithmetic import padded_rows, register
from perfmodel.timing.branches import MixedError, SingleError, UnlikeError
from perfmodel.timing.terms import Body

FEW = 6  # up to this number, evaluating points one by one is faster
# Names of a kernel's form, which reports print for single cases only.
NAMES = ("name", "choice", "algorithm")


class Points(np.ndarray[Any, np.dtype[Any]]):
    """A value at each of several points. Integer operations are those of Python's integers, exact below 2^53."""

    def __bool__(self) -> bool:
        there = int(np.count_nonzero(self))
        if 0 < there < self.size:
            raise MixedError(np.asarray(self) != 0)
        return there > 0

    def __ceil__(self) -> Any:
        return np.ceil(self)

    def __floor__(self) -> Any:
        return np.floor(self)

    def __round__(self, digits: Any = None) -> Any:
        return np.rint(self)

    def __floordiv__(self, other: Any) -> Any:
        return np.floor(self / other)

    def __rfloordiv__(self, other: Any) -> Any:
        return np.floor(other / self)

    def __mod__(self, other: Any) -> Any:
        return self - other * np.floor(self / other)

    def __rmod__(self, other: Any) -> Any:
        return other - self * np.floor(other / self)

    def __divmod__(self, other: Any) -> Any:
        whole = np.floor(self / other)
        return whole, self - other * whole

    def __rlshift__(self, other: Any) -> Any:
        return np.ldexp(float(other), self.astype(np.int64)).view(Points)

    def __rrshift__(self, other: Any) -> Any:
        return np.floor(np.ldexp(float(other), -self.astype(np.int64))).view(Points)

    def bit_length(self) -> Any:
        """The number of bits, as of Python's integers."""
        return np.frexp(np.asarray(self))[1].astype(np.float64).view(Points)

    def __format__(self, form: str) -> str:
        return "several"

    def __int__(self) -> int:
        raise SingleError

    def __float__(self) -> float:
        raise SingleError

    def __index__(self) -> int:
        raise SingleError


def _where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b).view(Points)


register(
    "perfmodel",
    where=_where,
    anywhere=np.any,
    highest=lambda value: np.asarray(value).max(),
    log2=np.log2,
    is_one=lambda value: value == 1,
    ceil_log2=lambda value: np.ceil(np.log2(value)),
    floor_div=lambda a, b: np.floor(a / b),
    exact_div=lambda a, b: a / b,
    whole=np.rint,
    common_divisor=lambda a, b: points(np.gcd(np.asarray(a, np.int64), np.asarray(b, np.int64))),
    padded_rows=lambda *given: singly(padded_rows, given),
    maximum=np.maximum,
    minimum=np.minimum,
)


def points(values: Any) -> Points:
    """The values as points."""
    return np.asarray(values, np.float64).view(Points)


def varies(value: Any) -> bool:
    """Whether a value holds an array."""
    return isinstance(value, np.ndarray) or (isinstance(value, tuple) and any(map(varies, value)))


def divided(value: Any, where: NDArray[np.bool_]) -> Iterator[Any]:
    """The value at the points where the condition holds, and at the others."""
    fill, arrays = _filler(value), [*_columns(value)]
    assert fill is not None
    return (fill(array[own] for array in arrays) for own in (where, ~where))


def blocks(value: Any, length: int, most: int) -> Iterator[tuple[slice, Any]]:
    """The points of a value in blocks of at most ``most``, each with its place."""
    fill, arrays = _filler(value), [*_columns(value)]
    assert fill is not None
    for low in range(0, length, most):
        part = slice(low, low + most)
        yield part, fill(array[part] for array in arrays)


def joined(where: NDArray[np.bool_], there: Any, elsewhere: Any, name: str = "") -> Any:
    """Merges the results of two branches: ``there`` where the condition holds, else the other."""
    if there is elsewhere:
        return there
    if isinstance(there, tuple) and type(there) is type(elsewhere) and len(there) == len(elsewhere):
        if isinstance(there, Body) and isinstance(elsewhere, Body):
            there, elsewhere = there._replace(terms=()), elsewhere._replace(terms=())
        fields = getattr(there, "_fields", ("",) * len(there))
        parts = [joined(where, *pair) for pair in zip(there, elsewhere, fields, strict=True)]
        return there._make(parts) if hasattr(there, "_make") else tuple(parts)
    if isinstance(there, str) and isinstance(elsewhere, str) and (there == elsewhere or name in NAMES):
        return there
    if not all(isinstance(one, (bool, int, float, np.ndarray)) for one in (there, elsewhere)):
        raise UnlikeError
    if not varies(there) and not varies(elsewhere) and there == elsewhere:
        return there
    found = np.empty(where.shape)
    found[where], found[~where] = there, elsewhere
    return found.view(Points)


def singly(function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    """Returns the results of a function of plain numbers, called once for every distinct set of arguments.

    The results are numbers, or tuples of them of one form. Points without a result are divided from the others.
    """
    columns = [np.asarray(one) for one in _columns(given)]
    rows, places = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    fill = _filler(given)
    assert fill is not None
    results = [function(*fill(map(_number, row))) for row in rows.tolist()]
    missing = [one is None for one in results]
    if any(missing) and not all(missing):
        raise MixedError(np.asarray(missing)[places.reshape(-1)])
    return _spread(results, places.reshape(-1))


def _spread(results: list[Any], places: NDArray[np.intp]) -> Any:
    """The result of each point; where all have the same, that one."""
    first = results[0]
    if all(one == first for one in results):
        return first
    if not isinstance(first, tuple):
        return points(results)[places]
    parts = [_spread(list(column), places) for column in zip(*results, strict=True)]
    return first._make(parts) if hasattr(first, "_make") else tuple(parts)


def _columns(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _columns(one)


def _filler(value: Any) -> Callable[[Iterator[Any]], Any] | None:
    """A function that replaces the arrays of a value by the next values of an iterator; None for one without arrays."""
    if isinstance(value, np.ndarray):
        return next
    fillers = [_filler(one) for one in value] if isinstance(value, tuple) else []
    if not any(fillers):
        return None
    make, parts = getattr(value, "_make", tuple), [*zip(fillers, value, strict=True)]
    return lambda row: make([fill(row) if fill else one for fill, one in parts])


def _number(one: float) -> float:
    """The number; a whole one as an integer, as sizes are."""
    return int(one) if one.is_integer() else one


def at_points(
    function: Callable[[dict[str, Any]], tuple[Any, ...]], sizes: Mapping[str, Any], count: int, results: int
) -> NDArray[np.float64]:
    """Returns the results of a function of sizes at ``count`` points, one row for each result.

    ``sizes`` are numbers, and arrays of ``count`` numbers. The function runs on all points at once. If its
    conditions differ, it runs on the points of each path; if it takes plain numbers only, on single points.
    """
    found = np.empty((results, count))
    if count <= FEW:
        return _one_by_one(function, sizes, found)
    try:
        with np.errstate(all="ignore"):
            for row, value in zip(found, function(_narrowed(sizes)), strict=True):
                row[:] = value
        return found
    except MixedError as mixed:
        where = mixed.where
    except (SingleError, TypeError, ValueError):  # the last two where a container takes a number for a size
        return _one_by_one(function, sizes, found)
    for own in (where, ~where):
        some = {name: value[own] if np.ndim(value) else value for name, value in sizes.items()}
        found[:, own] = at_points(function, some, int(np.count_nonzero(own)), results)
    return found


def _narrowed(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sizes as points, or as integers where all points have the same value."""
    found = dict(sizes)
    for name, value in sizes.items():
        if np.ndim(value):
            found[name] = int(value[0]) if (value == value[0]).all() else points(value)
    return found


def _one_by_one(
    function: Callable[[dict[str, Any]], tuple[Any, ...]], sizes: Mapping[str, Any], found: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fills in the results of every point, called with plain integers, and returns them."""
    columns = {name: np.asarray(value).astype(np.int64).tolist() for name, value in sizes.items() if np.ndim(value)}
    for i in range(found.shape[1]):
        found[:, i] = function({**sizes, **{name: column[i] for name, column in columns.items()}})
    return found
