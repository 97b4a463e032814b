"""Functions that choose by a size, applied to many points at once.

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

MOST_APART = 16  # of the values of ``uniform``, each of which has its own path
Function = TypeVar("Function", bound=Callable[..., Any])


class MixedError(Exception):
    """A condition that holds at some points only, which ``where`` marks."""

    def __init__(self, where: Any) -> None:
        super().__init__("a condition holds at some points only")
        self.where = where


class SingleError(Exception):
    """A calculation that takes plain numbers, not arrays."""


class UnlikeError(Exception):
    """Results of two paths that have no common form."""


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
            return arrays.joined(where, *(applied(*arrays.taken(given, own), **named) for own in (where, ~where)))
        except (MixedError, UnlikeError):
            raise MixedError(where) from None

    return applied  # type: ignore[return-value]


def uniform(value: Any) -> int:
    """The value as an integer, such as a number of launches. Points are divided where it differs by little."""
    if isinstance(value, (int, float)):
        return int(value)
    most, least = highest(value), -highest(-value)
    if most - least > MOST_APART:
        raise SingleError
    # Halves the range where the points differ, and holds everywhere where they do not.
    return most if value <= (most + least) // 2 else least


def by_points(function: Function) -> Function:
    """Decorator: a function of plain numbers alone, called once for every distinct set of its arguments."""

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
