"""A program on a card as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfmodel.programs.program import Program
from perfmodel.programs.run import Answer, Row, Total
from perfmodel.programs.summary import HIDDEN, Line, by_kernel, by_place
from perfmodel.programs.timeline import COMPUTE
from perfmodel.report.answer import SCHEMA, gpu_document, span
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.units import scaled, significant

MOST = 24  # lines of a table; the rest is one line
RUNS = {
    "graph": "kernels alone, as in the replay of a CUDA graph",
    "eager": "every kernel launched by the host",
    "compiled": "elementwise chains fused, launched by compiled code",
    "ideal": "elementwise chains fused, no host",
}
GUESSES_SHOWN = 3
MOST_TIMES = 1000  # the largest multiple of the bound that is shown


def render(found: Answer, form: str, *, steps: bool = False, verbose: bool = False, columns: Sequence[str] = ()) -> str:
    """Returns the answer in the given format, with a final line break. CSV and JSON contain every kernel."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(found), indent=2) + "\n"
    if form == "csv":
        return render_sheet(kernels(found).picked(columns), form)
    return render_sheet(sheet(found, steps=steps, verbose=verbose).picked(columns), form)


def document(found: Answer) -> dict[str, Any]:
    """Returns the JSON document of a program on a card."""
    return {
        "schema": SCHEMA,
        "program": found.program.name,
        "run": found.run,
        "gpu": gpu_document(found.gpu, found.knowledge),
        "steps": [_row(row) for row in found.rows],
        "total": total_document(found.total),
        "peak_byte": found.peak_byte,
        "memory": {
            "resident_byte": found.memory.resident_byte,
            "peak_byte": found.peak_byte,
            "peak_step": found.memory.peak_step,
            "peak_byte_by_role": found.memory.peak_roles,
        },
        "guesses": list(found.program.guesses),
        "notes": list(found.program.notes),
        "unknown": [{"op": name, "expected_s": seconds} for name, seconds in unknown(found).items()],
    }


def _row(row: Row) -> dict[str, Any]:
    moved = row.read_byte + row.write_byte
    return {
        "name": row.module,
        "op": row.operation,
        "source": row.source,
        "phase": row.phase,
        "sizes": {name: value for name, value in row.sizes.items() if name not in HIDDEN},
        "dtype": row.dtype,
        **({"impl": row.impl} if row.impl else {}),
        "flops": row.flops,
        "contraction_flops": row.contraction_flops,
        "traffic_byte": moved,
        "read_byte": row.read_byte,
        "write_byte": row.write_byte,
        "intensity_flop_per_byte": row.flops / moved if moved else 0.0,
        "bound": row.bound,
        "lower_s": row.lower_s,
        "no_overlap_s": row.no_overlap_s,
        "expected_s": row.expected_s,
        "headroom_s": row.expected_s - row.lower_s,
        "waits_s": row.waits_s,
        "exposed_s": row.exposed_s,
        "stream": row.stream,
        "l2_share": row.l2_share,
        "known": row.known and row.modelled,
    }


def total_document(total: Total) -> dict[str, Any]:
    """Returns the sums of a program."""
    moved = total.traffic_byte
    return {
        **total._asdict(),
        "intensity_flop_per_byte": total.flops / moved if moved else 0.0,
        "headroom_s": total.expected_s - total.lower_s,
    }


def unknown(found: Answer) -> dict[str, float]:
    """Returns the seconds of operators that are priced by their bytes alone, the longest first."""
    seconds: dict[str, float] = {}
    for row in found.rows:
        if not (row.known and row.modelled):
            seconds[row.operation] = seconds.get(row.operation, 0.0) + row.expected_s
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))


def sheet(found: Answer, *, steps: bool = False, verbose: bool = False) -> Sheet:
    """Returns the table by module, or by kernel with ``steps``."""
    lines = by_kernel(found.rows) if steps else by_place(found.rows)
    rows = shortened(lines, verbose)
    phases = len({line.phase for line in lines}) > 1
    columns = [
        Column("name", "kernel" if steps else "module", lambda line: line.name, right=False),
        *(
            [Column("phase", "phase", lambda line: line.phase, right=False, wraps=False, expendable=2)]
            if phases
            else []
        ),
        *([] if steps else [Column("ops", "operations", _named, right=False, expendable=3)]),
        Column("kernels", "kernels", lambda line: line.kernels),
        Column("flops", "FLOP", lambda line: line.flops, lambda value: scaled(value, "", 4), expendable=4),
        Column(
            "traffic_byte", "traffic", lambda line: line.traffic_byte, lambda value: scaled(value, "B", 4), expendable=5
        ),
        Column("bound", "bottleneck", lambda line: line.bound, right=False, wraps=False, expendable=1),
        Column("lower_s", "at least", lambda line: line.lower_s, lambda value: scaled(value, "s", 4)),
        Column("expected_s", "kernel time", lambda line: line.expected_s, lambda value: scaled(value, "s", 4)),
        Column("share", "share", lambda line: line.share, lambda value: f"{100 * value:.1f} %"),
    ]
    return Sheet(columns, rows, title=title(found), total=_total(found), notes=notes(found, verbose=verbose))


