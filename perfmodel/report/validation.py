"""Measured times compared with the model: a table of cases, a summary by operation, a JSON document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perfmodel import routing
from perfmodel.hardware import Gpu
from perfmodel.paths import label
from perfmodel.report.answer import SCHEMA, gpu_document
from perfmodel.report.predictions import case_document
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.step_cases import STEP, case_name, plan_words
from perfmodel.strictjson import dumped
from perfmodel.timing.parameters import best_knowledge
from perfmodel.units import scaled
from perfmodel.validation import CPU_SHARE, Compared, Outcome, Summary, described

NOTES_AT_MOST = 6


def render(found: Outcome, environment: Mapping[str, Any], gpu: Gpu, form: str) -> str:
    """Returns the outcome in the given format, with a final line break."""
    if form == "json":
        return dumped(document(found, environment, gpu), indent=1) + "\n"
    if form == "csv":
        return render_sheet(cases_sheet(found, environment, gpu), form)
    return "\n".join(render_sheet(part, form) for part in (cases_sheet(found, environment, gpu), summary_sheet(found)))


def document(found: Outcome, environment: Mapping[str, Any], gpu: Gpu) -> dict[str, Any]:
    """Returns the JSON document of ``validate``."""
    return {
        "schema": SCHEMA,
        "gpu": gpu_document(gpu, known(gpu)),
        "environment": dict(environment),
        "cases": [_case(one) for one in found.cases],
        "summary": [one._asdict() for one in found.summaries],
        "broken": found.broken,
        "busy": found.busy,
        "stream_spread": found.streams.spread if found.streams else None,
    }


def _case(one: Compared) -> dict[str, Any]:
    if one.failed:
        return {**{name: value for name, value in one.record.items() if name != "error"}, "failed": one.failed}
    modelled = {name: value for name, value in case_document(one.prediction).items() if name not in one.record}
    return {**one.record, **modelled}


def known(gpu: Gpu) -> str:
    """Returns the state of knowledge: calibrated if the card's own file holds measurements, else the best available."""
    return gpu.knowledge if gpu.knowledge == "calibrated" else best_knowledge(gpu)


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _signed(value: float) -> str:
    return f"{value:+.0%}"


def _seconds(value: float) -> str:
    return scaled(value, "s", 4)


def cases_sheet(found: Outcome, environment: Mapping[str, Any], gpu: Gpu) -> Sheet:
    """Returns one line per case that has a time."""
    columns = [
        Column("op", "op", lambda one: case_name(one.record), right=False),
        Column("shape", "shape", _shape, right=False),
        Column("dtype", "type", lambda one: one.record.get("dtype"), right=False, expendable=3),
        Column("how", "options", _how("numpy" if "numpy" in environment else "torch"), right=False),
        Column("lower_s", "at least", lambda one: one.lower_s, _seconds, expendable=5),
        Column("expected_s", "expected", lambda one: one.expected_s, _seconds, expendable=1),
        Column("measured_s", "measured", lambda one: one.measured_s, _seconds),
        Column("error", "error", lambda one: one.error, _signed, expendable=1),
        Column("of_roofline", "of roofline", lambda one: one.of_roofline, _percent, expendable=4),
        Column("of_stream", "of stream", _of_stream, _percent, expendable=6),
        *_counted(found),
        Column("flags", "flags", lambda one: "; ".join(one.record.get("flags", ())) or None, right=False, expendable=9),
    ]  # fmt: skip
    shown = [column for column in columns if any(column.value(one) is not None for one in found.cases)]
    done = [one for one in found.cases if not one.failed]
    kernels = list(dict.fromkeys(_footprint(kernel) for one in done for kernel in one.record.get("kernels", ())))
    failed = [f"Not measured: {described(one.record)}: {one.failed}" for one in found.cases if one.failed]
    where = ", ".join(
        f"{name} {environment[name]}" for name in ("torch", "numpy", "driver", "date") if environment.get(name)
    )
    title = f"{environment.get('gpu', gpu.title)} ({where}) compared with {label(gpu.file)}; knowledge: {known(gpu)}"
    return Sheet(shown, done, title=title, notes=[*_short(kernels), *failed])


def _counted(found: Outcome) -> list[Column]:
    """Returns columns for compulsory, algorithmic and counted bytes, if counters were read."""
    if not any("dram_read_byte" in one.record for one in found.cases):
        return []

    def total(name: str) -> Any:
        return lambda one: getattr(one.prediction.total, name) if one.prediction.total else None

    def byte(value: float) -> str:
        return scaled(value, "B", 4)

    return [
        Column("compulsory_byte", "compulsory", total("compulsory_byte"), byte, expendable=7),
        Column("traffic_byte", "algorithmic", total("traffic_byte"), byte, expendable=7),
        Column("dram_byte", "counted DRAM", dram_byte, byte),
        Column("l2_byte", "counted L2", lambda one: one.record.get("l2_byte"), byte, expendable=7),
        Column("occupancy", "occupancy", lambda one: one.record.get("achieved_occupancy"), _percent, expendable=8),
        *(
            Column(f"{engine}_instructions", engine, _instructions(engine), scaled, expendable=8)
            for engine in ("tensor", "vector", "special")
        ),
    ]


