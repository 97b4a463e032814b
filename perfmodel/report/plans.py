"""Estimates of plans, scaling and searches as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perfmodel.plans.estimate import Estimate
from perfmodel.plans.scaling import Point, Scaling
from perfmodel.plans.search import Found, Loss
from perfmodel.plans.step import Model
from perfmodel.report.answer import SCHEMA, dtypes_line, gpu_document, sizes_line
from perfmodel.report.sheet import Column, Sheet, terminal_width, wrapped
from perfmodel.report.sheet import render as render_sheet
from perfmodel.report.views import Part, View
from perfmodel.roofline import rates
from perfmodel.units import scaled, significant

PAIR = (
    "Lower: data-sheet rates, all communication hidden. No overlap: data-sheet rates, no communication hidden. Expected: the "
    "time model, with the overlap that frameworks reach."
)
EXPECTED = "Expected: the time model, with the overlap that frameworks reach. JSON also has the bounds of each plan."
RUN_TOKENS = 10**12


def _seconds(value: float) -> str:
    return scaled(value, "s", 4)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bytes(value: float) -> str:
    return scaled(value, "B", 4)


def _sizes(model: Model) -> list[str]:
    """Returns the sizes of the workload and its data types, in a sentence each."""
    dims = {name: size for name, size in model.dims.items() if name != "causal"}
    return [*filter(None, [sizes_line(dims)]), dtypes_line(model.workload.dtypes)]


def _microbatch(model: Model, given: Estimate) -> list[str]:
    """Returns a note on the default microbatch of training."""
    if not model.train or given.plan.microbatch > 1:
        return []
    return ["The microbatch is 1 unless --microbatch is given; larger ones are faster where they fit."]


# --- JSON


def plan_document(found: Estimate) -> dict[str, Any]:
    """Returns one plan with its figures, the fields that all documents of plans share."""
    return {
        "gpus": found.plan.gpus,
        "plan": found.plan._asdict(),
        "microbatches": found.microbatches,
        "lower_s": found.lower_s,
        "expected_s": found.expected_s,
        "no_overlap_s": found.no_overlap_s,
        "tokens_per_s": found.tokens_per_s,
        "mfu": found.mfu,
        "memory_byte": found.memory_byte,
        "fits": found.fits,
        "communication_s": {"exposed": found.exposed_s, "total": found.communication_s},
        "bubble_s": found.bubble_s,
        "terms": [{"name": term.name, "seconds": term.seconds} for term in found.terms],
        "memory": [{"name": line.name, "byte": line.byte_per_gpu, "formula": line.formula} for line in found.lines],
        "notes": list(found.notes),
    }


def _head(model: Model) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "config": model.workload.name,
        "phase": model.phase,
        "gpu": gpu_document(model.gpu),
        "system": model.system.name if model.system else None,
        "dims": {name: value for name, value in model.dims.items() if name != "causal"},
    }


def estimate_document(model: Model, found: Estimate) -> dict[str, Any]:
    """Returns the JSON document of ``flops`` with a plan."""
    return {**_head(model), **plan_document(found)}


def scaling_document(answer: Scaling) -> dict[str, Any]:
    """Returns the JSON document of ``scale``."""
    points = [
        {**plan_document(one.estimate), "speedup": one.speedup, "efficiency": one.efficiency} for one in answer.points
    ]
    half = {"gpus": answer.half.gpus, "because": answer.because} if answer.half else None
    return {
        **_head(answer.model), "scaling": "strong" if answer.strong else "weak", "points": points,
        "laws": [law._asdict() for law in answer.laws], "below_half": half, "skipped": list(answer.skipped),
    }  # fmt: skip


def search_document(answer: Found) -> dict[str, Any]:
    """Returns the JSON document of ``plan``."""
    return {
        **_head(answer.model), "gpus": answer.gpus, "objective": answer.objective, "legal": answer.legal,
        "fitting": answer.fitting, "best": [plan_document(one) for one in answer.best],
        "pareto": [plan_document(one) for one in answer.pareto],
        "runners_up": [
            {"axis": loss.axis, **plan_document(loss.estimate), "differs_byte": loss.byte,
             "differs": [{"name": name, "seconds": seconds} for name, seconds in loss.terms]}
            for loss in answer.losses
        ],
        "money": answer.money._asdict(),
    }  # fmt: skip


# --- tables


def estimate_parts(model: Model, found: Estimate) -> Iterator[Part]:
    """Yields the terms of the time, the memory of a rank, and notes."""
    whole = found.expected_s
    columns = [
        Column("name", "term", lambda term: term.name, right=False),
        Column("seconds", "time", lambda term: term.seconds, _seconds),
        Column("share", "share", lambda term: term.seconds / whole, _percent),
    ]
    title = f"{model.workload.title}, {model.phase}, {found.plan.gpus} x {model.gpu.title}: {found.plan.words}"
    notes = [*_sizes(model), *_microbatch(model, found), *found.notes, *_roofs(model), PAIR]
    yield Sheet(columns, found.terms, title=title)
    yield (f"Expected {_seconds(whole)}; lower {_seconds(found.lower_s)}, no overlap {_seconds(found.no_overlap_s)}. "
           f"{significant(found.tokens_per_s, 4)} tokens/s, {_percent(found.mfu)} of the peak.")  # fmt: skip
    memory = [
        Column("name", "memory of a rank", lambda line: line.name, right=False),
        Column("byte", "bytes", lambda line: line.byte_per_gpu, _bytes),
        Column("formula", "formula", lambda line: line.formula, right=False),
    ]
    yield Sheet(memory, found.lines, notes=notes)
    verdict = "It fits" if found.fits else "It does not fit"
    yield f"{verdict}: {_bytes(found.memory_byte)} of {_bytes(found.room_byte or 0)} available."


def _roofs(model: Model) -> tuple[str, ...]:
    """Returns the types that the card lacks, and the rates at which their work runs instead."""
    card = rates(model.gpu, model.workload.dtypes["activation"])
    return card.notes_of(step.operation.computes for step in model.workload.steps_in(model.phase))


def _plans_sheet(found: Sequence[Estimate], title: str) -> Sheet:
    columns = [
        Column("plan", "plan", lambda one: one.plan.words, right=False),
        Column("gpus", "GPUs", lambda one: one.plan.gpus, str),
        Column("expected_s", "expected", lambda one: one.expected_s, _seconds),
        Column("tokens_per_s", "tokens/s", lambda one: one.tokens_per_s, lambda v: significant(v, 4), expendable=1),
        Column("mfu", "MFU", lambda one: one.mfu, _percent),
        Column("memory_byte", "memory", lambda one: one.memory_byte, _bytes),
        Column("exposed_s", "exposed", lambda one: one.exposed_s, _seconds, expendable=2),
        Column("bubble_s", "bubble", lambda one: one.bubble_s, _seconds, expendable=3),
    ]
    return Sheet(columns, found, title=title)


def scaling_parts(answer: Scaling) -> Iterator[Part]:
    """Yields the points, the fitted law, and where the efficiency falls below one half."""
    model = answer.model
    columns = [
        Column("gpus", "GPUs", lambda one: one.gpus, str),
        Column("plan", "plan", lambda one: one.estimate.plan.words, right=False, expendable=3),
        Column("expected_s", "expected", lambda one: one.estimate.expected_s, _seconds),
        Column("speedup", "speed-up", lambda one: one.speedup, lambda v: significant(v, 4)),
        Column("efficiency", "efficiency", lambda one: one.efficiency, _percent),
        Column("mfu", "MFU", lambda one: one.estimate.mfu, _percent, expendable=1),
        Column("memory_byte", "memory", lambda one: one.estimate.memory_byte, _bytes, expendable=2),
        Column("fits", "fits", lambda one: "yes" if one.estimate.fits else "no", right=False),
        Column("exposed_s", "exposed", lambda one: one.estimate.exposed_s, _seconds, expendable=4),
        Column("bubble_s", "bubble", lambda one: one.estimate.bubble_s, _seconds, expendable=5),
    ]
    kind = "Strong" if answer.strong else "Weak"
    title = f"{kind} scaling of {model.workload.title}, {model.phase}, {model.gpu.title}"
    first = answer.points[0]
    counts = f"Speed-ups are relative to the first row, which counts as {first.gpus:,}." if first.gpus > 1 else ""
    own = [*_sizes(model), *_microbatch(model, first.estimate), *filter(None, [counts]), *_roofs(model), EXPECTED]
    yield Sheet(columns, answer.points, title=title, notes=[*own, *(f"Skipped: {one}." for one in answer.skipped)])
    yield from laws(answer)


def laws(answer: Scaling) -> Iterator[str]:
    """Yields sentences on the fitted law and on low efficiency."""
    for law in answer.laws:
        yield f"{law.name}'s law with a serial share of {significant(100 * law.serial, 3)} % fits within {_percent(law.error)}."
    if answer.half:
        yield f"Efficiency falls below 50 % at {answer.half.gpus:,} GPUs. {answer.because}."


def search_parts(answer: Found) -> Iterator[Part]:
    """Yields the best plans, the Pareto set, the extra time of other plans, and the cost."""
    title = f"{answer.model.workload.title}, {answer.model.phase}, {answer.gpus} x {answer.model.gpu.title}: best by {answer.objective}"
    yield _plans_sheet(answer.best, title)
    yield " ".join([*_sizes(answer.model), *_roofs(answer.model)])
    yield (
        f"{answer.legal:,} legal plans were compared; {answer.fitting:,} fit in memory. Exposed: communication that does not overlap with kernels."
    )
    yield _plans_sheet(answer.pareto, "Pareto set of time and memory")
    columns = [
        Column("axis", "axis", lambda loss: loss.axis.replace("_", " "), right=False),
        Column("plan", "best other plan", lambda loss: loss.estimate.plan.words, right=False),
        Column("slower", "difference", lambda loss: loss.estimate.expected_s - answer.best[0].expected_s, _signed),
        Column("because", "largest terms of the difference", _reasons, right=False),
        Column(
            "memory",
            "memory",
            lambda loss: loss.byte,
            lambda v: f"{'+' if v >= 0 else '-'}{_bytes(abs(v))}",
            expendable=1,
        ),
    ]
    yield Sheet(columns, answer.losses, title="Best plan with another value of each axis, and its extra time")
    yield from money(answer)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{_seconds(abs(value))}" if value else "equal"


def _reasons(loss: Loss) -> str:
    return "; ".join(f"{name} {_signed(seconds)}" for name, seconds in loss.terms[:2]) or "same terms"


def money(answer: Found) -> Iterator[str]:
    """Yields the cost and energy of the best plan."""
    found = answer.money
    hours, cost, _ = found.of_run(RUN_TOKENS)
    parts = [f"GPU time: {significant(found.gpu_s_per_token * 1e6 / 3600, 4)} GPU-hours per million tokens, "
             f"{significant(hours, 4)} for a run of 10^12 tokens."]  # fmt: skip
    if found.per_million_tokens is not None and cost is not None:
        parts.append(f"Cost at {found.price_per_hour:g} per GPU-hour: {significant(found.per_million_tokens, 4)} per million tokens, "
                     f"{significant(cost, 4)} for that run.")  # fmt: skip
    if found.energy_j_per_token is not None:
        least = found.least_energy_j_per_token
        low = "" if least is None else f"{significant(least, 3)} J per token for the boards and their products, "
        parts.append(
            f"Energy: {low}at most {significant(found.energy_j_per_token, 3)} J with each board at {found.board_w:g} W."
        )
    yield " ".join(parts)


# --- views


def _view(line: str, parts: Any, document: Any) -> View:
    from perfmodel.strictjson import dumped

    return View(line, parts, lambda: dumped(document(), indent=2))


def estimate_view(model: Model, found: Estimate) -> View:
    """Returns the view of one estimate."""
    line = f"{model.workload.name} on {found.plan.gpus} x {model.gpu.name}: expected {_seconds(found.expected_s)}"
    return _view(line, lambda: estimate_parts(model, found), lambda: estimate_document(model, found))


def scaling_view(answer: Scaling) -> View:
    """Returns the view of a scaling."""
    last: Point = answer.points[-1]
    line = f"{answer.model.workload.name}: efficiency {_percent(last.efficiency)} on {last.gpus:,} GPUs"
    return _view(line, lambda: scaling_parts(answer), lambda: scaling_document(answer))


def search_view(answer: Found) -> View:
    """Returns the view of a search."""
    line = f"{answer.model.workload.name} on {answer.gpus:,} GPUs: {answer.best[0].plan.words}"
    return _view(line, lambda: search_parts(answer), lambda: search_document(answer))


def render(view: View, form: str) -> str:
    """Returns the answer in the given format, with a final line break."""
    if form == "json":
        return view.json() + "\n"
    parts = list(view.parts())
    if form == "csv":
        return render_sheet(next(part for part in parts if isinstance(part, Sheet)), form)
    return "\n".join(_text(part, form) for part in parts)


def _text(part: Part, form: str) -> str:
    if isinstance(part, Sheet):
        return render_sheet(part, form)
    return "\n".join(wrapped(part, terminal_width()) if form == "table" else [part]) + "\n"
