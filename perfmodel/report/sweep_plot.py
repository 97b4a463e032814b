"""A sweep as a picture: time over one size, one line per GPU; or a map over two sizes.

Lines and maps show the minimum time, with everything overlapped. The band of a line extends to the time without
overlap. If the sweep has expected times, lines and maps show them instead; the band is then their range, and a dotted
line is the minimum time. A change of the bottleneck is marked on a line with its exact size, and on a map by a border.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Affine2D

from perfmodel.errors import InputError
from perfmodel.report.canvas import Ruler
from perfmodel.report.geometry import Box, Segment, square
from perfmodel.report.picture import COLOURS, DASHES, DPI, FAINT, FONT_PT, GRID, INK, INKS, SHAPES, WIDTH_PT, settings
from perfmodel.report.placement import around, settled
from perfmodel.report.sample import sizes, title
from perfmodel.sweep import Axis, Plan
from perfmodel.sweep.features import Change, Line, Map, lines, maps
from perfmodel.symbols import SYMBOLS
from perfmodel.units import scaled

MARKED_VALUES = 40  # a line with at most this many values marks each of them
CARDS_OF_A_MAP = 6
BOUND_DASH, BOUND_PT = (0, (1, 1.5)), 0.9
INSIDE_PT = WIDTH_PT - 14.0
BINARY_SPAN = 2**14  # a logarithmic axis is ticked in powers of two up to this ratio of its ends


def check(plan: Plan, where: str) -> None:
    """Refuses more than two sizes, and maps of too many GPUs."""
    if len(plan.axes) > 2:
        raise InputError(
            where, f"{len(plan.axes)} sizes are swept", "a plot shows one or two", "Set the other sizes with --set."
        )  # fmt: skip
    if len(plan.axes) == 2 and len(plan.cards) > CARDS_OF_A_MAP:
        raise InputError(
            where, f"{len(plan.cards)} GPUs are named", f"a map shows at most {CARDS_OF_A_MAP}", "Remove some of them."
        )  # fmt: skip


def figure(plan: Plan) -> Any:
    """Returns the sweep as a figure."""
    with settings():
        return _lines(plan) if len(plan.axes) == 1 else _maps(plan)


def _page(plan: Plan, height: float, columns: int = 1, rows: int = 1, more: str = "") -> tuple[Any, Any]:
    """Returns a figure with title above and caption below, and its axes."""
    ruler = Ruler()
    heading = ruler.wrapped(title(plan), INSIDE_PT, fontsize=FONT_PT + 1, weight="bold")
    types = ", ".join(dict.fromkeys(plan.workload.dtypes.values()))
    caption = ruler.wrapped(" ".join(filter(None, (f"{sizes(plan)}; {types}.", more))), INSIDE_PT)
    height += 0.15 * (len(heading) + len(caption) - 2)
    page = Figure(figsize=(WIDTH_PT / 72, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(page)
    axes = page.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    page.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=FONT_PT + 1, weight="bold", color=INK)
    page.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=FONT_PT, color=INK)
    return page, axes


# --- one size


def _lines(plan: Plan) -> Any:
    (axis,) = plan.axes
    found = list(lines(plan))
    page, ((axes,),) = _page(plan, 4.2, more=_uncounted(found))
    changes: list[tuple[Change, int]] = []
    for i, line in enumerate(found):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        bound = {"linestyle": dash, "linewidth": 1.3}
        low_s, high_s, marked_s = line.lower_s, line.no_overlap_s, line.swept_s
        across = line.sizes
        if line.expected_s is not None:
            across, (marked_s, low_s, high_s) = line.swept, line.expected_s
            axes.plot(across, marked_s, color=colour, linestyle=dash, linewidth=1.3)
            bound = {"linestyle": BOUND_DASH, "linewidth": BOUND_PT}
        axes.fill_between(across, low_s, high_s, color=colour, alpha=0.16, linewidth=0)
        axes.plot(line.sizes, line.lower_s, color=colour, **bound)
        if len(line.swept) <= MARKED_VALUES:
            axes.plot(line.swept, marked_s, SHAPES[i % len(SHAPES)], color=colour, markersize=3.2, markeredgewidth=0)
        changes += [(change, i) for change in line.changes]
    _sizes(axes.xaxis, axis)
    if axis.log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        _times(axes.yaxis, high / low)
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _brief(value, "s")))
    if axis.number > 1:
        axes.set_xlim(axis.first, axis.last)
    axes.set_ylabel("time")
    axes.set_xlabel(_named(axis))
    axes.grid(color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    _legend(axes, plan)
    _label(page, axes, axis.symbol, changes)
    return page


def _uncounted(found: Sequence[Line]) -> str:
    """Returns a sentence on lines whose bottleneck changes too often for labels."""
    often = [
        f"at {line.crossings} size{'s' * (line.crossings > 1)} on {line.gpu.title}"
        for line in found
        if line.crossings and not line.changes
    ]
    return f"The bottleneck changes {' and '.join(often)}; these changes are not marked." if often else ""


def _legend(axes: Any, plan: Plan) -> None:
    """Adds the GPUs, and the meaning of line and band."""
    several = len(plan.cards) > 1
    ink = INK if several else COLOURS[0]
    entries: list[Any] = [
        Line2D(
            [],
            [],
            color=COLOURS[i % len(COLOURS)],
            linestyle=DASHES[i % len(DASHES)],
            marker=SHAPES[i % len(SHAPES)],
            markersize=3.2,
            markeredgewidth=0,
            label=card.gpu.title,
        )
        for i, card in enumerate(plan.cards)
        if several
    ]
    lower = "at least (full overlap)"
    entries += [
        Line2D([], [], color=ink, linewidth=1.3, label="expected" if plan.expected else lower),
        Patch(color=ink, alpha=0.16, linewidth=0, label="its range" if plan.expected else "up to no overlap"),
        *(
            Line2D([], [], color=ink, linestyle=BOUND_DASH, linewidth=BOUND_PT, label=lower)
            for _ in range(plan.expected)
        ),
        Line2D([], [], color=ink, marker="o", markerfacecolor="white", linestyle="", label="bottleneck changes"),
    ]
    look = {"fontsize": FONT_PT, "handlelength": 2.6, "frameon": False, "borderaxespad": 0.0, "borderpad": 0.0}
    axes.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 1.015), ncols=3, **look)


def _label(page: Any, axes: Any, symbol: str, changes: Sequence[tuple[Change, int]]) -> None:
    """Marks every change of the bottleneck, with texts that overlap nothing. If there is no room for all, the caption
    lists all and none has a text.
    """
    page.draw_without_rendering()
    page.set_layout_engine("none")
    scale = 72 / DPI
    drawn: list[Segment] = []
    for line in axes.get_lines():
        spots = (axes.transData.transform(list(zip(*line.get_data(), strict=True))) * scale).tolist()
        spots = spots[:: max(1, len(spots) // 100)]
        drawn += [(*start, *end) for start, end in pairwise(spots)] if line.get_linestyle() != "None" else []
    marks, places, texts = [_box(axes.get_legend())], [], []
    for change, card in changes:
        axes.plot(
            change.size,
            change.lower_s,
            "o",
            color=COLOURS[card % len(COLOURS)],
            markerfacecolor="white",
            markersize=4.5,
        )
        text = f"{change.before} → {change.after} at {symbol} = {change.size}"
        texts.append(page.text(0, 0, text, fontsize=FONT_PT, color=INKS[card % len(INKS)], ha="center", va="center"))
        across, up = (axes.transData.transform((change.size, change.lower_s)) * scale).tolist()
        marks.append(square((across, up), 3.0))
        box = _box(texts[-1])
        places.append(around((across, up), box.right - box.left, box.top - box.bottom, favour=-0.6))
    chosen = settled(places, _box(axes), marks, drawn)
    if chosen is None:
        _listed_below(page, texts)
        chosen = [None] * len(texts)
    for text, place in zip(texts, chosen, strict=True):
        text.set_visible(place is not None)
        if place is not None:
            text.set_transform(Affine2D().scale(1 / 72) + page.dpi_scale_trans)
            text.set(x=place.middle[0], y=place.middle[1])
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8})
        if place is not None and place.leader is not None:
            x0, y0, x1, y1 = place.leader
            page.add_artist(Line2D([x0, x1], [y0, y1], color=FAINT, linewidth=0.6, transform=text.get_transform()))


def _listed_below(page: Any, texts: Sequence[Any]) -> None:
    """Makes the page taller, and lists the changes below the caption."""
    words = "; ".join(dict.fromkeys(text.get_text().replace(" ", "\N{NO-BREAK SPACE}") for text in texts))
    listed = Ruler().wrapped(f"Changes: {words}.", INSIDE_PT)
    width, before = page.get_size_inches()
    height = before + (len(listed) + 0.4) * 1.3 * FONT_PT / 72
    page.set_size_inches(width, height)
    for axes in page.axes:
        left, bottom, across, up = axes.get_position().bounds
        axes.set_position((left, (bottom * before + height - before) / height, across, up * before / height))
    for text in (page._suptitle, page._supxlabel):
        text.set_y((text.get_position()[1] * before + height - before) / height)
    page.text(0.01, 0.05 / height, "\n".join(listed), ha="left", va="bottom", fontsize=FONT_PT, color=INK)


def _box(artist: Any) -> Box:
    """Returns the bounding box of an artist, in points on the page."""
    left, bottom, right, top = (float(edge) * 72 / DPI for edge in artist.get_window_extent().extents)
    return Box(left, bottom, right, top)


# --- two sizes


def _maps(plan: Plan) -> Any:
    found = list(maps(plan))
    columns = {1: 1, 2: 2, 4: 2}.get(len(found), 3)
    rows = -(-len(found) // columns)
    page, panels = _page(plan, 4.2 if len(found) == 1 else 1.2 + 2.4 * rows, columns, rows)
    least_s, most_s = min(card.least_s for card in found), max(card.most_s for card in found)
    for i, (axes, card) in enumerate(zip(panels.flat, found, strict=False)):
        mesh = _map(axes, plan.axes, card, LogNorm(least_s, most_s), few=len(found) > 1)
        axes.tick_params(labelbottom=i + columns >= len(found))
        axes.set_xlabel(_named(plan.axes[0]) if i + columns >= len(found) else "")
        axes.set_ylabel("" if i % columns else _named(plan.axes[1]) if rows == 1 else plan.axes[1].symbol)
        if len(found) > 1:
            axes.set_title(card.gpu.title, fontsize=FONT_PT, loc="left")
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    bar = page.colorbar(mesh, ax=panels.ravel().tolist(), pad=0.015, aspect=30)
    undefined = "" if all(card.whole for card in found) else "; grey: not defined"
    bar.set_label(f"{'expected time' if plan.expected else 'at least (full overlap)'}{undefined}")
    _times(bar.ax.yaxis, most_s / least_s)
    return page


def _map(axes: Any, symbols: Sequence[Axis], card: Map, norm: Any, few: bool) -> Any:
    """Draws one card's times as colours, with borders and names of the regions of each bottleneck."""
    axes.set_facecolor("#dddddd")
    mesh = axes.pcolormesh(*card.edges, card.times_s, cmap="viridis", norm=norm, rasterized=True)
    for axis, values in zip((axes.xaxis, axes.yaxis), symbols, strict=True):
        _sizes(axis, values, few)
    axes.set(xlim=card.edges[0][[0, -1]], ylim=card.edges[1][[0, -1]])
    axes.add_collection(LineCollection(card.borders, colors="white", linewidths=1.4, capstyle="projecting"))
    ground = {"facecolor": INK, "edgecolor": "none", "alpha": 0.65, "pad": 1.5}
    for across, up, name in card.names:
        axes.text(across, up, name, color="white", ha="center", va="center", bbox=ground)
    return mesh


