"""An analysis as a table, JSON document, CSV or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.analysis import Analysis, Form, Row, Total
from perfmodel.report.fit import fit_document, fit_lines
from perfmodel.report.serving import rates_document, speed_line
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.roofline import Rates
from perfmodel.serving import speed
from perfmodel.symbols import SYMBOLS
from perfmodel.timing.expectation import Expected
from perfmodel.units import scaled, significant

SCHEMA = 2
TOGETHER = "All kernels together are bound by what has most seconds, memory's and each engine's summed over them apart."


def render(answer: Analysis, form: str) -> str:
    """The answer in the form asked for, ending in a line break."""
    if form == "json":
        import json

        return json.dumps(document(answer), indent=2) + "\n"
    return render_sheet(sheet(answer), form)


def document(answer: Analysis) -> dict[str, Any]:
    """The JSON document of ``flops``."""
    return {
        "schema": SCHEMA,
        "config": answer.workload.name,
        "phase": answer.phase,
        "fused": answer.fused,
        "causal": answer.causal,
        "count": answer.counting,
        "dims": answer.dims,
        "dtypes": dict(answer.workload.dtypes),
        "gpu": gpu_document(answer.gpu, answer.knowledge),
        **roof_notes(answer),
        "parameters": answer.parameters._asdict(),
        "kv_cache_byte_per_token": answer.kv_cache_byte_per_token,
        "steps": [_row(row) for row in answer.rows],
        "total": total_document(answer.total),
        "form": answer.form or None,
        **_forms(answer),
        **_rates(answer),
        **fit_document(answer),
        "notes": list(answer.notes),
        "not_counted": list(answer.not_counted),
    }


def _forms(answer: Analysis) -> dict[str, Any]:
    """Every form of a decoding step, where it has several."""
    if len(answer.forms) < 2:
        return {}
    forms = {
        name: {**total_document(form.total), "kv_cache_byte_per_token": form.kv_cache_byte_per_token}
        for name, form in answer.forms.items()
    }
    return {"forms": forms}


def _rates(answer: Analysis) -> dict[str, Any]:
    """Times and rates by the phase's names for them, where there is a card."""
    found = speed(answer)
    return {"rates": rates_document(found, answer.phase)} if found else {}


def gpu_document(gpu: Any, knowledge: str = "") -> dict[str, str] | None:
    """Which card, from which file, and what its expected times rest on."""
    return {"name": gpu.name, "file": gpu.file, "knowledge": knowledge or gpu.knowledge} if gpu else None


def expected_document(expected: Expected | None) -> dict[str, float]:
    """The expected time and its range, where there is one."""
    if expected is None:
        return {}
    return {
        "expected_s": expected.expected_s,
        "expected_low_s": expected.low_s,
        "expected_high_s": expected.high_s,
    }


def roof_notes(answer: Analysis) -> dict[str, list[str]]:
    """Which roof stands in for one that the card lacks, where there is a card."""
    return {"roof_notes": list(answer.card.notes)} if answer.card else {}


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
        found |= expected_document(row.expected)
    return found


def total_document(total: Total) -> dict[str, Any]:
    """Totals; times where there is a card."""
    found: dict[str, Any] = {
        "flops": total.flops,
        "contraction_flops": total.contraction_flops,
        "traffic_byte": total.traffic_byte,
        "compulsory_byte": total.compulsory_byte,
        "intensity_flop_per_byte": total.intensity_flop_per_byte,
    }
    if total.lower_s is not None:
        found |= {"bound": total.bound, "lower_s": total.lower_s, "no_overlap_s": total.no_overlap_s}
        found |= expected_document(total.expected)
    return found


def sheet(answer: Analysis) -> Sheet:
    """The table: one line for each kernel, figures for one repeat, sums over all."""
    columns = [
        Column("name", "step", lambda row: row.name, right=False),
        Column("repeat", "×", lambda row: row.repeat),
        Column("flops", "FLOP", lambda row: row.flops, scaled),
        Column("traffic_byte", "traffic", lambda row: row.traffic_byte, lambda value: scaled(value, "B")),
        Column(
            "compulsory_byte",
            "compulsory",
            lambda row: row.compulsory_byte,
            lambda value: scaled(value, "B"),
            expendable=3,
        ),
        Column("intensity_flop_per_byte", "FLOP/B", lambda row: row.intensity_flop_per_byte, significant),
    ]
    if answer.gpu:
        columns += [
            Column("bound", "bound", _bound, right=False),
            Column("lower_s", "at least", lambda row: _seconds(row, "lower_s"), lambda value: scaled(value, "s")),
            Column("expected_s", "expected", _expected_s, lambda value: scaled(value, "s")),
            Column(
                "no_overlap_s",
                "no overlap",
                lambda row: _seconds(row, "no_overlap_s"),
                lambda value: scaled(value, "s"),
                expendable=2,
            ),
        ]
    if all(row.repeat == 1 for row in answer.rows):
        columns = [column for column in columns if column.key != "repeat"]
    return Sheet(columns, answer.rows, title=title(answer), total=_TotalRow(answer.total), notes=notes(answer))


