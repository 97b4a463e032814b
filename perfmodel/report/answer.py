"""An analysis as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel import routing
from perfmodel.analysis import Analysis, Form, Row, Total
from perfmodel.expression import Expression
from perfmodel.grouping import Block, blocks
from perfmodel.paths import label
from perfmodel.report.breakdown import breakdown
from perfmodel.report.fit import fit_document, fit_lines
from perfmodel.report.serving import rates_document, speed_line
from perfmodel.report.sheet import Sheet, wrapped
from perfmodel.report.sheet import render as render_sheet
from perfmodel.roofline import Rates
from perfmodel.serving import speed
from perfmodel.symbols import SYMBOLS
from perfmodel.timing.expectation import Expected
from perfmodel.units import scaled, significant

SCHEMA = 2
LINE = 120  # characters per line when the lines of notes are counted
BRIEF = 4  # maximum lines of notes below a table without --verbose
STEPS = "Each kernel: --steps."
TOGETHER = "The bottleneck of the total is the resource (memory or one engine) with the largest total time."
NO_OVERLAP = (
    '"No overlap" (--columns no_overlap_s) adds memory and compute time at data-sheet rates. '
    "Real kernels can be slower."
)
PROTOCOLS = {
    "cold": "one replay of a CUDA graph that starts with an empty L2",
    "warm": "replays back to back, so L2 contains data of the previous run",
    "rotating": "many runs in one graph, each with other weights, which come from DRAM; activations are in L2",
    "eager": "the kernels of warm, launched one by one by the host",
}


def render(
    answer: Analysis, form: str, *, steps: bool = False, verbose: bool = False, columns: Sequence[str] = ()
) -> str:
    """Returns the analysis in the given format, with a final line break.

    Tables show blocks or, with ``steps``, kernels. CSV and JSON always contain every kernel.
    """
    if form == "json":
        from perfmodel.strictjson import dumped

        return dumped(document(answer), indent=2) + "\n"
    return render_sheet(sheet(answer, steps=steps or form == "csv", verbose=verbose).picked(columns), form)


def sheet(answer: Analysis, *, steps: bool = False, verbose: bool = False) -> Sheet:
    """Returns the table with its title and notes."""
    found = breakdown(answer, steps)
    each = found.columns[0].heading == "step"
    return found._replace(title=title(answer), notes=notes(answer, steps=each, verbose=verbose))


def document(answer: Analysis) -> dict[str, Any]:
    """Returns the JSON document of ``flops``."""
    return {
        "schema": SCHEMA,
        "config": answer.workload.name,
        "phase": answer.phase,
        "fused": answer.fused,
        "causal": answer.causal,
        "count": answer.counting,
        "logits": answer.workload.logits,
        "dims": answer.dims,
        "dtypes": dict(answer.dtypes),
        "gpu": gpu_document(answer.gpu, answer.knowledge),
        **roof_notes(answer),
        **({"protocol": answer.protocol} if answer.total.expected else {}),
        "parameters": answer.parameters._asdict(),
        "kv_cache_byte_per_token": answer.kv_cache_byte_per_token,
        "steps": [_row(row) for row in answer.rows],
        "blocks": [_block(block) for block in blocks(answer)],
        "total": total_document(answer.total),
        "form": answer.form or None,
        **_forms(answer),
        **_rates(answer),
        **fit_document(answer),
        "notes": list(answer.notes),
        "not_counted": list(answer.not_counted),
    }


def _forms(answer: Analysis) -> dict[str, Any]:
    """Returns all forms of a decoding step, if there are several."""
    if len(answer.forms) < 2:
        return {}
    forms = {
        name: {**total_document(form.total), "kv_cache_byte_per_token": form.kv_cache_byte_per_token}
        for name, form in answer.forms.items()
    }
    return {"forms": forms}


def _rates(answer: Analysis) -> dict[str, Any]:
    """Returns times and rates under the names of the phase; empty without a card."""
    found = speed(answer)
    return {"rates": rates_document(found, answer.phase)} if found else {}


def gpu_document(gpu: Any, knowledge: str = "") -> dict[str, str] | None:
    """Returns the card's name, file and state of knowledge."""
    return {"name": gpu.name, "file": label(gpu.file), "knowledge": knowledge or gpu.knowledge} if gpu else None


def expected_document(expected: Expected | None, lower_s: float) -> dict[str, float]:
    """Returns the expected time, its range and its excess over the lower bound; empty if there is none."""
    if expected is None:
        return {}
    return {
        "expected_s": expected.expected_s,
        "expected_low_s": expected.low_s,
        "expected_high_s": expected.high_s,
        "headroom_s": expected.expected_s - lower_s,
    }


def roof_notes(answer: Analysis) -> dict[str, list[str]]:
    """Returns notes on roofs that replace missing ones; empty without a card."""
    return {"roof_notes": list(answer.roof_notes)} if answer.card else {}


