"""The shortest decimal text of many numbers at once, as ``repr`` writes single ones.

A double is scaled to 17 digits before the point, exactly to about 30 digits: as the sum of two doubles, like the powers of
ten. Seventeen digits always tell it from its neighbours. Its text has 16 or 15 digits where a number with so few digits lies
within half the distance to the next double. A number with fewer digits is one of 15 digits with zeros at its end. Where
rounding decides, and for numbers that are no times or rates, ``repr`` is called.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_LEAST, _MOST = -99, 99  # decimal exponents that have a text of two digits
_DIGITS, _WIDTH = 17, 24
_AT_ONCE = 16_384  # numbers whose arrays stay in the cache of the CPU
_SPLITTER = 2.0**27 + 1  # divides a double into two halves whose products are exact
_CLOSE = 1e-4  # relative distance to a boundary below which repr decides
_LOW = _DIGITS - 1 - _MOST - 1
_EXACT = [Fraction(10) ** power for power in range(_LOW, _DIGITS - _LEAST + 1)]
_HIGH = np.array([float(exact) for exact in _EXACT])
_REST = np.array([float(exact - Fraction(high)) for exact, high in zip(_EXACT, _HIGH.tolist(), strict=True)])
_FOUR = np.frombuffer(b"".join(b"%04d" % i for i in range(10**4)), np.uint8).reshape(-1, 4)


def texts(values: NDArray[np.float64]) -> list[str]:
    """The text of each number; none is negative."""
    return [text for low in range(0, values.size, _AT_ONCE) for text in _texts(values[low : low + _AT_ONCE])]


def _texts(values: NDArray[np.float64]) -> list[str]:
    exponent = np.floor(np.log10(np.where(values > 0, values, 1.0))).astype(np.int64)
    known = (values > 0) & (exponent > _LEAST) & (exponent < _MOST)
    digits, certain = _shortest(np.where(known, values, 1.0), np.where(known, exponent, 0))
    found = np.zeros((values.size, _WIDTH), np.uint8)
    for power in np.unique(exponent).tolist():
        rows = np.flatnonzero(exponent == power)
        found[rows] = _written(digits[rows], power)
    found[:, -1] = ord("\n")
    lines = found.tobytes().translate(None, b"\0").decode().split("\n")[:-1]
    for place in np.flatnonzero(~(known & certain)).tolist():
        lines[place] = repr(float(values[place]))
    return lines


def _shortest(values: NDArray[np.float64], exponent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The digits of each number as an integer of 17 digits, and whether they are certain."""
    high, rest = _HIGH[_DIGITS - 1 - exponent - _LOW], _REST[_DIGITS - 1 - exponent - _LOW]
    scaled = values * high
    beyond = _error(values, high, scaled) + values * rest
    half = 0.5 * np.spacing(values) * high
    every = scaled.astype(np.int64) + np.rint(beyond).astype(np.int64)
    beyond -= np.rint(beyond)
    digits, certain = every, np.abs(np.abs(beyond) - 0.5) > _CLOSE
    for unit in (10, 100):
        last = every % unit + beyond
        apart = np.minimum(last, unit - last)
        certain &= (np.abs(np.abs(apart) / half - 1.0) > _CLOSE) & (np.abs(last - unit / 2) > _CLOSE)
        near = every - every % unit + unit * (last > unit / 2)
        digits = np.where(np.abs(apart) < half, near, digits)
    # The distance to the next smaller double is half as large at a power of two.
    certain &= (np.frexp(values)[0] != 0.5) & (digits >= 10 ** (_DIGITS - 1)) & (digits < 10**_DIGITS)
    return digits, certain


def _error(a: NDArray[np.float64], b: NDArray[np.float64], product: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a product loses by rounding, exactly (Dekker 1971)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error: NDArray[np.float64] = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return error


def _halves(value: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    large = _SPLITTER * value
    high = large - (large - value)
    return high, value - high


def _written(digits: NDArray[np.int64], power: int) -> NDArray[np.uint8]:
    """The bytes of numbers with this decimal exponent, with zero bytes where they have none."""
    figures = np.empty((digits.size, 20), np.uint8)
    for place in range(16, -1, -4):
        above = digits // 10**4
        figures[:, place : place + 4] = _FOUR[digits - above * 10**4]
        digits = above
    figures = figures[:, 3:]
    last = _DIGITS - np.argmax(figures[:, ::-1] != ord("0"), axis=1)  # digits without the zeros at the end
    found = np.zeros((digits.size, _WIDTH), np.uint8)
    if -4 <= power < 16:
        ahead, point, least = b"0." + b"0" * (-power - 1) if power < 0 else b"", power + 1, power + 2
    else:
        ahead, point, least = b"", 1, 1
    figures[np.arange(_DIGITS) >= np.maximum(last, least)[:, None]] = 0
    found[:, : len(ahead)] = np.frombuffer(ahead, np.uint8)
    start = len(ahead)
    if power < 0 and ahead:
        found[:, start : start + _DIGITS] = figures
        return found
    found[:, :point] = figures[:, :point]
    found[:, point] = np.where(figures[:, point] > 0, ord("."), 0)
    found[:, point + 1 : _DIGITS + 1] = figures[:, point:]
    if not -4 <= power < 16:
        tail = b"e%+03d" % power
        found[:, _DIGITS + 1 : _DIGITS + 1 + len(tail)] = np.frombuffer(tail, np.uint8)
    return found
