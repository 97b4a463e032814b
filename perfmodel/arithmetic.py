"""Functions that work alike on numbers, NumPy arrays and sympy expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from math import ceil, expm1, gcd, log1p
from math import log2 as _log2
from typing import Any

Size = Any  # an int, a NumPy array or a sympy expression


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes. Plain numbers are multiplied first, which touches arrays least often."""
    number, others = 1, []
    for size in sizes:
        if type(size) is int:
            number *= size
        else:
            others.append(size)
    if not others:
        return number
    result = others[0] if number == 1 else others[0] * number
    for size in others[1:]:
        result = result * size
    return result


def stored_byte(elements: Size, item: Size) -> Size:
    """Bytes of so many elements. Elements of half a byte are stored in pairs, so the last byte may be half empty."""
    return ceil_div(elements, 2) if type(item) is float else elements * item


def whole_bytes(count: Size) -> Size:
    """A sum of bytes, rounded up where half-byte elements leave a fraction."""
    return ceil(count) if type(count) is float else count


def total(values: Iterable[Size]) -> Size:
    """The sum of values, 0 for none. Plain numbers are added first, which touches arrays least often."""
    number, others = 0, None
    for value in values:
        if type(value) is int:
            number += value
        else:
            others = value if others is None else others + value
    if others is None:
        return number
    return others if number == 0 else others + number


def sum_of_products(terms: Iterable[Iterable[Size]]) -> Size:
    """The sum of all products. Terms with the same arrays are combined first, so each set is multiplied once."""
    number = 0
    factors: dict[tuple[int, ...], int] = {}
    arrays: dict[tuple[int, ...], list[Size]] = {}
    for sizes in terms:
        factor, others = 1, None
        for size in sizes:
            if type(size) is int:
                factor *= size
            elif others is None:
                others = [size]
            else:
                others.append(size)
        if others is None:
            number += factor
        else:
            same = tuple(map(id, others))
            factors[same] = factors.get(same, 0) + factor
            arrays[same] = others
    if not arrays:
        return number
    return total([number, *[product([factors[same], *others]) for same, others in arrays.items()]])


_OWN: dict[str, dict[str, Callable[..., Size]]] = {}
_BY_TYPE: dict[type, dict[str, Callable[..., Size]]] = {}  # those of a type's package, looked up once
_NUMBERS = frozenset((int, float))  # the types of plain numbers, which take the short way


def register(package: str, **functions: Callable[..., Size]) -> None:
    """Registers a package's own functions, which replace those of this module for its values (numpy, sympy)."""
    _OWN[package] = functions
    _BY_TYPE.clear()


def _own(name: str, *values: Size) -> Callable[..., Size] | None:
    """The function that the values' package registered; None for plain numbers and where there is none."""
    for value in values:
        kind = type(value)
        if kind not in _NUMBERS and not isinstance(value, (int, float)):
            found = _BY_TYPE.get(kind)
            if found is None:
                found = _BY_TYPE[kind] = _OWN.get(kind.__module__.partition(".")[0], {})
            return found.get(name)
    return None


def floor_div(a: Size, b: Size) -> Size:
    """A quotient rounded down: an int also for elements of half a byte."""
    own = _own("floor_div", a, b)
    found = own(a, b) if own else a // b
    return int(found) if type(found) is float else found


def remainder(a: Size, b: Size) -> Size:
    """The remainder of a division."""
    own = _own("floor_div", a, b)
    return a - b * own(a, b) if own else a % b


def ceil_div(a: Size, b: Size) -> Size:
    """The number of tiles of size b that cover a."""
    own = _own("ceil_div", a, b)
    return own(a, b) if own else -floor_div(-a, b)


def ceil_log2(p: Size) -> Size:
    """The levels of a binary tree over p leaves: log2 p, rounded up."""
    own = _own("ceil_log2", p)
    return own(p) if own else (p - 1).bit_length()


