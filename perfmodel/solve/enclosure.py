"""Formulas enclosed on a range of sizes: polynomials in the size and in errors, each error within two limits.

A rounding is its argument and an error of less than one; an undecided maximum is its first argument and an error. The
errors stay letters, so that a rounding that is taken away from itself leaves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from perfmodel.solve.polynomial import Coefficients, range_of

# A sum of terms: the power of the size and the errors that are its factors, and the coefficient.
Form = dict[tuple[int, tuple[int, ...]], Fraction]

# Relative error of a power, which floating-point numbers approximate.
POWER_ERROR = Fraction(1, 10**12)


class UndefinedError(Exception):
    """A divisor is zero on the whole range."""


class UnboundedError(Exception):
    """A divisor may be zero at some sizes of the range, or a power leaves the range of floating-point numbers."""


def constant(value: Any) -> Form:
    """A number as a form."""
    return {(0, ()): Fraction(value)} if value else {}


def added(one: Form, other: Form, times: Any = 1) -> Form:
    """A form and a multiple of another."""
    found = dict(one)
    for key, coefficient in other.items():
        total = found.get(key, 0) + times * coefficient
        if total:
            found[key] = total
        else:
            found.pop(key, None)
    return found


def multiplied(one: Form, other: Form) -> Form:
    """A product."""
    found: Form = {}
    for (i, errors), a in one.items():
        for (j, more), b in other.items():
            found = added(found, {(i + j, tuple(sorted(errors + more))): a * b})
    return found


def polynomials(form: Form) -> dict[tuple[int, ...], Coefficients]:
    """The polynomial in the size that each product of errors has as its factor; () has the one that is exact."""
    grouped: dict[tuple[int, ...], dict[int, Fraction]] = {(): {}}
    for (power, errors), coefficient in form.items():
        grouped.setdefault(errors, {})[power] = coefficient
    return {
        errors: tuple(powers.get(i, Fraction(0)) for i in range(max(powers, default=0) + 1))
        for errors, powers in grouped.items()
    }


class Enclosures:
    """The errors on a range of sizes, and the functions that introduce them."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self._errors: list[tuple[Fraction, Fraction]] = []

    def with_error(self, form: Form, low: Fraction, high: Fraction) -> Form:
        """A form that is off by at least ``low`` and at most ``high``."""
        if low == high:
            return added(form, constant(low))
        self._errors.append((low, high))
        return added(form, {(0, (len(self._errors) - 1,)): Fraction(1)})

    def limits(self, form: Form) -> tuple[Coefficients, Coefficients]:
        """A polynomial that is nowhere above the form on the range, and one that is nowhere below."""
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
        """A lower and an upper limit of its values."""
        least, most = self.limits(form)
        return range_of(least, self.first, self.last)[0], range_of(most, self.first, self.last)[1]

    def divided(self, top: Form, bottom: Form) -> Form:
        """A quotient: the whole part of a division of polynomials, and an error for the rest."""
        low, high = self.range(bottom)
        if low <= 0 <= high:
            raise UndefinedError if low == high else UnboundedError
        if low == high:
            return added({}, top, 1 / low)
        whole, rest = _long_division(top, bottom)
        corners = [a / b for a in self.range(rest) for b in (low, high)]
        return self.with_error(whole, min(corners), max(corners))

    def floor(self, one: Form) -> Form:
        """A floor: its one value, or its argument less than one above it."""
        low, high = self.range(one)
        if math.floor(low) == math.floor(high):
            return constant(math.floor(low))
        whole = all(not errors for _, errors in one)
        common = math.lcm(*(coefficient.denominator for coefficient in one.values())) if whole else 0
        return self.with_error(one, Fraction(1, common) - 1 if common else Fraction(-1), Fraction(0))

    def ceiling(self, one: Form) -> Form:
        """A ceiling: the floor of the negative."""
        return added({}, self.floor(added({}, one, -1)), -1)

    def max(self, found: Form, *others: Form) -> Form:
        """A maximum: the larger argument, or the first and what another has above it."""
        for other in others:
            low, high = self.range(added(other, found, -1))
            if low >= 0:
                found = other
            elif high > 0:
                found = self.with_error(found, Fraction(0), high)
        return found

    def min(self, *arguments: Form) -> Form:
        """A minimum: the negative of the maximum of the negatives."""
        return added({}, self.max(*(added({}, one, -1) for one in arguments)), -1)

    def power(self, base: Form, exponent: Form) -> Form:
        """A share to a power, as 1 less what it lacks of it."""
        corners = [_lacks(a, b) for a in self.range(base) for b in self.range(exponent)]
        errors = [lacks * (1 + sign * POWER_ERROR) for lacks in corners for sign in (-1, 1)]
        return self.with_error(constant(1), -max(errors), -min(errors))


def _product_range(ranges: Iterable[tuple[Fraction, Fraction]]) -> tuple[Fraction, Fraction]:
    """The limits of a product of numbers within limits."""
    low = high = Fraction(1)
    for one in ranges:
        corners = [a * b for a in (low, high) for b in one]
        low, high = min(corners), max(corners)
    return low, high


def _long_division(top: Form, bottom: Form) -> tuple[Form, Form]:
    """The whole part of a quotient of polynomials, and what is left of the numerator; with errors it is all left."""
    whole: Form = {}
    if any(errors for _, errors in (*top, *bottom)):
        return whole, top
    degree = max(power for power, _ in bottom)
    while top and (most := max(power for power, _ in top)) >= degree:
        factor: Form = {(most - degree, ()): top[most, ()] / bottom[degree, ()]}
        whole, top = added(whole, factor), added(top, multiplied(factor, bottom), -1)
    return whole, top


def _lacks(base: Fraction, exponent: Fraction) -> Fraction:
    """1 less a power of a base, to a relative error. NB a base below 0, where no share lies, is taken as 0."""
    if base <= 0:
        return Fraction(1)
    try:
        return Fraction(-math.expm1(float(exponent) * math.log1p(float(base - 1))))
    except OverflowError:
        raise UnboundedError from None


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """A power of a base of at least 0."""
    return 1 - _lacks(base, exponent)
