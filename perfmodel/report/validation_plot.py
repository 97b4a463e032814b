"""Predicted and measured points on one roofline; a line joins the two points of each case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, NamedTuple

from perfmodel import measured
from perfmodel.chart import MEASURED, Card, Roof, Slope, brief, card, decade, decades
from perfmodel.hardware import Gpu
from perfmodel.report import picture
from perfmodel.report.picture import COLOURS, FAINT, GRID, INK, SHAPES
from perfmodel.validation import Compared, Outcome

SIZE_IN = (7.4, 5.0)
ROOM = 1.6  # factor between the outermost value and the frame
SMALL_PT = 6.5
LINE = 0.028  # height of a name, as a share of the frame's height
NAMES = {
    "layernorm": "norms",
    "rmsnorm": "norms",
    "layernorm_backward": "norms",
    "rmsnorm_backward": "norms",
    "softmax_backward": "softmax",
}


class Mark(NamedTuple):
    """One case on the axes."""

    intensity: float
    modelled: float
    measured: float
    group: str


def draw(found: Outcome, gpu: Gpu, environment: Mapping[str, Any], path: str) -> str:
    """Draws the picture, writes it as PNG, SVG or PDF by its ending, and returns its path."""
    picture.checked(path, "--plot")
    marks = [mark for one in found.cases for mark in _mark(one)]
    dtypes = tuple(dict.fromkeys(str(one.record.get("dtype", "fp16")) for one in found.cases if not one.failed))
    with picture.settings():
        figure = _figure(with_measured(card(gpu, [], dtypes or ("fp16",)), gpu), marks, environment)
    picture.save(figure, path, "--plot")
    return path


def with_measured(sheet: Card, gpu: Gpu) -> Card:
    """Returns the card with its measured ceilings added, if it has a file of measurements."""
    own = measured.of(gpu)
    if own is None:
        return sheet
    shown = {roof.name for roof in sheet.roofs}
    roofs = [
        Roof(f"{name}, measured", reading.value, MEASURED)
        for section, names in own.sections.items() if section == "matmul"
        for name, reading in names.items()
        if name.endswith("sustained") and {f"tensor {name.split()[0]}", f"vector {name.split()[0]}"} & shown
    ]  # fmt: skip
    best = max((reading.value for reading in own.sections.get("stream", {}).values()), default=None)
    slopes = [Slope("memory, measured", best, MEASURED)] if best else []
    return sheet._replace(roofs=(*sheet.roofs, *roofs), slopes=(*sheet.slopes, *slopes))


def _mark(one: Compared) -> Iterable[Mark]:
    """Yields the position of a case; nothing without FLOPs."""
    total = one.prediction.total
    modelled_s = one.expected_s or one.lower_s
    if total is None or not total.flops or not one.measured_s or not modelled_s:
        return
    group = NAMES.get(str(one.record["op"]), str(one.record["op"]))
    yield Mark(total.intensity_flop_per_byte, total.flops / modelled_s, total.flops / one.measured_s, group)


def _figure(shown: Card, marks: Sequence[Mark], environment: Mapping[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="FLOP/s")
    left, right = _span(mark.intensity for mark in marks)
    rates = [rate for mark in marks for rate in (mark.modelled, mark.measured)]
    low, high = _span([*rates, *(roof.flop_per_s for roof in shown.roofs)])
    axes.set(xlim=(left, right), ylim=(low, high))
    for axis, ends in ((axes.xaxis, (left, right)), (axes.yaxis, (low, high))):
        axis.set_ticks(decades(*ends), labels=[decade(value) for value in decades(*ends)])
        axis.set_ticks([], minor=True)
    axes.grid(True, which="major", color=GRID, linewidth=0.5)
    _ceilings(axes, shown, left, right, (low, high))
    groups = list(dict.fromkeys(mark.group for mark in marks))
    for i, group in enumerate(groups):
        colour, shape = COLOURS[i % len(COLOURS)], SHAPES[i // len(COLOURS) % len(SHAPES)]
        _points(axes, [mark for mark in marks if mark.group == group], colour, shape, group)
    figure.legend(loc="outside lower center", ncols=min(9, len(groups)), frameon=False, fontsize=SMALL_PT)
    made = [f"{name} {environment[name]}" for name in ("torch", "driver") if environment.get(name)]
    where = ", ".join([*made, str(environment.get("date", ""))])
    axes.set_title(
        f"{shown.title}: {len(marks)} cases, measured (filled) and predicted (hollow)\n{where}", loc="left", fontsize=9
    )
    return figure


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Returns the range with a margin on both sides; one decade if there are no values."""
    kept = [value for value in values if value > 0] or [1.0, 10.0]
    return min(kept) / ROOM, max(kept) * ROOM


def _ceilings(axes: Any, shown: Card, left: float, right: float, ends: tuple[float, float]) -> None:
    """Draws slopes and roofs: solid from the data sheet, dotted if measured; their names are beside the frame."""
    top = max(roof.flop_per_s for roof in shown.roofs)
    for slope in shown.slopes:
        end = min(right, top / slope.byte_per_s)
        style = ":" if slope.kind == MEASURED else "-"
        axes.plot(
            [left, end], [left * slope.byte_per_s, end * slope.byte_per_s], style, color=INK, linewidth=1.0, zorder=1
        )
    memory = shown.slopes[0]
    for roof in shown.roofs:
        start = max(left, roof.flop_per_s / memory.byte_per_s)
        style, width = (":", 0.9) if roof.kind == MEASURED else ("-", 1.2)
        axes.plot([start, right], [roof.flop_per_s] * 2, style, color=INK, linewidth=width, zorder=1)
    same: dict[float, list[str]] = {}
    for roof in shown.roofs:
        same.setdefault(roof.flop_per_s, []).append(roof.name)
    height = log(ends[1] / ends[0])
    names = [
        (log(value / ends[0]) / height, f"{', '.join(all_)} {brief(value, 'FLOP/s', 3)}")
        for value, all_ in same.items()
    ]
    for place, text in _apart(names):
        axes.annotate(
            text, (1.0, place), (4, 0), "axes fraction", "offset points", va="center", fontsize=SMALL_PT, color=FAINT,
            annotation_clip=False,
        )  # fmt: skip
    slopes = "\n".join(f"{slope.name} {brief(slope.byte_per_s, 'B/s', 3)}" for slope in shown.slopes)
    axes.text(0.01, 0.985, slopes, transform=axes.transAxes, va="top", fontsize=SMALL_PT, color=FAINT)


def _apart(names: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Returns heights from the top down, each at least one line below the previous one."""
    placed: list[tuple[float, str]] = []
    for height, text in sorted(names, reverse=True):
        lowest = placed[-1][0] - LINE if placed else 1.0
        placed.append((min(height, lowest), text))
    return placed


def _points(axes: Any, marks: Sequence[Mark], colour: str, shape: str, name: str) -> None:
    for mark in marks:
        axes.plot(
            [mark.intensity] * 2, [mark.modelled, mark.measured], "-", color=colour, linewidth=0.5, alpha=0.5, zorder=2
        )
    x = [mark.intensity for mark in marks]
    axes.plot(
        x,
        [mark.modelled for mark in marks],
        shape,
        color=colour,
        markersize=3.5,
        markerfacecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )
    axes.plot(
        x,
        [mark.measured for mark in marks],
        shape,
        color=colour,
        markersize=3.5,
        markeredgewidth=0,
        zorder=4,
        label=name,
    )
