"""The page of a chart: margins, logarithmic axes, legend above, notes below. Lengths are in points (1/72 inch)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Affine2D

from perfmodel.chart import Limits, brief, decade, decades
from perfmodel.report.geometry import Box, Segment, Spot, spot
from perfmodel.report.picture import DPI, FAINT, FONT_PT, GRID, INK, WIDTH_PT

LEFT_PT, BELOW_PT, EDGE_PT, KEY_PT = 78.0, 30.0, 4.0, 16.0
LINE_PT, LEADING = FONT_PT * 1.3, 1.15
MARK_PT = 5.5


class Entry(NamedTuple):
    """One entry of the legend: the meaning of a colour, a shape or a dash."""

    label: str
    colour: str
    shape: str = ""
    dash: Any = ""
    face: str = "white"
    size: float = MARK_PT


class Ruler:
    """Measures text before the page exists."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(1, 1), dpi=DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()

    def points(self, artist: Any) -> tuple[float, float]:
        extent = artist.get_window_extent(self.renderer)
        return extent.width * 72 / DPI, extent.height * 72 / DPI

    def size(self, text: str, **style: Any) -> tuple[float, float]:
        """Returns width and height of a text."""
        sample = Text(0, 0, text, linespacing=LEADING, **style)
        sample.set_figure(self.figure)
        return self.points(sample)

    def wrapped(self, text: str, width: float, **style: Any) -> list[str]:
        """Returns lines of at most that width, broken between words."""
        lines = [""]
        for word in text.split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if lines[-1] and self.size(longer, **style)[0] > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


class Canvas(NamedTuple):
    """A figure with the frame of its axes and their ranges."""

    figure: Any
    frame: Box
    span: Limits

    def at(self, x: float, y: float) -> Spot:
        """Returns the position on the page of a FLOP/byte and FLOP/s pair."""
        return spot(self.frame, self.span, x, y)

    def line(self, *spots: Spot, **style: Any) -> list[Segment]:
        """Draws a line through the positions and returns its segments."""
        xs, ys = [x for x, _ in spots], [y for _, y in spots]
        self.figure.add_artist(Line2D(xs, ys, transform=_points_of(self.figure), **style))
        return [(*start, *end) for start, end in pairwise(spots)]

    def mark(self, spot: Spot, shape: str, size: float, colour: str, face: str, order: float = 2.0) -> None:
        self.line(
            spot, marker=shape, markersize=size, color=colour, markerfacecolor=face, markeredgewidth=1.1, zorder=order
        )

    def axes(self, box: Box) -> Any:
        """Adds other axes to the page."""
        width, height = (72 * inches for inches in self.figure.get_size_inches())
        sides = (box.left / width, box.bottom / height, (box.right - box.left) / width, (box.top - box.bottom) / height)
        found = self.figure.add_axes(sides)
        found.grid(which="major", color=GRID, linewidth=0.5)
        found.set_axisbelow(True)
        found.tick_params(which="both", width=0.5, length=2, color=FAINT)
        return found

    def write(self, spot: Spot, text: str, **style: Any) -> None:
        """Writes a text around a position, on a white background."""
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
        look = {"ha": "center", "va": "center", "bbox": ground, "zorder": 3, **style}
        self.figure.text(*spot, text, transform=_points_of(self.figure), linespacing=LEADING, **look)


def _points_of(figure: Any) -> Any:
    """Returns the transform from points to the figure's coordinates."""
    return Affine2D().scale(1 / 72) + figure.dpi_scale_trans


