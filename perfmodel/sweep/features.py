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
from perfmodel.sweep.totals import BOUNDS, Chunk

LINE_VALUES, MAP_VALUES = 2000, 400
CHANGES = 6  # of the bound, at most, along a line
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
    """Times over one size on one card. The sizes where the bound changes are included."""

    gpu: Gpu
    sizes: Values
    lower_s: Values
    no_overlap_s: Values
    swept: Values
    swept_s: Values
    changes: tuple[Change, ...]


class Map(NamedTuple):
    """Lower bounds over two sizes on one card: the first symbol on x, the second on y; NaN where undefined.

    ``edges`` are the edges of its cells, ``borders`` the lines between two bounds, ``names`` the labels of the bounds
    with their positions.
    """

    gpu: Gpu
    lower_s: Values
    least_s: float
    most_s: float
    whole: bool
    edges: tuple[Values, Values]
    borders: list[list[tuple[float, float]]]
    names: list[tuple[float, float, str]]


def thinned(plan: Plan) -> Plan:
    """The sweep with no more points than a figure can show."""
    most = LINE_VALUES if len(plan.axes) == 1 else MAP_VALUES
    return plan._replace(axes=tuple(axis.thinned(most) for axis in plan.axes))


def _whole(plan: Plan) -> list[Chunk]:
    """Every point of each card in one chunk."""
    return list(plan.chunks(plan.points))


# --- one size


def lines(plan: Plan) -> Iterator[Line]:
    """One line for each card."""
    plan = thinned(plan)
    for card, chunk in zip(plan.cards, _whole(plan), strict=True):
        changes = tuple(_changes(plan, card, chunk))
        swept = chunk.at[plan.axes[0].symbol]
        sizes = np.concatenate([swept, [change.size for change in changes]])
        order = np.argsort(sizes, kind="stable")
        lower_s = np.concatenate([chunk.lower_s, [change.lower_s for change in changes]])
        no_overlap_s = np.concatenate([chunk.no_overlap_s, [change.no_overlap_s for change in changes]])
        yield Line(card.gpu, sizes[order], lower_s[order], no_overlap_s[order], swept, chunk.lower_s, changes)


def _changes(plan: Plan, card: Rates, chunk: Chunk) -> Iterator[Change]:
    """The sizes where the bound changes along a line, exactly."""
    sizes, codes = chunk.at[plan.axes[0].symbol], chunk.bound
    for place in np.flatnonzero(codes[1:] != codes[:-1])[:CHANGES]:
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
    for chunk in _whole(plan):
        lower_s, codes = _matrix(plan, chunk, chunk.lower_s), _matrix(plan, chunk, chunk.bound)
        yield Map(
            gpu=chunk.gpu,
            lower_s=lower_s,
            least_s=float(chunk.lower_s.min()),
            most_s=float(chunk.lower_s.max()),
            whole=not np.isnan(lower_s).any(),
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
