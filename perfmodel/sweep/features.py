"""The content of a sweep's figures: lines with the sizes where the bound changes, and maps with borders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.hardware import Gpu
from perfmodel.roofline import Rates
from perfmodel.sweep import Plan
from perfmodel.sweep.grid import Axis, Values, spaced
from perfmodel.sweep.times import Clock
from perfmodel.sweep.totals import BOUNDS, Chunk

LINE_VALUES, MAP_VALUES = 2000, 400
# With expected times, which take much longer to compute.
LINE_VALUES_EXPECTED, MAP_VALUES_EXPECTED = 200, 48
CHANGES = 12  # of the bound along a line; of a line with more, none is given
_LOOKED_AT = 4096
_SMALLEST_REGION = 0.02  # fraction of a map that gets a label


class Change(NamedTuple):
    """The first size with another bound."""

    size: int
    lower_s: float
    no_overlap_s: float
    before: str
    after: str


class Line(NamedTuple):
    """Times over one size on one card. The sizes where the bound changes are included.

    ``crossings`` is their number in the swept values; ``changes`` is empty if they are too many. ``expected_s`` is the
    expected time of each swept value, and its range.
    """

    gpu: Gpu
    sizes: Values
    lower_s: Values
    no_overlap_s: Values
    swept: Values
    swept_s: Values
    changes: tuple[Change, ...]
    crossings: int
    expected_s: tuple[Values, Values, Values] | None


class Map(NamedTuple):
    """Times over two sizes on one card: the first symbol on x, the second on y; NaN where undefined. The times are
    lower bounds, or expected times if the plan has them.

    ``edges`` are the edges of its cells, ``borders`` the lines between two bounds, ``names`` the labels of the bounds
    with their positions.
    """

    gpu: Gpu
    times_s: Values
    least_s: float
    most_s: float
    whole: bool
    edges: tuple[Values, Values]
    borders: list[list[tuple[float, float]]]
    names: list[tuple[float, float, str]]


def thinned(plan: Plan) -> Plan:
    """The sweep with no more points than a figure can show."""
    line, square = (LINE_VALUES_EXPECTED, MAP_VALUES_EXPECTED) if plan.expected else (LINE_VALUES, MAP_VALUES)
    most = line if len(plan.axes) == 1 else square
    return plan._replace(axes=tuple(axis.thinned(most) for axis in plan.axes))


def _whole(plan: Plan) -> list[Chunk]:
    """Every point of each card in one chunk, without expected times."""
    return list(plan._replace(expected=False).chunks(plan.points))


def _timed(plan: Plan) -> list[Chunk]:
    """Every point of each card in one chunk, with expected times if the plan has them."""
    chunks = _whole(plan)
    return (
        [Clock(plan, card).timed(one) for card, one in zip(plan.cards, chunks, strict=True)]
        if plan.expected
        else chunks
    )


# --- one size


def lines(plan: Plan) -> Iterator[Line]:
    """One line for each card."""
    plan = thinned(plan)
    for card, chunk in zip(plan.cards, _timed(plan), strict=True):
        crossings = int(np.count_nonzero(chunk.bound[1:] != chunk.bound[:-1]))
        changes = tuple(_changes(plan, card, chunk)) if crossings <= CHANGES else ()
        swept = chunk.at[plan.axes[0].symbol]
        sizes = np.concatenate([swept, [change.size for change in changes]])
        order = np.argsort(sizes, kind="stable")
        lower_s = np.concatenate([chunk.lower_s, [change.lower_s for change in changes]])
        no_overlap_s = np.concatenate([chunk.no_overlap_s, [change.no_overlap_s for change in changes]])
        expected_s = None
        if chunk.expected_s is not None and chunk.expected_low_s is not None and chunk.expected_high_s is not None:
            expected_s = chunk.expected_s, chunk.expected_low_s, chunk.expected_high_s
        yield Line(
            card.gpu, sizes[order], lower_s[order], no_overlap_s[order], swept, chunk.lower_s, changes, crossings,
            expected_s,
        )  # fmt: skip


def _changes(plan: Plan, card: Rates, chunk: Chunk) -> Iterator[Change]:
    """The sizes where the bound changes along a line, exactly."""
    sizes, codes = chunk.at[plan.axes[0].symbol], chunk.bound
    for place in np.flatnonzero(codes[1:] != codes[:-1]):
        found = _between(plan, card, int(sizes[place]), int(sizes[place + 1]), int(codes[place]))
        if found is not None:
            yield found


def _between(plan: Plan, card: Rates, low: int, high: int, code: int) -> Change | None:
    """The first size after ``low`` with another bound, found by narrowing the interval."""
    while True:
        axis = spaced(plan.axes[0].symbol, low, high, _LOOKED_AT)
        (chunk,) = _whole(plan._replace(axes=(axis,), cards=(card,)))
        others = np.flatnonzero(chunk.bound != code)
        if not others.size:
            return None
        first, sizes = int(others[0]), chunk.at[axis.symbol]
        if axis.number == high - low + 1 or first == 0:
            times = float(chunk.lower_s[first]), float(chunk.no_overlap_s[first])
            return Change(int(sizes[first]), *times, BOUNDS[code], BOUNDS[chunk.bound[first]])
        low, high = int(sizes[first - 1]), int(sizes[first])


# --- two sizes


def maps(plan: Plan) -> Iterator[Map]:
    """One map for each card."""
    plan = thinned(plan)
    edges = _edges(plan.axes[0]), _edges(plan.axes[1])
    for chunk in _timed(plan):
        shown_s = chunk.lower_s if chunk.expected_s is None else chunk.expected_s
        times_s, codes = _matrix(plan, chunk, shown_s), _matrix(plan, chunk, chunk.bound)
        yield Map(
            gpu=chunk.gpu,
            times_s=times_s,
            least_s=float(shown_s.min()),
            most_s=float(shown_s.max()),
            whole=not np.isnan(times_s).any(),
            edges=edges,
            borders=_borders(codes, *edges),
            names=list(_names(plan, codes)),
        )


def _matrix(plan: Plan, chunk: Chunk, values: NDArray[Any]) -> Values:
    across, up = plan.axes
    found = np.full((up.number, across.number), np.nan)
    rows = np.searchsorted(up.all(), chunk.at[up.symbol])
    found[rows, np.searchsorted(across.all(), chunk.at[across.symbol])] = values
    return found


def _edges(axis: Axis) -> Values:
    """The edges between the values, half-way on the axis's scale."""
    values = np.log(axis.all()) if axis.log else axis.all()
    between = (values[1:] + values[:-1]) / 2
    first, last = (values[1] - values[0], values[-1] - values[-2]) if len(values) > 1 else (1.0, 1.0)
    edges = np.concatenate(([values[0] - first / 2], between, [values[-1] + last / 2]))
    return np.exp(edges) if axis.log else edges


