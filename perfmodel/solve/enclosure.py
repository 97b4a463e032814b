"""Polynomials in one whole size, their signs, and enclosures: polynomials that are off by a bounded error.

All arithmetic is exact, in whole numbers and fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

Coefficients = tuple[Any, ...]  # of a polynomial, the constant first: whole numbers or fractions

# Relative error of a power, which floating-point numbers approximate.
POWER_ERROR = Fraction(1, 10**12)


class UndefinedError(Exception):
    """A divisor is zero on the whole range."""


class Enclosure(NamedTuple):
    """A polynomial that is off by at least ``low`` and at most ``high`` on a range of sizes."""

    polynomial: Coefficients
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    @property
    def exact(self) -> bool:
        return self.low == self.high

    def range(self, first: int, last: int) -> tuple[Fraction, Fraction]:
        """A lower and an upper limit of its values."""
        low, high = range_of(self.polynomial, first, last)
        return low + self.low, high + self.high


# --- polynomials


def value_at(polynomial: Coefficients, value: Any) -> Any:
    """Its value."""
    found: Any = 0
    for coefficient in reversed(polynomial):
        found = found * value + coefficient
    return found


def plus(polynomial: Coefficients, constant: Fraction) -> Coefficients:
    """A polynomial and a constant."""
    return (polynomial[0] + constant, *polynomial[1:])


def _times(a: Coefficients, b: Coefficients) -> Coefficients:
    if len(a) == 1:
        return tuple(a[0] * other for other in b)
    found = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            found[i + j] += one * other
    return tuple(found)


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


# --- enclosures


def scaled(one: Enclosure, by: Fraction) -> Enclosure:
    """An enclosure times a number."""
    low, high = sorted((one.low * by, one.high * by))
    return Enclosure(tuple(c * by for c in one.polynomial), low, high)


def added(one: Enclosure, other: Enclosure) -> Enclosure:
    """The sum of two enclosures."""
    short, long = sorted((one.polynomial, other.polynomial), key=len)
    polynomial = (*(a + b for a, b in zip(short, long, strict=False)), *long[len(short) :])
    return Enclosure(polynomial, one.low + other.low, one.high + other.high)


def multiplied(one: Enclosure, other: Enclosure, first: int, last: int) -> Enclosure:
    """The product of two enclosures on a range."""
    polynomial = _times(one.polynomial, other.polynomial)
    low = high = Fraction(0)
    if not (one.exact and other.exact and one.low == other.low == 0):
        errors = (
            (range_of(one.polynomial, first, last), (other.low, other.high)),
            (range_of(other.polynomial, first, last), (one.low, one.high)),
            ((one.low, one.high), (other.low, other.high)),
        )
        for left, right in errors:
            corners = [a * b for a in left for b in right]
            low, high = low + min(corners), high + max(corners)
    return Enclosure(polynomial, low, high)


def divided(top: Enclosure, bottom: Enclosure, first: int, last: int) -> Enclosure | None:
    """A quotient; None where the divisor is zero at some sizes but not at all of them."""
    if bottom.exact and not any(bottom.polynomial[1:]):
        divisor = Fraction(bottom.polynomial[0] + bottom.low)
        if not divisor:
            raise UndefinedError
        return scaled(top, 1 / divisor)
    low, high = bottom.range(first, last)
    if low <= 0 <= high:
        return None
    whole, rest = _long_division(top, bottom)
    corners = [Fraction(a) / b for a in rest.range(first, last) for b in (low, high)]
    return Enclosure(whole, min(corners), max(corners))


def _long_division(top: Enclosure, bottom: Enclosure) -> tuple[Coefficients, Enclosure]:
    """The whole part of a quotient of polynomials, and what is left of the numerator."""
    divisor = list(bottom.polynomial)
    while len(divisor) > 1 and not divisor[-1]:
        divisor.pop()
    if not bottom.exact or bottom.low or not divisor[-1]:
        return (Fraction(0),), top
    rest, whole = list(top.polynomial), [Fraction(0)] * max(1, len(top.polynomial) - len(divisor) + 1)
    for place in range(len(rest) - len(divisor), -1, -1):
        whole[place] = Fraction(rest[place + len(divisor) - 1]) / divisor[-1]
        for i, coefficient in enumerate(divisor):
            rest[place + i] -= whole[place] * coefficient
    return tuple(whole), top._replace(polynomial=tuple(rest))


def _floor(arguments: Sequence[Enclosure], first: int, last: int) -> Enclosure:
    """A floor: its one value, or its argument less than one above it."""
    (one,) = arguments
    low, high = one.range(first, last)
    if math.floor(low) == math.floor(high):
        return Enclosure((Fraction(math.floor(low)),))
    if not any(one.polynomial[1:]):
        return Enclosure((Fraction(0),), Fraction(math.floor(low)), Fraction(math.floor(high)))
    common = math.lcm(*(Fraction(c).denominator for c in one.polynomial)) if one.exact and one.low == 0 else 0
    lacks = 1 - Fraction(1, common) if common else Fraction(1)
    return Enclosure(one.polynomial, one.low - lacks, one.high)


def _ceiling(arguments: Sequence[Enclosure], first: int, last: int) -> Enclosure:
    negative = _floor([scaled(arguments[0], Fraction(-1))], first, last)
    return scaled(negative, Fraction(-1))


def _max(arguments: Sequence[Enclosure], first: int, last: int) -> Enclosure:
    """A maximum: the larger argument, or the first and what another has above it."""
    found = arguments[0]
    for other in arguments[1:]:
        low, high = added(other, scaled(found, Fraction(-1))).range(first, last)
        if low >= 0:
            found = other
        elif high > 0:
            found = found._replace(high=found.high + high)
    return found


def _min(arguments: Sequence[Enclosure], first: int, last: int) -> Enclosure:
    return scaled(_max([scaled(one, Fraction(-1)) for one in arguments], first, last), Fraction(-1))


def _power(arguments: Sequence[Enclosure], first: int, last: int) -> Enclosure | None:
    """A share to a power, as 1 less what it lacks of it; None beyond the range of floating-point numbers."""
    bases, exponents = (one.range(first, last) for one in arguments)
    try:
        corners = [_lacks(Fraction(a), Fraction(b)) for a in bases for b in exponents]
    except OverflowError:
        return None
    errors = [lacks * (1 + sign * POWER_ERROR) for lacks in corners for sign in (-1, 1)]
    return Enclosure((Fraction(1),), -max(errors), -min(errors))


def _lacks(base: Fraction, exponent: Fraction) -> Fraction:
    """1 less a power of a base, to a relative error. NB a base below 0, where no share lies, is taken as 0."""
    if base <= 0:
        return Fraction(1)
    return Fraction(-math.expm1(float(exponent) * math.log1p(float(base - 1))))


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """A power of a base of at least 0."""
    return 1 - _lacks(base, exponent)


ENCLOSED: dict[str, Any] = {"floor": _floor, "ceiling": _ceiling, "max": _max, "min": _min, "power": _power}
