"""Measurements as points of a roofline chart: records of ``validate --save``, and points that are given as numbers.

A point lies at FLOPs / bytes and FLOPs / measured time. Its bound is that of the case, where a record names one. A point of
numbers has no engine, so its bound is the roofline: the smaller of the highest roof and of bandwidth x intensity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfmodel.chart import MEASURED, Card, Point
from perfmodel.errors import InputError, printable, shown
from perfmodel.hardware import Gpu
from perfmodel.records import Stored
from perfmodel.step_cases import case_name
from perfmodel.units import SECONDS, quantity_from_text, size_from_text
from perfmodel.validation import RESOLUTION, Compared, compare, family

OPTION = "--point"
FORM = "NAME:FLOPS:BYTES:TIME, such as mine:137G:100MB:612us, is accepted"
OWN = "own measurement"  # the group of points that are given as numbers
NAMED_AT_MOST = 12  # more measured points have no names in a picture
TIME = re.compile(r"([0-9.eE+-]+) ?(s|ms|us|µs|ns|)")
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1.0}
APART = ("dtype", "causal", "window", "direction", "activation", "protocol", "torch")  # what tells equal names apart


def read(text: str) -> tuple[str, int, int, float]:
    """Reads the name, FLOPs, bytes and seconds of ``NAME:FLOPS:BYTES:TIME``. The name may contain colons."""
    where = f"{OPTION} {shown(text)}"
    parts = text.rsplit(":", 3)
    if len(parts) < 4 or not parts[0].strip():
        raise InputError(where, "it does not have four parts", FORM)
    name, flops, byte, time = (part.strip() for part in parts)
    return (
        printable(name),
        _count(flops, "FLOP", f"{where}: FLOPS"),
        _count(byte, "B", f"{where}: BYTES"),
        _seconds(time, f"{where}: TIME"),
    )


def _count(text: str, unit: str, where: str) -> int:
    return round(quantity_from_text(text, unit, where)) if text.endswith(unit) else size_from_text(text, where)


def _seconds(text: str, where: str) -> float:
    match = TIME.fullmatch(text)
    try:
        value = float(match[1]) * UNITS[match[2]] if match else None
    except ValueError:
        value = None
    if value is None:
        raise InputError(
            where, f"{shown(text)} is not a time", "a number with s, ms, us or ns, such as 612us, is accepted"
        )
    return float(SECONDS.checked(value, where))


def given(card: Card, texts: Sequence[str]) -> Card:
    """Returns the card with a point for each text."""
    points = [_given(card, *read(text)) for text in texts]
    again = [name for name, count in Counter(point.name for point in points).items() if count > 1]
    if again:
        raise InputError(f"{OPTION} {shown(again[0])}", "the name is given twice", "each point has its own name")
    return _with(card, points)


def _given(card: Card, name: str, flops: int, byte: int, seconds: float) -> Point:
    intensity, memory = flops / byte, card.slopes[0]
    roof = max(card.roofs, key=lambda one: one.flop_per_s)
    bound = min(roof.flop_per_s, intensity * memory.byte_per_s)
    engine = roof.name.partition(" ")[0] if bound == roof.flop_per_s else memory.name
    return Point(
        name, intensity, bound, MEASURED, OWN, engine, roof.name, reached=flops / seconds, measured_s=seconds, lower_s=flops / bound,
    )  # fmt: skip


def stored(card: Card, gpu: Gpu, run: Stored) -> Card:
    """Returns the card with a point for each record that has a time and a formula; a note counts the others."""
    cases = compare(run.records, gpu, run.environment).cases
    timed = [one for one in cases if one.measured_s and one.lower_s and not one.failed]
    names = _names([one.record for one in timed])
    points = [_point(card, one, name) for one, name in zip(timed, names, strict=True)]
    found = _with(card, points)
    lost = len(cases) - len(timed)
    notes = [f"{lost} of {len(cases)} records have no time or no formula and are not drawn."] if lost else []
    return found._replace(notes=(*found.notes, *notes))


def _point(card: Card, one: Compared, name: str) -> Point:
    """Returns the point of a record: its bound is FLOPs / lower bound, clamped to the highest roof."""
    total = one.prediction.total
    assert total is not None
    assert one.measured_s
    assert one.lower_s
    group = family(one.record)
    if not total.flops or not total.traffic_byte:
        return Point(name, 0.0, 0.0, MEASURED, group, total.bound or "", measured_s=one.measured_s, lower_s=one.lower_s)
    top = max(roof.flop_per_s for roof in card.roofs)
    return Point(
        name=name,
        intensity=total.intensity_flop_per_byte,
        flop_per_s=min(total.flops / one.lower_s, top),
        kind=MEASURED,
        group=group,
        bound=total.bound or "",
        expected_s=one.expected_s,
        reached=total.flops / one.measured_s,
        measured_s=one.measured_s,
        lower_s=one.lower_s,
    )


def _names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a short name of each record: the operation and its sizes, and what else tells two of them apart."""
    found = [
        f"{case_name(one)} {'x'.join(str(size) for size in one.get('shape', {}).values())}".strip() for one in records
    ]
    for word in APART:
        alike: dict[tuple[str, str], set[str]] = {}
        for one, name in zip(records, found, strict=True):
            alike.setdefault((family(one), name), set()).add(_word(one, word))
        found = [
            f"{name} {_word(one, word)}".strip() if len(alike[family(one), name]) > 1 else name
            for one, name in zip(records, found, strict=True)
        ]
    return [printable(name) for name in found]


def _word(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key, "")
    return (key if value in (True, "true") else "") if key == "causal" else str(value)


def _with(card: Card, points: Iterable[Point]) -> Card:
    """Returns the card with further points. Many of them have no names in a picture."""
    added = list(points)
    measured = sum(point.kind == MEASURED for point in (*card.points, *added))
    if measured > NAMED_AT_MOST:
        added = [point._replace(named=False) for point in added]
    fast = [point.name for point in added if (point.of_bound or 0.0) > 1 + RESOLUTION]
    notes = [
        f"{name}: faster than its bound. Check the FLOPs, the bytes, the time, the GPU and --dtype." for name in fast
    ]
    return card._replace(points=(*card.points, *added), notes=(*card.notes, *notes))
