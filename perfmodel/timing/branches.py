"""Functions that branch on a size, applied to many points at once.

A mechanism chooses as a library does: ``if cols <= 2048``. Over arrays such a condition may hold at some points only. It
then raises ``MixedError``, and the points are divided: the function runs again for those where the condition holds, and for
the others. Every run sees conditions that are true or false at all of its points. This module needs no NumPy, so plain
numbers pass at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from perfmodel.arithmetic import highest

MOST_APART = 16  # largest difference of the values that ``uniform`` divides, as each value is a path of its own
Function = TypeVar("Function", bound=Callable[..., Any])


class MixedError(Exception):
    """A condition that holds at some points only, which ``where`` marks."""

    def __init__(self, where: Any) -> None:
        super().__init__("a condition holds at some points only")
        self.where = where


class SingleError(Exception):
    """A calculation that needs plain numbers was given arrays."""


class UnlikeError(Exception):
    """Results of two branches that cannot be merged."""


def by_paths(function: Function) -> Function:
    """Decorator: divides the points of a function's arguments where its conditions differ, and joins the results.

    The function must depend on its positional arguments alone. Where the results of two paths cannot be joined, such as
    different numbers of launches, the caller's points are divided instead.
    """

    @wraps(function)
    def applied(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except MixedError as mixed:
            where = mixed.where
        from perfmodel.timing import arrays

        try:
            return arrays.joined(where, *(applied(*own, **named) for own in arrays.divided(given, where)))
        except (MixedError, UnlikeError):
            raise MixedError(where) from None

    return applied  # type: ignore[return-value]


def uniform(value: Any) -> int:
    """Returns the value as an integer, such as a number of launches. Points with different values are divided."""
    if isinstance(value, (int, float)):
        return int(value)
    most, least = highest(value), -highest(-value)
    if most - least > MOST_APART:
        raise SingleError
    # Where points differ, this condition raises MixedError, and each division halves the range.
    return most if value <= (most + least) // 2 else least


def by_points(function: Function) -> Function:
    """Decorator: calls a function of plain numbers once for every distinct set of its arguments."""

    @wraps(function)
    def applied(*given: Any) -> Any:
        try:
            return function(*given)
        except (MixedError, SingleError, TypeError):
            from perfmodel.timing import arrays

            if not arrays.varies(given):
                raise
            return arrays.singly(function, given)

    return applied  # type: ignore[return-value]
