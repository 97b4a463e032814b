"""The account of memory as a table, JSON document, CSV or Markdown: each figure beside its formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfmodel.footprint import Line, Memory
from perfmodel.footprint.activations import OUTSIDE, Kept, Layer, size_byte
from perfmodel.footprint.fit import Solved, Verdict
from perfmodel.report.answer import SCHEMA, dtypes_line, gpu_document, sizes_line
from perfmodel.report.sheet import Column, Sheet, terminal_width, wrapped
from perfmodel.report.sheet import render as render_sheet
from perfmodel.units import scaled

ONE = "1 GPUs"  # the heading of the sum over all GPUs where there is one


def render(answer: Memory, form: str) -> str:
    """The answer in the form asked for, ending in a line break."""
    if form == "json":
        import json

        return json.dumps(document(answer), indent=2) + "\n"
    if form == "csv":
        return render_sheet(lines_sheet(answer), form)
    return "\n".join(_text(part, form) for part in parts(answer))


def _text(part: Sheet | str, form: str) -> str:
    """A sheet, of which a table of one GPU needs no column for all, or a sentence."""
    if isinstance(part, Sheet):
        columns = [column for column in part.columns if column.heading != ONE]
        return render_sheet(part._replace(columns=columns), form)
    return "\n".join(wrapped(part, terminal_width()) if form == "table" else [part]) + "\n"


def document(answer: Memory) -> dict[str, Any]:
    """The JSON document of ``memory``."""
    return {
        "schema": SCHEMA,
        "config": answer.workload.name,
        "phase": answer.phase,
        "form": answer.form or None,
        "fused": answer.fused,
        "dims": answer.dims,
        "dtypes": dict(answer.workload.dtypes),
        "parameters": answer.parameters,
        "gpus": answer.plan.gpus,
        "zero": answer.plan.zero,
        "recompute": answer.plan.recompute,
        "optimizer": answer.plan.optimizer if answer.training else None,
        "lines": [_line(line, answer.plan.gpus) for line in answer.lines],
        "kept": [_layer(layer) for layer in answer.training.activations.layers] if answer.training else [],
        "moments": [moment._asdict() for moment in answer.training.moments] if answer.training else [],
        "estimates": [estimate._asdict() for estimate in answer.estimates],
        "total_byte": answer.byte,
        "total_byte_per_gpu": answer.byte_per_gpu,
        "gpu": gpu_document(answer.gpu),
        "verdict": _verdict(answer),
        "solved": {**answer.solved._asdict(), "sentence": solution(answer.solved)} if answer.solved else None,
        "notes": list(answer.notes),
    }


def _line(line: Line, gpus: int) -> dict[str, Any]:
    return {
        "name": line.name,
        "byte": line.byte_per_gpu * gpus,
        "byte_per_gpu": line.byte_per_gpu,
        "formula": line.formula,
        "kind": line.kind,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "repeat": layer.repeat,
        "byte": layer.byte,
        "first": [_kept(tensor) for tensor in layer.first],
        "further": [_kept(tensor) for tensor in layer.further],
        "again": [_kept(tensor) for tensor in layer.again],
        "gradient_byte": layer.gradient_byte,
    }


def _kept(tensor: Kept) -> dict[str, Any]:
    return {"name": tensor.name, "byte": tensor.byte, "formula": tensor.formula, "steps": list(tensor.steps)}


def _verdict(answer: Memory) -> dict[str, Any] | None:
    if answer.verdict is None:
        return None
    return {**answer.verdict._asdict(), "remedies": [remedy._asdict() for remedy in answer.verdict.remedies]}


def parts(answer: Memory) -> Iterator[Sheet | str]:
    """The lines with their sum; the verdict and what would mend it; what a layer keeps; estimates."""
    yield lines_sheet(answer)._replace(notes=notes(answer))
    if answer.solved:
        yield solution(answer.solved)
    if answer.verdict:
        yield reserve_line(answer.verdict)
        yield judgement(answer, answer.verdict)
        if answer.verdict.remedies:
            yield remedies_sheet(answer.verdict)
    if answer.training:
        yield from (kept_sheet(layer) for layer in answer.training.activations.layers if layer.name != OUTSIDE)
    if answer.estimates:
        yield estimates_sheet(answer)


def _bytes(value: float) -> str:
    return scaled(value, "B", 4)


def lines_sheet(answer: Memory) -> Sheet:
    """One line for each figure."""
    gpus = answer.plan.gpus
    columns = [
        Column("name", "what", lambda line: line.name, right=False),
        Column("byte", f"{gpus:,} GPUs", lambda line: line.byte_per_gpu * gpus, _bytes),
        Column("byte_per_gpu", "one GPU", lambda line: line.byte_per_gpu, _bytes),
        Column("formula", "one GPU's, from", lambda line: line.formula or None, right=False),
    ]
    return Sheet(columns, answer.lines, title=title(answer), total=Line("total", answer.byte_per_gpu, "", ""))


def title(answer: Memory) -> str:
    """Which workload, phase and plan."""
    plan, words = answer.plan, [answer.phase, "fused" if answer.fused else "unfused"]
    if answer.training:
        words += [f"optimizer {plan.optimizer}", f"recompute {plan.recompute}"]
    if plan.gpus > 1 or plan.zero:
        words.append(f"ZeRO stage {plan.zero} over {plan.gpus:,} GPU{'' if plan.gpus == 1 else 's'}")
    return f"Memory of {answer.workload.title}: {', '.join(words)}"


def notes(answer: Memory) -> list[str]:
    """Sizes, data types, and what the figures mean."""
    return [*filter(None, [sizes_line(answer.dims)]), dtypes_line(answer.workload.dtypes), *answer.notes]


def solution(found: Solved) -> str:
    """The largest size that fits, and why no larger one does."""
    symbol, byte = found.symbol, _bytes(found.byte_per_gpu)
    if found.largest is None:
        return f"Any {symbol} fits: {_bound(found)}."
    if found.largest == 0:
        return f"No {symbol} fits: {symbol} = 1 takes {byte}. The figures are those of {symbol} = 1."
    largest = f"The largest {symbol} that fits is {found.largest:,}: {found.byte_per_gpu:,} B."
    if found.ends == "memory":
        return f"{largest} {symbol} = {found.largest + 1:,} would take {found.next_byte_per_gpu:,} B."
    if found.ends == "model":
        return f"{largest} The model takes no larger {symbol}."
    return f"{largest} A larger {symbol} cannot be counted."


def _bound(found: Solved) -> str:
    """Why every size fits, and the total that is never passed."""
    symbol, byte, first = found.symbol, _bytes(found.byte_per_gpu), found.constant_from or 1
    if first == 1:
        return f"the total, {byte}, does not depend on {symbol}"
    why = "the window bounds the cache" if found.windowed else "the total stops growing"
    return f"{why}. From {symbol} = {first:,} on the total stays at {byte}, and the figures are those"


def judgement(answer: Memory, found: Verdict) -> str:
    """The reserve, and whether it fits beside it."""
    card = answer.gpu.title if answer.gpu else ""
    room = _bytes(found.capacity_byte - found.reserve_byte)
    what = f"{_bytes(answer.byte_per_gpu)} of {room} per GPU ({_bytes(found.capacity_byte)} less the reserve)"
    if found.fits:
        return f"Fits on one {card}: {what}, {_bytes(found.spare_byte)} to spare."
    return f"Does not fit on one {card}: {what}, {_bytes(-found.spare_byte)} too much."


def reserve_line(found: Verdict) -> str:
    """The bytes that stay free, and where they come from."""
    return f"Reserve: {_bytes(found.reserve_byte)}: {found.reserve}. --reserve changes it."


def remedies_sheet(found: Verdict) -> Sheet:
    """Each change that was tried."""
    columns = [
        Column("change", "what was tried", lambda remedy: remedy.change, right=False),
        Column("byte_per_gpu", "one GPU", lambda remedy: remedy.byte_per_gpu, _bytes),
        Column("fits", "fits", lambda remedy: remedy.fits, lambda fits: "yes" if fits else "no", right=False),
    ]
    return Sheet(columns, found.remedies)


def kept_sheet(layer: Layer) -> Sheet:
    """What one repeat of a layer keeps, and what it computes again."""
    kept = layer.further or layer.first
    columns = [
        Column("name", "tensor", lambda row: row[0].name, right=False),
        Column("byte", "bytes", lambda row: row[0].byte, _bytes),
        *([Column("until", "is", lambda row: row[1], right=False)] if layer.again else []),
        Column("formula", "shape", lambda row: row[0].formula, right=False),
        Column("steps", "gradients of", lambda row: ", ".join(row[0].steps) or None, right=False, expendable=1),
    ]
    rows = [*((tensor, "kept") for tensor in kept), *((tensor, "computed again") for tensor in layer.again)]
    repeats = f"one of {layer.repeat:,} repeats of '{layer.name}'" if layer.repeat > 1 else f"'{layer.name}'"
    return Sheet(columns, rows, title=f"What {repeats} keeps for its backward pass: {_bytes(size_byte(kept))}")


def estimates_sheet(answer: Memory) -> Sheet:
    """Figures by published rules, to compare."""
    columns = [
        Column("name", "to compare", lambda estimate: estimate.name, right=False),
        Column("byte", "one GPU", lambda estimate: estimate.byte, _bytes),
        Column("formula", "from", lambda estimate: estimate.formula, right=False),
        Column("source", "source", lambda estimate: estimate.source, right=False),
    ]
    return Sheet(columns, answer.estimates)
