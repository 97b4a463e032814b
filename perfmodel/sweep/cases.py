"""Predictions of many cases at once: cases that differ in their sizes alone are the points of an array.

Counts are exact below 2^53. Cases with larger counts, and cases that an operation does not accept, are left to the
prediction of single cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.analysis import Total
from perfmodel.arithmetic import Size, maximum, where
from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.prediction import FIXED, back_end, bounded, launched, sizes
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
Found = tuple[Total, Expected] | None


def predicted(first: Case, values: Sequence[tuple[Any, ...]], card: Rates, timed: Card) -> Iterator[Found]:
    """Totals and expected times of cases of the kind of the first, given by their sizes, in order; of collectives none."""
    if first.op in COLLECTIVES:
        return
    dims = sizes(first, card)
    dims.update(
        (name, np.array(column, dtype=np.float64))
        for name, column in zip(first.dims, zip(*values, strict=True), strict=True)
        if SYMBOLS[name].kind not in FIXED
    )
    timed = timed._replace(before=True) if first.older_rows else timed
    for low in range(0, len(values), POINTS):
        part = slice(low, low + POINTS)
        some = {name: value[part] if np.ndim(value) else value for name, value in dims.items()}
        yield from _found(at_points(_Figures(first, card, timed), some, len(values[part]), RESULTS))


def _found(found: NDArray[np.float64]) -> Iterator[Found]:
    """The results of every case, None where they are not exact."""
    sound = (found[:COUNTS].max(axis=0) < ROUNDED) & np.isfinite(found).all(axis=0)
    own = np.where(sound, found, 0.0)
    words = (BOUNDS[code] for code in own[COUNTS].astype(np.int64).tolist())
    lower_s, no_overlap_s, *times, unclamped_s, unmodelled_s = own[COUNTS + 1 :].tolist()
    counted = own[:COUNTS].astype(np.int64).tolist()
    totals = map(Total._make, zip(*counted, lower_s, no_overlap_s, words, repeat(None), strict=False))
    none = repeat(())
    expected = map(Expected._make, zip(*times, none, none, none, unclamped_s, unmodelled_s, strict=False))
    for exact, pair in zip(sound.tolist(), zip(totals, expected, strict=True), strict=True):
        yield pair if exact else None


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