def _borders(codes: Values, across: Values, up: Values) -> list[list[tuple[float, float]]]:
    """The lines between cells with different bounds, merged where they are straight."""
    known = np.isfinite(codes)
    beside = (codes[:, 1:] != codes[:, :-1]) & known[:, 1:] & known[:, :-1]
    above = (codes[1:] != codes[:-1]) & known[1:] & known[:-1]
    upright = [[(across[j + 1], up[i]), (across[j + 1], up[k])] for j, i, k in _runs(beside.T)]
    return upright + [[(across[j], up[i + 1]), (across[k], up[i + 1])] for i, j, k in _runs(above)]


def _runs(marked: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Row, first column and column after the last of each run of marked cells."""
    steps = np.diff(marked.astype(np.int8), axis=1, prepend=0, append=0)
    for row, begin, end in zip(*np.nonzero(steps == 1), np.nonzero(steps == -1)[1], strict=True):
        yield int(row), int(begin), int(end)


def _names(plan: Plan, codes: Values) -> Iterator[tuple[float, float, str]]:
    """Each bound and a cell near the middle of its region, for regions large enough for a label."""
    across, up = (axis.all() for axis in plan.axes)
    for code in np.unique(codes[np.isfinite(codes)]).astype(int):
        places = np.argwhere(codes == code)
        if len(places) >= _SMALLEST_REGION * codes.size:
            row, column = places[np.abs(places - np.median(places, axis=0)).sum(axis=1).argmin()]
            yield float(across[column]), float(up[row]), BOUNDS[code]
