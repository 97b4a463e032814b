"""Where a formula in one whole size is positive: exact, also where it rounds to tiles or takes a maximum.

Between two sizes at which a rounding steps, a formula is a polynomial. A range of sizes with many steps is enclosed by
a polynomial and an error interval: a rounding differs from its argument by less than one. The enclosure decides all
sizes but those near a root, which are searched again in narrower ranges, down to single polynomials, whose signs at
whole sizes follow from their differences. The work is bounded: what the budget leaves undecided is reported.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import sympy

from perfmodel.solve import enclosure
from perfmodel.solve.enclosure import Coefficients, Enclosure, UndefinedError
from perfmodel.symbolic import HIGHEST_POWER

# Ranges that one formula may be enclosed on before the search ends.
BUDGET = 1500

Terms = list[tuple[tuple[int, ...], Fraction]]  # exponents of the size and of each atom, and the coefficient


class Run(NamedTuple):
    """Sizes from ``first`` to ``last`` at which the sign is the same; None where the formula is undefined.

    ``polynomial`` is the formula there, where it is one; ``searched`` says that the budget reached so far.
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
    """A formula in one size, its other sizes being numbers."""

    def __init__(self, expression: Any, x: Any, budget: int = BUDGET) -> None:
        self._x = x
        self._budget = budget
        self._atoms: list[_Atom] = []
        self._letters: dict[Any, Any] = {}
        found = sympy.sympify(expression)
        found = found.xreplace({number: sympy.Rational(number) for number in found.atoms(sympy.Float)})
        self._whole = self._ratio(self._without_atoms(found))

    def runs(self, first: int, last: int) -> list[Run]:
        """The runs of equal sign from ``first`` to ``last``, in order and without gaps.

        An error interval matters relative to the size, so that each octave is enclosed by itself.
        """
        found: list[Run] = []
        octaves = ((max(first, 1 << i), min(last, (2 << i) - 1)) for i in range(last.bit_length()))
        ranges = [(low, high) for low, high in octaves if low <= high][::-1]
        for _ in range(self._budget):
            if not ranges:
                break
            low, high = ranges.pop()
            parts = self._parts(low, high)
            if parts is None:
                split = self._split(low, high)
                ranges += [(split, high), (low, split - 1)]
            else:
                found += [part for part in parts if part.searched]
                ranges += [(part.first, part.last) for part in reversed(parts) if not part.searched]
        return _joined([*found, *(Run(*rest, None, searched=False) for rest in ranges)])

    def _parts(self, first: int, last: int) -> list[Run] | None:
        """The range in runs, what is undecided not ``searched``; None where less than half of it is decided."""
        try:
            enclosed = self._enclosed(first, last)
        except UndefinedError:
            return [Run(first, last, None)]
        if enclosed is None:
            return [Run(first, last, None)] if first == last else None
        polynomial, low, high = enclosed
        if enclosed.exact or first == last:
            exact = enclosure.plus(polynomial, (low + high) / 2)
            signs = enclosure.signs(exact, first, last)
            return [Run(*run, exact if enclosed.exact else None) for run in signs]
        parts = list(_decided(enclosure.plus(polynomial, low), enclosure.plus(polynomial, high), first, last))
        undecided = sum(part.last - part.first + 1 for part in parts if not part.searched)
        return parts if 2 * undecided <= last - first + 1 else None

    def _split(self, first: int, last: int) -> int:
        """The first size of the right part: at a step of a rounding or a maximum near the middle, else at the middle."""
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
        """The values of the roundings and the arguments that the maxima take, at one size."""
        values: list[Any] = [Fraction(size)]
        found: list[Any] = []
        for kind, ratios in self._atoms:
            arguments = [_quotient(ratio, values) for ratio in ratios]
            defined = all(argument is not None for argument in arguments)
            values.append(_value(kind, arguments) if defined else None)
            if kind != "power":
                found.append(arguments.index(values[-1]) if defined and kind in ("max", "min") else values[-1])
        return found

    def _enclosed(self, first: int, last: int) -> Enclosure | None:
        """The formula times a positive number, enclosed on a range; None where a divisor may be zero."""
        values = [Enclosure((Fraction(0), Fraction(1)))]
        for kind, ratios in self._atoms:
            arguments = [self._ratio_on(ratio, values, first, last) for ratio in ratios]
            if any(argument is None for argument in arguments):
                return None
            found = enclosure.ENCLOSED[kind](arguments, first, last)
            if found is None:
                return None
            values.append(found)
        top, bottom = (_terms_on(part, values, first, last) for part in self._whole)
        enclosure.divided(top, bottom, first, last)  # raises where the divisor is zero
        low, high = bottom.range(first, last)
        return top if low > 0 else enclosure.scaled(top, Fraction(-1)) if high < 0 else None

    @staticmethod
    def _ratio_on(ratio: _Ratio, values: Sequence[Enclosure], first: int, last: int) -> Enclosure | None:
        top, bottom = (_terms_on(part, values, first, last) for part in ratio)
        return enclosure.divided(top, bottom, first, last)

    # --- reading

    def _without_atoms(self, expression: Any) -> Any:
        """The expression with a letter for each rounding, maximum and high power that depends on the size."""
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
    """What a node is, where polynomials cannot follow it."""
    for kind in ("floor", "ceiling", "Max", "Min"):
        if isinstance(expression, getattr(sympy, kind)):
            return kind.lower()
    exponent = expression.exp if isinstance(expression, sympy.Pow) else sympy.Integer(1)
    return None if exponent.is_Integer and abs(exponent) <= HIGHEST_POWER else "power"


