"""The table of ``flops``: one line per block or per kernel, with its share of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from perfmodel.analysis import Analysis, Row, Total
from perfmodel.grouping import Block, blocks, percentages, shares
from perfmodel.report.sheet import Column, Sheet
from perfmodel.units import scaled, significant


def breakdown(answer: Analysis, steps: bool = False) -> Sheet:
    """Returns the table by block; by kernel with ``steps``, or if blocks would not shorten it."""
    parts = () if steps else blocks(answer)
    grouped = 1 < len(parts) < len(answer.rows)
    return block_sheet(answer, parts) if grouped else step_sheet(answer)


def block_sheet(answer: Analysis, parts: Sequence[Block]) -> Sheet:
    """Returns one line per block; figures are summed over all kernels and repeats."""
    found = _shares([part.share for part in parts if part.share is not None])
    rows = [_Line(part.name, part.total, share) for part, share in zip_longest(parts, found)]
    columns = [Column("name", "block", lambda row: row.name, right=False, wraps=False), *_columns(answer, 4)]
    return Sheet(columns, rows, total=_Line("total", answer.total))


def step_sheet(answer: Analysis) -> Sheet:
    """Returns one line per kernel; figures are of one repeat, shares and sums of all repeats."""
    found = _shares(shares(answer.rows))
    rows = [_Line(row.name, row, share, row.repeat) for row, share in zip_longest(answer.rows, found)]
    columns = [
        Column("name", "step", lambda row: row.name, right=False, wraps=False),
        *([Column("repeat", "×", lambda row: row.repeat)] if any(row.repeat > 1 for row in answer.rows) else []),
        *_columns(answer, 5),
    ]
    return Sheet(columns, rows, total=_Line("total", answer.total))


class _Share(float):
    """A share of the time, with the rounded percentage that the table shows; the percentages add up to 100."""

    percent: int


def _shares(parts: Sequence[float]) -> list[_Share]:
    found = [*map(_Share, parts)]
    for share, percent in zip(found, percentages(parts), strict=True):
        share.percent = percent
    return found


class _Line:
    """One line of the table: a kernel, a block or the total."""

    def __init__(self, name: str, counts: Row | Total, share: _Share | None = None, repeat: int | None = None) -> None:
        self.name, self.repeat, self.counts, self.share = name, repeat, counts, share
        self.bounds = counts.bounds if isinstance(counts, Row) else counts if counts.lower_s is not None else None


def _columns(answer: Analysis, digits: int) -> list[Column]:
    """Returns the columns of figures: counts and, with a card, the bottleneck and the times."""

    def show(unit: str = "") -> Callable[[float], str]:
        return lambda value: scaled(value, unit, digits)

    columns = [
        Column("flops", "FLOP", lambda row: row.counts.flops, show(), expendable=2),
        Column("traffic_byte", "traffic", lambda row: row.counts.traffic_byte, show("B"), expendable=3),
        Column("compulsory_byte", "compulsory", lambda row: row.counts.compulsory_byte, show("B"), wide=True),
        Column(
            "intensity_flop_per_byte", "FLOP/B", lambda row: row.counts.intensity_flop_per_byte,
            lambda value: significant(value, digits), expendable=4,
        ),
    ]  # fmt: skip
    if answer.gpu:
        columns += [
            Column("bound", "bottleneck", lambda row: _of_bounds(row, "bound"), right=False, wraps=False),
            Column("lower_s", "at least", lambda row: _of_bounds(row, "lower_s"), show("s")),
            Column("expected_s", "expected", _expected_s, show("s")),
            Column("no_overlap_s", "no overlap", lambda row: _of_bounds(row, "no_overlap_s"), show("s"), wide=True),
            Column("share", "share", lambda row: row.share, lambda share: f"{share.percent} %"),
        ]
    return columns


def _expected_s(row: Any) -> float | None:
    return row.counts.expected.expected_s if row.counts.expected else None


def _of_bounds(row: Any, key: str) -> Any:
    return getattr(row.bounds, key) if row.bounds else None