def _instructions(engine: str) -> Callable[[Compared], Any]:
    """Returns a function that reads an engine's counted warp instructions."""
    return lambda one: one.record.get(f"{engine}_instructions")


def _footprint(kernel: Mapping[str, Any]) -> str:
    """Returns the resources that one of this project's kernels uses, as text."""
    return (
        f"{kernel['name']}: {kernel['registers']} registers, {scaled(kernel['shared_byte'], 'B', 4)} of shared memory, "
        f"{kernel['threads']} threads per block, occupancy {_percent(kernel['occupancy'])}"
    )


def _short(lines: list[str]) -> list[str]:
    """Returns the first lines, and how many more there are."""
    more = (
        [f"... and {len(lines) - NOTES_AT_MOST} more layouts (use --format json to see all)"]
        if len(lines) > NOTES_AT_MOST
        else []
    )
    return [*lines[:NOTES_AT_MOST], *more]


def dram_byte(one: Compared) -> int | None:
    """Returns the counted DRAM bytes, reads plus writes."""
    read, written = (one.record.get(f"dram_{way}_byte") for way in ("read", "write"))
    return read + written if read is not None and written is not None else None


def _shape(one: Compared) -> str:
    shape = one.record.get("shape", {})
    return " ".join(f"{name}={routing.text(size)}" for name, size in shape.items() if (name, size) != ("batch", 1))


def _how(library: str) -> Callable[[Compared], str]:
    """Returns a function that describes a case; ``torch`` is replaced by the library that ran."""

    def words(one: Compared) -> str:
        names = ("impl", "activation", "direction", "protocol")
        given = [str(one.record[name]) for name in names if one.record.get(name) not in (None, "forward")]
        given = [library if word == "torch" else word for word in given]
        causal = ["causal"] if one.record.get("causal") in (True, "true") else []
        window = [f"window {one.record['window']}"] if one.record.get("window") is not None else []
        plan = [plan_words(one.record)] if one.record.get("op") == STEP else []
        return " ".join([*plan, *given, *causal, *window]).replace("_", " ")

    return words


def _of_stream(one: Compared) -> float | None:
    stream, median_us = one.record.get("stream_us"), one.record.get("median_us")
    return stream / median_us if stream and median_us else None


def summary_sheet(found: Outcome) -> Sheet:
    """Returns one line per operation."""
    columns: list[Column] = [
        Column("name", "op", lambda s: s.name, right=False),
        Column("cases", "cases", lambda s: s.cases),
        Column("mean_absolute_error", "mean error", lambda s: s.mean_absolute_error, lambda v: f"{v:.1%}"),
        Column("median_absolute_error", "median error", lambda s: s.median_absolute_error, lambda v: f"{v:.1%}"),
        Column("bias", "bias", lambda s: s.bias, lambda v: f"{v:+.1%}"),
        Column("inside_share", "in range", lambda s: s.inside_share, _percent, expendable=2),
        Column("below_share", "below bound", lambda s: s.below_share, _percent, expendable=1),
        Column("of_roofline", "of roofline", lambda s: s.of_roofline, _percent),
    ]
    rows: list[Summary] = list(found.summaries)
    shown = [column for column in columns if any(column.value(row) is not None for row in rows)]
    slow = [one for one in found.cases if one.of_roofline]
    notes = [
        f"{sum(one.below for one in slow)} of {len(slow)} cases were faster than the bound. 'Of roofline' is the median of bound / measured."
    ]
    return Sheet(shown, rows, title="Errors of the expected time by operation", notes=[*notes, *busy_notes(found)])


def busy_notes(found: Outcome) -> list[str]:
    """Returns notes on a run during which the device did other work."""
    streams = found.streams
    if streams is None or not streams.busy:
        return []
    share = f"; it got {_percent(streams.cpu_share)} of the processor" if streams.cpu_share < CPU_SHARE else ""
    busy = (
        f"The device was busy: a memory stream took {scaled(streams.low_us * 1e-6, 's', 3)} to "
        f"{scaled(streams.high_us * 1e-6, 's', 3)} around the cases, a spread of {_percent(streams.spread)} "
        f"(on a quiet device at most {_percent(streams.quiet)}){share}. Measure again when nothing else runs."
    )
    excused = len(found.below) if found.excused else 0
    cases = f"{excused} case{'s are' if excused > 1 else ' is'} faster than the roofs"
    more = f"{cases}. The same run measured these roofs, so this is not an error of the model."
    return [busy, *([more] if excused else [])]
