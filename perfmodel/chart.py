"""A roofline chart as plain data: the ceilings of each card, and the points below them.

Drawing code needs only this data. Measured points and ceilings are further items of the same lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil, floor, log, log10
from typing import Any, NamedTuple

from perfmodel.analysis import Analysis, Row, analyse
from perfmodel.footprint.resident import resident
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.paths import label
from perfmodel.roofline import MEMORY, Rates, rates
from perfmodel.units import scaled
from perfmodel.workload import Workload

PREDICTED, MEASURED = "predicted", "measured"
MOST_OF_THE_TIME = 0.95  # the kernels with names hold this share of the time, if there are few enough
CACHES = {"l2_bandwidth": "L2", "infinity_bandwidth": "Infinity Cache"}


class Slope(NamedTuple):
    """The bandwidth of a memory level; it limits FLOP/s to bandwidth times arithmetic intensity."""

    name: str
    byte_per_s: float
    kind: str = PREDICTED


class Roof(NamedTuple):
    """The peak FLOP/s of an engine for a data type."""

    name: str
    flop_per_s: float
    kind: str = PREDICTED


class Point(NamedTuple):
    """One kernel: FLOP per byte, FLOP per second at its bound and, if known, its bottleneck and its roof.

    Both figures are zero for a kernel without FLOPs; it is not drawn on logarithmic axes. ``group`` is the workload.
    ``reached`` is the FLOP per second at the expected time, or at the measured time of a measured point. ``share`` is
    the part of the workload's expected time. A point that is not ``named`` has no label in a picture.
    """

    name: str
    intensity: float
    flop_per_s: float
    kind: str = PREDICTED
    group: str = ""
    bound: str = ""
    roof: str = ""
    expected_s: float | None = None
    reached: float | None = None
    share: float | None = None
    measured_s: float | None = None
    lower_s: float | None = None
    named: bool = True

    @property
    def of_bound(self) -> float | None:
        """Returns the minimum time divided by the measured time."""
        return self.lower_s / self.measured_s if self.lower_s and self.measured_s else None

    @property
    def height(self) -> float:
        """Returns the FLOP per second at which the point is drawn: measured or expected ones, else those of its bound."""
        return self.flop_per_s if self.reached is None else self.reached


class Card(NamedTuple):
    """One card's ceilings and points. The first slope is the bandwidth of DRAM."""

    name: str
    title: str
    slopes: Sequence[Slope]
    roofs: Sequence[Roof]
    points: Sequence[Point]
    notes: Sequence[str] = ()
    too_large: Sequence[str] = ()

    def ridge(self, roof: Roof) -> float:
        """Returns the FLOP per byte at which the roof meets the DRAM slope."""
        return roof.flop_per_s / self.slopes[0].byte_per_s

    def of_peak(self, point: Point) -> float | None:
        """Returns the point's FLOP/s divided by the peak of its roof."""
        peak = next((roof.flop_per_s for roof in self.roofs if roof.name == point.roof), None)
        return point.flop_per_s / peak if peak and point.flop_per_s else None


class Run(NamedTuple):
    """A workload to draw: its phase and form, and the suffix of its kernels' names."""

    workload: Workload
    phase: str | None = None
    settings: Mapping[str, Any] | None = None
    fused: bool | None = None
    causal: bool | None = None
    ending: str = ""


class Limits(NamedTuple):
    """Ranges of the logarithmic axes."""

    left: float
    right: float
    bottom: float
    top: float

    def parts(self, x: float, y: float) -> tuple[float, float]:
        """Returns a point's position along each axis, from 0 at the start to 1 at the end."""
        return log(x / self.left) / log(self.right / self.left), log(y / self.bottom) / log(self.top / self.bottom)


def card(gpu: Gpu, runs: Sequence[Run], dtypes: Sequence[str] = (), most: int | None = None) -> Card:
    """Returns a card's roofs for the data types, by default those of the workloads, with the workloads' kernels as
    points. With ``most``, a workload of more kernels shows those with the longest times, and all others as one point.
    """
    answers = [
        analyse(r.workload, phase=r.phase, gpu=gpu, settings=r.settings, fused=r.fused, causal=r.causal) for r in runs
    ]
    found = drawn(gpu, runs, answers, dtypes, most)
    notes = dict.fromkeys((*found.notes, *(note for answer in answers for note in answer.roof_notes)))
    return found._replace(too_large=tuple(_too_large(answers)), notes=tuple(notes))


