"""The ranges of one whole size in which a formula is positive, computed exactly, with roundings to tiles and maxima.

Between two sizes at which a rounding steps, a formula is a polynomial. A rounding differs from its argument by less
than one. So a range of sizes with many steps is enclosed by a polynomial and an error interval. The enclosure decides
all sizes except those near a root. Those are searched again in narrower ranges, down to single polynomials, whose signs
at whole sizes follow from their differences. The work is bounded: sizes that the budget leaves undecided are reported.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import sympy

from perfmodel.solve.enclosure import (
    Enclosures,
    Form,
    UnboundedError,
    UndefinedError,
    added,
    multiplied,
    power,
)  # fmt: skip
from perfmodel.solve.polynomial import Coefficients, signs, value_at
from perfmodel.symbolic import HIGHEST_POWER

# Ranges on which one formula is enclosed before the search ends.
BUDGET = 1500

Terms = list[tuple[tuple[int, ...], Fraction]]  # exponents of the size and of each atom, and the coefficient


class Run(NamedTuple):
    """Sizes from ``first`` to ``last`` with the same sign; ``positive`` is None where the formula is undefined.

    ``polynomial`` is the formula on this run, where it is one. ``searched`` is False where the budget ended.
    """

    first: int
    last: int
    positive: bool | None
    polynomial: Coefficients | None = None
    searched: bool = True


class _Ratio(NamedTuple):
    """A quotient of two polynomials in the size and the atoms."""

    top: Terms
    bottom: Terms


class _Atom(NamedTuple):
    """A floor, ceiling, maximum, minimum or power, and its arguments."""

    kind: str
    arguments: tuple[_Ratio, ...]


class Formula:
    """A formula in one size. Its other sizes are numbers."""

    def __init__(self, expression: Any, x: Any, budget: int = BUDGET) -> None:
        self._x = x
        self._budget = budget
        self._atoms: list[_Atom] = []
        self._letters: dict[Any, Any] = {}
        found = sympy.sympify(expression, strict=True)
        found = found.xreplace({number: sympy.Rational(number) for number in found.atoms(sympy.Float)})
        self._whole = self._ratio(self._without_atoms(found))

    def runs(self, first: int, last: int) -> list[Run]:
        """The runs of equal sign from ``first`` to ``last``, in order and without gaps.

        Errors matter relative to the size, so each octave is enclosed separately. Small sizes are refined first.
        """
        octaves = ((max(first, 1 << i), min(last, (2 << i) - 1)) for i in range(last.bit_length()))
        found: list[Run] = []
        ranges: list[tuple[int, int]] = []
        for low, high in octaves:
            if low <= high:
                ranges = [*self._narrowed(low, high, found), *ranges]
        for _ in range(self._budget):
            if not ranges:
                break
            ranges += self._narrowed(*ranges.pop(), found)
        return _joined([*found, *(Run(*rest, None, searched=False) for rest in ranges)])

    def _narrowed(self, first: int, last: int, found: list[Run]) -> list[tuple[int, int]]:
        """The undecided parts of a range, smallest sizes last. Decided runs are appended to ``found``."""
        parts = self._parts(first, last)
        if parts is None:
            split = self._split(first, last)
            return [(split, last), (first, split - 1)]
        found += [part for part in parts if part.searched]
        return [(part.first, part.last) for part in reversed(parts) if not part.searched]

    def _parts(self, first: int, last: int) -> list[Run] | None:
        """The range in runs, undecided ones not ``searched``; None where less than half of it is decided."""
        try:
            least, most = self._enclosed(Enclosures(first, last))
        except UndefinedError:
            return [Run(first, last, None)]
        except UnboundedError:
            return [Run(first, last, None)] if first == last else None
        if least == most:
            return [Run(*run, least) for run in signs(least, first, last)]
        if first == last:  # within the error of a power
            return [Run(first, last, bool(value_at(least, first) + value_at(most, first) > 0))]
        parts = list(_decided(least, most, first, last))
        undecided = sum(part.last - part.first + 1 for part in parts if not part.searched)
        return parts if 2 * undecided <= last - first + 1 else None

    def _split(self, first: int, last: int) -> int:
        """The first size of the right part: at a step near the middle, otherwise at the middle."""
        middle = (first + last) // 2
        own = self._signature(middle)
        for end in (last, first):
            if self._signature(end) == own:
                continue
            near, far = middle, end
            while abs(far - near) > 1:
                between = (near + far) // 2
                near, far = (between, far) if self._signature(between) == own else (near, between)
            return max(near, far)
        return middle + 1

    def _signature(self, size: int) -> list[Any]:
        """The values of the roundings and the selected arguments of the maxima, at one size."""
        values: list[Any] = [Fraction(size)]
        found: list[Any] = []
        for kind, ratios in self._atoms:
            arguments = [_quotient(ratio, values) for ratio in ratios]
            defined = all(argument is not None for argument in arguments)
            values.append(_value(kind, arguments) if defined else None)
            if kind != "power":
                found.append(arguments.index(values[-1]) if defined and kind in ("max", "min") else values[-1])
        return found

    def _enclosed(self, on: Enclosures) -> tuple[Coefficients, Coefficients]:
        """Polynomials below and above the formula times a positive number."""
        values: list[Form] = [{(1, ()): Fraction(1)}]
        for kind, ratios in self._atoms:
            arguments = [on.divided(*(_terms_on(part, values) for part in ratio)) for ratio in ratios]
            values.append(getattr(on, kind)(*arguments))
        top, bottom = (_terms_on(part, values) for part in self._whole)
        on.divided(top, bottom)  # raises where the divisor may be zero
        return on.limits(top if on.range(bottom)[0] > 0 else added({}, top, -1))

    def _without_atoms(self, expression: Any) -> Any:
        """The expression with a symbol for each rounding, maximum and high power that depends on the size."""
        if expression == self._x or not expression.has(self._x):
            return expression
        if expression.func is sympy.Mod:
            above, below = expression.args
            return self._without_atoms(above - below * sympy.floor(above / below))
        arguments = [self._without_atoms(argument) for argument in expression.args]
        kind = _kind(expression)
        if kind is None:
            return expression.func(*arguments)
        key = (kind, *arguments)
        if key not in self._letters:
            self._atoms.append(_Atom(kind, tuple(self._ratio(argument) for argument in arguments)))
            self._letters[key] = sympy.Dummy(f"u{len(self._atoms)}")
        return self._letters[key]

    def _ratio(self, expression: Any) -> _Ratio:
        letters = [self._x, *self._letters.values()]
        top, bottom = expression, sympy.Integer(1)
        if not expression.is_polynomial(*letters):
            top, bottom = sympy.fraction(sympy.together(expression))
        return _Ratio(_terms(top, letters), _terms(bottom, letters))


def _kind(expression: Any) -> str | None:
    """The kind of a node that is not a polynomial; None for the others."""
    for kind in ("floor", "ceiling", "Max", "Min"):
        if isinstance(expression, getattr(sympy, kind)):
            return kind.lower()
    exponent = expression.exp if isinstance(expression, sympy.Pow) else sympy.Integer(1)
    return None if exponent.is_Integer and abs(exponent) <= HIGHEST_POWER else "power"


def _terms(expression: Any, letters: Sequence[Any]) -> Terms:
    polynomial = sympy.Poly(expression, *letters)
    return [(powers, Fraction(int(c.p), int(c.q))) for powers, c in polynomial.terms()]


def _terms_on(terms: Terms, values: Sequence[Form]) -> Form:
    """A polynomial in the size and the atoms, with a form for each atom."""
    found: Form = {}
    for powers, coefficient in terms:
        term: Form = {(powers[0], ()): coefficient}
        for exponent, value in zip(powers[1:], values[1:], strict=False):
            for _ in range(exponent):
                term = multiplied(term, value)
        found = added(found, term)
    return found


def _quotient(ratio: _Ratio, values: Sequence[Any]) -> Any:
    """The value of a ratio at one size; None where it is undefined."""
    parts = []
    for terms in ratio:
        total = Fraction(0)
        for powers, coefficient in terms:
            used = [(value, power) for value, power in zip(values, powers, strict=False) if power]
            if any(value is None for value, _ in used):
                return None
            total += coefficient * math.prod(value**power for value, power in used)
        parts.append(total)
    return parts[0] / parts[1] if parts[1] else None


def _value(kind: str, arguments: Sequence[Fraction]) -> Fraction | None:
    """The value of a rounding, a maximum, a minimum or a power."""
    match kind:
        case "floor":
            return Fraction(math.floor(arguments[0]))
        case "ceiling":
            return Fraction(math.ceil(arguments[0]))
        case "max" | "min":
            return max(arguments) if kind == "max" else min(arguments)
    try:
        return power(*arguments)
    except UnboundedError:
        return None


def _decided(least: Coefficients, most: Coefficients, first: int, last: int) -> Iterator[Run]:
    """Runs between a lower and an upper polynomial: positive, not positive, or not yet searched."""
    below, above = signs(least, first, last), signs(most, first, last)
    starts = sorted({start for start, _, _ in (*below, *above)})
    for start, end in zip(starts, [*(s - 1 for s in starts[1:]), last], strict=True):
        positive = next(sign for low, high, sign in below if low <= start <= high)
        possible = next(sign for low, high, sign in above if low <= start <= high)
        yield Run(start, end, positive if positive is possible else None, searched=positive is possible)


def _joined(runs: list[Run]) -> list[Run]:
    """Runs in order. Equal neighbours become one."""
    found: list[Run] = []
    for run in sorted(runs):
        if found and found[-1][2:] == run[2:]:
            found[-1] = found[-1]._replace(last=run.last)
        else:
            found.append(run)
    return found


def run_at(runs: Sequence[Run], size: int) -> Run:
    """The run that contains a size."""
    return runs[bisect_right(runs, size, key=lambda run: run.first) - 1]


def root(before: Run, after: Run) -> float:
    """The root between two runs; the middle of the two sizes where the formula jumps."""
    low, high, rises = Fraction(before.last), Fraction(after.first), bool(after.positive)
    if before.polynomial is None or before.polynomial != after.polynomial:
        return float((low + high) / 2)
    for end in (low, high):
        if value_at(before.polynomial, end) == 0:
            return float(end)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (value_at(before.polynomial, middle) > 0) is rises else (middle, high)
    return float((low + high) / 2)
