"""Formulas of an operation or a workload in its own symbols: every kernel, and the totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel import block, symbolic
from perfmodel.expression import Expression
from perfmodel.operation import Operation
from perfmodel.workload import Workload, single


class Line(NamedTuple):
    """Formulas of one kernel, for one repeat."""

    name: str
    operation: str
    repeat: Any
    flops: Any
    traffic_byte: Any


class Formulas(NamedTuple):
    """Formulas of the kernels of a phase, and their totals over all repeats, as sympy expressions.

    ``compulsory_byte`` is None if there are several kernels. The unfused formulas are None if the stages cannot run as
    separate kernels. ``follows``: the sizes that are expressions of others by default, as ``S = N``.
    """

    workload: Workload
    phase: str
    fused: bool
    causal: bool
    lines: tuple[Line, ...]
    flops: Any
    contraction_flops: Any
    traffic_byte: Any
    intensity: Any
    compulsory_byte: Any | None
    unfused_byte: Any | None
    unfused_intensity: Any | None
    follows: tuple[str, ...] = ()


def of_operation(
    operation: Operation,
    phase: str | None,
    sizes: Mapping[str, Any],
    *,
    fused: bool | None = None,
    causal: bool | None = None,
    form: str | None = None,
) -> Formulas:
    """Returns the formulas of an operation; every size that is not given is a symbol."""
    workload = single(operation)
    phase = phase or workload.default_phase
    _check(workload, phase, sizes, form)
    given = {name: value for name, value in symbolic.symbols_of(operation, sizes).items() if value is not None}
    return _formulas(workload, phase, given, fused=fused is not False, causal=bool(causal), form=form)


def of_workload(
    workload: Workload,
    phase: str | None,
    settings: Mapping[str, Any],
    *,
    fused: bool | None = None,
    causal: bool | None = None,
    form: str | None = None,
) -> Formulas:
    """Returns the formulas of a phase; every size that the file gives as a number is a symbol, unless it is set.

    A size that is set to itself, such as ``S=S``, is a symbol too, although it follows another by default.
    """
    phase = phase or workload.default_phase
    own = {name for name, value in settings.items() if isinstance(value, Expression) and value.text == name}
    _check(workload, phase, {name: value for name, value in settings.items() if name not in own}, form)
    settings = {name: symbolic.symbol(name) if name in own else value for name, value in settings.items()}
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    return _formulas(workload, phase, settings, fused=fused, causal=causal, form=form)


def _check(workload: Workload, phase: str, settings: Mapping[str, Any], form: str | None) -> None:
    """Raises InputError unless every operation accepts the workload's own sizes."""
    dims = {"causal": 0, **workload.dims(phase, settings)}
    for _ in block.kernels(workload.steps_in(phase, form), dims, backward=phase == "train"):
        pass


def _formulas(
    workload: Workload, phase: str, settings: Mapping[str, Any], *, fused: bool, causal: bool, form: str | None
) -> Formulas:
    running, apart = (
        tuple(symbolic.kernels_of(workload, phase, settings, fused=way, causal=causal, form=form))
        for way in (fused, False)
    )
    flops, traffic = _sum(running, "flops"), _sum(running, "traffic_byte")
    splits = len(apart) > len(running)
    unfused = _sum(apart, "traffic_byte") if splits else None
    return Formulas(
        workload=workload,
        phase=phase,
        fused=fused,
        causal=causal,
        lines=tuple(map(_line, running)),
        flops=symbolic.tidy(flops),
        contraction_flops=symbolic.tidy(_sum(running, "contraction_flops")),
        traffic_byte=symbolic.tidy(traffic),
        intensity=symbolic.quotient(flops, traffic),
        compulsory_byte=symbolic.tidy(running[0].op.compulsory_byte()) if len(running) == 1 else None,
        unfused_byte=symbolic.tidy(unfused) if splits else None,
        unfused_intensity=symbolic.quotient(_sum(apart, "flops"), unfused) if splits else None,
        follows=tuple(
            f"{name} = {value.text}"
            for name, value in {**workload.sizes, **workload.phases[phase]}.items()
            if isinstance(value, Expression) and name not in settings
        ),
    )


def _line(kernel: block.Kernel) -> Line:
    flops, traffic = symbolic.tidy(kernel.op.flops()), symbolic.tidy(kernel.op.traffic_byte())
    return Line(kernel.name, kernel.operation, kernel.repeat, flops, traffic)


def _sum(running: Iterable[block.Kernel], count: str) -> Any:
    return sum(kernel.repeat * getattr(kernel.op, count)() for kernel in running)
