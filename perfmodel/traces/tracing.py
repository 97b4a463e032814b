"""A trace as an answer: the parts of its step, its kernels compared with their bounds, and suggested changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from perfmodel.errors import InputError
from perfmodel.hardware import Gpu, all_gpus
from perfmodel.roofline import LINK
from perfmodel.traces import communication
from perfmodel.traces.advice import Advice, Context, advice
from perfmodel.traces.advice.host import ranks
from perfmodel.traces.events import Activity, Trace
from perfmodel.traces.grouping import groups
from perfmodel.traces.kernel_names import is_communication
from perfmodel.traces.linking import Formulas, link
from perfmodel.traces.nesting import Nesting
from perfmodel.traces.pricing import Model, Priced
from perfmodel.traces.reading import read
from perfmodel.traces.rows import Row, rows
from perfmodel.traces.spans import Spans, spans
from perfmodel.traces.steps import Step, step
from perfmodel.units import scaled

if TYPE_CHECKING:
    from perfmodel.programs.program import Program

MOST_FILES = 4096
MOST_UNPROFILED = 1.5  # times the profiled step; noise makes a step without the profiler a little longer at most


class Rank(NamedTuple):
    """One process: its file, its step, the parts of the step's time and its kernels.

    ``waiting_s`` is the time that its collectives wait for other ranks. ``unknown_s`` is the time of kernels without a
    formula.
    """

    rank: int
    path: str
    step: Step
    spans: Spans
    rows: tuple[Row, ...]
    priced: tuple[Priced, ...]
    waiting_s: float
    device: str
    dropped: int = 0

    @property
    def unknown_s(self) -> float:
        return sum(one.group.measured_s for one in self.priced if not one.group.known)

    @property
    def known_share(self) -> float:
        """The share of the kernels' time that has a formula, communication aside."""
        whole_s = sum(one.group.measured_s for one in self.priced)
        return 1.0 - self.unknown_s / whole_s if whole_s else 1.0


class Traced(NamedTuple):
    """The answer. ``ranks`` are in their order; ``shown`` is the place of the one whose figures stand for all."""

    gpu: Gpu | None
    knowledge: str
    ranks: tuple[Rank, ...]
    shown: int
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> Rank:
        return self.ranks[self.shown]

    @property
    def spans(self) -> Spans:
        """The parts of the step of the rank that is shown."""
        return self.main.spans

    @property
    def kernels(self) -> tuple[Row, ...]:
        """The kernels of the rank that is shown, equal ones together."""
        return self.main.rows

    @property
    def unknown_s(self) -> float:
        """The time of its kernels without a formula."""
        return self.main.unknown_s


def trace(
    paths: Sequence[str],
    gpu: Gpu | None = None,
    *,
    knowledge: str | None = None,
    unprofiled_s: float | None = None,
    name: str | None = None,
    program: Program | None = None,
) -> Traced:
    """Reads the traces of one program, one file per rank.

    ``unprofiled_s`` is the time of the step without the profiler. ``name`` is the range that is the step. ``program`` is
    the captured program that the trace ran; it gives shapes to the kernels of a CUDA graph.
    """
    if not paths or len(paths) > MOST_FILES:
        raise InputError(
            "trace", f"{len(paths)} files are given", f"1 to {MOST_FILES} files are accepted, one per rank",
            "Name the files that torch.profiler exported.",
        )  # fmt: skip
    first = read(paths[0])
    gpu = gpu or matching(first.device_name)
    model = Model(gpu, knowledge) if gpu else None
    traces = chain((first,), map(read, paths[1:]))
    found = sorted((_rank(one, model, unprofiled_s, name, program) for one in traces), key=lambda one: one.rank)
    longest_s = max(one.spans.span_s for one in found)
    if unprofiled_s is not None and unprofiled_s > MOST_UNPROFILED * longest_s:
        raise InputError(
            f"--unprofiled {scaled(unprofiled_s, 's', 4)}", f"the profiled step takes {scaled(longest_s, 's', 4)}",
            "the time of the same step is accepted, which is shorter without the profiler",
            "Write the unit, such as 57.4ms; a number alone is in seconds.",
        )  # fmt: skip
    found = _with_waiting(found)
    shown = max(range(len(found)), key=lambda i: found[i].spans.span_s - found[i].waiting_s)
    helps = _advice(found, shown, model) if model else ()
    return Traced(
        gpu, model.card.knowledge if model else "", tuple(found), shown, tuple(helps), tuple(_notes(found, gpu))
    )


