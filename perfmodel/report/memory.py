"""The memory estimate as a table, JSON document, CSV or Markdown: each figure with its formula."""

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

ONE = "1 GPUs"  # the heading of the sum over all GPUs if there is one GPU


def render(answer: Memory, form: str) -> str:
    """Returns the estimate in the given format, with a final line break."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(answer), indent=2) + "\n"
    if form == "csv":
        return render_sheet(lines_sheet(answer), form)
    return "\n".join(_text(part, form) for part in parts(answer))


def _text(part: Sheet | str, form: str) -> str:
    """Returns a table or a sentence as text. A table for one GPU omits the column for all GPUs."""
    if isinstance(part, Sheet):
        columns = [column for column in part.columns if column.heading != ONE]
        return render_sheet(part._replace(columns=columns), form)
    return "\n".join(wrapped(part, terminal_width()) if form == "table" else [part]) + "\n"


def document(answer: Memory) -> dict[str, Any]:
    """Returns the JSON document of ``memory``."""
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
    """Yields the lines with their sum, the verdict with remedies, the tensors that a layer keeps, and estimates."""
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
    """Returns one line per figure."""
    gpus = answer.plan.gpus
    columns = [
        Column("name", "contents", lambda line: line.name, right=False),
        Column("byte", f"{gpus:,} GPUs", lambda line: line.byte_per_gpu * gpus, _bytes),
        Column("byte_per_gpu", "per GPU", lambda line: line.byte_per_gpu, _bytes),
        Column("formula", "formula per GPU", lambda line: line.formula or None, right=False),
    ]
    return Sheet(columns, answer.lines, title=title(answer), total=Line("total", answer.byte_per_gpu, "", ""))


def title(answer: Memory) -> str:
    """Returns the title: workload, phase and plan."""
    plan, words = answer.plan, [answer.phase, "fused" if answer.fused else "unfused"]
    if answer.training:
        words += [f"optimizer {plan.optimizer}", f"recompute {plan.recompute}"]
    if plan.gpus > 1 or plan.zero:
        words.append(f"ZeRO stage {plan.zero} over {plan.gpus:,} GPU{'' if plan.gpus == 1 else 's'}")
    return f"Memory of {answer.workload.title}: {', '.join(words)}"


def notes(answer: Memory) -> list[str]:
    """Returns sizes, data types and conventions."""
    return [*filter(None, [sizes_line(answer.dims)]), dtypes_line(answer.workload.dtypes), *answer.notes]


def solution(found: Solved) -> str:
    """Returns the largest size that fits, and why a larger one does not."""
    symbol, byte = found.symbol, _bytes(found.byte_per_gpu)
    if found.largest is None:
        return f"Any {symbol} fits: {_bound(found)}."
    if found.largest == 0:
        return f"No {symbol} fits: {symbol} = 1 needs {byte}. The figures are for {symbol} = 1."
    largest = f"The largest {symbol} that fits is {found.largest}: {found.byte_per_gpu:,} B."
    if found.ends == "memory":
        return f"{largest} {symbol} = {found.largest + 1} would need {found.next_byte_per_gpu:,} B."
    if found.ends == "model":
        return f"{largest} The model does not accept a larger {symbol}."
    return f"{largest} A larger {symbol} cannot be computed."


def _bound(found: Solved) -> str:
    """Returns why every size fits, and the largest total."""
    symbol, byte, first = found.symbol, _bytes(found.byte_per_gpu), found.constant_from or 1
    if first == 1:
        return f"the total, {byte}, does not depend on {symbol}"
    why = "the window bounds the cache" if found.windowed else "the total stops growing"
    return f"{why}. From {symbol} = {first} on, the total stays at {byte}; the figures show this total"


def judgement(answer: Memory, found: Verdict) -> str:
    """Returns whether the workload fits beside the reserve, and the bytes that are free or missing."""
    card = answer.gpu.title if answer.gpu else ""
    room = _bytes(found.capacity_byte - found.reserve_byte)
    what = f"{_bytes(answer.byte_per_gpu)} needed per GPU, {room} available ({_bytes(found.capacity_byte)} minus the reserve)"
    gpus = answer.plan.gpus
    where = f"each of {gpus:,} x" if gpus > 1 else "one"
    if found.fits:
        return f"Fits on {where} {card}: {what}, {_bytes(found.spare_byte)} to spare."
    return f"Does not fit on {where} {card}: {what}, {_bytes(-found.spare_byte)} too much."


def reserve_line(found: Verdict) -> str:
    """Returns the bytes that are kept free, and their source."""
    return f"Reserve: {_bytes(found.reserve_byte)}: {found.reserve}. Change it with --reserve."


def remedies_sheet(found: Verdict) -> Sheet:
    """Returns each change that was tried."""
    columns = [
        Column("change", "change tried", lambda remedy: remedy.change, right=False),
        Column("byte_per_gpu", "per GPU", lambda remedy: remedy.byte_per_gpu, _bytes),
        Column("fits", "fits", lambda remedy: remedy.fits, lambda fits: "yes" if fits else "no", right=False),
    ]
    return Sheet(columns, found.remedies)


def kept_sheet(layer: Layer) -> Sheet:
    """Returns the tensors that one repeat of a layer keeps, and those that it recomputes."""
    kept = layer.further or layer.first
    columns = [
        Column("name", "tensor", lambda row: row[0].name, right=False),
        Column("byte", "bytes", lambda row: row[0].byte, _bytes),
        *([Column("until", "in memory", lambda row: row[1], right=False)] if layer.again else []),
        Column("formula", "shape", lambda row: row[0].formula, right=False),
        Column(
            "steps", "read by the gradients of", lambda row: ", ".join(row[0].steps) or None, right=False, expendable=1
        ),
    ]
    rows = [*((tensor, "kept") for tensor in kept), *((tensor, "recomputed") for tensor in layer.again)]
    repeats = f"one of {layer.repeat:,} repeats of '{layer.name}'" if layer.repeat > 1 else f"'{layer.name}'"
    return Sheet(columns, rows, title=f"Tensors that {repeats} keeps for the backward pass: {_bytes(size_byte(kept))}")


def estimates_sheet(answer: Memory) -> Sheet:
    """Returns estimates by published rules, for comparison."""
    columns = [
        Column("name", "estimate", lambda estimate: estimate.name, right=False),
        Column("byte", "per GPU", lambda estimate: estimate.byte, _bytes),
        Column("formula", "formula", lambda estimate: estimate.formula, right=False),
        Column("source", "source", lambda estimate: estimate.source, right=False),
    ]
    return Sheet(columns, answer.estimates)
