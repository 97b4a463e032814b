"""Enclosures of formulas on a range of sizes: polynomials in the size and in errors with known limits.

A rounding is its argument plus an error smaller than one. An undecided maximum is its first argument plus an error.
Errors stay symbols, so a rounding that is subtracted from itself cancels exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from perfmodel.arithmetic import lacks
from perfmodel.solve.polynomial import Coefficients, range_of

# A sum of terms, by the power of the size and the errors that are factors: the coefficient.
Form = dict[tuple[int, tuple[int, ...]], Fraction]

# Relative error of a power, which is computed in floating point.
POWER_ERROR = Fraction(1, 10**12)
ZERO = Fraction(0)


class UndefinedError(Exception):
    """A divisor is zero on the whole range."""


class UnboundedError(Exception):
    """A divisor may be zero at some sizes of the range, or a power overflows floating-point numbers."""


def constant(value: Any) -> Form:
    """A number as a form."""
    return {(0, ()): Fraction(value)} if value else {}


def added(one: Form, other: Form, times: Any = 1) -> Form:
    """The sum of a form and a multiple of another."""
    found = dict(one)
    for key, coefficient in other.items():
        _add(found, key, coefficient if times == 1 else times * coefficient)
    return found


def multiplied(one: Form, other: Form) -> Form:
    """The product of two forms."""
    found: Form = {}
    for (i, errors), a in one.items():
        for (j, more), b in other.items():
            _add(found, (i + j, tuple(sorted(errors + more))), a * b)
    return found


def _add(form: Form, key: tuple[int, tuple[int, ...]], coefficient: Fraction) -> None:
    """Adds a term to a form, in place. A term of zero is left out."""
    total = form[key] + coefficient if key in form else coefficient
    if total:
        form[key] = total
    else:
        form.pop(key, None)


def polynomials(form: Form) -> dict[tuple[int, ...], Coefficients]:
    """The polynomials in the size by the product of errors that they multiply; () is the exact part."""
    grouped: dict[tuple[int, ...], dict[int, Fraction]] = {(): {}}
    for (power, errors), coefficient in form.items():
        grouped.setdefault(errors, {})[power] = coefficient
    return {
        errors: tuple(powers.get(i, ZERO) for i in range(max(powers, default=0) + 1))
        for errors, powers in grouped.items()
    }


class Enclosures:
    """The errors on a range of sizes, and the functions that introduce them."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self._errors: list[tuple[Fraction, Fraction]] = []

    def with_error(self, form: Form, low: Fraction, high: Fraction) -> Form:
        """The form plus a new error between ``low`` and ``high``."""
        if low == high:
            return added(form, constant(low))
        self._errors.append((low, high))
        return added(form, {(0, (len(self._errors) - 1,)): Fraction(1)})

    def limits(self, form: Form) -> tuple[Coefficients, Coefficients]:
        """A polynomial below the form on the whole range, and one above it."""
        least: Form = {}
        most: Form = {}
        for errors, polynomial in polynomials(form).items():
            low, high = _product_range([self._errors[i] for i in errors])
            ends = range_of(polynomial, self.first, self.last)
            if ends[0] < 0 < ends[1] and errors:
                corners = [a * b for a in ends for b in (low, high)]
                least, most = added(least, constant(min(corners))), added(most, constant(max(corners)))
                continue
            shape: Form = {(power, ()): coefficient for power, coefficient in enumerate(polynomial) if coefficient}
            low, high = (low, high) if ends[1] > 0 else (high, low)
            least, most = added(least, shape, low), added(most, shape, high)
        return polynomials(least)[()], polynomials(most)[()]

    def range(self, form: Form) -> tuple[Fraction, Fraction]:
        """A lower and an upper limit of the form's values."""
        least, most = self.limits(form)
        return range_of(least, self.first, self.last)[0], range_of(most, self.first, self.last)[1]

    def divided(self, top: Form, bottom: Form) -> Form:
        """A quotient: the polynomial part of the division, and an error for the remainder."""
        low, high = self.range(bottom)
        if low <= 0 <= high:
            raise UndefinedError if low == high else UnboundedError
        if low == high:
            return added({}, top, 1 / low)
        whole, rest = _long_division(top, bottom)
        corners = [a / b for a in self.range(rest) for b in (low, high)]
        return self.with_error(whole, min(corners), max(corners))

    def floor(self, one: Form) -> Form:
        """The floor: its constant value on the range, or its argument minus an error below one."""
        low, high = self.range(one)
        if math.floor(low) == math.floor(high):
            return constant(math.floor(low))
        whole = all(not errors for _, errors in one)
        common = math.lcm(*(coefficient.denominator for coefficient in one.values())) if whole else 0
        return self.with_error(one, Fraction(1, common) - 1 if common else Fraction(-1), Fraction(0))

    def ceiling(self, one: Form) -> Form:
        """The ceiling, as the negative floor of the negative."""
        return added({}, self.floor(added({}, one, -1)), -1)

    def max(self, found: Form, *others: Form) -> Form:
        """An enclosure of the maximum. If the arguments overlap, it is the first, with its error widened by the
        possible excess of the others.
        """
        for other in others:
            low, high = self.range(added(other, found, -1))
            if low >= 0:
                found = other
            elif high > 0:
                found = self.with_error(found, Fraction(0), high)
        return found

    def min(self, *arguments: Form) -> Form:
        """The minimum, as the negative maximum of the negatives."""
        return added({}, self.max(*(added({}, one, -1) for one in arguments)), -1)

    def power(self, base: Form, exponent: Form) -> Form:
        """A fraction to a power, as 1 minus its difference from 1."""
        corners = [_lacks(a, b) for a in self.range(base) for b in self.range(exponent)]
        errors = [lacks * (1 + sign * POWER_ERROR) for lacks in corners for sign in (-1, 1)]
        return self.with_error(constant(1), -max(errors), -min(errors))


def _product_range(ranges: Iterable[tuple[Fraction, Fraction]]) -> tuple[Fraction, Fraction]:
    """The limits of a product of numbers with known limits."""
    low = high = Fraction(1)
    for one in ranges:
        corners = [a * b for a in (low, high) for b in one]
        low, high = min(corners), max(corners)
    return low, high


def _long_division(top: Form, bottom: Form) -> tuple[Form, Form]:
    """Polynomial quotient and remainder; with errors, the remainder is the whole numerator."""
    whole: Form = {}
    if any(errors for _, errors in (*top, *bottom)):
        return whole, top
    degree = max(power for power, _ in bottom)
    while top and (most := max(power for power, _ in top)) >= degree:
        factor: Form = {(most - degree, ()): top[most, ()] / bottom[degree, ()]}
        whole, top = added(whole, factor), added(top, multiplied(factor, bottom), -1)
    return whole, top


def _lacks(base: Fraction, exponent: Fraction) -> Fraction:
    """1 minus a power of a base, with a small relative error."""
    try:
        return lacks(base, exponent)
    except OverflowError:
        raise UnboundedError from None


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """A power of a base of at least 0."""
    return 1 - _lacks(base, exponent)