def _row(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": row.name,
        "op": row.operation,
        "repeat": row.repeat,
        "flops": row.flops,
        "contraction_flops": row.contraction_flops,
        "work": row.work,
        "engines": row.engines,
        "traffic_byte": row.traffic_byte,
        "compulsory_byte": row.compulsory_byte,
        "read_byte": row.read_byte,
        "write_byte": row.write_byte,
        "tensors": row.tensors,
        "intensity_flop_per_byte": row.intensity_flop_per_byte,
    }
    if row.bounds:
        found |= {"bound": row.bounds.bound, "lower_s": row.bounds.lower_s, "no_overlap_s": row.bounds.no_overlap_s}
        found |= expected_document(row.expected, row.bounds.lower_s)
    return found


def _block(block: Block) -> dict[str, Any]:
    steps = list(dict.fromkeys(row.name for row in block.rows))
    share = {"share": block.share} if block.share is not None else {}
    return {"name": block.name, "steps": steps, "launches": block.launches, **total_document(block.total), **share}


def total_document(total: Total) -> dict[str, Any]:
    """Returns the totals, with times if there is a card."""
    found: dict[str, Any] = {
        "flops": total.flops,
        "contraction_flops": total.contraction_flops,
        "traffic_byte": total.traffic_byte,
        "compulsory_byte": total.compulsory_byte,
        "intensity_flop_per_byte": total.intensity_flop_per_byte,
    }
    if total.lower_s is not None:
        found |= {"bound": total.bound, "lower_s": total.lower_s, "no_overlap_s": total.no_overlap_s}
        found |= expected_document(total.expected, total.lower_s)
    return found


def title(answer: Analysis) -> str:
    """Returns the title: workload, phase, sizes, data type and card."""
    types = dict.fromkeys(answer.workload.dtypes.values())  # an item size that was set stands among the sizes
    words = [answer.phase, *chosen_sizes(answer), " and ".join(types)]
    words += ["unfused"] * (not answer.fused) + ["causal"] * answer.causal
    words += ["logits of the last position"] * (answer.workload.logits == "last")
    return f"{answer.workload.title}: {', '.join(words)}{f', on {answer.gpu.title}' if answer.gpu else ''}"


def chosen_sizes(answer: Analysis) -> list[str]:
    """Returns the sizes of the phase, and sizes that differ from the workload's own, as ``N = 2048``.

    Sizes that follow from others are omitted. A workload whose phases have no sizes shows all its numeric sizes.
    """
    workload, dims = answer.workload, answer.dims
    phase = workload.phases[answer.phase]
    own = {**workload.sizes, **phase, **workload.items()}
    named = {"B", *phase} if phase else set(workload.sizes)
    shown = []
    for name, value in dims.items():
        given = own.get(name)
        follows = isinstance(given, Expression) and given(dims) == value
        if value is not None and not follows and (name in named - workload.items().keys() or given != value):
            shown.append(f"{name} = {routing.text(value)}")
    return shown


def notes(answer: Analysis, *, steps: bool = True, verbose: bool = True) -> list[str]:
    """Returns the notes below the table: all with ``verbose``, else at most ``BRIEF`` lines, warnings before rates."""
    if verbose:
        return [*full_notes(answer), *([] if steps else [STEPS])]
    expected, urgent, rates = expected_line(answer), warnings(answer), speed_lines(answer)
    room = BRIEF - 1 - len(expected)
    kept = []
    for note in (*urgent, *rates):
        lines = len(wrapped(note, LINE))
        if lines <= room:
            kept.append(note)
            room -= lines
    more = len(urgent) + len(rates) - len(kept)
    hidden = f"{more} more note{'s' * (more > 1)}, data" if more else "Data"
    hint = f"{hidden} sources and conventions: --verbose."
    first = [note for note in kept if note in rates]
    return [*expected, *first, *(note for note in kept if note not in rates), hint if steps else f"{STEPS} {hint}"]


def warnings(answer: Analysis) -> list[str]:
    """Returns notes that a reader must know: the workload does not fit, parts are not counted, a roof is replaced."""
    return [*fit_lines(answer), *left_out(answer)]


def left_out(answer: Analysis) -> list[str]:
    """Returns the same without what does not fit."""
    lines = []
    if answer.not_counted:
        first, *others = answer.not_counted
        lines.append(f"Not counted: {first}{f'; and {len(others)} more' if others else ''}.")
    lines += [*answer.roof_notes, *answer.warnings]
    return lines


def full_notes(answer: Analysis) -> list[str]:
    """Returns all notes: rates, sizes, conventions, roofs, and what is not counted."""
    lines = [*speed_lines(answer, verbose=True), sizes_line(answer.dims), dtypes_line(answer.dtypes)]
    if answer.counting == "leading":
        lines.append(
            "FLOP count: kernels with matrix products count only those products (--count all counts every operation)."
        )
    if answer.parameters.total:
        cache = answer.kv_cache_byte_per_token
        kept = f" KV cache: {cache:,} B per token." if cache else ""
        lines.append(f"Parameters: {answer.parameters.total:,}.{kept}")
    if answer.card:
        lines.extend(card_lines(answer.dims, answer.card, answer.roof_notes))
        if len({row.bounds.bound for row in answer.rows if row.bounds}) > 1:
            lines.append(TOGETHER)
        lines.extend(expected_line(answer, verbose=True))
        lines.append(NO_OVERLAP)
        lines.extend(fit_lines(answer))
    lines.extend(form_lines(answer))
    lines.extend(answer.notes)
    lines.extend(f"Not counted: {what}." for what in answer.not_counted)
    return list(filter(None, lines))


