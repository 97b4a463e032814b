"""A program's kernels grouped for a table: by the place in the model, layers of a kind together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.programs.run import Row

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
ELSEWHERE = "(no module)"


class Line(NamedTuple):
    """Kernels of one place or of one kind. ``names``: what they do, the longest first; ``kernels``: how many.

    ``share`` is the part of the time of all kernels.
    """

    name: str
    phase: str
    names: tuple[str, ...]
    kernels: int
    flops: int
    contraction_flops: int
    traffic_byte: int
    bound: str
    lower_s: float
    expected_s: float
    share: float
    waits_s: float
    unknown_s: float


def place(row: Row) -> str:
    """The module of a kernel, with every layer's number as ``*``."""
    return _NUMBER.sub("*", row.module) or ELSEWHERE


def by_place(rows: Sequence[Row]) -> list[Line]:
    """One line per module and phase, in order of first appearance."""
    return _lines(rows, [(place(row), row.phase) for row in rows])


def by_kernel(rows: Sequence[Row]) -> list[Line]:
    """One line per operation, sizes and data type, the longest time first."""
    keys = [(f"{row.operation} {sizes(row)}".strip(), row.phase) for row in rows]
    return sorted(_lines(rows, keys), key=lambda line: -line.expected_s)


def sizes(row: Row) -> str:
    """The sizes of a kernel as ``m=4096 k=512``, with its data type and implementation."""
    shown = [f"{name}={value}" for name, value in row.sizes.items() if name not in HIDDEN]
    return " ".join([*shown, row.dtype, *([row.impl] if row.impl else [])])


# Bytes per element follow from the data type.
HIDDEN = frozenset(("act", "weight", "cache", "acc", "index", "out", "mask", "state"))


def _lines(rows: Sequence[Row], keys: Iterable[tuple[str, str]]) -> list[Line]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for key, row in zip(keys, rows, strict=True):
        groups.setdefault(key, []).append(row)
    whole_s = sum(row.expected_s for row in rows) or 1.0
    return [_line(key, own, whole_s) for key, own in groups.items()]


def _line(key: tuple[str, str], rows: Sequence[Row], whole_s: float) -> Line:
    by_bound: dict[str, float] = {}
    by_name: dict[str, float] = {}
    for row in rows:
        by_bound[row.bound] = by_bound.get(row.bound, 0.0) + row.lower_s
        by_name[row.operation] = by_name.get(row.operation, 0.0) + row.expected_s
    seconds = sum(row.expected_s for row in rows)
    return Line(
        *key,
        names=tuple(sorted(by_name, key=lambda name: -by_name[name])),
        kernels=len(rows),
        flops=sum(row.flops for row in rows),
        contraction_flops=sum(row.contraction_flops for row in rows),
        traffic_byte=sum(row.read_byte + row.write_byte for row in rows),
        bound=max(by_bound, key=lambda name: by_bound[name]),
        lower_s=sum(row.lower_s for row in rows),
        expected_s=seconds,
        share=seconds / whole_s,
        waits_s=sum(row.waits_s for row in rows),
        unknown_s=sum(row.expected_s for row in rows if not (row.known and row.modelled)),
    )
