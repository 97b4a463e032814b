"""The grid of a sweep: the values of each symbol, and of any range of its points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import LARGEST_SIZE, checked_size, size_from_text

Values = NDArray[np.float64]

# Default number of values of a range, and the most that are created at once.
USUAL_COUNT = 65
MOST_LOG_SPACED = 10**7
RANGES_ACCEPTED = "SYMBOL=FROM:TO, SYMBOL=FROM:TO:COUNT and either with :log after it are accepted"


class Axis(NamedTuple):
    """The values of one symbol: listed, or evenly spaced integers that are computed on demand."""

    symbol: str
    first: int
    last: int
    number: int
    log: bool = False
    listed: Values | None = None

    def at(self, indices: NDArray[np.int64]) -> Values:
        """The values at these indices."""
        if self.listed is not None:
            return self.listed[indices]
        step = (self.last - self.first) / max(1, self.number - 1)
        found: Values = np.floor(self.first + indices * step + 0.5)
        return found

    def all(self) -> Values:
        """All values."""
        return self.at(np.arange(self.number))

    def thinned(self, most: int) -> Axis:
        """An axis of at most ``most`` of the values, evenly selected."""
        if self.number <= most:
            return self
        return _listed(self.symbol, self.at(np.linspace(0, self.number - 1, most).round().astype(np.int64)), self.log)


def spaced(symbol: str, first: int, last: int, count: int, log: bool = False) -> Axis:
    """At most ``count`` distinct integers from first to last, evenly spaced on a linear or logarithmic scale."""
    if not log or count < 3:
        return Axis(symbol, first, last, min(count, last - first + 1), log)
    values = np.exp(np.linspace(math.log(first), math.log(last), count))
    np.rint(values, out=values)
    values[0], values[-1] = first, last
    return _listed(symbol, values[np.concatenate(([True], np.diff(values) > 0))], log)


def doubled(symbol: str, first: int, last: int) -> Axis:
    """The first value, its doubles below the last, and the last."""
    values = [first << i for i in range((last // first).bit_length()) if first << i < last]
    return _listed(symbol, np.array([*values, last], dtype=np.float64), log=True)


def axis(symbol: str, values: Any) -> Axis:
    """An axis of integers, given as an ``Axis``, a list, a NumPy array or a range in text."""
    name = ALIASES.get(symbol, symbol)
    if isinstance(values, str):
        return axis_from_text(f"{symbol}={values}")
    if isinstance(values, Axis):
        return values._replace(symbol=name)
    array = np.asarray(values)
    where = f"sweep over {name}"
    if array.ndim != 1 or not array.size:
        raise InputError(where, f"the values have shape {array.shape}", "a list of at least one size is accepted")
    sound = array.dtype.kind in "iuf" and array.min() >= 1 and array.max() <= LARGEST_SIZE
    for value in () if sound and not (array % 1).any() else array.tolist():
        checked_size(int(value) if isinstance(value, float) and value.is_integer() else value, where)
    found = array.astype(np.float64)
    return _listed(name, found, _geometric(found))


def _geometric(values: Values) -> bool:
    """Whether at least three values grow by about the same factor each, as 16, 32, 64 do, and not by the same step."""
    if values.size < 3 or (np.diff(values) <= 0).any():
        return False
    ratios, steps = values[1:] / values[:-1], np.diff(values)
    return bool(ratios.max() <= 1.2 * ratios.min() and steps.max() > 1.2 * steps.min())


def _listed(symbol: str, values: Values, log: bool = False) -> Axis:
    return Axis(symbol, int(values[0]), int(values[-1]), len(values), log, values)


def box(axes: Sequence[Axis], low: int, high: int) -> dict[str, Any]:
    """The symbols' values at points low to high. The last symbol varies fastest; a constant one is an integer."""
    found: dict[str, Any] = {}
    stride = 1
    for one in reversed(axes):
        first, last = low // stride, (high - 1) // stride
        values = one.at(np.arange(first, last + 1) % one.number)
        times = np.full(values.shape, stride)
        times[0], times[-1] = (first + 1) * stride - low, high - last * stride
        found[one.symbol] = int(values[0]) if first == last else values if stride == 1 else np.repeat(values, times)
        stride *= one.number
    return {one.symbol: found[one.symbol] for one in axes}


def axis_from_text(text: str) -> Axis:
    """The axis of a range: ``N=128:8192``, optionally with ``:COUNT``, ``:log`` or ``:COUNT:log``."""
    where = f"--over {shown(text)}"
    name, _, rest = text.partition("=")
    name, parts = ALIASES.get(name.strip(), name.strip()), rest.split(":")
    log = parts[-1].strip() == "log"
    parts = parts[:-1] if log else parts
    if len(parts) not in (2, 3):
        raise InputError(
            where,
            "it is not a range",
            RANGES_ACCEPTED,
            "Write, for example, N=128:8192:64; use --set for a single value.",
        )
    if name not in SYMBOLS:
        raise InputError(
            f"--over {name}", "it is not a symbol", "the letters of 'perfmodel symbols' are accepted",
            did_you_mean(name, SYMBOLS),
        )  # fmt: skip
    where = f"--over {name}"
    first, last = (size_from_text(part, f"{where}: {end}") for part, end in zip(parts, ("from", "to"), strict=False))
    if last < first:
        raise InputError(
            where, f"FROM = {first} is larger than TO = {last}", "a FROM of at most TO is accepted", "Swap them."
        )
    if len(parts) == 2:
        return doubled(name, first, last) if log else spaced(name, first, last, USUAL_COUNT)
    if parts[2].strip().removeprefix("x").isdecimal() and parts[2].strip().startswith("x"):
        raise InputError(
            where, f"{shown(parts[2].strip())} is a factor, which 'perfmodel scale' takes", RANGES_ACCEPTED,
            f"Write {name}={first}:{last}:log for powers of two.",
        )  # fmt: skip
    number = size_from_text(parts[2], f"{where}: count")
    if number == 1 < last - first + 1:
        raise InputError(
            f"{where}: count", "a range of 1 value", "at least 2 values are accepted", "Write 2, or use --set."
        )
    if log and number > MOST_LOG_SPACED:
        raise InputError(
            f"{where}: count", f"{number:,} values on a logarithmic scale", f"at most {MOST_LOG_SPACED:,} are accepted",
            "Remove :log, or reduce the count.",
        )  # fmt: skip
    return spaced(name, first, last, number, log)
