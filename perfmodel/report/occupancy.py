"""Occupancy of a kernel as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from typing import Any

from perfmodel.paths import label
from perfmodel.report.answer import SCHEMA, gpu_document
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.residency import Occupancy
from perfmodel.units import significant


def render(found: Occupancy, form: str) -> str:
    """Returns the occupancy in the given format, with a final line break."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(found), indent=2) + "\n"
    return render_sheet(sheet(found), form)


def document(found: Occupancy) -> dict[str, Any]:
    """Returns the JSON document of ``occupancy``."""
    return {
        "schema": SCHEMA,
        "gpu": gpu_document(found.gpu),
        "threads": found.threads,
        "registers": found.registers,
        "shared_byte": found.shared_byte,
        "blocks": found.blocks,
        "warps": found.warps,
        "occupancy": found.occupancy,
        "limited_by": list(found.limited_by),
        "limits": [limit._asdict() for limit in found.limits],
        "more_registers": found.more_registers,
        "more_shared_byte": found.more_shared_byte,
        "resident_blocks": found.resident_blocks,
        "active_threads": found.active_threads,
        "most_threads": found.most_threads,
        "because": found.because,
    }


def sheet(found: Occupancy) -> Sheet:
    """Returns the table: one line per resource, with the blocks that it admits."""
    columns = [
        Column("name", "resource", lambda limit: limit.name + " (B)" * (limit.name == "shared memory"), right=False),
        Column("multiprocessor", "multiprocessor", lambda limit: limit.multiprocessor, "{:,}".format),
        Column("block", "one block", lambda limit: limit.block, "{:,}".format),
        Column("blocks", "blocks", lambda limit: limit.blocks, "{:,}".format),
        Column("limits", "", lambda limit: "limits" if limit.name in found.limited_by else None, right=False),
    ]
    title = (
        f"Blocks of {_of(found.threads, 'thread')} with {_of(found.registers, 'register')} per thread and "
        f"{found.shared_byte:,} B of shared memory on one multiprocessor of {found.gpu.title}"
    )
    return Sheet(columns, found.limits, title=title, notes=_notes(found))


def _notes(found: Occupancy) -> list[str]:
    warps = next(limit for limit in found.limits if limit.name == "warps").multiprocessor
    share = f"{significant(100 * found.occupancy, 4)} %"
    lines = [f"Occupancy: {_of(found.blocks, 'block')}, {found.warps} of {warps} warps, {share}."]
    more = [f"{_of(found.more_registers, 'register')} per thread"] if found.more_registers is not None else []
    more += [f"{found.more_shared_byte:,} B of shared memory"] if found.more_shared_byte is not None else []
    if more:
        lines.append(f"One more block fits with at most {' and '.join(more)}.")
    return [
        *lines,
        f"The GPU runs {found.resident_blocks:,} blocks at once: {found.active_threads:,} of at most "
        f"{found.most_threads:,} active threads.",
        f"{found.because} Limits: {label(found.gpu.file)}.",
    ]


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