def speed_lines(answer: Analysis, verbose: bool = False) -> list[str]:
    """Returns the time and rate of the phase; for a part of a model, only with ``verbose``."""
    found = speed(answer)
    if found is None or not (found.complete or verbose):
        return []
    pairs = answer.causal if answer.kv_cache_byte_per_token else None
    return [speed_line(found, answer.phase, pairs, verbose=verbose)]


def expected_line(answer: Analysis, verbose: bool = False) -> list[str]:
    """Returns the range of the expected time, its protocol and the state of knowledge of the card."""
    found = answer.total.expected
    if found is None:
        return []
    rests = f"{answer.knowledge} knowledge{f': {answer.basis}' if verbose else ''}"
    measured = "calibrated" in (answer.knowledge, answer.gpu.knowledge if answer.gpu else "")
    hint = "" if measured else "; calibrate the card to narrow the range"
    launch = ""
    if answer.launch_s > LAUNCH_TOLD * found.expected_s:
        launch = f", {scaled(answer.launch_s, 's', 3)} of it for the launch"
    lines = [f"Expected: {span(found.low_s, found.high_s, 's')}{launch} ({rests}; protocol {answer.protocol}){hint}."]
    return lines + [f"{protocol_line(answer.protocol)} {COVERAGE}"] * verbose


LAUNCH_TOLD = 0.01  # share of the expected time from which the launch is named
COVERAGE = (
    "The range contains 80 % of measurements of the same kernels; programs that run other kernels, copies or gaps are "
    "slower."
)


def protocol_line(protocol: str) -> str:
    """Returns the meaning of a protocol's name."""
    return f"Protocol {protocol}: {PROTOCOLS[protocol]}."


def span(low: float, high: float, unit: str) -> str:
    """Returns a range; the unit is written once if both ends share it: ``3.32 to 4.64 ms``."""
    first, last = scaled(low, unit, 3), scaled(high, unit, 3)
    number, _, prefixed = first.partition(" ")
    return f"{number} to {last}" if last.endswith(f" {prefixed}") else f"{first} to {last}"


def form_lines(answer: Analysis) -> list[str]:
    """Returns one line for each form of a decoding step; empty if there is one form."""
    if len(answer.forms) < 2:
        return []
    default = next(iter(answer.forms))
    return [_form_line(name, form, name == answer.form, name == default) for name, form in answer.forms.items()]


def _form_line(name: str, form: Form, is_shown: bool, is_default: bool) -> str:
    which = ", ".join(["shown"] * is_shown + ["the default"] * is_default)
    words = [f"{scaled(form.total.contraction_flops, 'FLOP')} of matrix products", scaled(form.total.traffic_byte, "B")]
    words += [f"at least {scaled(form.total.lower_s, 's')}"] if form.total.lower_s is not None else []
    words.append(f"{form.kv_cache_byte_per_token:,} B of KV cache per token")
    return f"Form {name}{f' ({which})' if which else ''}: {', '.join(words)}."


def roofs_line(card: Rates) -> str:
    """Returns the card's bandwidth and roofs with their ridges, and their source."""
    roofs = dict.fromkeys(
        f"{roof.name} {scaled(roof.flop_per_s, 'FLOP/s', 4)} (ridge {significant(card.ridge(engine), 4)} FLOP/B)"
        for engine, roof in card.roofs.items()
    )
    bandwidth = scaled(card.bandwidth_byte_per_s, "B/s", 4)
    return f"Roofs: memory {bandwidth}, {', '.join(roofs)}; {label(card.gpu.file)}, {card.gpu.knowledge}."


def card_lines(dims: Mapping[str, Any], card: Rates, notes: Sequence[str] | None = None) -> list[str]:
    """Returns the roofs, the sizes that come from the card, and notes on replaced roofs: by default the card's own."""
    sizes = [
        f"{name} = {size} is the {SYMBOLS[name].card.replace('_', ' ')} in {label(card.gpu.file)}."
        for name, size in card.gpu.sizes().items()
        if dims.get(name) == size
    ]
    return [roofs_line(card), *sizes, *(card.notes if notes is None else notes)]


def dtypes_line(types: Mapping[str, str]) -> str:
    """Returns the data type, or each role's if they differ."""
    kinds = ", ".join(f"{role} {dtype}" for role, dtype in types.items())
    return f"Data types: {kinds}." if len(set(types.values())) > 1 else f"Data type: {types['weight']}."


def sizes_line(dims: Mapping[str, Any]) -> str:
    """Returns the sizes in one sentence, without item sizes."""
    named = {name: value for name, value in dims.items() if value is not None and SYMBOLS[name].kind != "item"}
    shown = [f"{name} = {routing.text(value)}" for name, value in named.items()]
    return f"Sizes: {', '.join(shown)}." if shown else ""