# --- axes


def _sizes(axis: Any, values: Axis, few: bool = False) -> None:
    """Formats an axis of sizes; logarithmic if the range is."""
    base = 0
    if values.log and values.number > 1:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        base = 2 if values.last <= BINARY_SPAN * values.first else 10
        axis.set_major_locator(LogLocator(base=base, numticks=6 if few else 16))
    elif values.number == 1:
        axis.set_major_locator(FixedLocator([values.first]))
    else:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=4 if few else 8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_size_format(values, base)))


def _size_format(values: Axis, base: int) -> Callable[[float, int], str]:
    """Returns the format of all ticks of an axis: whole numbers, or from 100,000 on all of them with prefixes."""
    if values.last < 10**5:
        return lambda value, _: f"{value:.0f}"
    if base == 2:
        return lambda value, _: _binary(round(value))
    return lambda value, _: _brief(value, "")


def _binary(value: int) -> str:
    """Returns a size with the largest binary prefix that leaves a whole number: 512, 64 Ki, 3 Mi."""
    for power, prefix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power} {prefix}"
    return str(value)


def _times(axis: Any, ratio: float) -> None:
    """Formats a logarithmic axis of times whose ends have the given ratio."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 10**4 else (1,), numticks=16))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _brief(value, "s")))


def _named(axis: Axis) -> str:
    """Returns a symbol with the first words of its meaning: ``N: query tokens``."""
    meaning = SYMBOLS[axis.symbol].meaning
    return f"{axis.symbol}: {meaning.partition(':')[0].partition(' (')[0]}"


def _brief(value: float, unit: str) -> str:
    """Returns a number with a prefix and without trailing zeros."""
    number, space, rest = scaled(value, unit, 3).partition(" ") if value > 0 else ("0", "", "")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + rest
