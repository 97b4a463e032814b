"""A check of measured kernels as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.cases import DEFAULT_PROTOCOL
from perfmodel.checking import BOUND, FAIL, PASS, UNKNOWN, Checked, Judged, title
from perfmodel.hardware import Gpu
from perfmodel.paths import label
from perfmodel.report.answer import SCHEMA, gpu_document
from perfmodel.report.predictions import how, protocol
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.report.validation import known
from perfmodel.strictjson import dumped
from perfmodel.traces.kernel_names import short
from perfmodel.units import scaled

WORDS = {
    FAIL: ("fails", "fail"),
    UNKNOWN: ("has no verdict", "have no verdict"),
    PASS: ("passes", "pass"),
}


def render(found: Checked, gpu: Gpu, form: str) -> str:
    """Returns the check in the given format, with a final line break."""
    if form == "json":
        return dumped(document(found, gpu), indent=1) + "\n"
    return render_sheet(sheet(found, gpu), form)


def document(found: Checked, gpu: Gpu) -> dict[str, Any]:
    """Returns the JSON document of ``check``."""
    return {
        "schema": SCHEMA,
        "gpu": gpu_document(gpu, known(gpu)),
        "of": found.limit.of,
        "min": found.limit.share,
        "passed": found.passed,
        "allow_unknown": found.allow_unknown,
        "counts": {verdict: found.count(verdict) for verdict in WORDS},
        "kernels": [kernel_document(one) for one in found.kernels],
        "notes": list(found.notes),
    }


def kernel_document(one: Judged) -> dict[str, Any]:
    """Returns the verdict on a kernel, its figures, and the case or the line of the trace that it comes from."""
    figures = {
        "bound": one.reference.bound,
        "lower_s": one.reference.lower_s,
        "expected_s": one.reference.expected_s,
        "measured_s": one.time.median_s if one.time else None,
        "limit_s": one.limit_s,
        "reached": one.reached,
        "reached_low": one.reached_low,
        "reached_high": one.reached_high,
        "headroom_s": one.headroom_s,
    }
    told = {"verdict": one.verdict, "reason": one.reason, **figures}
    return {**told, **_protocol(one.line), **{key: value for key, value in one.line.items() if key not in told}}


def _protocol(line: Mapping[str, Any]) -> dict[str, str]:
    return {} if "name" in line else {"protocol": protocol(line)}


def sheet(found: Checked, gpu: Gpu) -> Sheet:
    """Returns one line for each kernel, the worst first."""
    columns = [
        Column("verdict", "verdict", lambda one: one.verdict, right=False),
        Column("kernel", "kernel", lambda one: _name(one.line), right=False),
        Column("op", "op", lambda one: one.line.get("op") or None if "name" in one.line else None, right=False),
        Column("shape", "shape", lambda one: _shape(one.line), right=False),
        Column("dtype", "type", lambda one: one.line.get("dtype") or None, right=False, expendable=6),
        Column("how", "options", lambda one: how(one.line) or None, right=False, expendable=5),
        Column("count", "calls", lambda one: one.line.get("count"), expendable=4),
        Column("lower_s", "at least", lambda one: one.reference.lower_s, _seconds, expendable=3),
        Column("expected_s", "expected", lambda one: one.reference.expected_s, _seconds, expendable=7),
        Column("measured_s", "measured", lambda one: one.time.median_s if one.time else None, _seconds),
        Column("limit_s", "limit", lambda one: one.limit_s, _seconds, expendable=2),
        Column("reached", f"of {found.limit.of}", lambda one: one.reached, _percent),
        Column("noise", "quartiles", _noise, right=False, expendable=1),
        Column("headroom_s", "headroom", lambda one: one.headroom_s, _seconds),
        Column("reason", "reason", lambda one: one.reason or None, right=False),
    ]
    needed = ("verdict", "kernel", "measured_s", "reached", "headroom_s")
    shown = [c for c in columns if c.key in needed or any(c.value(one) is not None for one in found.kernels)]
    heading = f"{gpu.title} ({label(gpu.file)}): every kernel must reach {found.limit}"
    return Sheet(shown, found.kernels, title=heading, notes=[counts_line(found), *_notes(found), *found.notes])


def _notes(found: Checked) -> list[str]:
    lines = ["Headroom: measured time less the bound; expected time less the bound where nothing was measured."]
    if found.limit.of != BOUND:
        lines.append("The expected time is that of the kernel that 'predict' describes, such as the one of PyTorch.")
    if any("name" not in one.line and "protocol" not in one.line for one in found.kernels):
        lines.append(f"Cases without a protocol use protocol {DEFAULT_PROTOCOL}.")
    return lines


def counts_line(found: Checked) -> str:
    """Returns how many kernels have each verdict: ``1 fails, 2 pass.``"""
    words = [(found.count(verdict), forms) for verdict, forms in WORDS.items()]
    told = ", ".join(f"{number} {forms[number != 1]}" for number, forms in words if number)
    return f"{told}." if told else "There is no kernel."


def reached_line(one: Judged) -> str:
    """Returns a kernel with the share that it reaches: ``softmax rows=8192 cols=8192: 62 %, 80.1 µs above the bound``."""
    if one.reached is None or one.headroom_s is None:
        return f"{title(one.line)}: {one.reason or 'its bound is not known'}"
    return f"{title(one.line)}: {_percent(one.reached)}, {_seconds(one.headroom_s)} above the bound"


def _name(line: Mapping[str, Any]) -> str:
    return short(str(line["name"]), 40) if line.get("name") else str(line.get("kind") or line.get("op", "?"))


def _shape(line: Mapping[str, Any]) -> str | None:
    shape = line.get("shape") or {}
    return " ".join(f"{name}={size}" for name, size in shape.items()) or None


def _noise(one: Judged) -> str | None:
    if one.time is None or not one.time.spread or one.reached_low is None or one.reached_high is None:
        return None
    return f"{_percent(one.reached_low)} to {_percent(one.reached_high)}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _seconds(value: float) -> str:
    return scaled(value, "s", 4)
