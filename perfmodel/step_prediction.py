"""Predictions of steps: a workload under a plan, or one rank's program of a transformers model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from perfmodel import block
from perfmodel.analysis import Total
from perfmodel.block import Kernel
from perfmodel.errors import InputError
from perfmodel.footprint.flow import layers
from perfmodel.hardware import Gpu
from perfmodel.plans import asking
from perfmodel.plans.plan import Plan
from perfmodel.plans.step import Model
from perfmodel.programs import run
from perfmodel.programs.program import Program
from perfmodel.roofline import bounds, rates, together
from perfmodel.step_cases import LAYERS, StepCase
from perfmodel.timing import parameters
from perfmodel.timing.expectation import Expected
from perfmodel.timing.terms import Term
from perfmodel.totals import total as totalled

Captured = Callable[[StepCase], Program]


class Predicted(NamedTuple):
    """Counts and bounds of one GPU, the expected time, and the peak memory of that GPU."""

    total: Total
    expected: Expected
    peak_byte: int


def predicted(case: StepCase, gpu: Gpu, knowledge: str | None, captured: Captured | None) -> Predicted:
    """Returns counts, bounds and expected time of one GPU. ``captured`` gives the program of transformers."""
    if case.impl == LAYERS:
        return _planned(case, gpu, knowledge)
    if captured is None:
        raise InputError(
            f"{case.where}: impl", "a program of transformers is captured by torch",
            f"impl {LAYERS} is accepted without it", "Run 'perfmodel predict' for it.",
        )  # fmt: skip
    return _run(case, captured(case), gpu, knowledge)


def _planned(case: StepCase, gpu: Gpu, knowledge: str | None) -> Predicted:
    """Returns the prediction of a workload under a plan.

    The model of plans states no range, so the range is the spread of kernels of any kind.
    """
    model = asking.model(
        case.workload, gpu, case.system or None, case.phase, case.sizes, causal=case.phase != "decode",
        knowledge=knowledge,
    )  # fmt: skip
    found = model.estimate(case.plan)
    running = list(_kernels(model, found.plan, found.microbatches))
    rate = rates(gpu, case.dtype)
    whole = together((bounds(kernel.op, rate), kernel.repeat) for kernel in running)
    total = totalled(running, whole._replace(lower_s=found.lower_s, no_overlap_s=found.no_overlap_s))
    width = 1.0 + parameters.card(gpu, knowledge).spread["any"]
    low_s, high_s = max(found.lower_s, found.expected_s / width), found.expected_s * width
    time = Expected(found.expected_s, low_s, high_s, found.terms, unclamped_s=found.expected_s)
    return Predicted(total, time, found.memory_byte)


def _kernels(model: Model, plan: Plan, microbatches: int) -> Iterator[Kernel]:
    """Yields the kernels of a rank in one step, without the optimizer. A stage has an equal share of the layers."""
    rank = model.rank(plan)
    for _, repeat, steps in layers(rank.division.steps, rank.dims):
        times = max(1, repeat // plan.pp) * microbatches
        for kernel in block.kernels(steps, rank.dims, fused=rank.fused, backward=rank.train):
            yield kernel._replace(repeat=times)


def _run(case: StepCase, program: Program, gpu: Gpu, knowledge: str | None) -> Predicted:
    """Returns the prediction of a program that the host launches."""
    divided = case.plan.gpus > 1
    plan, system = (case.plan, case.system or None) if divided else (None, None)
    found = run.on(program, gpu, "eager", knowledge, plan=plan, system=system)
    total = found.total
    terms = (
        Term("kernels", total.kernel_s), Term("exposed communication", total.exposed_s),
        Term("waiting for the host", total.waits_s), Term("host", total.host_s),
    )  # fmt: skip
    counts = Total(
        total.flops, total.contraction_flops, total.traffic_byte, total.compulsory_byte, total.lower_s,
        total.no_overlap_s, total.bound,
    )  # fmt: skip
    time = Expected(
        total.expected_s, total.expected_low_s, total.expected_high_s, tuple(term for term in terms if term.seconds),
        unclamped_s=total.expected_s, unmodelled_s=total.unknown_s,
    )  # fmt: skip
    return Predicted(counts, time, found.peak_byte)