def canvas(
    ruler: Ruler,
    title: str,
    legend: Sequence[Sequence[Entry]],
    notes: Sequence[tuple[str, str]],
    span: Limits,
    margin: float,
    height: float,
    room: float = 0.0,
) -> Canvas:
    """Returns a page with axes of that height and a margin on their right. Each note starts with its key.

    ``room`` is the height that is kept for other axes, between these and the notes.
    """
    heading = {"fontsize": FONT_PT + 1, "weight": "bold"}
    above = ruler.wrapped(title, WIDTH_PT - LEFT_PT, **heading)
    below = [line for key, text in notes for line in _note(ruler, key, text)]
    figure = Figure(dpi=DPI)
    rows = [_rows(figure, ruler, entries) for entries in legend if entries]
    bottom = BELOW_PT + LINE_PT * len(below) + (EDGE_PT if below else 0) + room
    frame = Box(LEFT_PT, bottom, WIDTH_PT - margin, bottom + height)
    top = frame.top
    for row in reversed(rows):
        row.set_bbox_to_anchor((LEFT_PT, top + EDGE_PT), _points_of(figure))
        top += ruler.points(row)[1] + EDGE_PT
    page = top + EDGE_PT + (LINE_PT + 1) * len(above) + EDGE_PT
    figure.set_size_inches(WIDTH_PT / 72, page / 72)
    found = Canvas(figure, frame, span)
    for i, line in enumerate(above):
        found.write((LEFT_PT, page - EDGE_PT - i * (LINE_PT + 1)), line, ha="left", va="top", **heading)
    for i, (key, line) in enumerate(below):
        for x, text in ((EDGE_PT, key), (EDGE_PT + (KEY_PT if len(notes) > 1 else 0), line)):
            if text:
                found.write((x, (len(below) - i) * LINE_PT - FONT_PT), text, ha="left", va="baseline")
    _axes(figure, found.frame, span, page)
    return found


def _note(ruler: Ruler, key: str, text: str) -> list[tuple[str, str]]:
    lines = ruler.wrapped(text, WIDTH_PT - KEY_PT - 3 * EDGE_PT)
    return [(key if i == 0 else "", line) for i, line in enumerate(lines)]


def _rows(figure: Any, ruler: Ruler, entries: Sequence[Entry]) -> Any:
    """Returns a legend in as few rows as fit."""
    handles = [
        Line2D(
            [], [], color=entry.colour, marker=entry.shape, markersize=entry.size, markerfacecolor=entry.face,
            markeredgewidth=1.1, linestyle=entry.dash, linewidth=1.4,
        )
        for entry in entries
    ]  # fmt: skip
    for rows in range(1, len(entries) + 1):
        columns = -(-len(entries) // rows)
        # matplotlib fills columns; in this order, they read as rows
        order = [i for column in range(columns) for i in range(column, len(entries), columns)]
        legend = Legend(
            figure, [handles[i] for i in order], [entries[i].label for i in order], loc="lower left", ncols=columns, frameon=False,
            borderpad=0, borderaxespad=0, handlelength=3.0 if entries[0].dash else max(0.8, entries[-1].size / FONT_PT), handletextpad=0.6,
            columnspacing=1.6, labelspacing=0.3,
        )  # fmt: skip
        if ruler.points(legend)[0] < WIDTH_PT - LEFT_PT:
            break
    figure.add_artist(legend)
    return legend


def _axes(figure: Any, frame: Box, span: Limits, page: float) -> None:
    width, height = frame.right - frame.left, frame.top - frame.bottom
    axes = figure.add_axes((frame.left / WIDTH_PT, frame.bottom / page, width / WIDTH_PT, height / page))
    axes.set(xscale="log", yscale="log", xlim=(span.left, span.right), ylim=(span.bottom, span.top))
    axes.set_xlabel("arithmetic intensity (FLOP/byte)", labelpad=2)
    axes.set_ylabel("performance", color=INK)
    axes.yaxis.set_label_coords((EDGE_PT + FONT_PT - LEFT_PT) / width, 0.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: brief(value, "FLOP/s")))
    for axis, low, high in ((axes.xaxis, span.left, span.right), (axes.yaxis, span.bottom, span.top)):
        axis.set_major_locator(FixedLocator(decades(low, high)))
        axis.set_minor_locator(LogLocator(10, range(2, 10), numticks=200))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", width=0.5, length=2, color=FAINT)
    axes.tick_params(which="major", length=3.5)
    axes.grid(which="major", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
