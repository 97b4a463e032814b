"""The HTML page of a validation: the kernels on the card's roofline, the errors by operation, the list of cases."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.chart import MEASURED, Card, Point, card
from perfmodel.explorer import charting
from perfmodel.hardware import Gpu
from perfmodel.report import trace
from perfmodel.report.html import document, escape, roofline, section
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.validation import cases_sheet, summary_sheet
from perfmodel.step_cases import case_name
from perfmodel.units import ITEM_BYTES
from perfmodel.validation import Compared, Outcome

# The roofline and the filter are those of the page of a trace.
_SHARED = os.path.dirname(trace.__file__)
SCRIPTS = tuple(os.path.join(_SHARED, name) for name in ("roofline.js", "kernels.js"))
STYLE = os.path.join(_SHARED, "page.css")
LEAST = 1e-3  # FLOP per byte: kernels below stand at the left edge of the roofline
INTRO = "Kernels by arithmetic intensity and by the rate that they reached; the area of a dot is its time, and a line leads up to its bound."
TYPES = 2  # whose peaks are drawn: those of most cases


def page(found: Outcome, environment: Mapping[str, Any], gpu: Gpu) -> str:
    """Returns the page as one HTML document."""
    cases, summary, shown = cases_sheet(found, environment, gpu), summary_sheet(found), _roofline(found, gpu)
    body = [
        f"<header><div><h1>Validation on {escape(gpu.title)}</h1><p class='sub'>{escape(cases.title)}</p></div>"
        "<button type='button' data-theme-toggle>Light / dark</button></header>",
        "<main>",
        *([roofline(INTRO)] if shown.points else []),
        section(summary.title, _table(summary), "Error is expected / measured − 1."),
        _cases(cases),
        "</main>",
        f"<footer><p class='note'>{' '.join(map(escape, (*summary.notes, *cases.notes)))}</p></footer>",
    ]
    scripts = (charting.SCRIPT, *SCRIPTS) if shown.points else SCRIPTS[1:]
    drawing = charting.drawing([shown]) if shown.points else ""
    return document(f"Validation on {gpu.title}", body, {}, scripts, (STYLE, charting.STYLE), drawing)


def _cases(sheet: Sheet) -> str:
    tools = (
        "<div class='tools'><label class='visually-hidden' for='kernel-filter'>Filter the cases</label>"
        "<input id='kernel-filter' type='search' placeholder='Filter: matmul bf16 cold'><output id='kernel-count'></output></div>"
    )
    return section(
        "Cases", tools + _table(sheet, "kernel-table"), "“Of roofline” is the lower bound divided by the measured time."
    )


def _table(sheet: Sheet, ident: str = "") -> str:
    """A sheet as a table that sorts."""
    heads = "".join(
        f"<th{' class=n' if one.right else ''}><button type='button'>{escape(one.heading)}</button></th>"
        for one in sheet.columns
    )
    lines = []
    for row in sheet.rows:
        texts = sheet.cells(row)
        cells = "".join(_cell(one, row, text) for one, text in zip(sheet.columns, texts, strict=True))
        lines.append(f"<tr data-text='{escape(' '.join(texts).lower())}'>{cells}</tr>")
    name = f" id='{ident}'" if ident else ""
    return (
        f"<div class='scroll'><table class='sorts'{name}><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(column: Column, row: Any, text: str) -> str:
    value = column.value(row)
    if isinstance(value, (int, float)):
        return f"<td class='n' data-value='{value}'>{escape(text)}</td>"
    return f"<td{' class=n' if column.right else ''}>{escape(text)}</td>"


def _roofline(found: Outcome, gpu: Gpu) -> Card:
    """The card's roofs for the types of most cases, and the cases that compute as points."""
    done = [one for one in found.cases if not one.failed and one.measured_s and one.prediction.total is not None]
    types = [str(one.record.get("dtype", "fp16")) for one in done]
    often = sorted({one for one in types if one in ITEM_BYTES}, key=lambda name: (-types.count(name), name))
    whole_s = sum(one.measured_s or 0.0 for one in done)
    points = [_point(one, whole_s) for one in done if one.prediction.total and one.prediction.total.flops]
    return card(gpu, [], often[:TYPES] or ["fp16"])._replace(points=_largest(points))


def _largest(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points from the largest dot to the smallest, so that none hides another."""
    return tuple(sorted(points, key=lambda point: -(point.share or 0.0)))


def _point(one: Compared, whole_s: float) -> Point:
    total, measured_s = one.prediction.total, one.measured_s
    assert total is not None
    assert measured_s
    reached = total.flops / measured_s
    return Point(
        name=f"{case_name(one.record)} {one.record.get('dtype', '')}".strip(),
        intensity=max(total.intensity_flop_per_byte or 0.0, LEAST),
        flop_per_s=max(reached, total.flops / one.lower_s if one.lower_s else 0.0), kind=MEASURED,
        bound=total.bound or "unknown", reached=reached, share=measured_s / whole_s, measured_s=measured_s,
    )  # fmt: skip
