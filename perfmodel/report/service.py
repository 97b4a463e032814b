"""The figures of a serving stack as a table and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfmodel.report.answer import SCHEMA, gpu_document
from perfmodel.report.plans import render
from perfmodel.report.serving import number
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.views import Part, View
from perfmodel.roofline import rates
from perfmodel.service.answer import Service
from perfmodel.service.figures import Figure
from perfmodel.service.step import StepCost
from perfmodel.strictjson import dumped
from perfmodel.units import scaled, significant

__all__ = ["render", "view"]

MEANS = "All times are means. Arrivals are random and independent (a Poisson process). --verbose shows the formulas."


def view(found: Service, verbose: bool = False) -> View:
    """Returns the view of a service; with ``verbose``, every figure with its formula."""
    values = {figure.key: figure for figure in found.figures}
    first, token = (values.get(f"{name}_s", values[f"{name}_unloaded_s"]) for name in ("ttft", "tpot"))
    line = f"{found.workload.name} on {found.tp} x {found.gpu.name}: TTFT {_text(first)}, TPOT {_text(token)}"
    return View(line, lambda: _parts(found, verbose), lambda: dumped(_document(found), indent=2))


def _text(figure: Figure) -> str:
    if figure.unit in ("s", "B"):
        return scaled(figure.value, figure.unit, 4)
    if figure.unit == "share":
        return f"{significant(100 * figure.value, 4)} %"
    whole = float(figure.value).is_integer()
    return f"{figure.value:,.0f} {figure.unit}".rstrip() if whole else f"{number(figure.value)} {figure.unit}".rstrip()


def _parts(found: Service, verbose: bool) -> Iterator[Part]:
    columns = [
        Column("group", "", lambda figure: figure.group, right=False),
        Column("name", "figure", lambda figure: figure.name, right=False),
        Column("value", "value", _text),
        *([Column("formula", "formula", lambda figure: figure.formula, right=False)] if verbose else []),
    ]
    asked = found.request
    title = f"{found.workload.title}, served on {found.tp} x {found.gpu.title}"
    draft = f"; {asked.draft_length} proposed tokens, acceptance {asked.acceptance:g}" if found.speculation else ""
    chunk = f", chunks of {asked.chunk:,}" if asked.chunk else ""
    sizes = (
        f"Prompts of {asked.prompt:,} tokens{chunk}, outputs of {asked.output:,}{draft}. System: {found.system.name}."
    )
    card = rates(found.gpu, found.workload.dtypes["activation"])
    roofs = card.notes_of(step.operation.computes for step in found.workload.steps)
    notes = [sizes, *roofs, *(_terms(found) if verbose else [MEANS])]
    yield Sheet(columns, found.figures, title=title, notes=notes)


def _terms(found: Service) -> Iterator[str]:
    """Yields the terms of the two steps without load."""
    for name, step in (
        ("A step with the last part of a prompt", found.prompt),
        ("A decoding step of one sequence", found.decode),
    ):
        terms = ", ".join(f"{term.name} {scaled(term.seconds, 's', 3)}" for term in step.terms)
        yield f"{name}: {terms}. Lower bound {scaled(step.lower_s, 's', 4)}."


def _step_document(step: StepCost) -> dict[str, Any]:
    terms = [{"name": term.name, "seconds": term.seconds} for term in step.terms]
    return {**step._asdict(), "terms": terms}


def _document(found: Service) -> dict[str, Any]:
    """Returns the JSON document of ``serve``."""
    return {
        "schema": SCHEMA,
        "config": found.workload.name,
        "gpu": gpu_document(found.gpu),
        "system": found.system.name,
        "tp": found.tp,
        "request": found.request._asdict(),
        "rate_per_s": found.point.rate_per_s if found.point else None,
        "targets": {"ttft_s": found.targets.first_s, "tpot_s": found.targets.token_s},
        "steps": {"prompt": _step_document(found.prompt), "decode": _step_document(found.decode)},
        "figures": {figure.key: figure.value for figure in found.figures},
        "formulas": {figure.key: figure.formula for figure in found.figures},
    }
