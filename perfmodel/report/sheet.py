"""A sheet: rows under columns, shown as a terminal table, CSV, Markdown or JSON.

A column knows the raw value (for CSV and JSON) and how people read it (for tables). A terminal that is too narrow for
all columns loses the least important ones first, and says so.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, the raw value of a row, how it is shown, and how early it goes when space is short (0: never)."""

    key: str
    heading: str
    value: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    right: bool = True
    expendable: int = 0


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a table shows: a title, columns, rows, a closing row of sums, and notes below."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    title: str = ""
    total: Any = None
    notes: Sequence[str] = field(default_factory=tuple)

    def cells(self, row: Any, columns: Iterable[Column] | None = None) -> list[str]:
        """A row as people read it."""
        return [shown(column, row) for column in columns or self.columns]


def shown(column: Column, row: Any) -> str:
    """One cell; nothing where there is no value."""
    value = column.value(row)
    return "" if value is None else column.show(value)


def render(sheet: Sheet, form: str, width: int | None = None) -> str:
    """The sheet as text that ends in a line break."""
    if form == "table":
        return table(sheet, width)
    if form == "csv":
        return as_csv(sheet)
    if form == "markdown":
        return markdown(sheet)
    return json.dumps([{c.key: c.value(row) for c in sheet.columns} for row in sheet.rows], indent=2) + "\n"


def as_csv(sheet: Sheet) -> str:
    """Raw values under the columns' keys; no title, sums or notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in sheet.columns])
    writer.writerows([[column.value(row) for column in sheet.columns] for row in sheet.rows])
    return text.getvalue()


def markdown(sheet: Sheet) -> str:
    """A pipe table, with the title above and the notes below."""
    rows = [*sheet.rows, *([sheet.total] if sheet.total is not None else [])]
    lines = [f"**{sheet.title}**", ""] if sheet.title else []
    lines.append("| " + " | ".join(column.heading for column in sheet.columns) + " |")
    lines.append("| " + " | ".join("---:" if column.right else "---" for column in sheet.columns) + " |")
    lines.extend("| " + " | ".join(cell.replace("|", "\\|") for cell in sheet.cells(row)) + " |" for row in rows)
    lines.extend(["", *sheet.notes] if sheet.notes else [])
    return "\n".join(lines) + "\n"


def terminal_width() -> int:
    """Columns of the terminal; 120 where the output goes to a file."""
    import os
    import sys
    from shutil import get_terminal_size

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return max(40, get_terminal_size((120, 24)).columns) if known else 120


def fitting(sheet: Sheet, width: int) -> list[Column]:
    """The columns that fit, the most expendable gone first."""
    rows = [*sheet.rows, *([sheet.total] if sheet.total is not None else [])]
    widths = {
        column.key: max(len(line) for line in (*column.heading.split("\n"), *(shown(column, row) for row in rows)))
        for column in sheet.columns
    }
    columns = list(sheet.columns)
    while sum(widths[column.key] + 2 for column in columns) > width + 2 and any(c.expendable for c in columns):
        columns.remove(max(columns, key=lambda column: column.expendable))
    return columns


def table(sheet: Sheet, width: int | None = None) -> str:
    """A terminal table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = width or terminal_width()
    columns = fitting(sheet, width)
    grid = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=sheet.total is not None, padding=(0, 1, 0, 0)
    )
    for column in columns:
        footer = shown(column, sheet.total) if sheet.total is not None else ""
        first = column is columns[0]
        grid.add_column(
            Text(column.heading), footer=Text(footer), justify="right" if column.right else "left",
            overflow="fold" if first else "ellipsis", no_wrap=not first and column.right,
        )  # fmt: skip
    for row in sheet.rows:
        grid.add_row(*(Text(cell) for cell in sheet.cells(row, columns)))
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False, emoji=False, force_terminal=False)
    if sheet.title:
        console.print(Text(sheet.title, style="bold"))
        console.print()
    console.print(grid)
    gone = [column.heading.replace("\n", " ") for column in sheet.columns if column not in columns]
    notes = [*sheet.notes]
    if gone:
        notes.append(f"Too narrow for: {', '.join(gone)}. A wider terminal, --format csv or json shows them.")
    if notes:
        console.print()
    for note in notes:
        console.print(Text(note, style="dim"))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
