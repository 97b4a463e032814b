"""A sheet: rows and columns, shown as a terminal table, CSV, Markdown or JSON.

A column has the raw value (for CSV and JSON) and its text (for tables). On a terminal that is too narrow, the least
important columns are hidden, and a note names them. If numbers would have to be split, each row is listed as lines of
``heading: value``. Tables are drawn here and not by rich: importing its tables takes
half the import time of click and yaml, more than the start-up budget of ``flops`` allows.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from perfmodel.errors import UsageError, did_you_mean, printable
from perfmodel.errors import shown as quoted

# Assumed maximum width of a text column when columns are hidden: characters, and part of a narrow terminal's width.
COMFORTABLE, NARROW_PART = 28, 5
NARROWEST = 10  # a text column is wrapped to at least this width, or to its longest word
SMALL = 60  # on a narrower terminal, no column is hidden: rows that do not fit are listed line by line
BREAKS = re.compile(r"([._/-])")  # a long word is broken after one of these
WIDE = 140  # a terminal of this width also shows the columns marked ``wide``


class Column(NamedTuple):
    """A heading, the raw value of a row, its format, and its rank of hiding (0: never hidden; the highest rank first).

    ``wide`` columns are in a table only on a wide terminal or if ``--columns`` names them; CSV, JSON and Markdown
    always have them. ``wraps``: whether cells may be wrapped, by default those of left-aligned columns.
    """

    key: str
    heading: str
    value: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    right: bool = True
    expendable: int = 0
    wide: bool = False
    wraps: bool | None = None

    @property
    def wrapping(self) -> bool:
        """Whether the cells may be wrapped."""
        return not self.right if self.wraps is None else self.wraps


class Sheet(NamedTuple):
    """The content of a table: title, columns, rows, a last row of totals, and notes."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    title: str = ""
    total: Any = None
    notes: Sequence[str] = ()

    def cells(self, row: Any, columns: Iterable[Column] | None = None) -> list[str]:
        """Returns the formatted cells of a row."""
        return [shown(column, row) for column in columns or self.columns]

    def picked(self, keys: Sequence[str]) -> "Sheet":
        """Returns the sheet with only the columns of these keys, in this order; with all columns if there are no keys."""
        known = {column.key: column for column in self.columns}
        for key in keys:
            if key not in known:
                raise UsageError(
                    f"--columns {quoted(key)}", "it is not a column of this table",
                    f"{', '.join(known)} are accepted, separated by commas", did_you_mean(key, known),
                )  # fmt: skip
        return self._replace(columns=[known[key]._replace(wide=False, expendable=0) for key in keys] or self.columns)


def shown(column: Column, row: Any) -> str:
    """Returns one formatted cell; empty if there is no value."""
    value = column.value(row)
    return "" if value is None else one_line(column.show(value))


def one_line(text: str) -> str:
    """Returns text as one line without control characters."""
    return text if text.isprintable() else printable(text.strip("\n").replace("\n", " "))


def render(sheet: Sheet, form: str, width: int | None = None) -> str:
    """Returns the sheet as text, with a final line break."""
    if form == "table":
        return table(sheet, width)
    if form == "csv":
        return as_csv(sheet)
    if form == "markdown":
        return markdown(sheet)
    from perfmodel.strictjson import dumped

    return dumped([{c.key: c.value(row) for c in sheet.columns} for row in sheet.rows], indent=2) + "\n"


