"""Workloads and cards side by side: one column each; and the effect of faster parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import ceil_div
from perfmodel.comparison import Amdahl, Case, Comparison, Part
from perfmodel.report.answer import SCHEMA, dtypes_line, gpu_document, roof_notes, sizes_line, total_document
from perfmodel.report.fit import memory_document
from perfmodel.report.serving import rates_document
from perfmodel.report.sheet import Column, Sheet, as_csv, markdown, table, terminal_width
from perfmodel.serving import speed
from perfmodel.units import scaled, significant


class Figure(NamedTuple):
    """One figure of the comparison: its key, its heading, its value for a case and how it is formatted.

    Tables omit a figure that is not ``brief`` unless ``--columns`` names it.
    """

    key: str
    heading: str
    value: Callable[[Case], Any]
    show: Callable[[Any], str] = str
    brief: bool = True


def _bytes(value: float) -> str:
    return scaled(value, "B", 4)


def _seconds(value: float) -> str:
    return scaled(value, "s", 4)


def _count(value: float) -> str:
    return scaled(value, digits=4)


def _ratio(value: float) -> str:
    return significant(value, 4)


def _times(value: float) -> str:
    return f"{_ratio(value)} ×"


def _percent(value: float) -> str:
    return f"{significant(100 * value, 3)} %"


def _rate(key: str) -> Callable[[Case], Any]:
    return lambda case: getattr(speed(case.answer), key, None)


def _expected(case: Case, key: str) -> float | None:
    """Returns the expected time or an end of its range."""
    return getattr(case.answer.total.expected, key, None)


def _fits(case: Case) -> str | None:
    fits = case.memory.fits if case.memory else None
    return None if fits is None else "yes" if fits else "no"


def _held(key: str) -> Callable[[Case], Any]:
    """Returns a function that reads one figure of the memory estimate."""
    return lambda case: getattr(case.memory, key) if case.memory else None


def _of(kind: str) -> Callable[[Case], Any]:
    """Returns a function that reads the bytes of one kind; None if they are zero."""
    return lambda case: case.memory.of(kind) or None if case.memory else None


LAW = (
    "Amdahl's law: if a share s of the time becomes f times as fast, the whole becomes 1 / (1 - s + s/f) times as fast."
)
FIGURES = (
    Figure("config", "workload", lambda c: c.answer.workload.name),
    Figure("gpu", "card", lambda c: c.answer.gpu.name if c.answer.gpu else None),
    Figure("phase", "phase", lambda c: c.answer.phase),
    Figure("parameters", "parameters", lambda c: c.answer.parameters.total or None, _count),
    Figure("active_parameters", "active parameters", lambda c: c.answer.parameters.active or None, _count),
    Figure("flops", "FLOP", lambda c: c.answer.total.flops, _count),
    Figure("contraction_flops", "FLOP of matrix products", lambda c: c.answer.total.contraction_flops, _count),
    Figure("traffic_byte", "traffic", lambda c: c.answer.total.traffic_byte, _bytes),
    Figure("intensity_flop_per_byte", "FLOP/B", lambda c: c.answer.total.intensity_flop_per_byte, _ratio),
    Figure("bound", "bottleneck", lambda c: c.answer.total.bound),
    Figure("lower_s", "at least", lambda c: c.answer.total.lower_s, _seconds),
    Figure("expected_s", "expected", lambda c: _expected(c, "expected_s"), _seconds),
    Figure("expected_low_s", "expected, low", lambda c: _expected(c, "low_s"), _seconds),
    Figure("expected_high_s", "expected, high", lambda c: _expected(c, "high_s"), _seconds),
    Figure("no_overlap_s", "no overlap", lambda c: c.answer.total.no_overlap_s, _seconds, brief=False),
    Figure("tokens_at_most_per_s", "tokens/s at most", _rate("tokens_at_most_per_s"), _count),
    Figure("flops_utilisation_at_most", "peak utilisation at most", _rate("flops_utilisation_at_most"), _percent),
    Figure("flops_utilisation_of", "peak", _rate("roof")),
    Figure("kv_cache_byte_per_token", "KV cache per token", lambda c: c.answer.kv_cache_byte_per_token or None, _bytes),
    Figure("weights_byte", "weights", _of("weights"), _bytes),
    Figure("training_byte", "gradients, optimizer", _of("training"), _bytes),
    Figure("cache_byte", "KV cache", _of("cache"), _bytes),
    Figure("activations_byte", "activations", _of("activations"), _bytes),
    Figure("memory_byte", "memory", _held("byte"), _bytes),
    Figure("reserve_byte", "reserve", _held("reserve_byte"), _bytes),
    Figure("fits", "fits", _fits),
    Figure("spare_byte", "spare memory", _held("spare_byte"), _bytes),
    Figure("step_speedup", "step speed-up", lambda c: c.step.speedup if c.step else None, _times),
    Figure("layers_speedup", "layers speed-up", lambda c: c.layers.speedup if c.layers else None, _times),
)


def render(comparison: Comparison, form: str, width: int | None = None, columns: Sequence[str] = ()) -> str:
    """Returns the comparison in the given format, with a final line break. ``columns`` are keys of figures to show."""
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(comparison), indent=2) + "\n"
    if form == "csv":
        return as_csv(listed(comparison).picked(columns))
    parts = [speedups(case) for case in comparison.cases if case.step]
    if form == "markdown":
        return "\n".join(markdown(sheet) for sheet in (side_by_side(comparison, comparison.cases, columns), *parts))
    width = width or terminal_width()
    return "\n".join(table(sheet, width) for sheet in (*blocks(comparison, width, columns), *parts))


def document(comparison: Comparison) -> dict[str, Any]:
    """Returns the JSON document of ``compare``."""
    return {"schema": SCHEMA, "cases": [_case(case) for case in comparison.cases], "notes": list(comparison.notes)}


def _case(case: Case) -> dict[str, Any]:
    answer, found = case.answer, speed(case.answer)
    return {
        "config": answer.workload.name,
        "phase": answer.phase,
        "fused": answer.fused,
        "causal": answer.causal,
        "form": answer.form or None,
        "dims": answer.dims,
        "dtypes": dict(answer.dtypes),
        "gpu": gpu_document(answer.gpu),
        **roof_notes(answer),
        **({"protocol": answer.protocol} if answer.total.expected else {}),
        "parameters": answer.parameters._asdict(),
        "kv_cache_byte_per_token": answer.kv_cache_byte_per_token,
        "total": total_document(answer.total),
        **({"rates": rates_document(found, answer.phase)} if found else {}),
        "memory": memory_document(case.memory) if case.memory else None,
        **_speedup(case),
    }


def _speedup(case: Case) -> dict[str, Any]:
    both = {"step": case.step, "layers": case.layers}
    return {"speedup": {name: _amdahl(whole) for name, whole in both.items() if whole}} if case.step else {}


def _amdahl(amdahl: Amdahl) -> dict[str, Any]:
    parts = [{**part._asdict(), "share": part.lower_s / amdahl.lower_s} for part in amdahl.parts]
    return {"lower_s": amdahl.lower_s, "after_s": amdahl.after_s, "speedup": amdahl.speedup, "parts": parts}


# --- tables


def figures(comparison: Comparison) -> list[Figure]:
    """Returns the figures that at least one case has."""
    return [figure for figure in FIGURES if any(figure.value(case) is not None for case in comparison.cases)]


def listed(comparison: Comparison) -> Sheet:
    """Returns one line per case."""
    return Sheet([Column(f.key, f.heading, f.value, f.show) for f in figures(comparison)], comparison.cases)


def blocks(comparison: Comparison, width: int, keys: Sequence[str] = ()) -> list[Sheet]:
    """Returns the cases side by side, in as few tables as the width allows. The first has the title, the last the
    notes.
    """
    cases, found = comparison.cases, []
    for tables in range(1, len(cases) + 1):
        length = ceil_div(len(cases), tables)
        found = [_table(comparison, cases[i : i + length], keys) for i in range(0, len(cases), length)]
        if all(_width(sheet) <= width for sheet in found):
            break
    last = len(found) - 1
    return [
        sheet._replace(title=title(comparison) if i == 0 else "", notes=notes(comparison) if i == last else ())
        for i, sheet in enumerate(found)
    ]


def side_by_side(comparison: Comparison, cases: Sequence[Case], keys: Sequence[str] = ()) -> Sheet:
    """Returns one table with a title and notes."""
    return _table(comparison, cases, keys)._replace(title=title(comparison), notes=notes(comparison))


def _table(comparison: Comparison, cases: Sequence[Case], keys: Sequence[str] = ()) -> Sheet:
    """Returns one column per case and one line per figure: those named by ``keys``, else the brief ones."""
    first, *others = figures(comparison)
    known = {figure.key: figure for figure in others}
    picked = [column.key for column in listed(comparison).picked(keys).columns]
    rest = [known[key] for key in picked if key in known] if keys else [figure for figure in others if figure.brief]
    columns = [Column("figure", "", lambda figure: figure.heading, right=False)]
    columns += [Column(f"case_{i}", str(first.value(case)), _shown_in(case)) for i, case in enumerate(cases)]
    return Sheet(columns, rest)


def title(comparison: Comparison) -> str:
    """Returns the title: workloads, cards and forms."""
    answers = [case.answer for case in comparison.cases]
    names = _and(dict.fromkeys(answer.workload.name for answer in answers))
    cards = _and(dict.fromkeys(answer.gpu.title for answer in answers if answer.gpu))
    words = dict.fromkeys("fused" if answer.fused else "unfused" for answer in answers)
    words |= dict.fromkeys("causal" for answer in answers if answer.causal)
    return f"{names}{f' on {cards}' if cards else ''}: {', '.join(words)}"


def _and(words: Iterable[str]) -> str:
    """Returns ``a, b and c``."""
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _shown_in(case: Case) -> Callable[[Figure], str]:
    def cell(figure: Figure) -> str:
        value = figure.value(case)
        return "" if value is None else figure.show(value)

    return cell


def _width(sheet: Sheet) -> int:
    """Returns the width of the table without wrapping or hiding."""
    lines = [[column.heading for column in sheet.columns], *(sheet.cells(row) for row in sheet.rows)]
    return sum(max(map(len, cells)) + 2 for cells in zip(*lines, strict=True)) - 2


def notes(comparison: Comparison) -> list[str]:
    """Returns the notes: sizes, data types, roofs, memory."""
    answers = {case.answer.workload.name: case.answer for case in comparison.cases}
    alone = len(answers) == 1
    lines = [
        sizes_line(answer.dims).replace("Sizes", "Sizes" if alone else f"Sizes of {name}", 1)
        for name, answer in answers.items()
        if sizes_line(answer.dims)
    ]
    lines += dict.fromkeys(dtypes_line(answer.dtypes) for answer in answers.values())
    if comparison.cases[0].answer.gpu:
        lines.append(
            "Times 'at least' and rates 'at most' are bounds at data-sheet rates; 'expected' is the time model's estimate"
            f" (protocol {comparison.cases[0].answer.protocol})."
        )
    lines += dict.fromkeys(note for case in comparison.cases for note in case.answer.roof_notes)
    calls = {note: None for a in answers.values() for note in a.notes if note not in a.workload.notes}
    lines += [note if alone else f"In {_having(comparison, note)}: {note}" for note in calls]
    lines += dict.fromkeys(_memory(comparison))
    return [*lines, *comparison.notes]


def _memory(comparison: Comparison) -> Iterable[str]:
    """Yields notes on workloads without a memory estimate, and on cards that are too small."""
    for case in comparison.cases:
        name = case.answer.workload.name
        if case.memory is None:
            yield f"{name} has no memory estimate: training with weights of less than 2 bytes has no common recipe."
        elif case.memory.sentence:
            yield f"{name}: {case.memory.sentence}"


def _having(comparison: Comparison, note: str) -> str:
    return ", ".join(dict.fromkeys(c.answer.workload.name for c in comparison.cases if note in c.answer.notes))


# --- Amdahl


def speedups(case: Case) -> Sheet:
    """Returns one line per part that becomes faster, and one line for all parts."""
    step, layers = case.step, case.layers
    assert step is not None
    assert layers is not None
    rows = [(part,) for part in step.parts] + ([step.parts] if len(step.parts) > 1 else [])
    columns = [
        Column("part", "part", lambda parts: parts[0].key if len(parts) == 1 else "all parts", right=False),
        Column("factor", "factor", lambda parts: parts[0].factor if len(parts) == 1 else None, _times),
        Column("kernels", "kernels", lambda parts: sum(part.kernels for part in parts), expendable=2),
        Column("lower_s", "at least", lambda parts: sum(part.lower_s for part in parts), _seconds),
        Column("share", "of step", lambda parts: _alone(step, parts).share, _percent),
        Column("step", "step speed-up", lambda parts: _alone(step, parts).speedup, _times),
        Column("layers_share", "of layers", lambda parts: _alone(layers, parts).share, _percent, expendable=1),
        Column("layers", "layers speed-up", lambda parts: _alone(layers, parts).speedup, _times),
    ]
    card = f" on {case.answer.gpu.title}" if case.answer.gpu else ""
    title = f"Speed-up of {case.answer.workload.name}{card} by faster parts: {case.answer.phase}"
    return Sheet(columns, rows, title=title, notes=[LAW, formula(step)])


def _alone(whole: Amdahl, parts: Sequence[Part]) -> Amdahl:
    """Returns the whole with only these parts faster."""
    return whole._replace(parts=tuple(p for p in whole.parts if any(p.key == part.key for part in parts)))


def formula(step: Amdahl) -> str:
    """Returns Amdahl's law with the numbers of a step."""
    shares = [(f"{part.lower_s / step.lower_s:.4f}", f"{part.factor:g}") for part in step.parts]
    taken, left = " - ".join(s for s, _ in shares), " + ".join(f"{s}/{f}" for s, f in shares)
    times = f"{_seconds(step.lower_s)} becomes {_seconds(step.after_s)}"
    return f"Step: {times}; 1 / (1 - {taken} + {left}) = {step.speedup:.3f} times as fast."
