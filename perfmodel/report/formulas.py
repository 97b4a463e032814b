"""Formulas of a workload's kernels in its own symbols, as a table or JSON document."""

from __future__ import annotations

from typing import Any

from perfmodel import symbolic
from perfmodel.formulas import Formulas, Line
from perfmodel.report.answer import SCHEMA
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet


def render(found: Formulas, form: str) -> str:
    """Returns FLOPs and traffic of every kernel in the given format, with a final line break."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(found), indent=2) + "\n"
    return render_sheet(sheet(found), form)


def sheet(found: Formulas) -> Sheet:
    """Returns one line per kernel: formulas of one repeat, with totals over all repeats."""
    columns = [
        Column("step", "step", lambda row: row.name, right=False),
        Column("repeat", "×", lambda row: row.repeat, symbolic.text, right=False),
        Column("flops", "FLOP", lambda row: symbolic.text(row.flops), right=False),
        Column("traffic_byte", "bytes", lambda row: symbolic.text(row.traffic_byte), right=False),
    ]
    if all(line.repeat == 1 for line in found.lines):
        del columns[1]
    notes = [f"{symbolic.BYTES}: bytes per element. Formulas count every operation (--count has no effect)."]
    if found.follows:
        name = found.follows[0].partition(" ")[0]
        notes.append(f"By default, {', '.join(found.follows)}; '--set {name}={name}' keeps {name} as a symbol.")
    total = Line("total", "", None, found.flops, found.traffic_byte)
    return Sheet(columns, found.lines, title=f"{found.workload.title}: {found.phase}", total=total, notes=notes)


def document(found: Formulas) -> dict[str, Any]:
    """Returns the JSON document of ``flops --symbolic``."""
    return {
        "schema": SCHEMA,
        "config": found.workload.name,
        "phase": found.phase,
        "fused": found.fused,
        "steps": [
            {"name": line.name, "op": line.operation, "repeat": symbolic.words(line.repeat), **_counts(line)}
            for line in found.lines
        ],
        "total": _counts(found),
    }


def _counts(row: Line | Formulas) -> dict[str, Any]:
    return {
        "flops": symbolic.words(row.flops),
        "traffic_byte": symbolic.words(row.traffic_byte),
        "latex": {"flops": symbolic.latex(row.flops), "traffic_byte": symbolic.latex(row.traffic_byte)},
    }


def named(found: Formulas) -> list[tuple[str, Any]]:
    """Returns the totals with their names; those that are None are omitted."""
    pairs = [
        ("FLOP", found.flops),
        ("FLOP of matrix products", found.contraction_flops),
        ("compulsory bytes", found.compulsory_byte),
        ("bytes", found.traffic_byte),
        ("unfused bytes", found.unfused_byte),
        ("FLOP per byte", found.intensity),
        ("FLOP per byte, unfused", found.unfused_intensity),
    ]
    return [(name, formula) for name, formula in pairs if formula is not None]