def _terms(expression: Any, letters: Sequence[Any]) -> Terms:
    polynomial = sympy.Poly(expression, *letters)
    return [(powers, Fraction(int(c.p), int(c.q))) for powers, c in polynomial.terms()]


def _terms_on(terms: Terms, values: Sequence[Enclosure], first: int, last: int) -> Enclosure:
    """A polynomial in the size and the atoms, each atom enclosed on a range."""
    found = Enclosure((Fraction(0),))
    for powers, coefficient in terms:
        term = Enclosure((*[Fraction(0)] * powers[0], coefficient))
        for power, value in zip(powers[1:], values[1:], strict=False):
            for _ in range(power):
                term = enclosure.multiplied(term, value, first, last)
        found = enclosure.added(found, term)
    return found


def _quotient(ratio: _Ratio, values: Sequence[Any]) -> Any:
    """A ratio at one size; None where it is undefined."""
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
    """A rounding, a maximum, a minimum or a power of numbers."""
    match kind:
        case "floor":
            return Fraction(math.floor(arguments[0]))
        case "ceiling":
            return Fraction(math.ceil(arguments[0]))
        case "max" | "min":
            return max(arguments) if kind == "max" else min(arguments)
    try:
        return enclosure.power(*arguments)
    except OverflowError:
        return None


def _decided(least: Coefficients, most: Coefficients, first: int, last: int) -> Iterator[Run]:
    """Runs between a lower and an upper polynomial: positive, not positive, and not yet searched."""
    below, above = enclosure.signs(least, first, last), enclosure.signs(most, first, last)
    starts = sorted({start for start, _, _ in (*below, *above)})
    for start, end in zip(starts, [*(s - 1 for s in starts[1:]), last], strict=True):
        positive = next(sign for low, high, sign in below if low <= start <= high)
        possible = next(sign for low, high, sign in above if low <= start <= high)
        yield Run(start, end, positive if positive is possible else None, searched=positive is possible)


def _joined(runs: list[Run]) -> list[Run]:
    """Runs in order, neighbours that nothing tells apart as one."""
    found: list[Run] = []
    for run in sorted(runs):
        if found and found[-1][2:] == run[2:]:
            found[-1] = found[-1]._replace(last=run.last)
        else:
            found.append(run)
    return found


def run_at(runs: Sequence[Run], size: int) -> Run:
    """The run that holds a size."""
    return runs[bisect_right(runs, size, key=lambda run: run.first) - 1]


def root(before: Run, after: Run) -> float:
    """Where the sign changes between two runs: the root, or half-way between two sizes where the formula jumps."""
    low, high, rises = Fraction(before.last), Fraction(after.first), bool(after.positive)
    if before.polynomial is None or before.polynomial != after.polynomial:
        return float((low + high) / 2)
    for end in (low, high):
        if enclosure.value_at(before.polynomial, end) == 0:
            return float(end)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (enclosure.value_at(before.polynomial, middle) > 0) is rises else (middle, high)
    return float((low + high) / 2)
