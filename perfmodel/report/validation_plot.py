"""Predicted and measured times of a run: a roofline, the errors by family, and expected against measured times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

from perfmodel import measured
from perfmodel.chart import MEASURED, Card, Limits, Roof, Slope, brief, card, decades
from perfmodel.hardware import Gpu
from perfmodel.report import picture
from perfmodel.report.canvas import EDGE_PT, LEFT_PT, LINE_PT, Canvas, Entry, Ruler, canvas
from perfmodel.report.geometry import Box, Segment, Spot
from perfmodel.report.picture import COLOURS, INK, SHAPES, WIDTH_PT
from perfmodel.report.placement import settled
from perfmodel.report.plot import ROOF_GAP_PT, Style, ceilings, roof_names, roof_texts, slope_labels, write
from perfmodel.validation import Compared, Outcome

HEIGHT_PT, PANEL_PT, TITLE_PT, TICKS_PT = 235.0, 170.0, 24.0, 34.0
ROOM = 1.6  # factor between the outermost value and the frame
DOT_PT = 2.8
WHISKERS = (5, 95)  # percentiles
FACTOR = 1.25  # of the dashed lines beside equality
NAMES = {
    "layernorm": "norms",
    "rmsnorm": "norms",
    "layernorm_backward": "norms",
    "rmsnorm_backward": "norms",
    "softmax_backward": "softmax",
}


class Mark(NamedTuple):
    """One case: its family, FLOPs and FLOP per byte (0 without FLOPs), and its times."""

    group: str
    flops: int
    intensity: float
    expected_s: float
    measured_s: float


def draw(found: Outcome, gpu: Gpu, environment: Mapping[str, Any], path: str) -> str:
    """Draws the picture, writes it as PNG, SVG or PDF by its ending, and returns its path."""
    picture.checked(path, "--plot")
    marks = [mark for one in found.cases for mark in _mark(one)]
    title = f"{gpu.title}: {len(marks)} cases, measured and expected"
    dtypes = tuple(dict.fromkeys(str(one.record.get("dtype", "fp16")) for one in found.cases if not one.failed))
    with picture.settings():
        figure = _figure(with_measured(card(gpu, [], dtypes or ("fp16",)), gpu), title, marks, environment)
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
    """Yields the times of a case that has both."""
    total, expected_s = one.prediction.total, one.expected_s or one.lower_s
    if total is not None and one.measured_s and expected_s:
        group = NAMES.get(str(one.record["op"]), str(one.record["op"]))
        yield Mark(group, total.flops, total.intensity_flop_per_byte, expected_s, one.measured_s)


def _figure(shown: Card, title: str, marks: Sequence[Mark], environment: Mapping[str, Any]) -> Any:
    ruler, groups = Ruler(), list(dict.fromkeys(mark.group for mark in marks))
    style = Style([shown], groups)
    entries = [Entry(group, _colour(i), SHAPES[i % len(SHAPES)], face=_colour(i)) for i, group in enumerate(groups)]
    meanings = [Entry("line to the expected value", INK, dash="-"), Entry("measured", INK, "o", face=INK)]
    made = [f"{name} {environment[name]}" for name in ("torch", "driver", "date") if environment.get(name)]
    roofs = roof_texts(ruler, style)
    margin = max(ruler.size(text)[0] for text, _, _ in roofs) + ROOF_GAP_PT + EDGE_PT
    note = [("", f"Measured with {', '.join(made)}.")] if made else []
    placed = [mark for mark in marks if mark.flops]
    room = TITLE_PT + PANEL_PT + TICKS_PT
    page = canvas(ruler, title, [entries, meanings], note, _limits(shown, placed), margin, HEIGHT_PT, room)
    lines = ceilings(page, style)
    roof_names(page, roofs)
    _slopes(page, ruler, style, lines)
    _cases(page, placed, groups)
    bottom = page.frame.bottom - TICKS_PT - TITLE_PT - PANEL_PT
    names = max((ruler.size(_counted(group, marks))[0] for group in groups), default=0.0) + 2 * EDGE_PT
    middle = WIDTH_PT * 0.52
    _errors(page, Box(max(LEFT_PT, names), bottom, middle, bottom + PANEL_PT), marks, groups)
    _times(page, Box(middle + 62, bottom, WIDTH_PT - 3 * EDGE_PT, bottom + PANEL_PT), marks, groups)
    return page.figure


def _slopes(page: Canvas, ruler: Ruler, style: Style, lines: Sequence[Segment]) -> None:
    """Writes the names of the slopes along them."""
    labels = slope_labels(page, ruler, style)
    places = settled([label.candidates for label in labels], page.frame, [], lines, at_worst=True)
    for label, place in zip(labels, places or [], strict=False):
        if place is not None:
            write(page, label, place, 0.0)


def _cases(page: Canvas, marks: Sequence[Mark], groups: Sequence[str]) -> None:
    """Draws each case at its measured FLOP/s, with a line to the expected value."""
    for i, group in enumerate(groups):
        own = [mark for mark in marks if mark.group == group]
        ends = [page.at(m.intensity, m.flops / time_s) for m in own for time_s in (m.measured_s, m.expected_s)]
        _sticks(page, ends, _colour(i))
        look = {"marker": SHAPES[i % len(SHAPES)], "markersize": DOT_PT, "markeredgewidth": 0, "zorder": 3}
        for place in ends[::2]:
            page.line(place, color=_colour(i), **look)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _counted(group: str, marks: Sequence[Mark]) -> str:
    return f"{group} ({sum(mark.group == group for mark in marks)})"


def _sticks(page: Canvas, ends: Sequence[Spot], colour: str) -> None:
    """Draws a line for each pair of ends."""
    broken = [spot for i in range(0, len(ends), 2) for spot in (*ends[i : i + 2], (nan, nan))]
    if broken:
        page.line(*broken, color=colour, linewidth=0.6, alpha=0.6, zorder=2)


def _limits(shown: Card, marks: Sequence[Mark]) -> Limits:
    rates = [mark.flops / time_s for mark in marks for time_s in (mark.expected_s, mark.measured_s)]
    left, right = _span(mark.intensity for mark in marks)
    low, high = _span([*rates, *(roof.flop_per_s for roof in shown.roofs)])
    return Limits(left, right, low, high)


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Returns the range with a margin on both sides; one decade if there are no values."""
    kept = [value for value in values if value > 0] or [1.0, 10.0]
    return min(kept) / ROOM, max(kept) * ROOM


