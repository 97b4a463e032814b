"""Predictions of many cases at once: cases that differ in their sizes alone are the points of an array.

Counts are exact below 2^53. Cases with larger counts, and cases that an operation does not accept, are left to the
prediction of single cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.analysis import Total
from perfmodel.arithmetic import Size, maximum, where
from perfmodel.bulk.decimals import texts
from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.prediction import FIXED, Model, back_end, bounded, launched
from perfmodel.prediction import sizes as all_sizes
from perfmodel.roofline import Bounds, Rates
from perfmodel.sweep.domain import Domain, OutsideError
from perfmodel.sweep.exact import ROUNDED
from perfmodel.sweep.totals import BOUNDS
from perfmodel.symbols import SYMBOLS
from perfmodel.timing.arrays import at_points
from perfmodel.timing.branches import MixedError
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.sequence import expected_s
from perfmodel.totals import counts
from perfmodel.vocabulary import COLLECTIVES

POINTS = 16_384  # cases of one kind at once
COUNTS = 4  # rows of a result that are counts: FLOPs, those of contractions, traffic and compulsory bytes
RESULTS = 12
REFUSED = (float("nan"),) * RESULTS
# Seconds that follow the counts and the bottleneck; the model's own time and that of kernels without a mechanism follow.
_SECONDS = ("lower_s", "no_overlap_s", "expected_s", "expected_low_s", "expected_high_s")
_NUMBERS = (*_SECONDS, "intensity_flop_per_byte", "headroom_s")
Values = NDArray[np.float64]


def of_values(first: Case, values: Sequence[tuple[Any, ...]], model: Model) -> Iterator[tuple[Total, Expected] | None]:
    """Totals and expected times of cases of the kind of the first, given by the values of their symbols, in order: None
    where they are not exact. Of collectives none.
    """
    if first.op in COLLECTIVES:
        return iter(())
    columns = zip(first.dims, zip(*values, strict=True), strict=True)
    sizes = {name: np.array(column, np.float64) for name, column in columns if SYMBOLS[name].kind not in FIXED}
    found = of_sizes(first, sizes, len(values), model)
    exact = sound(found)
    pairs = zip(exact.tolist(), results(np.where(exact, found, 0.0)), strict=True)
    return (pair if each else None for each, pair in pairs)


def of_sizes(first: Case, sizes: Mapping[str, Values], count: int, model: Model) -> Values:
    """The figures of so many cases that differ from the first in these sizes alone, one column for each case."""
    card, timed = model.rates(first.dtype), model.timed
    function = _Figures(first, card, timed._replace(before=True) if first.older_rows else timed)
    dims = {**all_sizes(first, card), **sizes}
    found = np.empty((RESULTS, count))
    for low in range(0, count, POINTS):
        part = slice(low, low + POINTS)
        some = {name: value[part] if np.ndim(value) else value for name, value in dims.items()}
        found[:, part] = at_points(function, some, found[:, part].shape[1], RESULTS)
    return found


def sound(found: Values) -> NDArray[np.bool_]:
    """The cases whose figures are exact."""
    fine: NDArray[np.bool_] = (found[:COUNTS].max(axis=0) < ROUNDED) & np.isfinite(found).all(axis=0)
    return fine


def columns(tables: Sequence[Values]) -> Iterator[dict[str, list[Any]]]:
    """The figures of all cases of each table by name, with those that follow from others; times and rates as texts.

    Many numbers are written at once, because tables may be small.
    """
    numbers = [*map(_numbers, tables)]
    written = texts(np.concatenate([own.reshape(-1) for own in numbers])) if numbers else []
    start = 0
    for found, own in zip(tables, numbers, strict=True):
        parts = range(start, start + own.size, own.shape[1])
        start += own.size
        yield {
            **dict(zip(Total._fields, found[:COUNTS].astype(np.int64).tolist(), strict=False)),
            **{name: written[low : low + own.shape[1]] for name, low in zip(_NUMBERS, parts, strict=True)},
            "bound": _words(found),
        }


def _numbers(found: Values) -> Values:
    """The times and rates of all cases, one row for each of ``_NUMBERS``."""
    flops, traffic_byte, times = found[0], found[2], found[COUNTS + 1 : COUNTS + 1 + len(_SECONDS)]
    intensity = np.divide(flops, traffic_byte, out=np.zeros_like(flops), where=traffic_byte > 0)
    return np.stack([*times, intensity, times[2] - times[0]])


def _words(found: Values) -> list[str]:
    """The resource with the largest total time of each case."""
    return [BOUNDS[code] for code in found[COUNTS].astype(np.int64).tolist()]


def results(found: Values) -> Iterator[tuple[Total, Expected]]:
    """The figures of every case as single predictions have them, without terms."""
    counted = found[:COUNTS].astype(np.int64).tolist()
    lower_s, no_overlap_s, *times, unclamped_s, unmodelled_s = found[COUNTS + 1 :].tolist()
    totals = map(Total._make, zip(*counted, lower_s, no_overlap_s, _words(found), repeat(None), strict=False))
    none = repeat(())
    expected = map(Expected._make, zip(*times, none, none, none, unclamped_s, unmodelled_s, strict=False))
    return zip(totals, expected, strict=True)


class _Figures:
    """The figures of cases of one kind as a function of their sizes."""

    def __init__(self, case: Case, card: Rates, timed: Card) -> None:
        self.case, self.card, self.timed = case, card, timed

    def __call__(self, dims: dict[str, Any]) -> tuple[Size, ...]:
        """Counts, bounds and times; not a number at points that an operation does not accept."""
        case = self.case
        quotients = (size for step in case.steps for size in step.sizes.values() if "/" in size.text)
        try:
            domain = Domain(dims, quotients)
            asked = launched(case, dims, domain)
        except (OutsideError, InputError):
            return REFUSED
        inside = np.asarray(domain.inside)
        if not inside.all():
            if not inside.any():
                return REFUSED
            raise MixedError(inside)
        judged, whole = bounded(asked, case, self.card)
        times = expected_s(self.timed, judged, case.dtype, impl=back_end(case), protocol=case.protocol)
        return (*counts(asked), _code(whole), whole.lower_s, whole.no_overlap_s, *times)


def _code(whole: Bounds) -> Size:
    """The resource with the largest total time as an index into ``BOUNDS``; memory if equal."""
    longest, code = whole.memory_s, 0
    for engine, alone_s in whole.engine_s.items():
        code = where(alone_s > longest, BOUNDS.index(engine.value), code)
        longest = maximum(longest, alone_s)
    return code
