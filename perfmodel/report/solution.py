"""Crossings as text and JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel import symbolic
from perfmodel.hardware import Gpu
from perfmodel.report.answer import SCHEMA, TOGETHER, card_lines, gpu_document, sizes_line
from perfmodel.report.sheet import Column, Sheet, terminal_width, wrapped
from perfmodel.solve import Answer, Crossing, Limit, Solution
from perfmodel.solve.algorithms import Crossover, figures
from perfmodel.units import UNSEPARATED, scaled, significant


def render(solution: Solution, form: str) -> str:
    """Returns the solution in the given format, with a final line break."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(solution), indent=2) + "\n"
    return page(solution)


def document(solution: Solution) -> dict[str, Any]:
    """Returns the JSON document of ``solve``."""
    return {
        "schema": SCHEMA,
        "workload": solution.workload.name,
        "gpu": gpu_document(solution.card.gpu),
        "roof_notes": list(_roof_notes(solution)),
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
                "enters": answer.enters,
                "left_out": answer.left_out,
            }
            for answer in solution.answers
        ],
        **({"crossovers": [_crossover(one) for one in solution.crossovers]} if solution.crossovers else {}),
    }


def _crossover(found: Crossover) -> dict[str, Any]:
    form = found.closed_form
    return {
        "below": found.below,
        "above": found.above,
        "closed_form": symbolic.words(form),
        "latex": symbolic.latex(form),
        "at_byte": found.at,
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
        "limit": _limit(crossing.limit) if crossing.limit else None,
    }


def _limit(limit: Limit) -> dict[str, Any]:
    form = limit.closed_form
    names = list(limit.names)
    return {"closed_form": symbolic.words(form), "latex": symbolic.latex(form), "at": limit.at, "as_these_grow": names}


def page(solution: Solution) -> str:
    """Returns a few lines per kernel: formula, value, and the nearest whole sizes on both sides."""
    card, width = solution.card, terminal_width()
    form = "fused" if solution.fused else "unfused"
    lines = wrapped(f"{solution.workload.title}: solved for {solution.name}, {form}, on {card.gpu.title}", width)
    lines.append("")
    for answer in solution.answers:
        lines += _answer(answer, solution, width)
    lines += [f"  {line}" for text in algorithms(solution.crossovers) for line in wrapped(text, width - 2)]
    lines += ["", *(line for note in _notes(solution) for line in wrapped(note, width))]
    return "\n".join(lines) + "\n"


def algorithms(found: tuple[Crossover, ...], show: Callable[[Any], str] = symbolic.text) -> list[str]:
    """Returns one line per pair of algorithms: the size of the tensor at which the second becomes the faster one."""
    return [
        f"{one.below} below, {one.above} above: byte = {show(one.closed_form)}"
        + (f" = {scaled(one.at, 'B', 4)}" if one.at is not None else "")
        for one in found
    ]


def link_note(gpu: Gpu) -> str:
    """Returns the meaning of the letters in crossovers, with their values on a card."""
    latency_s, rate = figures(gpu)
    return (
        f"A step takes latency = {scaled(latency_s, 's', 3)}, and a link moves rate = {scaled(rate, 'B/s', 4)} in one direction. "
        "Crossovers compare steps x latency + bytes / rate; a library reaches less of the rate."
    )


def _roof_notes(solution: Solution) -> tuple[str, ...]:
    """Returns the types that the card lacks, and the rates at which their work runs instead."""
    return solution.card.notes_of(step.operation.computes for step in solution.workload.steps)


def _notes(solution: Solution) -> list[str]:
    """Returns sizes, roofs, and the meaning of letters in the formulas."""
    shown = {name: value if isinstance(value, int) else symbolic.text(value) for name, value in solution.sizes.items()}
    together = TOGETHER if solution.many else ""
    links = link_note(solution.card.gpu) if solution.crossovers else ""
    notes = [
        links,
        sizes_line(shown),
        *card_lines(solution.sizes, solution.card, _roof_notes(solution)),
        together,
        _letters(solution),
    ]
    return [note for note in notes if note]


