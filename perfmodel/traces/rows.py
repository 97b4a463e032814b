"""Kernels of a step as rows: equal ones together, each with its formula, its bound, expected and measured time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.traces.kernel_names import dtype as named_dtype
from perfmodel.traces.linking import Tied
from perfmodel.traces.pricing import Priced

UNKNOWN = ""


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
    def known(self) -> bool:
        return bool(self.op)


def rows(priced: Iterable[Priced]) -> list[Row]:
    """The rows of these groups, those with the most time first."""
    found: dict[tuple[Any, ...], Row] = {}
    for one in priced:
        for tied in one.group.kernels:
            row = _row(one, tied)
            key = (*row[:2], row.op, tuple(row.shape.items()), *row[4:8])
            found[key] = _sum(found[key], row) if key in found else row
    return sorted(found.values(), key=lambda row: -row.measured_s)


def plain_module(path: str) -> str:
    """A module's path without the numbers of its instances: ``BertLayer_3.Linear_9`` is ``BertLayer.Linear``."""
    return re.sub(r"_\d+(?=\.|$)", "", path)


def _row(one: Priced, tied: Tied) -> Row:
    """One kernel. Several kernels of one operator share its figures in proportion to their times."""
    group, activity = one.group, tied.activity
    base = Row(
        activity.name, group.operator, UNKNOWN, {}, named_dtype(activity.name), plain_module(tied.module), tied.phase, group.source,
        1, activity.seconds, graph=tied.graph,
    )  # fmt: skip
    if not group.known:
        return base
    main = group.main
    row = base._replace(op=main.operation, shape=main.sizes, dtype=main.dtype)
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