def matching(device: str) -> Gpu | None:
    """The card whose driver reports this name."""
    return next((one for one in all_gpus() if device in one.matches), None) if device else None


def _advice(found: Sequence[Rank], shown: int, model: Model) -> list[Advice]:
    main = found[shown]
    last = min(found, key=lambda one: one.waiting_s)
    lower_s = sum(row.lower_s or 0.0 for row in main.rows if row.bound == LINK)
    beside = ranks(main.waiting_s, main.spans.communication_exposed_s, lower_s, last.rank if len(found) > 1 else None)
    return advice(Context(main.priced, main.spans, model), beside)


def _rank(
    profiled: Trace, model: Model | None, unprofiled_s: float | None, name: str | None, program: Program | None
) -> Rank:
    nesting, formulas = Nesting(profiled), Formulas()
    chosen = step(profiled, name)
    ties = link(profiled, nesting, chosen.activities, formulas)
    found = groups(ties, nesting, formulas, model.price if model else None, program)
    priced = tuple(model.priced(found) if model else map(Priced, found))
    parts = spans(profiled, chosen.activities, nesting, unprofiled_s)
    return Rank(
        profiled.rank, profiled.path, chosen, parts, (*rows(priced), *_collectives(chosen, model)), priced, 0.0, profiled.device_name,
        profiled.dropped,
    )  # fmt: skip


def collectives(activities: Iterable[Activity]) -> list[Activity]:
    """The collectives among them, in order."""
    return [one for one in activities if is_communication(one.name)]


def _collectives(chosen: Step, model: Model | None) -> list[Row]:
    found: dict[tuple[object, ...], Row] = {}
    for one in collectives(chosen.activities):
        what = communication.collective(one)
        lower_s = communication.lower_s(what, model.gpu) if model else None
        key = (one.name, what)
        row = found.get(key) or Row(
            one.name,
            what.name,
            what.name,
            what.shape,
            what.dtype,
            "",
            "",
            "name",
            0,
            0.0,
            0.0 if lower_s else None,
            bound="link",
        )
        found[key] = row._replace(
            calls=row.calls + 1, measured_s=row.measured_s + one.seconds, traffic_byte=row.traffic_byte + what.in_byte,
            lower_s=None if lower_s is None else (row.lower_s or 0.0) + lower_s,
        )  # fmt: skip
    return list(found.values())


def _with_waiting(found: Sequence[Rank]) -> list[Rank]:
    waits = communication.waiting([collectives(one.step.activities) for one in found])
    return [one._replace(waiting_s=sum(wait.values())) for one, wait in zip(found, waits, strict=True)]


def _notes(found: Sequence[Rank], gpu: Gpu | None) -> Iterable[str]:
    devices = {one.device for one in found if one.device}
    if gpu and devices and not devices & set(gpu.matches):
        yield f"The trace ran on {', '.join(sorted(devices))}; bounds and expected times are those of {gpu.title}."
    for one in found:
        if one.step.of > 1:
            yield f"{one.path}: {one.step.name} is one of {one.step.of} such ranges."
        if one.dropped:
            yield f"{one.path}: {one.dropped} events without a usable time were left out."
    numbers = [one.rank for one in found]
    if len(set(numbers)) < len(numbers):
        yield "Several files have the same rank; they are shown in the order given."
