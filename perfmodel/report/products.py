"""The number of matrix products as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from typing import Any

from perfmodel.products import Line, Products
from perfmodel.report.answer import SCHEMA
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet


def render(found: Products, form: str) -> str:
    """Returns the counts in the given format, with a final line break."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(found), indent=2) + "\n"
    return render_sheet(sheet(found), form)


def sheet(found: Products) -> Sheet:
    """Returns one line per kernel that is a matrix product, and the totals over all repeats."""
    columns = [
        Column("name", "step", lambda line: line.name, right=False, wraps=False),
        Column("repeat", "×", lambda line: line.repeat),
        Column("products", "products", lambda line: line.products),
        Column("formula", "one for each head", _formula, right=False),
        Column("by_head", "count", lambda line: line.by_head, "{:,}".format),
    ]
    if all(line.repeat == 1 for line in found.lines):
        del columns[1]
    total = _Total(found)
    return Sheet(columns, found.lines, title=f"{found.workload.title}: matrix products, {found.phase}",
                 total=total, notes=_notes(found))  # fmt: skip


class _Total:
    """The last line: sums over all repeats."""

    def __init__(self, found: Products) -> None:
        self.name, self.repeat, self.products, self.by_head = "total", None, found.products, found.by_head
        self.heads, self.terms = "", found.terms


def _formula(line: Line | _Total) -> str:
    terms = line.terms if isinstance(line, _Total) else {line.heads: line.products}
    return " + ".join(f"{count} {name}".strip() if count > 1 or not name else name for name, count in terms.items())


def _notes(found: Products) -> list[str]:
    heads = ", ".join(f"{name} = {found.dims[name]}" for name in found.terms if name)
    sizes = [f"Heads: {heads}."] if heads else []
    return [*sizes, "Unfused form. A product for all sequences of a batch, or for all experts, counts once."]


def document(found: Products) -> dict[str, Any]:
    """Returns the JSON document of ``flops --products``."""
    return {
        "schema": SCHEMA,
        "config": found.workload.name,
        "phase": found.phase,
        "steps": [line._asdict() for line in found.lines],
        "total": {"products": found.products, "by_head": found.by_head},
    }