def drawn(
    gpu: Gpu, runs: Sequence[Run], answers: Sequence[Analysis], dtypes: Sequence[str] = (), most: int | None = None
) -> Card:
    """Returns the same from analyses that are known, without the workloads that are too large."""
    own = [run.workload.dtypes["activation"] for run in runs]
    shown = [rates(gpu, dtype) for dtype in dict.fromkeys(dtypes or own)]
    roofs = {roof.name: roof.flop_per_s for rate in shown for roof in rate.roofs.values()}
    slopes = [Slope(MEMORY, gpu.bandwidth_byte_per_s.value)]
    slopes += [Slope(name, gpu.caches[key].value) for key, name in CACHES.items() if key in gpu.caches]
    return Card(
        name=gpu.name,
        title=gpu.title,
        slopes=tuple(slopes),
        roofs=tuple(Roof(name, peak) for name, peak in sorted(roofs.items(), key=lambda item: -item[1])),
        points=tuple(
            point
            for run, dtype, answer in zip(runs, own, answers, strict=True)
            for point in _points(answer, rates(gpu, dtype), run, most)
        ),
        notes=(f"{gpu.title}: {label(gpu.file)}, {gpu.knowledge}.", *_missing(gpu, shown)),
    )


def _missing(gpu: Gpu, shown: Iterable[Rates]) -> list[str]:
    """Returns notes on roofs that the card's file does not give, and their substitutes."""
    lines: list[str] = []
    for rate in shown:
        lines += rate.notes
        special = rate.roofs[Engine.SPECIAL]
        if special.engine is not Engine.SPECIAL:
            lines.append(f"{gpu.title}: no special-function rate; that work runs at the rate of {special.name}.")
    if "l2_bandwidth" not in gpu.caches:
        lines.append(f"{gpu.title}: no L2 bandwidth is known, so there is no L2 slope.")
    return list(dict.fromkeys(lines))


def _too_large(answers: Iterable[Analysis]) -> Iterator[str]:
    """Yields a note for every workload that does not fit in the card's memory."""
    for answer in answers:
        found = resident(answer)
        if found and found.sentence:
            form = "" if answer.fused else " (unfused)"
            yield f"{answer.workload.name}{form}: {found.sentence}"


def _points(answer: Analysis, rate: Rates, run: Run, most: int | None) -> Iterator[Point]:
    """Yields the points of a workload in the order of its kernels, then the point of those that have none of their own.

    A point of its own has a kernel among the ``most`` longest that together hold ``MOST_OF_THE_TIME``.
    """
    total_s = sum(map(_seconds, answer.rows))
    shown = list(answer.rows)
    if most is not None and len(shown) > most + 1:
        shown, held_s = [], 0.0
        for row in sorted(answer.rows, key=_seconds, reverse=True)[:most]:
            if held_s < MOST_OF_THE_TIME * total_s or not total_s:
                shown.append(row)
                held_s += _seconds(row)
    names = short([row.name for row in shown]) if most is not None else [row.name for row in shown]
    for row in answer.rows:
        if row in shown:
            point = _point(row, names[shown.index(row)] + run.ending, rate, run)
            yield point._replace(share=_seconds(row) / total_s if total_s else None)
    rest = [row for row in answer.rows if row not in shown]
    if rest:
        yield _others(rest, total_s, run)


def _seconds(row: Row) -> float:
    """Returns the expected time of all repeats; without a time model, the minimum time."""
    own_s = row.expected.expected_s if row.expected else row.bounds.lower_s if row.bounds else 0.0
    return own_s * row.repeat


