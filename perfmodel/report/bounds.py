"""Bounds of a workload or an operation on a card: the times of memory and of each engine at data-sheet rates."""

from __future__ import annotations

from typing import Any

from perfmodel.analysis import Analysis
from perfmodel.report.answer import SCHEMA, card_lines, dtypes_line, gpu_document, roof_notes, sizes_line, title
from perfmodel.report.sheet import Column, Sheet
from perfmodel.roofline import MEMORY, Bounds
from perfmodel.units import scaled


def sheet(found: Bounds, of: Analysis) -> Sheet:
    """Returns the table: one line for memory and one per engine, then the lower bound and the sum."""
    rows = [
        (MEMORY, found.memory_s),
        *((engine.value, seconds) for engine, seconds in found.engine_s.items()),
        ("at least (the largest)" if len(of.rows) == 1 else "at least (the largest of each kernel)", found.lower_s),
        ("no overlap (their sum)", found.no_overlap_s),
    ]
    columns = [
        Column("name", "resource", lambda row: row[0], right=False),
        Column("seconds", "time", lambda row: row[1], lambda value: scaled(value, "s")),
    ]
    roofs = card_lines(of.dims, of.card, of.roof_notes) if of.card else []
    notes = [f"Bound: {found.bound}.", sizes_line(of.dims), dtypes_line(of.workload.dtypes), *roofs]
    return Sheet(columns, rows, title=title(of), notes=[note for note in notes if note])


def render(found: Bounds, of: Analysis) -> str:
    """Returns the JSON document as text, with a final line break."""
    from perfmodel.strictjson import dumped

    return dumped(document(found, of), indent=2) + "\n"


def document(found: Bounds, of: Analysis) -> dict[str, Any]:
    """Returns the JSON document: the workload and its bounds in seconds."""
    return {
        "schema": SCHEMA,
        "config": of.workload.name,
        "phase": of.phase,
        "fused": of.fused,
        "causal": of.causal,
        "dims": of.dims,
        "dtypes": dict(of.workload.dtypes),
        "gpu": gpu_document(of.gpu, of.knowledge),
        **roof_notes(of),
        "bound": found.bound,
        "memory_s": found.memory_s,
        "engine_s": {engine.value: seconds for engine, seconds in found.engine_s.items()},
        "lower_s": found.lower_s,
        "no_overlap_s": found.no_overlap_s,
    }
