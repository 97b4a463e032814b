"""Workloads and cards side by side, and Amdahl's law for the effect of a faster part.

A part with share s of the time that becomes f times as fast reduces the time to 1 - s + s / f. Shares are of minimum
times at data-sheet rates. Parts must not overlap, so their savings add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel import ops
from perfmodel.analysis import Analysis, Row, analyse
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.footprint.resident import Resident, resident
from perfmodel.hardware import Gpu
from perfmodel.limits import PAIRS
from perfmodel.paths import label
from perfmodel.units import FACTOR
from perfmodel.workload import Workload


class Part(NamedTuple):
    """A part that becomes faster: its kernels, their minimum time before, and the factor."""

    key: str
    factor: float
    kernels: int
    lower_s: float

    @property
    def saved_s(self) -> float:
        return self.lower_s - self.lower_s / self.factor


class Amdahl(NamedTuple):
    """A time with the parts that become faster, and the time after."""

    lower_s: float
    parts: tuple[Part, ...]

    @property
    def after_s(self) -> float:
        return self.lower_s - sum(part.saved_s for part in self.parts)

    @property
    def speedup(self) -> float:
        return self.lower_s / self.after_s

    @property
    def share(self) -> float:
        """The share of the parts in the time before."""
        return sum(part.lower_s for part in self.parts) / self.lower_s


class Case(NamedTuple):
    """One workload on one card. ``step`` is the speed-up of the whole run, ``layers`` that of the layers alone."""

    answer: Analysis
    memory: Resident | None
    step: Amdahl | None = None
    layers: Amdahl | None = None


class Comparison(NamedTuple):
    """All workloads on all cards, with notes."""

    cases: tuple[Case, ...]
    notes: tuple[str, ...]


def compare(
    workloads: Sequence[Workload],
    gpus: Sequence[Gpu],
    *,
    settings: Mapping[str, Any] | None = None,
    speedups: Mapping[str, float] | None = None,
    reserve: Reserve = DEFAULT,
    **wanted: Any,
) -> Comparison:
    """Compares workloads on cards. A size that is set applies to every workload that has it."""
    PAIRS.check(len(workloads) * max(1, len(gpus)), "perfmodel compare")
    workloads = _distinguished(workloads)
    notes = list(_left_out(workloads, settings or {}))
    answers = [
        analyse(w, gpu=gpu, settings={k: v for k, v in (settings or {}).items() if k in w.settable()}, **wanted)
        for w in workloads
        for gpu in gpus or (None,)
    ]
    if speedups and gpus:
        notes += _check_parts(answers, speedups, wanted)
    return Comparison(tuple(_case(answer, speedups or {}, reserve) for answer in answers), tuple(notes))


def _distinguished(workloads: Sequence[Workload]) -> list[Workload]:
    """Renames workloads with equal names to their paths."""
    names = [w.name for w in workloads]
    return [w._replace(name=label(w.file)) if names.count(w.name) > 1 else w for w in workloads]


def _left_out(workloads: Sequence[Workload], settings: Mapping[str, Any]) -> Iterable[str]:
    """Yields a note on workloads without a size that is set; a size that no workload has is an error."""
    for symbol in settings:
        without = [w.name for w in workloads if symbol not in w.settable()]
        if len(without) == len(workloads):
            known = sorted(set().union(*(w.settable() for w in workloads)))
            raise InputError(
                f"--set {symbol}", "it is not a symbol of any workload here", f"their symbols are {', '.join(known)}",
                did_you_mean(symbol, known),
            )  # fmt: skip
        if without:
            yield f"{symbol} is not a size of {', '.join(without)}; it is set only for the other workloads."


def _case(answer: Analysis, speedups: Mapping[str, float], reserve: Reserve) -> Case:
    memory = resident(answer, reserve)
    if not speedups or answer.total.lower_s is None:
        return Case(answer, memory)
    return Case(answer, memory, _amdahl(answer.rows, speedups), _amdahl(layers(answer.rows), speedups))


# --- Amdahl


def factor(text: str) -> tuple[str, float]:
    """Reads ``softmax=6.5``: a part and its speed-up factor."""
    key, _, value = text.rpartition("=")
    accepted = "a part and a number from 1e-9 to 1e9, such as softmax=6.5, is accepted"
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not key.strip() or not FACTOR.admits(number):
        raise InputError(
            f"--speedup {shown(text)}", "it is not of the form KEY=FACTOR", accepted, "Write, for example, softmax=2."
        )
    return key.strip(), number


def names(row: Row) -> set[str]:
    """Returns the names that select a kernel: its own, its operation, its step and its step's operation.

    A kernel of the backward pass is selected by ``STEP.backward`` and ``OPERATION_backward`` instead, so that a forward
    name selects only the forward pass.
    """
    operation, step = row.operation, row.step
    if row.forward:
        return {row.name, operation, step.name, step.operation.name}
    if row.name == step.name:  # the optimizer's step
        return {row.name, operation}
    gradient = operation.removesuffix(" gradient")
    own = {operation} if operation not in ops.FAMILY_OF or operation.endswith(("_backward", "_gradient")) else set()
    own |= {f"{gradient}_backward"} if gradient != operation else set()
    return {row.name, f"{step.name}.backward", f"{step.operation.name}_backward"} | own


def layers(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Returns the kernels of the layers. A workload without groups is one layer, without the optimizer's step."""
    grouped = tuple(row for row in rows if row.step.group)
    return grouped or tuple(row for row in rows if row.forward or row.name != row.step.name)


