"""How much memory a workload takes on each GPU: weights, training states, activations, caches, and whether it fits.

Every figure is a line with its formula. What training keeps is read off the steps and their gradients, not taken from
a rule of thumb; the rules stand beside it as estimates, with their sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, UsageError
from perfmodel.footprint.account import Account, Estimate, Training
from perfmodel.footprint.activations import OUTSIDE, RECOMPUTE
from perfmodel.footprint.fit import Solved, Verdict, solved, verdict
from perfmodel.footprint.lines import OPTIMIZERS, Line, Plan
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.hardware import Gpu
from perfmodel.units import significant
from perfmodel.workload import Workload

__all__ = ["OPTIMIZERS", "RECOMPUTE", "SOLVABLE", "Line", "Memory", "Plan", "memory"]

SOLVABLE = ("B", "N", "S")


class Memory(NamedTuple):
    """The whole answer, as table and JSON show it."""

    workload: Workload
    phase: str
    form: str
    fused: bool
    dims: dict[str, Any]
    parameters: int
    plan: Plan
    lines: tuple[Line, ...]
    training: Training | None
    estimates: tuple[Estimate, ...]
    gpu: Gpu | None
    verdict: Verdict | None
    solved: Solved | None
    notes: tuple[str, ...]

    @property
    def byte_per_gpu(self) -> int:
        return sum(line.byte_per_gpu for line in self.lines)

    @property
    def byte(self) -> int:
        """On all GPUs together."""
        return self.byte_per_gpu * self.plan.gpus


def memory(
    workload: Workload,
    *,
    phase: str | None = None,
    plan: Plan | None = None,
    gpu: Gpu | None = None,
    settings: Mapping[str, Any] | None = None,
    solve: str | None = None,
    fused: bool | None = None,
    form: str | None = None,
    reserve: Reserve = DEFAULT,
) -> Memory:
    """The account of a phase under a plan; with ``solve``, at the largest size of that symbol which fits the card.

    ``reserve`` is the memory of the card that must stay free.
    """
    phase, plan = phase or workload.default_phase, plan or Plan()
    fused = workload.fused if fused is None else fused
    given = dict(settings or {})
    _check(plan, phase, workload)

    def account(sizes: Mapping[str, Any], dtypes: Mapping[str, str] | None = None) -> Account:
        typed = workload._replace(dtypes={**workload.dtypes, **dtypes}) if dtypes else workload
        return Account(typed, phase, typed.dims(phase, {**given, **sizes}), fused, form)

    capacity_byte = int(gpu.capacity_byte.value) if gpu else 0
    found = None
    if solve is not None:
        _check_solve(solve, gpu, given, account({}))
        room_byte = capacity_byte - reserve.byte(capacity_byte)
        found = solved(solve, lambda value: account({solve: value}).byte_per_gpu(plan), room_byte)
        given[solve] = found.largest or found.constant_from or 1
        if found.largest is None:
            beyond = given[solve] + (account({}).dims.get("W") or 0)
            found = found._replace(windowed=account({solve: beyond}).windowed())
    answer = account({})
    return Memory(
        workload=workload,
        phase=phase,
        form=answer.form,
        fused=fused,
        dims=answer.dims,
        parameters=answer.model.parameters,
        plan=plan,
        lines=answer.lines(plan),
        training=answer.trained(plan.recompute) if phase == "train" else None,
        estimates=answer.estimates(),
        gpu=gpu,
        verdict=verdict(answer, plan, capacity_byte, reserve, account) if gpu else None,
        solved=found,
        notes=tuple(_notes(answer, plan)),
    )


def _check(plan: Plan, phase: str, workload: Workload) -> None:
    """What only a training step has is not asked of another phase."""
    if phase == "train":
        return
    asked = {"--zero": plan.zero in (1, 2), "--recompute": plan.recompute != "none"}
    option = next((option for option, wrong in asked.items() if wrong), None)
    if option:
        raise UsageError(
            f"perfmodel memory {option}", f"a {phase} phase has neither gradients nor optimizer states nor kept activations",
            "--zero 0 and 3 (shards of the weights) and --recompute none are accepted for it", "Choose --phase train.",
        )  # fmt: skip


def _check_solve(solve: str, gpu: Gpu | None, given: Mapping[str, Any], account: Account) -> None:
    where = f"perfmodel memory --solve {solve}"
    if gpu is None:
        raise UsageError(where, "no GPU is named", "--gpu GPU says what it has to fit on", "See 'perfmodel gpus'.")
    if solve in given:
        raise UsageError(
            where, f"{solve} is set as well", "a size is either set or solved for", f"Leave --set {solve} out."
        )
    if solve not in account.dims:
        raise InputError(
            where, f"the {account.phase} phase of {account.workload.name} has no size {solve}",
            f"its sizes are {', '.join(account.dims)}", "Choose another symbol.",
        )  # fmt: skip


def _notes(account: Account, plan: Plan) -> list[str]:
    """What the figures mean and what they leave out."""
    notes = []
    if plan.gpus > 1:
        notes.append(f"Each of {plan.gpus:,} GPUs holds B sequences of its own (data parallel).")
    if account.phase == "train":
        notes.append(
            "Kept: what the gradients read again, each tensor once; without dropout, whose masks would add to it."
        )
        notes += _compared(account, plan)
        if (
            plan.recompute == "selective"
            and account.trained("none").activations == account.trained("selective").activations
        ):
            notes.append(
                "Selective recomputation gains nothing here: no square of attention scores is kept (fused attention)."
            )
        if plan.recompute == "full" and account.trained("none").activations == account.trained("full").activations:
            notes.append("Full recomputation gains nothing here: the workload has no repeated layers.")
    if account.form:
        notes.append(f"Form of the decoding step: {account.form}.")
    notes.append("Not included: buffers of communication between GPUs.")
    notes.extend(f"Not counted: {what}." for what in account.workload.not_counted)
    return notes


def _compared(account: Account, plan: Plan) -> list[str]:
    """What a layer keeps for each element of its stream, here and by the published rules."""
    shape = account.shape()
    if shape is None:
        return []
    kept = sum(layer.byte for layer in account.trained(plan.recompute).activations.layers if layer.name != OUTSIDE)
    square = significant(5 * shape.H * shape.N / shape.D, 3)
    return [
        f"Bytes that a layer keeps for each of the N B D elements of its stream: {significant(kept / shape.stream, 4)} here, "
        f"24 by ZeRO's rule, 34 + {square} by that of Korthikanti et al. (dropout and stored squares of scores included; "
        f"F = 4 D and 2-byte activations are meant)."
    ]
