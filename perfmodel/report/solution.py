"""Crossings as text and JSON."""

from __future__ import annotations

from typing import Any

from perfmodel import symbolic
from perfmodel.report.answer import SCHEMA, gpu_document, roofs_line, sizes_line
from perfmodel.report.sheet import terminal_width, wrapped
from perfmodel.solve import Answer, Crossing, Solution
from perfmodel.units import significant


def render(solution: Solution, form: str) -> str:
    """The solution in the form asked for, ending in a line break."""
    if form == "json":
        import json

        return json.dumps(document(solution), indent=2) + "\n"
    return page(solution)


def document(solution: Solution) -> dict[str, Any]:
    """The JSON document of ``solve``."""
    return {
        "schema": SCHEMA,
        "workload": solution.workload.name,
        "gpu": gpu_document(solution.card.gpu),
        "dtype": solution.card.dtype,
        "symbol": solution.name,
        "value": solution.own,
        "fused": solution.fused,
        "dims": {name: _plain(value) for name, value in solution.sizes.items() if value is not None},
        "answers": [
            {
                "name": answer.name,
                "bound": answer.here,
                "crossings": [_crossing(crossing) for crossing in answer.crossings],
                "reason": answer.reason,
            }
            for answer in solution.answers
        ],
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else symbolic.words(value)


def _crossing(crossing: Crossing) -> dict[str, Any]:
    form = crossing.closed_form
    return {
        "engine": crossing.engine,
        "ridge_flop_per_byte": crossing.ridge_flop_per_byte,
        "closed_form": symbolic.words(form) if form is not None else None,
        "latex": symbolic.latex(form) if form is not None else None,
        "at": crossing.at,
        "largest_below": crossing.below,
        "bound_below": crossing.bound_below,
        "smallest_above": crossing.above,
        "bound_above": crossing.bound_above,
    }


def page(solution: Solution) -> str:
    """A few lines for each kernel: formula, value, and the whole sizes on either side."""
    card, width = solution.card, terminal_width()
    form = "fused" if solution.fused else "unfused"
    lines = wrapped(f"{solution.workload.title}: solved for {solution.name}, {form}, on {card.gpu.title}", width)
    lines.append("")
    for answer in solution.answers:
        lines += _answer(answer, solution, width)
    lines.append("")
    shown = {name: value if isinstance(value, int) else symbolic.text(value) for name, value in solution.sizes.items()}
    lines += wrapped(sizes_line(shown), width) if sizes_line(shown) else []
    lines += wrapped(roofs_line(card), width)
    if any(crossing.closed_form is not None for answer in solution.answers for crossing in answer.crossings):
        lines += wrapped("I is the ridge in FLOP/B, b the bytes per element.", width)
    return "\n".join(lines) + "\n"


def _answer(answer: Answer, solution: Solution, width: int) -> list[str]:
    name = solution.name
    here = f" ({answer.here}-bound at {name} = {solution.own})" if answer.here else ""
    lines = wrapped(f"{answer.name}{here}", width)
    if answer.reason:
        lines += [f"  {line}" for line in wrapped(answer.reason, width - 2)]
    for crossing in answer.crossings:
        if crossing.closed_form is not None:
            text = f"{name} = {symbolic.text(crossing.closed_form)} = {significant(crossing.at, 6)}"
        else:
            text = f"{name} = {significant(crossing.at, 6)} (no short closed form)"
        lines += [f"  {line}" for line in wrapped(text, width - 2)]
        lines += [f"  {line}" for line in wrapped(_sides(crossing, name), width - 2)]
    return lines


def _sides(crossing: Crossing, name: str) -> str:
    """``N = 3328: memory-bound; N = 3329: tensor-bound``, with what the sizes between them lack."""
    sides = ((crossing.below, crossing.bound_below), (crossing.above, crossing.bound_above))
    text = "; ".join(f"{name} = {value}: {bound}-bound" for value, bound in sides)
    note = " (sizes between them do not divide)" if crossing.above - crossing.below > 1 else ""
    return f"{text}{note}; against the {crossing.engine} roof, I = {crossing.ridge_flop_per_byte:.4g} FLOP/B"