def _errors(page: Canvas, box: Box, marks: Sequence[Mark], groups: Sequence[str]) -> None:
    """Draws expected divided by measured times: the median, quartiles and whiskers of each family over its cases."""
    axes = page.axes(box)
    for i, group in enumerate(groups):
        ratios = [mark.expected_s / mark.measured_s for mark in marks if mark.group == group]
        spread = [i + 0.32 * (((7 * k) % 11) / 5 - 1) for k in range(len(ratios))]  # apart, the same in each run
        axes.plot(
            ratios, spread, SHAPES[i % len(SHAPES)], color=_colour(i), markersize=2.0, markeredgewidth=0, alpha=0.55
        )
        axes.boxplot(
            [ratios], positions=[i], widths=0.64, orientation="horizontal", whis=WHISKERS, showfliers=False, zorder=3,
            manage_ticks=False, medianprops={"color": INK, "linewidth": 1.4},
            **{f"{part}props": {"color": INK, "linewidth": 0.7} for part in ("box", "whisker", "cap")},
        )  # fmt: skip
    axes.set_yticks(range(len(groups)), labels=[_counted(group, marks) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    ends = _span(mark.expected_s / mark.measured_s for mark in marks)
    ends = min(ends[0], 0.5 / 1.1), max(ends[1], 2 * 1.1)
    steps = [0.01, 0.1, 1.0, 10.0, 100.0] if ends[1] / ends[0] > 100 else [0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 10.0]
    axes.set(xscale="log", xlim=ends)
    axes.set_xticks([step for step in steps if ends[0] <= step <= ends[1]])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(1, color=INK, linewidth=0.8, zorder=1)
    axes.set_xlabel("expected / measured time", labelpad=2)
    _headed(page, box, "Errors by family")


def _times(page: Canvas, box: Box, marks: Sequence[Mark], groups: Sequence[str]) -> None:
    """Draws the expected time of each case over its measured time, with a line for equality."""
    axes = page.axes(box)
    low, high = _span([time_s for mark in marks for time_s in (mark.expected_s, mark.measured_s)])
    for factor, dash, width in ((1.0, "-", 0.8), (FACTOR, (0, (4, 2)), 0.6), (1 / FACTOR, (0, (4, 2)), 0.6)):
        axes.plot([low, high], [low * factor, high * factor], color=INK, linewidth=width, linestyle=dash, zorder=1)
    for i, group in enumerate(groups):
        own = [mark for mark in marks if mark.group == group]
        axes.plot([mark.measured_s for mark in own], [mark.expected_s for mark in own], SHAPES[i % len(SHAPES)],
                  color=_colour(i), markersize=DOT_PT, markeredgewidth=0, alpha=0.8)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    ticks = decades(low, high)
    for axis, most in ((axes.xaxis, 5), (axes.yaxis, 9)):
        kept = ticks[:: 1 + len(ticks) // most]
        axis.set_ticks(kept, labels=[brief(tick, "s") for tick in kept])
        axis.set_ticks([], minor=True)
    axes.set_xlabel("measured time", labelpad=2)
    axes.set_ylabel("expected time", labelpad=2)
    axes.annotate(
        f"dashed: a factor of {FACTOR:g}", (1, 0), (-4, 4), "axes fraction", "offset points", ha="right", va="bottom"
    )
    _headed(page, box, "Expected and measured times")


def _headed(page: Canvas, box: Box, title: str) -> None:
    page.write((box.left, box.top + LINE_PT / 2), title, ha="left", va="bottom", weight="bold")