def as_csv(sheet: Sheet) -> str:
    """Returns raw values under the columns' keys, without title, totals or notes."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in sheet.columns])
    writer.writerows([[column.value(row) for column in sheet.columns] for row in sheet.rows])
    return text.getvalue()


def markdown(sheet: Sheet) -> str:
    """Returns a pipe table, with the title above and the notes below."""
    rows = [*sheet.rows, *([sheet.total] if sheet.total is not None else [])]
    lines = [f"**{one_line(sheet.title)}**", ""] if sheet.title else []
    lines.append("| " + " | ".join(column.heading for column in sheet.columns) + " |")
    lines.append("| " + " | ".join("---:" if column.right else "---" for column in sheet.columns) + " |")
    lines.extend("| " + " | ".join(cell.replace("|", "\\|") for cell in sheet.cells(row)) + " |" for row in rows)
    lines.extend(["", *map(one_line, sheet.notes)] if sheet.notes else [])
    return "\n".join(lines) + "\n"


def terminal_width() -> int:
    """Returns the width of the terminal in characters; 120 if the output is not a terminal."""
    import os
    import sys

    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return max(40, int(asked))
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns) if sys.stdout.isatty() else 120
    except (AttributeError, ValueError, OSError):  # stdout is closed or is not a terminal
        return 120


def fitting(sheet: Sheet, natural: Sequence[int], narrowest: Sequence[int], width: int) -> list[int]:
    """Returns the indices of the columns that fit; columns with the highest rank are hidden first."""
    text = min(COMFORTABLE, width // NARROW_PART)
    widths = [min(one, max(text, least)) for one, least in zip(natural, narrowest, strict=True)]
    kept = [i for i, column in enumerate(sheet.columns) if width >= WIDE or not column.wide]
    while sum(widths[i] + 2 for i in kept) > width + 2 and any(sheet.columns[i].expendable for i in kept):
        kept.remove(max(kept, key=lambda i: sheet.columns[i].expendable))
    return kept


def table(sheet: Sheet, width: int | None = None) -> str:
    """Returns a terminal table: heading, rows and totals, separated by rules; then the notes."""
    width = width or terminal_width()
    rows = [*sheet.rows, *([sheet.total] if sheet.total is not None else [])]
    every = [[column.heading, *(shown(column, row) for row in rows)] for column in sheet.columns]
    natural = [max(map(len, cells)) for cells in every]
    narrowest = [
        _narrowest(cells) if column.wrapping else max(map(len, cells))
        for column, cells in zip(sheet.columns, every, strict=True)
    ]
    kept = fitting(sheet, natural, narrowest, width)
    columns = [sheet.columns[i] for i in kept]
    gone = [c.heading for i, c in enumerate(sheet.columns) if i not in kept and not c.wide]
    least = [natural[i] if sheet.columns[i].right else min(natural[i], _narrowest(every[i])) for i in kept]
    if sum(least) + 2 * (len(least) - 1) > width or (width < SMALL and gone):
        return _listed(sheet, width)
    heading, *body = zip(*(every[i] for i in kept), strict=True) if kept else ((),)
    closing = [body.pop()] if sheet.total is not None else []
    widths = _squeezed([natural[i] for i in kept], least, columns, width)
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    right = [column.right for column in columns]
    lines = [*wrapped(one_line(sheet.title), width), ""] if sheet.title else []
    lines += [*_lines(heading, widths, right), rule]
    lines += [line for cells in body for line in _lines(cells, widths, right)]
    lines += [rule, *(line for cells in closing for line in _lines(cells, widths, right))] if closing else []
    notes = [*sheet.notes, *([f"Hidden columns: {', '.join(gone)} (widen the terminal)."] if gone else [])]
    return _ended(lines, notes, width)


def _ended(lines: Sequence[str], notes: Sequence[str], width: int) -> str:
    """Returns the lines and the notes as text."""
    lines = [*lines, *([""] if notes else []), *(line for note in notes for line in wrapped(one_line(note), width))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _listed(sheet: Sheet, width: int) -> str:
    """Returns the rows as lines of ``heading: value``, with an empty line between two rows, and the totals at the end."""
    rows = [*sheet.rows, *([sheet.total] if sheet.total is not None else [])]
    blocks = [wrapped(one_line(sheet.title), width)] if sheet.title else []
    for row in rows:
        pairs = ((column.heading, shown(column, row).strip()) for column in sheet.columns if not column.wide)
        blocks.append(
            [line for head, cell in pairs if cell for line in wrapped(f"{head}: {cell}" if head else cell, width)]
        )
    lines = [line for block in blocks for line in ("", *block)][1:]
    return _ended(lines, sheet.notes, width)


def _narrowest(cells: Sequence[str]) -> int:
    """Returns the minimum width of a text column that breaks no word."""
    words = (word for cell in cells for word in BREAKS.sub(r"\1 ", cell).split())
    return max(NARROWEST, *map(len, words), 0)


def _squeezed(natural: Sequence[int], narrowest: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """Returns widths that fit. Wrapping columns are narrowed first, then other left-aligned ones."""
    widths = list(natural)
    over = sum(widths) + 2 * (len(widths) - 1) - width
    stages = (
        {i: narrowest[i] for i, column in enumerate(columns) if column.wrapping},
        {i: narrowest[i] for i, column in enumerate(columns) if not column.right},
    )
    for stage in stages:
        while over > 0 and any(widths[i] > least for i, least in stage.items()):
            widths[max((i for i, least in stage.items() if widths[i] > least), key=lambda i: widths[i])] -= 1
            over -= 1
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Returns a row of cells as lines; a cell that is too long takes several lines."""
    if all(map(_fits, cells, widths)):
        return ["  ".join(map(_placed, cells, widths, right))]
    parts = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    rows = [[part[i] if i < len(part) else "" for part in parts] for i in range(max(map(len, parts)))]
    return ["  ".join(map(_placed, row, widths, right)) for row in rows]


def _fits(cell: str, width: int) -> bool:
    return len(cell) <= width and not cell.startswith(" ")


def _placed(cell: str, width: int, from_right: bool) -> str:
    return cell.rjust(width) if from_right else cell.ljust(width)


def wrapped(text: str, width: int) -> list[str]:
    """Returns lines of at most ``width`` characters, broken between words, or inside a word that is longer."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while len(lines[-1]) > width:
            cut = max((found.end() for found in BREAKS.finditer(lines[-1], 0, width)), default=0)
            lines[-1:] = [lines[-1][: cut or width], lines[-1][cut or width :]]
    return lines