def _others(rows: Sequence[Row], total_s: float, run: Run) -> Point:
    """Returns one point for several kernels: the sums of their FLOPs, bytes and times."""
    flops, byte = (sum(one * row.repeat for one, row in zip(all_, rows, strict=True)) for all_ in
                   ([row.flops for row in rows], [row.traffic_byte for row in rows]))  # fmt: skip
    seconds = sum(map(_seconds, rows))
    lower_s = sum(row.bounds.lower_s * row.repeat for row in rows if row.bounds)
    share = seconds / total_s if total_s else 0.0
    name = f"others ({len(rows)} kernels, {_percent(share)} of time){run.ending}"
    if not flops or not lower_s or not byte:
        return Point(name, 0.0, 0.0, PREDICTED, run.workload.name, MEMORY, share=share)
    bound = flops / lower_s
    reached = min(bound, flops / seconds) if seconds else None
    return Point(name, flops / byte, bound, PREDICTED, run.workload.name, reached=reached, share=share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def short(names: Sequence[str]) -> list[str]:
    """Returns names of at most two parts where that tells them apart: ``moe.gate_up, weight gradient``."""
    for parts in (2, 3, 4):
        found = [_shorter(name, parts) for name in names]
        if len(set(found)) == len(set(names)):
            return found
    return list(names)


def _shorter(name: str, parts: int) -> str:
    """Returns the last parts of a module's name, and in words which gradient a kernel computes."""
    module, backward, kind = name.partition(".backward")
    last = ".".join(module.split(".")[-parts:])
    if not backward:
        return last
    words = kind.strip(".").replace("_", " ")
    gradient = next((f"{of} gradient" for of in ("weight", "input", "bias") if words.endswith(f"{of} gradient")), words)
    return f"{last}, {gradient or 'backward'}"


def _point(row: Row, name: str, rate: Rates, run: Run) -> Point:
    """Returns the point: FLOPs divided by the minimum and by the expected time, clamped to its roof.

    The clamp is needed because the FLOPs of slower engines count as well.
    """
    bounds = row.bounds
    expected_s = row.expected.expected_s if row.expected else None
    if not row.flops or not bounds:
        return Point(name, 0.0, 0.0, PREDICTED, run.workload.name, MEMORY, expected_s=expected_s)
    roof = max((rate.roofs[Engine(name)] for name, count in row.engines.items() if count), key=lambda r: r.flop_per_s)
    bound = min(row.flops / bounds.lower_s, roof.flop_per_s)
    return Point(
        name=name,
        intensity=row.intensity_flop_per_byte,
        flop_per_s=bound,
        group=run.workload.name,
        bound=bounds.bound,
        roof=roof.name,
        expected_s=expected_s,
        reached=min(bound, row.flops / expected_s) if expected_s else None,
    )


def limits(cards: Sequence[Card], room: float = 3.0) -> Limits:
    """Returns axes that contain all points and ridges with a margin of factor ``room``; more above and on the right, for labels."""
    points = [point for card in cards for point in card.points if point.flop_per_s]
    ridges = [card.ridge(roof) for card in cards for roof in card.roofs]
    across = [*ridges, *(point.intensity for point in points)]
    left = min(across) / room
    slowest = min(card.slopes[0].byte_per_s for card in cards) * left
    return Limits(
        left=left,
        right=max(across) * room**2,
        bottom=min([slowest, *(point.height / room for point in points)]),
        top=max([*(roof.flop_per_s for card in cards for roof in card.roofs), *(point.height for point in points)])
        * room
        * 1.4,
    )


def unplaced(cards: Sequence[Card]) -> list[str]:
    """Returns the names of kernels without FLOPs, which logarithmic axes cannot show."""
    return list(dict.fromkeys(point.name for card in cards for point in card.points if not point.flop_per_s))


def brief(value: float, unit: str = "", digits: int = 4) -> str:
    """Returns a number with a prefix and without trailing zeros: 65 TFLOP/s, 1.018 TFLOP/s."""
    number, space, rest = scaled(value, unit, digits).partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + rest


def decades(low: float, high: float) -> list[float]:
    """Returns the powers of ten between two numbers."""
    return [10.0**power for power in range(ceil(log10(low)), floor(log10(high)) + 1)]


def decade(value: float) -> str:
    """Returns a power of ten as an axis label: 0.01, 0.1, 1, 10, 1 k."""
    return brief(value) if value >= 1 else f"{value:.12f}".rstrip("0")


def tags(cards: Sequence[Card]) -> list[str]:
    """Returns the shortest names that distinguish the cards: T4, A100, H200."""
    titles = [card.title.split() for card in cards]
    titles = [words[1:] if len(words) > 1 and not _numbered(words[0]) else words for words in titles]
    for length in range(1, max(map(len, titles)) + 1):
        found = [" ".join(words[: max(length, _first_number(words))]) for words in titles]
        if len(set(found)) == len(found):
            return found
    return [card.name for card in cards]


def _numbered(word: str) -> bool:
    return any(character.isdigit() for character in word)


def _first_number(words: Sequence[str]) -> int:
    return next((i for i, word in enumerate(words, 1) if _numbered(word)), 1)
