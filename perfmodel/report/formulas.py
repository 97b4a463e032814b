"""A workload's steps as formulas in its own symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel import symbolic
from perfmodel.report.answer import SCHEMA
from perfmodel.report.sheet import Column, Sheet, render
from perfmodel.workload import Workload


def workload_formulas(
    workload: Workload,
    *,
    phase: str | None,
    settings: Mapping[str, Any],
    fused: bool | None,
    causal: bool | None,
    decode_form: str | None,
    form: str,
) -> str:
    """FLOPs and traffic of every kernel with a symbol for each size; sizes that are set stand as numbers."""
    phase = phase or workload.default_phase
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    workload.dims(phase, settings)
    rows = [
        (
            kernel.name,
            kernel.operation,
            kernel.repeat,
            symbolic.tidy(kernel.op.flops()),
            symbolic.tidy(kernel.op.traffic_byte()),
        )
        for kernel in symbolic.kernels_of(workload, phase, settings, fused=fused, causal=causal, form=decode_form)
    ]
    total = ("total", "", None, *(symbolic.tidy(sum(row[2] * row[i] for row in rows)) for i in (3, 4)))
    if form == "json":
        return _document(workload, phase, fused, rows, total)
    columns = [
        Column("step", "step", lambda row: row[0], right=False),
        Column("repeat", "×", lambda row: row[2], symbolic.text, right=False),
        Column("flops", "FLOP", lambda row: symbolic.text(row[3]), right=False),
        Column("traffic_byte", "bytes", lambda row: symbolic.text(row[4]), right=False),
    ]
    if all(row[2] == 1 for row in rows):
        del columns[1]
    notes = [f"{symbolic.BYTES}: bytes per element. Every primitive is counted (--count does not change formulas)."]
    return render(Sheet(columns, rows, title=f"{workload.title}: {phase}", total=total, notes=notes), form)


def _document(workload: Workload, phase: str, fused: bool, rows: list[Any], total: Any) -> str:
    import json

    def entry(row: Any) -> dict[str, Any]:
        return {
            "flops": symbolic.words(row[3]), "traffic_byte": symbolic.words(row[4]),
            "latex": {"flops": symbolic.latex(row[3]), "traffic_byte": symbolic.latex(row[4])},
        }  # fmt: skip

    steps = [{"name": row[0], "op": row[1], "repeat": symbolic.words(row[2]), **entry(row)} for row in rows]
    found = {
        "schema": SCHEMA,
        "config": workload.name,
        "phase": phase,
        "fused": fused,
        "steps": steps,
        "total": entry(total),
    }
    return json.dumps(found, indent=2) + "\n"
