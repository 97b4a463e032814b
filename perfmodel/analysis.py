"""A workload at given sizes on a card: one row for each kernel, and the totals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.arithmetic import Size, total
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.roofline import Bounds, bounds, rates
from perfmodel.workload import Workload


class Row(NamedTuple):
    """The counts of one kernel, for one repeat, and its bounds where there is a card."""

    name: str
    operation: str
    repeat: int
    flops: int
    contraction_flops: int
    work: dict[str, int]
    engines: dict[str, int]
    traffic_byte: int
    read_byte: int
    write_byte: int
    compulsory_byte: int
    tensors: dict[str, int]
    bounds: Bounds | None

    @property
    def intensity_flop_per_byte(self) -> float:
        return self.flops / self.traffic_byte if self.traffic_byte else 0.0


class Total(NamedTuple):
    """Sums over all kernels and their repeats. ``bound`` is what takes most of the lower time."""

    flops: int
    contraction_flops: int
    traffic_byte: int
    compulsory_byte: int
    lower_s: float | None = None
    upper_s: float | None = None
    bound: str | None = None

    @property
    def intensity_flop_per_byte(self) -> float:
        return self.flops / self.traffic_byte if self.traffic_byte else 0.0


class Analysis(NamedTuple):
    """The whole answer, as tables, JSON and plots show it."""

    workload: Workload
    phase: str
    fused: bool
    causal: bool
    counting: str
    dims: dict[str, Any]
    gpu: Gpu | None
    form: str
    parameters: block.Parameters
    kv_cache_byte_per_token: int
    rows: tuple[Row, ...]
    total: Total


def counted(flops: Mapping[tuple[Engine, bool], Size], count: str) -> dict[tuple[Engine, bool], Size]:
    """The kinds of FLOPs of a kernel that a counting convention takes.

    ``all``: every primitive. ``leading``: the contractions of a kernel that has any, everything of one that has none;
    the softmax inside a fused attention kernel is then left out, as many published tables do.
    """
    leading = count == "leading" and any(contraction for _, contraction in flops)
    return {kind: number for kind, number in flops.items() if kind[1] or not leading}


def analyse(
    workload: Workload,
    *,
    phase: str | None = None,
    gpu: Gpu | None = None,
    settings: Mapping[str, Any] | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
) -> Analysis:
    """Counts, and with a card bounds, of every kernel of a workload; ``form`` chooses among forms of a decoding step."""
    phase = phase or workload.default_phase
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    count = count or workload.counting
    dims = workload.dims(phase, settings)
    at = {"causal": int(causal), **dims}
    card = rates(gpu, workload.dtypes["activation"]) if gpu else None
    steps = workload.steps_in(phase, form)
    running = block.kernels(steps, at, fused=fused, backward=phase == "train")
    rows = tuple(row(kernel, count, bounds(kernel.op, card) if card else None) for kernel in running)
    held = block.parameters(workload.steps, at)
    return Analysis(
        workload=workload,
        phase=phase,
        fused=fused,
        causal=bool(at["causal"]),
        counting=count,
        dims=dims,
        gpu=gpu,
        form=form or (workload.default_form if phase == "decode" else ""),
        parameters=held,
        kv_cache_byte_per_token=block.cache_byte_per_token(workload.steps, at),
        rows=rows,
        total=summed(rows, _compulsory(steps, workload, at, rows, phase)),
    )


def _compulsory(steps: tuple[block.Step, ...], workload: Workload, at: Mapping[str, Any], rows: tuple[Row, ...], phase: str) -> int:
    """The block's outer tensors alone; in training, where activations are kept between passes, each kernel's own."""
    if phase == "train":
        return sum(row.compulsory_byte * row.repeat for row in rows)
    return block.compulsory_byte(steps, at, workload.keeps)


def row(kernel: block.Kernel, count: str, bound: Bounds | None) -> Row:
    """One kernel's counts as plain integers."""
    op = kernel.op
    engines = op.engine_flops()
    return Row(
        name=kernel.name,
        operation=kernel.operation,
        repeat=kernel.repeat,
        flops=total(counted(op.flops_by_kind(), count).values()),
        contraction_flops=op.contraction_flops(),
        work=op.primitives(),
        engines={engine.value: engines.get(engine, 0) for engine in Engine},
        traffic_byte=op.traffic_byte(),
        read_byte=op.read_byte(),
        write_byte=op.write_byte(),
        compulsory_byte=op.compulsory_byte(),
        tensors={tensor.name: tensor.traffic_byte for tensor in op.tensors if tensor.traffic_byte and not tensor.spill},
        bounds=bound,
    )


def summed(rows: tuple[Row, ...], compulsory_byte: int) -> Total:
    """Totals over all repeats."""
    known = [(row.bounds, row.repeat) for row in rows if row.bounds]
    share: dict[str, float] = {}
    for bound, repeat in known:
        share[bound.bound] = share.get(bound.bound, 0.0) + bound.lower_s * repeat
    return Total(
        flops=sum(row.flops * row.repeat for row in rows),
        contraction_flops=sum(row.contraction_flops * row.repeat for row in rows),
        traffic_byte=sum(row.traffic_byte * row.repeat for row in rows),
        compulsory_byte=compulsory_byte,
        lower_s=sum(bound.lower_s * repeat for bound, repeat in known) if known else None,
        upper_s=sum(bound.upper_s * repeat for bound, repeat in known) if known else None,
        bound=max(share, key=lambda name: share[name]) if share else None,
    )
