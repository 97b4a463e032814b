"""Kernels of a step as rows: equal ones together, each with its formula, its bound, expected and measured time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.traces.kernel_names import dtype as named_dtype
from perfmodel.traces.linking import Tied
from perfmodel.traces.pricing import Priced

UNKNOWN = ""
# Sizes of a kernel that are bytes per element, and no sizes of a tensor.
BYTES = frozenset(("act", "weight", "cache", "out", "index", "acc", "state"))


class Row(NamedTuple):
    """Kernels of one name, operation, sizes and module. Times, FLOPs and bytes are sums over all of them.

    ``operator`` is torch's, ``op`` the model's, empty where it is unknown. ``source`` says where the sizes come from.
    """

    name: str
    operator: str
    op: str
    shape: Mapping[str, Any]
    dtype: str
    module: str
    phase: str
    source: str
    calls: int
    measured_s: float
    lower_s: float | None = None
    expected_s: float | None = None
    bound: str = ""
    flops: float = 0.0
    traffic_byte: float = 0.0
    graph: bool = False

    @property
    def of_bound(self) -> float | None:
        """The bound divided by the measured time."""
        return self.lower_s / self.measured_s if self.lower_s is not None and self.measured_s else None

    @property
    def of_expected(self) -> float | None:
        """The expected time divided by the measured time."""
        return self.expected_s / self.measured_s if self.expected_s is not None and self.measured_s else None

    @property
    def known(self) -> bool:
        return bool(self.op)


def rows(priced: Iterable[Priced]) -> list[Row]:
    """The rows of these groups, those with the most time first."""
    found: dict[tuple[Any, ...], Row] = {}
    for one in priced:
        for tied in one.group.kernels:
            row = row_of(one, tied)
            same = key(row)
            found[same] = _sum(found[same], row) if same in found else row
    return sorted(found.values(), key=lambda row: -row.measured_s)


def key(row: Row) -> tuple[Any, ...]:
    """Returns the properties that kernels of one row share."""
    return (*row[:2], row.op, tuple(row.shape.items()), *row[4:8])


def together(found: Iterable[Row]) -> list[Row]:
    """Rows of one operation at one size together, whatever their kernels and modules; those with the most time first."""
    same: dict[tuple[Any, ...], Row] = {}
    for row in found:
        alike = (row.op, tuple(row.shape.items()), row.dtype) if row.known else (row.name, row.operator)
        same[alike] = _sum(same[alike], row) if alike in same else row
    return sorted(same.values(), key=lambda row: -row.measured_s)


def plain_module(path: str) -> str:
    """A module's path without the numbers of its instances: ``BertLayer_3.Linear_9`` is ``BertLayer.Linear``."""
    return re.sub(r"_\d+(?=\.|$)", "", path)


def row_of(one: Priced, tied: Tied) -> Row:
    """One kernel. Several kernels of one operator share its figures in proportion to their times."""
    group, activity = one.group, tied.activity
    base = Row(
        activity.name, group.operator, UNKNOWN, {}, named_dtype(activity.name), plain_module(tied.module), tied.phase, group.source,
        1, activity.seconds, graph=tied.graph,
    )  # fmt: skip
    if not group.known:
        return base
    main = group.main
    shape = {name: size for name, size in main.sizes.items() if name not in BYTES}
    row = base._replace(op=main.operation, shape=shape, dtype=main.dtype)
    if one.price is None:
        return row
    share = activity.seconds / group.measured_s if group.measured_s else 1.0 / len(group.kernels)
    return row._replace(
        lower_s=one.price.lower_s * share, expected_s=one.price.expected_s * share, bound=one.price.bounds.bound,
        flops=one.price.flops * share, traffic_byte=one.price.traffic_byte * share,
    )  # fmt: skip


def _sum(first: Row, second: Row) -> Row:
    return first._replace(
        calls=first.calls + second.calls,
        measured_s=first.measured_s + second.measured_s,
        lower_s=_added(first.lower_s, second.lower_s),
        expected_s=_added(first.expected_s, second.expected_s),
        flops=first.flops + second.flops,
        traffic_byte=first.traffic_byte + second.traffic_byte,
    )


def _added(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
