"""Memory of a workload on each GPU: weights, training states, activations and caches, and whether they fit.

Every figure is a line with its formula. The activations that training keeps are derived from the steps and their
gradients. Published rules of thumb are listed beside them as estimates, with their sources.
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
    """The memory of a workload in one phase under a plan, as tables and JSON show it."""

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
        """Total bytes of all GPUs."""
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
    """The memory of a phase under a plan.

    With ``solve``, the memory at the largest size of that symbol that fits on the card. ``reserve`` is the memory of
    the card that must stay free.
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
    """Refuse options of training states and activations for a phase other than training."""
    if phase == "train":
        return
    asked = {"--zero": plan.zero in (1, 2), "--recompute": plan.recompute != "none"}
    option = next((option for option, wrong in asked.items() if wrong), None)
    if option:
        raise UsageError(
            f"perfmodel memory {option}", f"the {phase} phase has no gradients, optimizer states or kept activations",
            "--zero 0, --zero 3 (sharded weights) and --recompute none are accepted", "Choose --phase train.",
        )  # fmt: skip


def _check_solve(solve: str, gpu: Gpu | None, given: Mapping[str, Any], account: Account) -> None:
    where = f"perfmodel memory --solve {solve}"
    if gpu is None:
        raise UsageError(
            where,
            "no GPU is given",
            "the name of a GPU is required",
            "Add --gpu GPU; run 'perfmodel gpus' for the names.",
        )
    if solve in given:
        raise UsageError(where, f"{solve} is also set", "a size is either set or solved for", f"Remove --set {solve}.")
    if solve not in account.dims:
        raise InputError(
            where, f"the {account.phase} phase of {account.workload.name} has no size {solve}",
            f"its sizes are {', '.join(account.dims)}", "Choose another symbol.",
        )  # fmt: skip


def _notes(account: Account, plan: Plan) -> list[str]:
    """Notes on conventions and on what the figures leave out."""
    notes = []
    if plan.gpus > 1:
        notes.append(f"Data parallel: each of the {plan.gpus:,} GPUs processes B sequences.")
    if account.phase == "train":
        notes.append(
            "Activations are the tensors that the gradients read, each counted once. Dropout masks are not included."
        )
        notes += _compared(account, plan)
        if (
            plan.recompute == "selective"
            and account.trained("none").activations == account.trained("selective").activations
        ):
            notes.append("Selective recomputation saves no memory here: fused attention keeps no N x S scores.")
        if plan.recompute == "full" and account.trained("none").activations == account.trained("full").activations:
            notes.append("Full recomputation saves no memory here: the workload has no repeated layers.")
    if account.form:
        notes.append(f"Form of the decoding step: {account.form}.")
    notes.append("Communication buffers between GPUs are not included.")
    notes.extend(f"Not counted: {what}." for what in account.workload.not_counted)
    return notes


def _compared(account: Account, plan: Plan) -> list[str]:
    """A note that compares the kept bytes per stream element with published rules."""
    shape = account.shape()
    if shape is None:
        return []
    kept = sum(layer.byte for layer in account.trained(plan.recompute).activations.layers if layer.name != OUTSIDE)
    square = significant(5 * shape.H * shape.N / shape.D, 3)
    return [
        f"A layer keeps {significant(kept / shape.stream, 4)} bytes per element of the residual stream (N B D elements). "
        f"ZeRO's rule gives 24 and that of Korthikanti et al. 34 + {square}. Those rules assume F = 4 D and 2-byte "
        f"activations; the second includes dropout and stored attention scores."
    ]
