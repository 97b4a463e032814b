"""The library's face: the commands' answers as Python objects, with names and sizes given as one would type them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel import hardware, ops
from perfmodel.analysis import Analysis
from perfmodel.analysis import analyse as _analyse
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.roofline import Bounds, rates
from perfmodel.roofline import bounds as _bounds
from perfmodel.workload import Workload, setting, single
from perfmodel.workload import workload as _workload


def gpu(name: str | Gpu) -> Gpu:
    """A card by name, short name or file."""
    return name if isinstance(name, Gpu) else hardware.gpu(name)


def load(name: str | Workload | Operation) -> Workload:
    """A workload by name or file, or an operation as a workload of one step."""
    if isinstance(name, Operation):
        return single(name)
    return name if isinstance(name, Workload) else _workload(name)


def find(name: str) -> Operation:
    """An operation by name; call it with sizes for its counts."""
    return ops.find(name)


def analyse(
    config: str | Workload | Operation,
    *,
    gpu: str | Gpu | None = None,
    phase: str | None = None,
    settings: Mapping[str, int | str] | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
    knowledge: str | None = None,
    logits: str = "all",
) -> Analysis:
    """Counts, and with a card bounds and expected times, of every kernel of a workload: what ``perfmodel flops`` shows.

    ``logits`` is ``all`` or ``last``: the logits of all positions, or of the last position of each sequence.
    """
    card = hardware.gpu(gpu) if isinstance(gpu, str) else gpu
    return _analyse(
        load(config).with_logits(logits),
        phase=phase,
        gpu=card,
        settings=_sizes(settings),
        fused=fused,
        causal=causal,
        count=count,
        form=form,
        knowledge=knowledge,
    )


def bounds(operation: str | Operation, gpu: str | Gpu, *, dtype: str = "fp16", **sizes: int) -> Bounds:
    """The least and the most time of one operation, as one kernel, from the data sheet alone."""
    found = ops.find(operation) if isinstance(operation, str) else operation
    card = rates(hardware.gpu(gpu) if isinstance(gpu, str) else gpu, dtype)
    items = {name: value for name, value in single(found, dtype).items().items() if name not in sizes}
    return _bounds(found(**items, **sizes), card)


def formula(operation: str | Operation, **sizes: Any) -> Any:
    """The counts of an operation as sympy expressions; sizes that are given stand in for their symbols."""
    from perfmodel import symbolic

    found = ops.find(operation) if isinstance(operation, str) else operation
    return symbolic.formulas(symbolic.op_of(found, sizes))


def crossings(
    config: str | Workload | Operation,
    symbol: str,
    gpu: str | Gpu,
    *,
    settings: Mapping[str, int | str] | None = None,
    phase: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
) -> Any:
    """Where a workload turns from memory- to compute-bound in one of its symbols."""
    from perfmodel.solve import solve as solved

    chosen = load(config)
    card = rates(hardware.gpu(gpu) if isinstance(gpu, str) else gpu, chosen.dtypes["activation"])
    return solved(chosen, card, symbol, _sizes(settings), phase=phase, fused=fused, causal=causal)


def sweep_over(config: str | Workload | Operation, gpus: Any, over: Mapping[str, Any], **options: Any) -> Any:
    """A workload over ranges of its sizes, as chunks of NumPy arrays."""
    from perfmodel.sweep import sweep as swept

    names = [gpus] if isinstance(gpus, (str, Gpu)) else list(gpus)
    options["settings"] = _sizes(options.get("settings"))
    return swept(load(config), [hardware.gpu(g) if isinstance(g, str) else g for g in names], over, **options)


def _sizes(values: Mapping[str, int | str] | None) -> dict[str, Any]:
    """Sizes as numbers, or as text like '8Ki' or 'N'."""
    pairs = (values or {}).items()
    return dict(setting(f"{name}={value}") if isinstance(value, str) else (name, value) for name, value in pairs)
