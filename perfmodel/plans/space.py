"""The plans that a search compares: all legal combinations of degrees and options, in groups.

A rule of ``plan.problem`` relates the degrees to one option, or to the microbatch and the chunks. So a plan is legal
where each of its options is legal by itself, and each pair of a microbatch and chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from perfmodel.footprint.activations import RECOMPUTE
from perfmodel.plans.plan import INTERLEAVED, ONE_F_ONE_B, Plan, Shape, divides, problem


class Group(NamedTuple):
    """Legal plans that differ only in the ZeRO stage, recomputation and chunks, in every combination.

    One microbatch takes a rank the same time under all of them, except for recomputation.
    """

    plan: Plan
    zeros: tuple[int, ...]
    modes: tuple[str, ...]
    chunks: tuple[int, ...]

    @property
    def number(self) -> int:
        return len(self.zeros) * len(self.modes) * len(self.chunks)


def divisors(number: int) -> list[int]:
    """All divisors in ascending order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def chunked(plan: Plan, chunks: int) -> Plan:
    """The plan with a number of chunks per stage and their schedule."""
    return plan._replace(virtual=chunks, schedule=INTERLEAVED if chunks > 1 else ONE_F_ONE_B)


def groups(shape: Shape, gpus: int, fixed: dict[str, Any], modes: Sequence[str] = RECOMPUTE) -> Iterator[Group]:
    """Yields the groups of all legal plans on a number of GPUs.

    ``fixed`` holds the fields that are given, ``modes`` the recomputation modes of training.
    """
    for tp in divisors(gpus):
        if not divides(tp, shape):
            continue
        for cp in divisors(gpus // tp):
            for pp in divisors(gpus // tp // cp):
                plan = Plan(tp=tp, cp=cp, pp=pp, dp=gpus // tp // cp // pp, microbatch=1)
                given = all(
                    fixed.get(name, getattr(plan, name)) == getattr(plan, name) for name in ("tp", "cp", "pp", "dp")
                )
                if given and not problem(plan, shape)[0]:
                    yield from _options(shape, plan, fixed, modes)


def _options(shape: Shape, plan: Plan, fixed: dict[str, Any], modes: Sequence[str]) -> Iterator[Group]:
    """Yields the groups of plans with given degrees."""
    own, replicas = shape.batch // plan.dp, plan.dp * plan.cp
    choices: dict[str, Sequence[Any]] = {
        "ep": divisors(plan.dp) if shape.experts else (1,),
        "sequence_parallel": (False, True),
        "microbatch": divisors(own) if shape.train or plan.pp > 1 else (own,),
        "zero": (0, 1, 2, 3) if replicas > 1 else (0,),
        "recompute": modes if shape.train else ("none",),
        "virtual": divisors(max(1, shape.layers // plan.pp)) if plan.pp > 1 and shape.train else (1,),
    }
    choices |= {name: (fixed[name],) for name in choices if name in fixed}
    legal = {
        name: tuple(value for value in choices[name] if not problem(plan._replace(**{name: value}), shape)[0])
        for name in ("ep", "sequence_parallel", "microbatch", "zero", "recompute")
    }
    chunks = {
        size: _chunks(shape, plan._replace(microbatch=size), choices["virtual"], fixed) for size in legal["microbatch"]
    }
    for ep in legal["ep"]:
        for sequence_parallel in legal["sequence_parallel"]:
            for size in legal["microbatch"]:
                made = plan._replace(ep=ep, sequence_parallel=sequence_parallel, microbatch=size)
                found = Group(made, legal["zero"], legal["recompute"], chunks[size])
                if found.number:
                    yield found


def _chunks(shape: Shape, plan: Plan, choices: Sequence[int], fixed: dict[str, Any]) -> tuple[int, ...]:
    """The legal numbers of chunks under a microbatch, whose schedule is the given one."""
    made = [chunked(plan, chunks) for chunks in choices]
    return tuple(
        one.virtual
        for one in made
        if fixed.get("schedule", one.schedule) == one.schedule and not problem(one, shape)[0]
    )
