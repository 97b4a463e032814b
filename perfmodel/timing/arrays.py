"""Sizes at many points at once: arrays in place of integers.

``Points`` are float64 arrays that stand where the mechanisms expect numbers. Sizes are exact up to 2^53. A condition on
them is a truth value only if it agrees at all points; otherwise it raises ``MixedError`` (see ``branches``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arithmetic import padded_rows, register
from perfmodel.timing.branches import MixedError, SingleError, UnlikeError
from perfmodel.timing.terms import Body

FEW = 6  # up to this number, evaluating points one by one is faster
_NESTED = (tuple, np.ndarray)
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


def taken(value: Any, where: Any) -> Any:
    """Returns the value at some of its points."""
    if isinstance(value, np.ndarray):
        return value[where]
    if not isinstance(value, tuple):
        return value
    parts = [taken(one, where) if isinstance(one, _NESTED) else one for one in value]
    if all(map(is_, parts, value)):
        return value
    return value._make(parts) if hasattr(value, "_make") else tuple(parts)


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
    """Returns the results of a function of plain numbers, called once for every distinct set of arguments."""
    columns = [np.asarray(one) for one in _columns(given)]
    rows, places = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    results = [function(*_filled(given, iter(row))) for row in rows.tolist()]
    places = places.reshape(-1)
    if isinstance(results[0], tuple):
        return tuple(points(column)[places] for column in zip(*results, strict=True))
    return points(results)[places]


def _columns(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _columns(one)


def _filled(value: Any, row: Iterator[float]) -> Any:
    """The value with a number in the place of each array; whole numbers become integers, as sizes are."""
    if isinstance(value, np.ndarray):
        one = next(row)
        return int(one) if one.is_integer() else one
    if isinstance(value, tuple) and varies(value):
        parts = [_filled(one, row) for one in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


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
