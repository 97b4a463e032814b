"""A table of a sweep for the terminal: evenly spaced rows."""

from __future__ import annotations

from typing import Any

from perfmodel import routing
from perfmodel.analysis import PROTOCOL
from perfmodel.report.answer import protocol_line
from perfmodel.report.sheet import Column, Sheet, render
from perfmodel.sweep import BOUNDS, Chunk, Plan
from perfmodel.symbols import SYMBOLS
from perfmodel.units import scaled, significant

SHOWN = 40
_KEPT = 4096
_FIGURES = ("flops", "traffic_byte", "intensity_flop_per_byte", "bound", "lower_s", "no_overlap_s")


class Sample:
    """A sample of rows: first all rows, then every second, every fourth, ..., so that at most a few thousand are
    stored.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._step = 1
        self._picked: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}

    def add(self, chunk: Chunk) -> None:
        """Adds the rows of a chunk that the sample needs."""
        columns: dict[str, Any] = {**chunk.at, **{name: getattr(chunk, name) for name in _FIGURES}}
        if chunk.expected_s is not None:
            columns["expected_s"] = chunk.expected_s
        size = chunk.flops.size
        for place in range(-self.rows % self._step, size, self._step):
            self._picked.append({"gpu": chunk.gpu.name, **{name: value[place] for name, value in columns.items()}})
        self.rows += size
        while len(self._picked) > _KEPT:
            self._picked = self._picked[::2]
            self._step *= 2
        if size:
            self._last = {"gpu": chunk.gpu.name, **{name: value[-1] for name, value in columns.items()}}

    def shown(self, most: int = SHOWN) -> list[dict[str, Any]]:
        """Returns the first row, the last, and evenly spaced rows between them."""
        picked = self._picked if (self.rows - 1) % self._step == 0 else [*self._picked, self._last]
        number, last = min(most, len(picked)), len(picked) - 1
        return [picked[round(i * last / max(1, number - 1))] for i in range(number)]


def table(plan: Plan, sample: Sample) -> str:
    """Returns the sampled rows as a terminal table."""
    return render(sheet(plan, sample), "table")


def sheet(plan: Plan, sample: Sample) -> Sheet:
    """Returns the sampled rows with columns for symbols and figures."""
    rows = sample.shown()
    columns = [
        *([Column("gpu", "GPU", lambda row: row["gpu"], right=False)] if len(plan.cards) > 1 else []),
        *(Column(name, name, _value(name), lambda value: str(int(value))) for name in plan.symbols),
        Column("flops", "FLOP", _value("flops"), scaled),
        Column("traffic_byte", "traffic", _value("traffic_byte"), lambda value: scaled(value, "B"), expendable=1),
        Column("intensity_flop_per_byte", "FLOP/B", _value("intensity_flop_per_byte"), significant, expendable=2),
        Column("bound", "bottleneck", lambda row: BOUNDS[row["bound"]], right=False),
        Column("lower_s", "at least", _value("lower_s"), _as_time),
        *([Column("expected_s", "expected", _value("expected_s"), _as_time)] if plan.expected else []),
        Column("no_overlap_s", "no overlap", _value("no_overlap_s"), _as_time, wide=True),
    ]
    notes = [f"Sizes: {sizes(plan)}."] if sizes(plan) else []
    if len(rows) < sample.rows:
        notes.append(f"{len(rows)} of {sample.rows:,} rows are shown; -o FILE.csv or FILE.jsonl writes all.")
    notes += [protocol_line(PROTOCOL)] if plan.expected else []
    computes = [step.operation.computes for step in plan.steps]
    notes += [note for card in plan.cards for note in card.notes_of(computes)]
    return Sheet(columns, rows, title=title(plan), notes=notes)


def _as_time(value: float) -> str:
    return scaled(value, "s")


def _value(name: str) -> Any:
    return lambda row: float(row[name])


def title(plan: Plan) -> str:
    """Returns the title: workload, phase, swept symbols and card."""
    alone = plan.workload.file == plan.workload.steps[0].operation.name
    words = [] if alone else [plan.phase]
    words += ["forward and backward"] if alone and plan.phase == "train" else []
    words += ["fused" if plan.fused else "unfused"] if not alone or not plan.fused else []
    words += ["causal"] if plan.causal else []
    words += ["over " + " and ".join(plan.symbols)]
    card = f" on {plan.cards[0].gpu.title}" if len(plan.cards) == 1 else ""
    return f"{plan.workload.title}: {', '.join(words)}{card}"


def sizes(plan: Plan) -> str:
    """Returns the constant sizes, and the expressions of sizes that follow swept ones."""
    first = {one.symbol: one.first for one in plan.axes}
    found = plan.workload.dims(plan.phase, {**plan.settings, **first}, checked=False)
    constant = [
        f"{name} = {routing.text(value)}"
        for name, value in found.items()
        if name not in plan.varying and value is not None and SYMBOLS[name].kind != "item"
    ]
    tied = [f"{name} = {plan.given[name].text}" for name in found if name in plan.varying and name not in plan.symbols]
    return ", ".join([*constant, *tied])
