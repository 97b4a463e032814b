"""A roofline chart for the terminal: lines of Braille dots, a letter for each cell with kernels, and tables.

The chart is drawn here because rich has no charts.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_letters
from typing import NamedTuple

from perfmodel.analysis import PROTOCOL
from perfmodel.chart import MEASURED, Card, Limits, Point, Roof, Slope, brief, decade, decades, limits, unplaced
from perfmodel.report.answer import protocol_line
from perfmodel.report.sheet import Column, Sheet, table, terminal_width, wrapped
from perfmodel.units import scaled, significant

HEIGHT, WIDEST, MARGIN = 20, 120, 7
# The dots of a Braille cell, by column and by row from the top.
EMPTY, DOTS = 0x2800, ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
MANY = "*"  # the mark of all further cells when no letters are left

Cell = tuple[int, int]


class Grid(NamedTuple):
    """Terminal cells on logarithmic axes; each cell has two by four dots or one character."""

    span: Limits
    width: int
    dots: dict[Cell, int]
    characters: dict[Cell, str]

    @property
    def columns(self) -> int:
        """Number of dot columns."""
        return 2 * self.width

    def spot(self, x: float, y: float) -> tuple[int, int]:
        """Returns the dot's distance from the left and from the top."""
        across, up = self.span.parts(x, y)
        return round(across * (self.columns - 1)), round((1 - up) * (4 * HEIGHT - 1))

    def cell(self, x: float, y: float) -> Cell:
        across, down = self.spot(x, y)
        return across // 2, down // 4

    def x(self, across: int) -> float:
        """Returns the intensity at a column of dots."""
        return float(self.span.left * (self.span.right / self.span.left) ** (across / (self.columns - 1)))

    def dot(self, across: int, down: int) -> None:
        cell = across // 2, down // 4
        self.dots[cell] = self.dots.get(cell, 0) | DOTS[across % 2][down % 4]

    def write(self, column: int, row: int, text: str) -> bool:
        """Writes a text if it fits and covers nothing; returns whether it did."""
        cells = [(column + i, row) for i in range(len(text))]
        fits = 0 <= row < HEIGHT and column >= 0 and column + len(text) <= self.width
        if not fits or any(cell in self.characters or cell in self.dots for cell in cells):
            return False
        self.characters.update(zip(cells, text, strict=True))
        return True

    def line(self, row: int) -> str:
        cells = [(column, row) for column in range(self.width)]
        return "".join(
            self.characters.get(cell) or (chr(EMPTY + self.dots[cell]) if cell in self.dots else " ") for cell in cells
        )


def page(card: Card, title: str = "", width: int | None = None) -> str:
    """Returns the chart, the roofs and the kernels of one card as lines of the terminal's width."""
    width = width or terminal_width()
    grid = Grid(limits([card], room=2.0), min(width, WIDEST) - MARGIN, {}, {})
    for slope in card.slopes:
        _slope(grid, card, slope)
    for roof in card.roofs:
        _roof(grid, card, roof)
    marks = _marks(grid, card)
    _names(grid, card)
    heading = [*wrapped(title, width), ""] if title else []
    chart = "\n".join([*heading, *_framed(grid)])
    kernels = _kernels(card, marks)
    kernels = kernels._replace(notes=(*kernels.notes, *card.too_large))
    return "\n".join((chart, "", table(_ceilings(card), width), table(kernels, width)))


def _slope(grid: Grid, card: Card, slope: Slope) -> None:
    """Draws a slope up to the highest roof, without gaps. A cache's slope is dashed."""
    top = max(roof.flop_per_s for roof in card.roofs)
    main = slope is card.slopes[0]
    last = grid.spot(top / card.slopes[0].byte_per_s, top)[0]
    for across in range(last + 1):
        y = min(grid.x(across) * slope.byte_per_s, top)
        before = grid.x(across - 1) * slope.byte_per_s if across else y
        if y >= grid.span.bottom and (main or across % 3):
            here = grid.spot(grid.span.left, y)[1]
            there = grid.spot(grid.span.left, min(y, max(before, grid.span.bottom)))[1]
            for down in range(here, max(here + 1, there)):
                grid.dot(across, down)


def _roof(grid: Grid, card: Card, roof: Roof) -> None:
    first, down = grid.spot(card.ridge(roof), roof.flop_per_s)
    for across in range(first, grid.columns):
        grid.dot(across, down)


def _marks(grid: Grid, card: Card) -> dict[tuple[str, str, float], str]:
    """Assigns a letter to each cell with kernels, from left to right."""
    placed = sorted((p for p in card.points if p.flop_per_s), key=lambda point: (point.intensity, point.height))
    cells = dict.fromkeys(grid.cell(point.intensity, point.height) for point in placed)
    letters = dict(zip(cells, ascii_letters.ljust(len(cells), MANY), strict=False))
    grid.characters.update(letters)
    return {_key(point): letters[grid.cell(point.intensity, point.height)] for point in placed}


def _key(point: Point) -> tuple[str, str, float]:
    return point.group, point.name, point.intensity


def _names(grid: Grid, card: Card) -> None:
    """Writes the names of roofs at their right ends and of slopes beside them, if there is space."""
    for roof in card.roofs:
        name = f"{roof.name} {brief(roof.flop_per_s, 'FLOP/s')}"
        row = grid.cell(grid.span.right, roof.flop_per_s)[1]
        any(grid.write(grid.width - len(name), row + shift, name) for shift in (-1, 1))
    for slope in card.slopes:
        name = f"{slope.name} {brief(slope.byte_per_s, 'B/s')}"
        left = slope is not card.slopes[0] or len(card.slopes) == 1
        any(grid.write(start, row, name) for start, row in _beside(grid, slope, len(name), left))