class _TotalRow:
    """The totals under the names of a row's columns."""

    def __init__(self, total: Total) -> None:
        self.name, self.repeat = "total", None
        self.flops, self.traffic_byte, self.compulsory_byte = total.flops, total.traffic_byte, total.compulsory_byte
        self.intensity_flop_per_byte, self.bounds = total.intensity_flop_per_byte, total
        self.expected = total.expected


def _bound(row: Any) -> str | None:
    return row.bounds.bound if row.bounds else None


def _expected_s(row: Any) -> float | None:
    return row.expected.expected_s if row.expected else None


def _seconds(row: Any, key: str) -> float | None:
    return getattr(row.bounds, key) if row.bounds else None


def title(answer: Analysis) -> str:
    """Which workload, phase and card."""
    card = f" on {answer.gpu.title}" if answer.gpu else ""
    form = "fused" if answer.fused else "unfused"
    return f"{answer.workload.title}: {answer.phase}, {form}{', causal' if answer.causal else ''}{card}"


def notes(answer: Analysis) -> list[str]:
    """What the figures mean, in full sentences: sizes, conventions, roofs, what was not counted."""
    found = speed(answer)
    lines = (
        [speed_line(found, answer.phase, answer.causal if answer.kv_cache_byte_per_token else None)] if found else []
    )
    lines.append(sizes_line(answer.dims))
    types = answer.workload.dtypes
    lines.append(dtypes_line(types))
    if answer.counting == "leading":
        lines.append(
            "FLOP by the leading convention: a kernel's contractions where it has matrix products (--count all for every primitive)."
        )
    if answer.parameters.total:
        cache = answer.kv_cache_byte_per_token
        kept = f" Key-value cache: {cache:,} B per token." if cache else ""
        lines.append(f"Parameters: {answer.parameters.total:,}.{kept}")
    if answer.card:
        lines.extend(card_lines(answer.dims, answer.card))
        if len({row.bounds.bound for row in answer.rows if row.bounds}) > 1:
            lines.append(TOGETHER)
        lines.extend(expected_line(answer))
        lines.extend(fit_lines(answer))
    lines.extend(form_lines(answer))
    lines.extend(answer.notes)
    lines.extend(f"Not counted: {what}." for what in answer.not_counted)
    return list(filter(None, lines))


def expected_line(answer: Analysis) -> list[str]:
    """The range of the expected time, and what it rests on."""
    found = answer.total.expected
    if found is None:
        return []
    low, high = scaled(found.low_s, "s"), scaled(found.high_s, "s")
    lines = [f"Expected: {low} to {high} with its launch; {answer.knowledge} knowledge: {answer.basis}."]
    if answer.total.no_overlap_s is not None and found.expected_s > answer.total.no_overlap_s:
        lines.append(
            "At most means that nothing overlaps at the rates of the sheet; launches and what a card reaches of its sheet"
            " make the expected time longer."
        )
    return lines


def form_lines(answer: Analysis) -> list[str]:
    """All forms of a decoding step, where it has several: which one is shown, which one is the default."""
    if len(answer.forms) < 2:
        return []
    default = next(iter(answer.forms))
    return [_form_line(name, form, name == answer.form, name == default) for name, form in answer.forms.items()]


def _form_line(name: str, form: Form, is_shown: bool, is_default: bool) -> str:
    which = ", ".join(["shown"] * is_shown + ["the default"] * is_default)
    words = [f"{scaled(form.total.contraction_flops, 'FLOP')} of products", scaled(form.total.traffic_byte, "B")]
    words += [f"at least {scaled(form.total.lower_s, 's')}"] if form.total.lower_s is not None else []
    words.append(f"{form.kv_cache_byte_per_token:,} B of cache per token")
    return f"Form {name}{f' ({which})' if which else ''}: {', '.join(words)}."


def roofs_line(card: Rates) -> str:
    """The card's slope and roofs with their ridges, and what the figures rest on."""
    roofs = dict.fromkeys(
        f"{roof.name} {scaled(roof.flop_per_s, 'FLOP/s', 4)} (ridge {significant(card.ridge(engine), 4)} FLOP/B)"
        for engine, roof in card.roofs.items()
    )
    bandwidth = scaled(card.bandwidth_byte_per_s, "B/s", 4)
    return f"Roofs: memory {bandwidth}, {', '.join(roofs)}; {card.gpu.file}, {card.gpu.knowledge}."


def card_lines(dims: Mapping[str, Any], card: Rates) -> list[str]:
    """A card's roofs, the sizes that are its own with what they are of it, and which roof stands in for another."""
    sizes = [
        f"{name} = {size} is the {SYMBOLS[name].card.replace('_', ' ')} of {card.gpu.file}."
        for name, size in card.gpu.sizes().items()
        if dims.get(name) == size
    ]
    return [roofs_line(card), *sizes, *card.notes]


def dtypes_line(types: Mapping[str, str]) -> str:
    """One data type for all roles, or each role's."""
    kinds = ", ".join(f"{role} {dtype}" for role, dtype in types.items())
    return f"Data types: {kinds}." if len(set(types.values())) > 1 else f"Data type: {types['weight']}."


def sizes_line(dims: Mapping[str, Any]) -> str:
    """The sizes in one sentence; bytes per element go without saying."""
    shown = [f"{name} = {value}" for name, value in dims.items() if value is not None and SYMBOLS[name].kind != "item"]
    return f"Sizes: {', '.join(shown)}." if shown else ""