def exact_div(a: Size, b: Size) -> Size:
    """A quotient that is whole because the operation requires divisibility."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    own = _own("exact_div", a, b)
    return own(a, b) if own else a / b


def maximum(a: Size, b: Size) -> Size:
    """The larger value, element by element for arrays."""
    if type(a) in _NUMBERS and type(b) in _NUMBERS:
        return b if b > a else a
    return (_own("maximum", a, b) or max)(a, b)


def minimum(a: Size, b: Size) -> Size:
    """The smaller value, element by element for arrays."""
    if type(a) in _NUMBERS and type(b) in _NUMBERS:
        return b if b < a else a
    return (_own("minimum", a, b) or min)(a, b)


def largest(values: Iterable[Size]) -> Size:
    """The largest of several values, element by element for arrays."""
    first, *others = values
    for value in others:
        first = maximum(first, value)
    return first


def where(condition: Size, a: Size, b: Size) -> Size:
    """One of two values, element by element for arrays. Both are evaluated, also where the other one is taken."""
    if condition is True or condition is False:
        return a if condition else b
    own = _own("where", condition)
    return own(condition, a, b) if own else a if condition else b


def anywhere(condition: Size) -> bool:
    """Whether a condition holds, of arrays at any point."""
    own = _own("anywhere", condition)
    return bool(own(condition) if own else condition)


def highest(value: Size) -> int:
    """The value as an integer, of arrays the largest element."""
    own = _own("highest", value)
    return int(own(value) if own else value)


def log2(value: Size) -> Size:
    """The logarithm to base 2."""
    own = _own("log2", value)
    return own(value) if own else _log2(value)


def common_divisor(a: Size, b: Size) -> Size:
    """The greatest common divisor."""
    own = _own("common_divisor", a, b)
    return own(a, b) if own else gcd(a, b)


def is_one(value: Size) -> bool:
    """Whether the value is the plain number 1; symbols never are."""
    own = _own("is_one", value)
    return bool(own(value)) if own else isinstance(value, int) and value == 1


def is_zero(value: Size) -> bool:
    """Whether the value is the plain number 0; arrays and symbols never are."""
    return isinstance(value, int) and value == 0


def expected_distinct(E: Size, A: Size, tokens: Size, routing: Any = 0) -> Size:
    """Expected number of the E experts used by at least one token, if each picks A at random: E (1 - (1 - A/E)^tokens).

    With a ``routing`` (see ``routing.py``), each expert has a share of its own in the place of A/E.
    """
    if is_zero(routing):
        return E * (1 - (1 - A / E) ** tokens)
    from perfmodel.routing import alike

    return total(number * (1 - (1 - share) ** tokens) for share, number in alike(E, A, routing))


def padded_rows(E: Size, A: Size, tokens: Size, tile: int, routing: Any = 0) -> Size:
    """Expected rows of all experts, each expert's rounded up to whole tiles."""
    own = _own("padded_rows", E, A, tokens)
    if own:
        return own(E, A, tokens, tile, routing)
    from perfmodel import routing as choices

    return choices.padded_rows(E, A, tokens, tile, routing)


def lacks(base: Fraction, exponent: Fraction) -> Fraction:
    """1 minus a power of a base, computed in floating point; OverflowError if it is too large for it.

    NB a base below 0 is outside the domain of a fraction and is taken as 0.
    """
    if base <= 0:
        return Fraction(1)
    return Fraction(-expm1(float(exponent) * log1p(float(base - 1))))


def whole(value: Size) -> Size:
    """An expected number of elements, rounded; a formula is left as it is."""
    if isinstance(value, (int, float)):
        return round(value)
    own = _own("whole", value)
    return own(value) if own else value


def visible_pairs(N: Size, S: Size, causal: Size = 0, W: Size = None) -> Size:
    """Query-key pairs that a mask leaves visible, the last query standing at the last key.

    All: N S. Causal: query i of N sees S - N + i keys, together N S - N(N-1)/2. With a window W a query sees at most
    W of them: those beyond are x(x+1)/2 for x = max(0, S-W), less the same for x = max(0, S-N-W) before the chunk.
    """
    if not causal:
        return N * S
    pairs = N * S - exact_div(N * (N - 1), 2)
    if W is None:
        return pairs
    last, before = maximum(0, S - W), maximum(0, S - N - W)
    return pairs - exact_div(last * (last + 1), 2) + exact_div(before * (before + 1), 2)


def visible_keys(N: Size, S: Size, causal: Size = 0, W: Size = None) -> Size:
    """Keys that at least one of N queries sees: all S, or under a window the last N + W - 1 of them."""
    return S if not causal or W is None else minimum(S, N + W - 1)
