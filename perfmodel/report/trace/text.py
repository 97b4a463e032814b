"""The terminal report of a trace: the parts of the step, suggested changes, the kernels."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.errors import printable
from perfmodel.paths import label
from perfmodel.report.sheet import Column, Sheet, one_line, table, terminal_width, wrapped
from perfmodel.traces.kernel_names import short
from perfmodel.traces.pricing import NAME, named
from perfmodel.traces.rows import Row, together
from perfmodel.traces.tracing import Rank, Traced
from perfmodel.units import scaled

MOST_ROWS = 24
MOST_ADVICE = 8
LEAST_SHARE = 0.001  # of the kernels' time: shorter rows are summed in one line
HOST_LINES = 4
INFERRED = 0.01  # share of inferred sizes from which a note says so


class Part(NamedTuple):
    """One part of the step: its name, seconds, and share of the span."""

    name: str
    seconds: float
    share: float


def text(found: Traced) -> str:
    """Returns the report as text."""
    width = terminal_width()
    blocks = [table(_parts_sheet(found), width)]
    if len(found.ranks) > 1:
        blocks.append(table(ranks_sheet(found.ranks), width))
    if found.advice:
        blocks.append(_advice_text(found, width))
    blocks.append(table(kernels_sheet(found), width))
    return "\n".join(blocks)


def sheets(found: Traced) -> list[Sheet | str]:
    """Returns the tables and sentences of the report, for a notebook."""
    helps = [f"Saves {scaled(one.saves_s, 's')}: {one.what}. {one.because}" for one in found.advice[:MOST_ADVICE]]
    ranks = [ranks_sheet(found.ranks)] if len(found.ranks) > 1 else []
    return [_parts_sheet(found), *ranks, *helps, kernels_sheet(found)]


def title(found: Traced) -> str:
    """Names the file, the step, the card and the length of the step."""
    main = found.main
    file = printable(os.path.basename(main.path))
    step = f", {printable(main.step.name)}" if main.step.name else ""
    rank = f", rank {main.rank} of {len(found.ranks)}" if len(found.ranks) > 1 else ""
    card = found.gpu.title if found.gpu else main.device or "an unknown device"
    return f"{file}{step}{rank}: {scaled(main.spans.span_s, 's', 4)} on {card}"


def parts(one: Rank) -> list[Part]:
    """The parts of the span."""
    spans = one.spans
    found = (
        ("kernels, copies and fills", spans.kernel_s),
        ("communication, exposed", spans.communication_exposed_s),
        ("idle, waiting for the host", spans.idle_host_s),
        ("idle, other", spans.idle_other_s),
    )
    return [Part(name, seconds, seconds / spans.span_s if spans.span_s else 0.0) for name, seconds in found]


def _parts_sheet(found: Traced) -> Sheet:
    main = found.main
    columns = [
        Column("part", "part of the step", lambda row: row.name, right=False),
        Column("seconds", "time", lambda row: row.seconds, lambda value: scaled(value, "s", 4)),
        Column("share", "share", lambda row: row.share, lambda value: f"{value:.1%}"),
    ]
    total = Part("step", main.spans.span_s, main.spans.accounted_s / main.spans.span_s if main.spans.span_s else 1.0)
    return Sheet(columns, parts(main), title(found), total, list(_part_notes(found)))


def _part_notes(found: Traced) -> Iterable[str]:
    main, spans = found.main, found.main.spans
    doing = [f"{what} {scaled(seconds, 's')}" for what, seconds in list(spans.host_in.items())[:HOST_LINES]]
    if doing:
        yield f"Meanwhile the host was in: {'; '.join(map(one_line, doing))}."
    if spans.communication_hidden_s:
        yield f"Another {scaled(spans.communication_hidden_s, 's')} of communication overlaps with kernels."
    if main.waiting_s:
        yield f"The collectives wait {scaled(main.waiting_s, 's')} for other ranks."
    if spans.profiler_s is not None:
        yield f"The profiler added {scaled(spans.profiler_s, 's')}: the step takes {scaled(spans.span_s - spans.profiler_s, 's', 4)} without it."
    yield from found.notes


def ranks_sheet(ranks: Sequence[Rank]) -> Sheet:
    """Returns the ranks beside one another."""
    columns = [
        Column("rank", "rank", lambda one: one.rank),
        Column("span_s", "step", lambda one: one.spans.span_s, _time),
        Column("kernel_s", "kernels", lambda one: one.spans.kernel_s, _time),
        Column("exposed", "exposed", lambda one: one.spans.communication_exposed_s, _time),
        Column("hidden", "hidden", lambda one: one.spans.communication_hidden_s, _time, expendable=2),
        Column("waiting", "waiting", lambda one: one.waiting_s, _time),
        Column("idle_host_s", "idle: host", lambda one: one.spans.idle_host_s, _time),
        Column("idle_other_s", "idle: other", lambda one: one.spans.idle_other_s, _time, expendable=1),
    ]
    last = min(ranks, key=lambda one: one.waiting_s)
    notes = [
        "Exposed: communication without a kernel at the same time. Hidden: communication that overlaps with kernels. Waiting: communication until the last rank arrives."
    ]
    if max(one.waiting_s for one in ranks):
        notes.append(f"The others wait for rank {last.rank}.")
    return Sheet(columns, ranks, "Ranks", notes=notes)


def _time(value: float) -> str:
    return scaled(value, "s", 4)


def _advice_text(found: Traced, width: int) -> str:
    lines = ["Suggested changes, with the time that each saves by the model:", ""]
    for number, one in enumerate(found.advice[:MOST_ADVICE], 1):
        share = one.saves_s / found.main.spans.span_s
        head = f"{number}. saves {scaled(one.saves_s, 's')} ({share:.1%}): {one.what}"
        first, *more = wrapped(one_line(head), width - 3)
        lines += [first, *(f"   {line}" for line in more)]
        for body in (one.because, f"Check: {one.check}"):
            lines += [f"   {line}" for line in wrapped(one_line(body), width - 3)]
    rest = len(found.advice) - MOST_ADVICE
    if rest > 0:
        lines += ["", f"{rest} smaller {'savings are' if rest > 1 else 'saving is'} in --format json."]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def kernels_sheet(found: Traced) -> Sheet:
    """Returns the kernels by operation and sizes, those with the most time first."""
    rows = together(found.main.rows)
    whole_s = sum(row.measured_s for row in rows)
    shown = [row for row in rows[:MOST_ROWS] if row.measured_s >= LEAST_SHARE * whole_s]
    priced = found.gpu is not None
    columns = [
        Column("op", "operation", lambda row: row.op or f"? {short(row.name)}", right=False),
        Column("shape", "sizes", lambda row: named(row.shape), right=False),
        Column("dtype", "type", lambda row: row.dtype, right=False, expendable=3),
        Column("calls", "calls", lambda row: row.calls, expendable=2),
        Column("measured_s", "measured", lambda row: row.measured_s, _time),
        Column(
            "share", "share", lambda row: row.measured_s / whole_s if whole_s else 0.0, lambda value: f"{value:.1%}"
        ),
        *(_priced() if priced else ()),
        Column("name", "kernel", lambda row: short(row.name, 40), right=False, expendable=6),
    ]
    return Sheet(
        columns, shown, "Kernels by operation and sizes", notes=list(_kernel_notes(found, rows, len(shown), whole_s))
    )


def _priced() -> tuple[Column, ...]:
    return (
        Column("expected_s", "expected", lambda row: row.expected_s, _time),
        Column("lower_s", "at least", lambda row: row.lower_s, _time, expendable=4),
        Column("of_bound", "of bound", lambda row: row.of_bound, lambda value: f"{value:.0%}", expendable=1),
        Column("bound", "bottleneck", lambda row: row.bound or None, right=False, expendable=5),
    )


def _kernel_notes(found: Traced, rows: Sequence[Row], shown: int, whole_s: float) -> Iterable[str]:
    main = found.main
    if len(rows) > shown:
        left_s = sum(row.measured_s for row in rows[shown:])
        more, left = len(rows) - shown, scaled(left_s, "s")
        what = f"1 more row takes {left}" if more == 1 else f"{more:,} more rows take {left} together"
        yield f"{what} (--format json has all kernels)."
    yield f"{main.known_share:.1%} of the kernels' time is tied to an operation with a formula."
    if main.unknown_s:
        unknown = [row for row in rows if not row.known and row.bound != "link"][:5]
        names = "; ".join(f"{short(row.name, 48)} {scaled(row.measured_s, 's')}" for row in unknown)
        yield f"Unknown, {scaled(main.unknown_s, 's')}: {one_line(names)}."
    inferred_s = sum(row.measured_s for row in rows if row.source == NAME and row.known)
    if inferred_s > INFERRED * whole_s:
        yield (
            "Some sizes are inferred from the names and grids of kernels, because the trace has no shapes for them. Where a size "
            "was inferred from the measured time, the two times agree by construction."
        )
    if found.gpu:
        yield f'"Of bound" is the lower bound of {label(found.gpu.file)} divided by the measured time.'