def _letters(solution: Solution) -> str:
    """Returns the meaning of letters that are not in the notation table."""
    crossings = [crossing for answer in solution.answers for crossing in answer.crossings]
    found = [crossing.closed_form for crossing in crossings if crossing.closed_form is not None]
    meanings = {
        symbolic.RIDGE: "I is the ridge in FLOP/B",
        symbolic.symbol(symbolic.BYTES): "b is the number of bytes per element",
    }
    said = [meaning for letter, meaning in meanings.items() if any(form.has(letter) for form in found)]
    return f"{', '.join(said)}." if said else ""


def _answer(answer: Answer, solution: Solution, width: int) -> list[str]:
    name = solution.name
    here = f" ({answer.here}-bound at {name} = {solution.own})" if answer.here else ""
    lines = wrapped(f"{answer.name}{here}", width)
    if answer.reason:
        lines += [f"  {line}" for line in wrapped(answer.reason, width - 2)]
    for crossing in answer.crossings:
        if crossing.closed_form is not None:
            text = f"{name} = {symbolic.text(crossing.closed_form)} = {significant(crossing.at, 6, UNSEPARATED)}"
        else:
            text = f"{name} = {significant(crossing.at, 6, UNSEPARATED)} (no short closed form)"
        texts = [text, *([_tends(crossing.limit)] if crossing.limit else []), _sides(crossing, name)]
        lines += [f"  {line}" for text in texts for line in wrapped(text, width - 2)]
    if answer.left_out:
        lines += [f"  {line}" for line in wrapped(answer.left_out, width - 2)]
    return lines


def _tends(limit: Limit) -> str:
    """Returns the limit as text: ``-> b I / 2 = 208 for wide layers (large D_in and D_out)``"""
    *first, last = limit.names
    large = f"large {', '.join(first)} and {last}" if first else f"large {last}"
    when = f"wide layers ({large})" if limit.trained else large
    return f"-> {symbolic.text(limit.closed_form)} = {significant(limit.at, 6, UNSEPARATED)} for {when}"


def _sides(crossing: Crossing, name: str) -> str:
    """Returns the sizes on both sides: ``N = 3328: memory-bound; N = 3329: tensor-bound``."""
    sides = ((crossing.below, crossing.bound_below), (crossing.above, crossing.bound_above))
    text = "; ".join(f"{name} = {value}: {bound}-bound" for value, bound in sides)
    note = " (sizes between them are not divisible)" if crossing.above - crossing.below > 1 else ""
    return f"{text}{note}; at the {crossing.engine} roof, I = {crossing.ridge_flop_per_byte:.4g} FLOP/B"


def sheet(solution: Solution) -> Sheet:
    """Returns one line per crossing; for a kernel without crossings, one line with the reason."""
    name = solution.name
    rows = [
        (answer, crossing)
        for answer in solution.answers
        for crossing in (answer.crossings or (None,))
    ]  # fmt: skip

    def of(key: str) -> Callable[[tuple[Answer, Crossing | None]], Any]:
        return lambda row: getattr(row[1], key) if row[1] is not None else None

    columns = [
        Column("name", "kernel", lambda row: row[0].name, right=False),
        Column("bound", f"bound at {name} = {solution.own}" if solution.own else "bound", lambda row: row[0].here, right=False),
        Column("engine", "roof", of("engine"), right=False),
        Column("closed_form", f"{name} =", of("closed_form"), symbolic.text, right=False),
        Column("at", name, of("at"), lambda value: significant(value, 6, UNSEPARATED)),
        Column("largest_below", "up to", of("below")),
        Column("bound_below", "bound", of("bound_below"), right=False),
        Column("smallest_above", "from", of("above")),
        Column("bound_above", "bound", of("bound_above"), right=False),
        Column("reason", "reason", lambda row: row[0].reason or None, right=False),
        Column("left_out", "not listed", lambda row: row[0].left_out or None, right=False),
    ]  # fmt: skip
    form = "fused" if solution.fused else "unfused"
    title = f"{solution.workload.title}: solved for {name}, {form}, on {solution.card.gpu.title}"
    return Sheet(columns, rows, title=title, notes=_notes(solution))


def named(solution: Solution) -> list[tuple[str, Any]]:
    """Returns the closed forms by kernel and roof."""
    return [
        (f"{answer.name}, {crossing.engine} roof: {solution.name}", crossing.closed_form)
        for answer in solution.answers
        for crossing in answer.crossings
        if crossing.closed_form is not None
    ]
