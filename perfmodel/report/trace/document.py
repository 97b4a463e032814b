"""The JSON document of ``trace``."""

from __future__ import annotations

from typing import Any

from perfmodel.report.answer import SCHEMA, gpu_document
from perfmodel.traces.rows import Row
from perfmodel.traces.spans import Spans
from perfmodel.traces.tracing import Rank, Traced


def document(found: Traced) -> dict[str, Any]:
    """Returns the document: the parts of the step of the rank that is shown, its kernels, the advice, all ranks."""
    main = found.main
    return {
        "schema": SCHEMA,
        "gpu": gpu_document(found.gpu, found.knowledge) if found.gpu else None,
        "device": main.device,
        "step": main.step.name or None,
        "rank": main.rank,
        **parts(main),
        "idle_host_in": [{"what": what, "seconds": seconds} for what, seconds in main.spans.host_in.items()],
        "kernels": [kernel(row) for row in main.rows],
        "advice": [one._asdict() for one in found.advice],
        "ranks": [{"rank": one.rank, "file": one.path, "device": one.device, **parts(one)} for one in found.ranks],
        "notes": list(found.notes),
    }


def parts(one: Rank) -> dict[str, Any]:
    """The parts of a rank's step; the four that add up to ``span_s`` come after it."""
    spans: Spans = one.spans
    return {
        "span_s": spans.span_s,
        "kernel_s": spans.kernel_s,
        "communication_exposed_s": spans.communication_exposed_s,
        "idle_host_s": spans.idle_host_s,
        "idle_other_s": spans.idle_other_s,
        "communication_hidden_s": spans.communication_hidden_s,
        "waiting_s": one.waiting_s,
        "profiler_s": spans.profiler_s,
        "unknown_s": one.unknown_s,
        "known_share": one.known_share,
        "kernel_sum_s": spans.stretches_s,
        "lower_s": _sum(one, "lower_s"),
        "expected_s": _sum(one, "expected_s"),
    }


def _sum(one: Rank, name: str) -> float | None:
    """The sum of a figure over all kernels but communication; None without a card."""
    found = [getattr(priced.price, name) for priced in one.priced if priced.price is not None]
    return sum(found) if found else None


def kernel(row: Row) -> dict[str, Any]:
    """One row; figures that are unknown are null."""
    return {
        "name": row.name,
        "count": row.calls,
        "op": row.op,
        "shape": dict(row.shape),
        "dtype": row.dtype,
        "module": row.module,
        "measured_s": row.measured_s,
        "lower_s": row.lower_s,
        "expected_s": row.expected_s,
        "of_bound": row.of_bound,
        "of_expected": row.of_expected,
        "headroom_s": row.measured_s - row.lower_s if row.lower_s is not None else None,
        "bound": row.bound or None,
        "operator": row.operator,
        "phase": row.phase or None,
        "sizes_from": row.source if row.known else None,
        "cuda_graph": row.graph,
        "flops": row.flops if row.known else None,
        "traffic_byte": row.traffic_byte if row.known else None,
    }