def shortened(lines: Sequence[Line], verbose: bool) -> list[Line]:
    """Returns the lines with the longest times in their order, and one line for all others."""
    if verbose or len(lines) <= MOST:
        return list(lines)
    kept = set(sorted(range(len(lines)), key=lambda i: -lines[i].expected_s)[: MOST - 1])
    rest = [line for i, line in enumerate(lines) if i not in kept]
    others = rest[0]._replace(
        name=f"{len(rest)} others (--verbose)", phase="", names=(), kernels=sum(line.kernels for line in rest),
        flops=sum(line.flops for line in rest), traffic_byte=sum(line.traffic_byte for line in rest), bound="",
        lower_s=sum(line.lower_s for line in rest), expected_s=sum(line.expected_s for line in rest),
        share=sum(line.share for line in rest),
    )  # fmt: skip
    return [*(line for i, line in enumerate(lines) if i in kept), others]


def _named(line: Line) -> str:
    first = line.names[:3]
    return ", ".join(first) + (f" and {len(line.names) - 3} more" if len(line.names) > 3 else "")


def _total(found: Answer) -> Line:
    total = found.total
    return Line(
        "total", "", (), total.kernels, total.flops, total.contraction_flops, total.traffic_byte, total.bound, total.lower_s,
        total.kernel_s + total.communication_s, 1.0, total.waits_s, total.unknown_s,
    )  # fmt: skip


def kernels(found: Answer) -> Sheet:
    """Returns one line per kernel in order, for CSV."""
    rows = [
        _row(row) | {"sizes": " ".join(f"{k}={v}" for k, v in row.sizes.items() if k not in HIDDEN)}
        for row in found.rows
    ]
    columns = [Column(key, key, lambda row, key=key: row.get(key)) for key in KEYS]  # type: ignore[misc]
    return Sheet(columns, rows)


KEYS = (
    "name", "op", "source", "phase", "sizes", "dtype", "impl", "flops", "contraction_flops", "traffic_byte", "read_byte",
    "write_byte", "intensity_flop_per_byte", "bound", "lower_s", "no_overlap_s", "expected_s", "headroom_s", "waits_s",
    "exposed_s", "stream", "l2_share", "known",
)  # fmt: skip


def title(found: Answer) -> str:
    """Returns the title: program, run and card."""
    return f"{found.program.name}, {found.run}: {RUNS[found.run]}, on {found.gpu.title}"


def notes(found: Answer, *, verbose: bool = False) -> list[str]:
    """Returns the sentences below the table: the time and its parts, memory, guesses, unknown operators."""
    lines = [_time_line(found), *_communication_lines(found.total), _memory_line(found)]
    lines += _unknown_lines(found)
    guesses = found.program.guesses
    for guess in guesses if verbose else guesses[:GUESSES_SHOWN]:
        lines.append(f"Guess: {guess}.")
    if len(guesses) > GUESSES_SHOWN and not verbose:
        lines.append(f"{len(guesses) - GUESSES_SHOWN} more guesses: --verbose.")
    return [*lines, *found.program.notes]


def _time_line(found: Answer) -> str:
    total = found.total
    if not total.kernels:
        return f"No kernel is launched. Expected: {scaled(total.expected_s, 's', 4)}, the time of the host."
    words = f"Expected: {scaled(total.expected_s, 's', 4)} ({span(total.expected_low_s, total.expected_high_s, 's')}; "
    words += f"{found.knowledge} knowledge){_times_the_bound(total)}. "
    number = sum(row.stream == COMPUTE for row in found.rows)
    talk = f", besides {len(found.rows) - number:,} of communication" if number < len(found.rows) else ""
    kernel_s = f"{number:,} kernel{'s take' if number > 1 else ' takes'} {scaled(total.kernel_s, 's', 4)}{talk}"
    if found.run in ("graph", "ideal"):
        return f"{words}{kernel_s}; the gaps between them in a replay would add {scaled(total.gaps_s, 's', 3)}."
    return (
        f"{words}{kernel_s}; the device waits {scaled(total.waits_s, 's', 3)} for the host and between kernels. "
        f"The host takes {scaled(total.host_s, 's', 3)} before the first kernel and after the last."
    )


def _communication_lines(total: Total) -> list[str]:
    if not total.communication_s:
        return []
    hidden_s = max(0.0, total.communication_s - total.exposed_s)
    return [
        f"Communication: {scaled(total.communication_s, 's', 4)}, of which {scaled(hidden_s, 's', 3)} overlap with other "
        f"kernels and {scaled(total.exposed_s, 's', 3)} are exposed."
    ]


def _times_the_bound(total: Total) -> str:
    """The expected time divided by the bound, unless the program is so small that only launches take time."""
    ratio = total.expected_s / total.lower_s if total.lower_s else MOST_TIMES
    return f", {significant(ratio, 3)} times the bound" if ratio < MOST_TIMES else ""


def _memory_line(found: Answer) -> str:
    roles = sorted(found.memory.peak_roles.items(), key=lambda pair: -pair[1])
    parts = ", ".join(f"{role} {scaled(byte, 'B', 3)}" for role, byte in roles if byte)
    return f"Peak memory: {scaled(found.peak_byte, 'B', 4)} allocated ({parts})."


def _unknown_lines(found: Answer) -> list[str]:
    seconds = unknown(found)
    if not seconds:
        return []
    share = sum(seconds.values()) / found.total.kernel_s
    names = ", ".join(list(seconds)[:5]) + (f" and {len(seconds) - 5} more" if len(seconds) > 5 else "")
    return [f"Priced by bytes alone, with a wide range ({significant(100 * share, 2)} % of the kernel time): {names}."]


def line(found: Program) -> str:
    """Returns a program in one line."""
    return f"{found.name}: {len(found.steps):,} calls"
