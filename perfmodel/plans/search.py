"""The best plan on a number of GPUs, over every legal plan, without estimating each.

The space: all degrees whose product is the number of GPUs and that divide heads, experts, tokens and the batch, every
microbatch, ZeRO stage, recomputation mode and number of chunks. Not searched, because another plan is never worse: GPipe,
which takes the time of 1F1B with more activations, and selective recomputation where attention stores no scores, which
changes nothing. Zero bubble is a bound, not a schedule.

The memory of every legal plan is computed, so the numbers of legal and of fitting plans are exact. Each plan that fits has
two lower bounds of its time, which are the same for all ZeRO stages:

- the close bound is the time of its microbatches through the pipeline; replicas and the optimizer only add to it;
- the rough bound is never larger: kernels run at the bounds of the data sheet and the power limit, so that no kernel is
  timed (``least.py``).

Plans wait in the order of their bounds, at first the rough ones. On its first turn a plan gets its close bound, on its second
turn it is estimated. On either turn it is dropped if the plans estimated before exclude it from the answer. They do if all
three hold:

- it is not among the best: as many plans as are shown have a smaller value than its bound;
- it is not in the Pareto set: a plan with a smaller time than its bound needs no more memory;
- it is no runner-up: on each axis, a plan with its value, or two plans with different values, have a smaller value than its
  bound. The runner-up of an axis is the best plan whose value there is not that of the best plan. One of the two is such a
  plan.

Equal values are not smaller, so a plan that ties is estimated, and the answer is that of estimating all plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.footprint.activations import RECOMPUTE
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.known import AXES, Candidate, Known, Timed, Value
from perfmodel.plans.money import Money, money
from perfmodel.plans.plan import Plan
from perfmodel.plans.space import Group, chunked, divisors, groups
from perfmodel.plans.step import Model

OBJECTIVES = ("time", "throughput", "memory", "cost")
BELOW = 1 - 1e-9  # sums of the same times in another order differ by less
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


def plans(model: Model, gpus: int, fixed: dict[str, Any] | None = None) -> Iterator[Plan]:
    """Yields every legal plan on a number of GPUs. ``fixed`` holds the fields that are given."""
    for group in groups(model.shape, gpus, fixed or {}, _modes(model)):
        for zero in group.zeros:
            for mode in group.modes:
                for chunks in group.chunks:
                    yield chunked(group.plan._replace(zero=zero, recompute=mode), chunks)


def _modes(model: Model) -> Sequence[str]:
    return RECOMPUTE if model.stores_squares else ("none", "full")


def search(
    model: Model, gpus: int, *, objective: str = "time", top: int = 10, fixed: dict[str, Any] | None = None,
    price_per_hour: float | None = None,
) -> Found:  # fmt: skip
    """Returns the best plans, the Pareto set of time and memory, and the best plan with another value on each axis."""
    if objective not in OBJECTIVES:
        raise InputError(
            f"objective {shown(objective)}", "it is not an objective", f"{', '.join(OBJECTIVES)} are accepted",
            did_you_mean(objective, OBJECTIVES),
        )  # fmt: skip
    if gpus < 1:
        raise InputError(
            f"gpus {gpus}", "it is not a number of GPUs", "a whole number from 1 is accepted", "Correct it."
        )
    rank = value_of(objective)
    legal, fitting = 0, list[Candidate]()
    for number in divisors(gpus) if objective == "cost" else [gpus]:
        for group in groups(model.shape, number, fixed or {}, _modes(model)):
            legal += group.number
            fitting += _fitting(model, group, rank, len(fitting))
    if not fitting:
        raise InputError(
            f"{model.workload.name} on {gpus:,} x {model.gpu.name}", f"none of {legal:,} legal plans fits in memory",
            "a plan that fits is needed", "Use more GPUs, a smaller batch or shorter sequences.",
        )  # fmt: skip
    number = len(fitting)
    known = Known(top)
    heapify(fitting)
    while fitting:
        one = heappop(fitting)
        if known.needs(one):
            if one.rough:
                bound_s = BELOW * model.least_s(one.plan)
                bound = rank(bound_s, one.byte, one.plan.gpus)
                heappush(fitting, one._replace(bound=bound, bound_s=bound_s, rough=False))
                continue
            plan = one.plan._replace(zero=one.zero)
            seconds = model.priced(plan, ()).expected_s
            known.add(Timed(rank(seconds, one.byte, plan.gpus), one.order, plan, seconds, one.byte))
    ranked = sorted(known.timed)
    best = tuple(model.estimate(one.plan) for one in ranked[:top])
    pareto = tuple(model.estimate(one.plan) for one in _pareto(ranked))
    losses = tuple(_losses(model, best[0], ranked))
    return Found(model, objective, gpus, best, pareto, losses, money(model, best[0], price_per_hour), legal, number)


def value_of(objective: str) -> Callable[[float, int, int], Value]:
    """Returns the function of seconds, bytes and GPUs that an objective minimizes. Its second figure breaks ties."""
    if objective == "memory":
        return lambda seconds, byte, gpus: (float(byte), seconds)
    if objective == "cost":
        return lambda seconds, byte, gpus: (seconds * gpus, seconds)
    return lambda seconds, byte, gpus: (seconds, float(byte))


def _fitting(model: Model, group: Group, rank: Callable[[float, int, int], Value], start: int) -> Iterator[Candidate]:
    """Yields the plans of a group that fit in memory, with their rough bounds."""
    gpus = group.plan.gpus
    for plan, sizes in model.bytes_of(group):
        bound_s = 0.0
        for zero, byte in zip(group.zeros, sizes, strict=True):
            if byte <= model.room_byte:
                bound_s = bound_s or BELOW * model.floor_s(plan)
                order = start, zero, RECOMPUTE.index(plan.recompute), plan.virtual
                yield Candidate(rank(bound_s, byte, gpus), order, bound_s, byte, plan, zero, True)


def _pareto(ranked: Sequence[Timed]) -> Iterator[Timed]:
    """Yields the plans of the Pareto set of time and memory, fastest first."""
    least = float("inf")
    for one in sorted(ranked, key=lambda one: (one.seconds, one.byte, one.order)):
        if one.byte < least:
            least = one.byte
            yield one


def _losses(model: Model, best: Estimate, ranked: Sequence[Timed]) -> Iterator[Loss]:
    """Yields for each axis the best plan with another value, and the terms that differ, the largest first."""
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