def _amdahl(rows: Sequence[Row], speedups: Mapping[str, float]) -> Amdahl:
    parts = []
    for key, times in speedups.items():
        found = [row for row in rows if key in names(row)]
        parts.append(Part(key, times, sum(row.repeat for row in found), _lower_s(found)))
    return Amdahl(_lower_s(rows), tuple(parts))


def _lower_s(rows: Iterable[Row]) -> float:
    return float(sum(row.bounds.lower_s * row.repeat for row in rows if row.bounds))


def _check_parts(answers: Sequence[Analysis], speedups: Mapping[str, float], wanted: Mapping[str, Any]) -> list[str]:
    """Checks that every part exists and that no kernel is in two parts; returns notes on workloads without a part."""
    notes = []
    for key in speedups:
        without = [a.workload.name for a in answers if not any(key in names(row) for row in a.rows)]
        if len(without) == len(answers):
            raise _unknown(key, answers, wanted)
        notes += [f"{name} has no part {key}." for name in dict.fromkeys(without)]
    for row in (row for answer in answers for row in answer.rows):
        twice = [key for key in speedups if key in names(row)]
        if len(twice) > 1:
            raise InputError(
                f"--speedup {twice[1]}", f"{row.name} is also a part of {twice[0]}",
                "parts that do not overlap are accepted", f"Remove one of {' and '.join(twice)}.",
            )  # fmt: skip
    return notes


def _unknown(key: str, answers: Sequence[Analysis], wanted: Mapping[str, Any]) -> InputError:
    """Returns the error for an unknown part, with the operations that are accepted."""
    known = dict.fromkeys(row.operation for answer in answers for row in answer.rows)
    action = did_you_mean(key, set().union(*(names(row) for answer in answers for row in answer.rows)))
    apart = [analyse(a.workload, **{**wanted, "fused": False}) for a in answers if a.fused]
    if any(key in names(row) for answer in apart for row in answer.rows):
        action = "It is inside a fused kernel: add --unfused to run it separately."
    return InputError(
        f"--speedup {shown(key)}", "it is not a part of the workloads here",
        f"a step or a kernel that 'perfmodel flops' shows, or an operation, is accepted: {', '.join(known)}",
        action,
    )  # fmt: skip
