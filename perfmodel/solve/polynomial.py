"""Polynomials in one whole size: values, limits and the sizes at which they are positive, all exact."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

Coefficients = tuple[Any, ...]  # the constant first: whole numbers or fractions


def value_at(polynomial: Coefficients, value: Any) -> Any:
    """Its value."""
    found: Any = 0
    for coefficient in reversed(polynomial):
        found = found * value + coefficient
    return found


def _shifted(polynomial: Coefficients, by: int) -> list[Any]:
    """The coefficients in t of a polynomial in t + by."""
    found = list(polynomial)
    for start in range(len(found) - 1):
        for i in range(len(found) - 2, start - 1, -1):
            found[i] += by * found[i + 1]
    return found


def range_of(polynomial: Coefficients, first: int, last: int) -> tuple[Any, Any]:
    """Limits of its values on a range; the least and the largest value where it is monotonic from the first size on."""
    constant, *others = _shifted(polynomial, first)
    width, power = last - first, 1
    low = high = constant
    for coefficient in others:
        power *= width
        low, high = (low, high + coefficient * power) if coefficient > 0 else (low + coefficient * power, high)
    return low, high


def _whole(polynomial: Coefficients) -> Coefficients:
    """The polynomial times the positive number that makes its coefficients whole."""
    common = math.lcm(*(Fraction(c).denominator for c in polynomial))
    return tuple(int(c * common) for c in polynomial)


def signs(polynomial: Coefficients, first: int, last: int) -> list[tuple[int, int, bool]]:
    """Runs of whole sizes at which a polynomial is positive, or is not."""
    return _whole_signs(_whole(polynomial), first, last)


def _whole_signs(polynomial: Coefficients, first: int, last: int) -> list[tuple[int, int, bool]]:
    """The same for whole coefficients: between two changes of sign of its differences it is monotonic."""
    low, high = range_of(polynomial, first, last)
    if low > 0 or high <= 0:
        return [(first, last, low > 0)]
    shifted = _shifted(polynomial, 1)
    difference = tuple(after - before for after, before in zip(shifted, polynomial, strict=True))[:-1]
    found: list[tuple[int, int, bool]] = []
    for start, end, _ in _whole_signs(difference, first, last - 1) if last > first else [(first, first - 1, True)]:
        for run in _monotonic_signs(polynomial, start, end + 1):
            if found and found[-1][2] is run[2]:
                found[-1] = (found[-1][0], run[1], run[2])
            else:
                found.append(run if not found else (found[-1][1] + 1, *run[1:]))
    return found


def _monotonic_signs(polynomial: Coefficients, first: int, last: int) -> list[tuple[int, int, bool]]:
    """At most two runs, the border between them found by bisection."""
    before, after = value_at(polynomial, first) > 0, value_at(polynomial, last) > 0
    if before is after:
        return [(first, last, before)]
    low, high = first, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if (value_at(polynomial, middle) > 0) is before else (low, middle)
    return [(first, low, before), (high, last, after)]
