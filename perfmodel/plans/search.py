"""The best plan on a number of GPUs: every legal plan is estimated, so none is missed.

The space: all degrees whose product is the number of GPUs and that divide heads, experts and the batch, every microbatch,
ZeRO stage, recomputation mode and number of chunks. Not searched, because another plan is never worse: GPipe, which takes
the time of 1F1B with more activations, and selective recomputation where attention stores no scores, which changes nothing.
Zero bubble is a bound, not a schedule. Context parallelism is searched when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.footprint.activations import RECOMPUTE
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.money import Money, money
from perfmodel.plans.plan import INTERLEAVED, ONE_F_ONE_B, Plan, divides, problem
from perfmodel.plans.step import Model

OBJECTIVES = ("time", "throughput", "memory", "cost")
AXES = ("tp", "pp", "dp", "ep", "cp", "sequence_parallel", "zero", "microbatch", "schedule", "recompute")
LEAST_S = 1e-9  # differences of terms below are not shown


class Loss(NamedTuple):
    """The best plan with another value on one axis, and by which terms it is slower or larger."""

    axis: str
    estimate: Estimate
    terms: tuple[tuple[str, float], ...]
    byte: int


class Found(NamedTuple):
    """The answer of a search. ``legal`` plans obey the rules; ``fitting`` of them fit in memory."""

    model: Model
    objective: str
    gpus: int
    best: tuple[Estimate, ...]
    pareto: tuple[Estimate, ...]
    losses: tuple[Loss, ...]
    money: Money
    legal: int
    fitting: int


def divisors(number: int) -> list[int]:
    """All divisors in ascending order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def plans(model: Model, gpus: int, fixed: dict[str, Any] | None = None) -> Iterator[Plan]:
    """Every legal plan on a number of GPUs. ``fixed`` holds the fields that are given."""
    shape, fixed = model.shape, {"cp": 1, **(fixed or {})}
    degrees = divisors(gpus)
    for tp in degrees:
        if not divides(tp, shape):
            continue
        for cp in (cp for cp in degrees if gpus % (tp * cp) == 0 and cp == fixed["cp"]):
            for pp in (pp for pp in divisors(gpus // tp // cp) if pp <= max(1, shape.layers)):
                yield from _options(model, Plan(tp=tp, cp=cp, pp=pp, dp=gpus // tp // cp // pp), fixed)


def _options(model: Model, plan: Plan, fixed: dict[str, Any]) -> Iterator[Plan]:
    """The legal plans of given degrees."""
    shape = model.shape
    if shape.batch % plan.dp or any(
        name in fixed and fixed[name] != getattr(plan, name) for name in ("tp", "pp", "dp")
    ):
        return
    modes = RECOMPUTE if model.stores_squares else ("none", "full")
    choices: dict[str, Sequence[Any]] = {
        "ep": [ep for ep in divisors(plan.dp) if shape.experts and shape.experts % ep == 0] or [1],
        "sequence_parallel": (False, True) if plan.tp > 1 and shape.tokens // plan.cp % plan.tp == 0 else (False,),
        "microbatch": divisors(shape.batch // plan.dp) if shape.train or plan.pp > 1 else [shape.batch // plan.dp],
        "zero": ((0, 1, 2, 3) if shape.train else (0, 3)) if plan.dp * plan.cp > 1 else (0,),
        "recompute": modes if shape.train else ("none",),
        "virtual": [v for v in divisors(max(1, shape.layers // plan.pp)) if plan.pp > 1 and shape.train] or [1],
    }
    choices |= {name: (fixed[name],) for name in choices if name in fixed}
    for each in _product(plan, list(choices.items())):
        made = each._replace(schedule=INTERLEAVED if each.virtual > 1 else ONE_F_ONE_B)
        if "schedule" in fixed and fixed["schedule"] != made.schedule:
            continue
        if not problem(made, shape)[0]:
            yield made


def _product(plan: Plan, choices: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[Plan]:
    if not choices:
        yield plan
        return
    (name, values), rest = choices[0], choices[1:]
    for value in values:
        yield from _product(plan._replace(**{name: value}), rest)


def search(
    model: Model, gpus: int, *, objective: str = "time", top: int = 10, fixed: dict[str, Any] | None = None,
    price_per_hour: float | None = None,
) -> Found:  # fmt: skip
    """The best plans, the Pareto set of time and memory, and why other values of each axis lose."""
    if objective not in OBJECTIVES:
        raise InputError(
            f"objective {shown(objective)}", "it is not an objective", f"{', '.join(OBJECTIVES)} are accepted",
            did_you_mean(objective, OBJECTIVES),
        )  # fmt: skip
    if gpus < 1:
        raise InputError(
            f"gpus {gpus}", "it is not a number of GPUs", "a whole number from 1 is accepted", "Correct it."
        )
    counts = divisors(gpus) if objective == "cost" else [gpus]
    legal, fitting = 0, list[Estimate]()
    for number in counts:
        for plan in plans(model, number, fixed):
            legal += 1
            if model.memory_byte(plan) <= model.room_byte:
                fitting.append(model.priced(plan, ()))
    if not fitting:
        raise InputError(
            f"{model.workload.name} on {gpus:,} x {model.gpu.name}", f"none of {legal:,} legal plans fits in memory",
            "a plan that fits is needed", "Use more GPUs, a smaller batch or shorter sequences.",
        )  # fmt: skip
    rank = value_of(model, objective)
    fitting.sort(key=rank)
    best = tuple(model.estimate(one.plan) for one in fitting[:top])
    losses = tuple(_losses(model, best[0], fitting))
    return Found(model, objective, gpus, best, tuple(_pareto(model, fitting)), losses, money(model, best[0], price_per_hour), legal,
                 len(fitting))  # fmt: skip


def value_of(model: Model, objective: str) -> Callable[[Estimate], tuple[float, float]]:
    """The figure that an objective minimizes, then the one that decides between equal plans."""
    if objective == "memory":
        return lambda one: (float(model.memory_byte(one.plan)), one.expected_s)
    if objective == "cost":
        return lambda one: (one.expected_s * one.plan.gpus, one.expected_s)
    return lambda one: (one.expected_s, float(model.memory_byte(one.plan)))


def _pareto(model: Model, fitting: Sequence[Estimate]) -> Iterator[Estimate]:
    """Plans than which no other is both faster and smaller, fastest first."""
    least: float = float("inf")
    for one in sorted(fitting, key=value_of(model, "time")):
        byte = model.memory_byte(one.plan)
        if byte < least:
            least = byte
            yield model.estimate(one.plan)


def _losses(model: Model, best: Estimate, ranked: Sequence[Estimate]) -> Iterator[Loss]:
    """For each axis the best plan with another value, with the terms by which it differs, the largest first."""
    for axis in AXES:
        other = next((one for one in ranked if getattr(one.plan, axis) != getattr(best.plan, axis)), None)
        if other is None:
            continue
        full = model.estimate(other.plan)
        own = {term.name: term.seconds for term in best.terms}
        theirs = {term.name: term.seconds for term in full.terms}
        differences = {name: theirs.get(name, 0.0) - own.get(name, 0.0) for name in {**own, **theirs}}
        terms = sorted(((n, d) for n, d in differences.items() if abs(d) > LEAST_S), key=lambda term: -abs(term[1]))
        yield Loss(axis, full, tuple(terms), full.memory_byte - best.memory_byte)