def _beside(grid: Grid, slope: Slope, length: int, left: bool) -> Iterator[Cell]:
    """Yields where a name may start beside a slope, from its middle outwards."""
    for row in sorted(range(1, HEIGHT - 1), key=lambda row: abs(row - HEIGHT * 0.55)):
        found = [column for column in range(grid.width) if (column, row) in grid.dots]
        y = grid.span.top * (grid.span.bottom / grid.span.top) ** ((4 * row + 1.5) / (4 * HEIGHT - 1))
        column = grid.cell(max(grid.span.left, y / slope.byte_per_s), y)[0]
        if column in found:
            yield (column - length - 2 if left else column + 4), row


def _framed(grid: Grid) -> list[str]:
    """Returns the chart with its axes: FLOP/s upwards, FLOP/byte to the right."""
    span = grid.span
    labels = {grid.cell(span.left, y)[1]: brief(y) for y in decades(span.bottom, span.top)}
    lines = ["FLOP/s"]
    for row in range(HEIGHT):
        label = labels.get(row, "")
        lines.append(f"{label:>{MARGIN - 2}} {'┤' if label else '│'}{grid.line(row)}".rstrip())
    ticks, names = ["─"] * grid.width, [" "] * (grid.width + MARGIN)
    for x in decades(span.left, span.right):
        column, text = grid.cell(x, span.bottom)[0], decade(x)
        ticks[column] = "┴"
        start = min(column + MARGIN - 1 - len(text) // 2, len(names) - len(text))
        names[start : start + len(text)] = text
    if not "".join(names[-8:]).strip():
        names[-6:] = "FLOP/B"
    return [*lines, " " * (MARGIN - 1) + "└" + "".join(ticks), "".join(names).rstrip()]


def _ceilings(card: Card) -> Sheet:
    """Returns each slope with its bandwidth, and each roof with its peak and ridge."""
    rows: list[tuple[str, str, float | None]]
    rows = [(slope.name, scaled(slope.byte_per_s, "B/s", 4), None) for slope in card.slopes]
    rows += [(roof.name, scaled(roof.flop_per_s, "FLOP/s", 4), card.ridge(roof)) for roof in card.roofs]
    columns = [
        Column("name", "roof", lambda row: row[0], right=False),
        Column("peak", "peak", lambda row: row[1]),
        Column("ridge", "ridge FLOP/B", lambda row: row[2], lambda value: significant(value, 4)),
    ]
    return Sheet(columns, rows)


MEASURED_COLUMNS = (
    Column("measured_s", "measured", lambda point: point.measured_s, lambda v: scaled(v, "s", 4), expendable=2),
    Column(
        "reached", "achieved", lambda p: p.reached if p.kind == MEASURED else None, lambda v: scaled(v, "FLOP/s", 4)
    ),
    Column("of_bound", "of bound", lambda point: point.of_bound, lambda value: f"{100 * value:.1f} %"),
)
RANKS = {"flop_per_s": 6, "expected_s": 5, "bound": 4}  # ranks of hiding of columns beside measured ones
MEASURED_NOTE = "Achieved: FLOPs / measured time. Of bound: minimum time / measured time. Measured points are drawn at the achieved FLOP/s."


def _less(column: Column) -> Column:
    """Returns a column as it stands beside the measured ones: hidden before them, and with long names wrapped."""
    return column._replace(
        expendable=RANKS.get(column.key, column.expendable), wraps=None if column.key == "name" else column.wraps
    )


def _kernels(card: Card, marks: dict[tuple[str, str, float], str]) -> Sheet:
    """Returns each kernel with its letter, bottleneck, attainable FLOP/s and share of its roof."""
    columns = [
        Column("name", "kernel", lambda point: point.name, right=False, wraps=False),
        Column("mark", "mark", lambda point: marks.get(_key(point)), right=False),
        Column("group", "workload", lambda point: point.group, right=False, expendable=3),
        Column("intensity", "FLOP/B", lambda point: point.intensity, significant),
        Column("bound", "bottleneck", lambda point: point.bound, right=False),
        Column("flop_per_s", "attainable", lambda point: point.flop_per_s or None, lambda v: scaled(v, "FLOP/s", 4)),
        Column("expected_s", "expected", lambda point: point.expected_s, lambda v: scaled(v, "s", 4), expendable=1),
        Column("of_peak", "share of roof", card.of_peak, lambda value: f"{100 * value:.1f} %", expendable=2),
        Column("roof", "roof", lambda point: point.roof, right=False, expendable=4),
    ]
    measured = [point for point in card.points if point.kind == MEASURED]
    if measured:
        columns = [_less(column) for column in columns if column.key not in ("of_peak", "roof")]
        columns += MEASURED_COLUMNS
        if not any(point.expected_s for point in card.points):
            columns = [column for column in columns if column.key != "expected_s"]
    if len({point.group for point in card.points}) < 2:
        columns = [column for column in columns if column.key != "group"]
    zeros = unplaced([card])
    ours = [point for point in card.points if point.kind != MEASURED]
    timed = [protocol_line(PROTOCOL)] if any(point.expected_s for point in ours) else []
    timed += ["Letters on the chart are at the expected FLOP/s."] if any(point.reached for point in ours) else []
    timed += [MEASURED_NOTE] if measured else []
    notes = [*card.notes, *timed, *(f"No FLOPs, so not on the chart: {', '.join(zeros)}." for _ in zeros[:1])]
    return Sheet(columns, card.points, notes=notes)
