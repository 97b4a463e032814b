"""Pipelines: which stage holds which layers, how many microbatches are in flight, and the time of a schedule.

A stage needs ``f`` seconds for a microbatch forward and ``b`` backward. With p equal stages and m microbatches a step takes
m (f + b) on each stage plus the bubble, in which a stage waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.block import Step
from perfmodel.plans.plan import GPIPE, INTERLEAVED, ZERO_BUBBLE, Plan


def bubble_s(schedule: str, stages: int, forward_s: float, backward_s: float, virtual: int = 1) -> float:
    """Time in which a stage of a balanced pipeline waits in one step.

    GPipe (Huang et al. 2019): the last stage waits for p - 1 forward passes before its first, and after its last
    backward pass p - 1 backward passes follow: (p - 1)(f + b). 1F1B (Narayanan et al. 2019) reorders the same work between
    the same ends, so its bubble is equal. Interleaved (Narayanan et al. 2021): a stage holds v chunks of its layers, and
    the ends are passes of one chunk, 1/v as long: (p - 1)(f + b) / v. Zero bubble (Qi et al. 2023): the weight gradients
    fill the gaps and the optimizer steps without synchronization. Its bound is 0.
    """
    if schedule == ZERO_BUBBLE:
        return 0.0
    return (stages - 1) * (forward_s + backward_s) / (virtual if schedule == INTERLEAVED else 1)


def in_flight(plan: Plan, stage: int, microbatches: int) -> tuple[int, int]:
    """Microbatches whose activations a stage holds at most, as a fraction (numerator, denominator).

    GPipe holds all m. 1F1B holds one for each stage from this one to the last: min(m, p - stage). Interleaved: stage s
    runs 2 (p - s - 1) + (v - 1) p + 1 chunks before its first backward pass, each 1/v of its layers. On the first stage
    that is p (1 + (p - 1) / (p v)) microbatches (Korthikanti et al. 2022). Zero bubble holds as many as 1F1B on the first
    stage, on all stages.
    """
    if plan.schedule == GPIPE:
        return microbatches, 1
    if plan.schedule == INTERLEAVED:
        chunks = 2 * (plan.pp - stage - 1) + (plan.virtual - 1) * plan.pp + 1
        return min(chunks, microbatches * plan.virtual), plan.virtual
    return min(microbatches, plan.pp - (0 if plan.schedule == ZERO_BUBBLE else stage)), 1


class Stage(NamedTuple):
    """The layers of one stage: how many of each kind, and whether it has the first and the last steps."""

    counts: tuple[int, ...]
    first: bool
    last: bool


def kinds(found: Iterable[tuple[str, int, tuple[Step, ...]]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The layers of each kind, and the number of its run: kinds between which other steps run do not alternate."""
    repeats, runs, run = list[int](), list[int](), 0
    for name, repeat, _ in found:
        if name:
            repeats.append(repeat)
            runs.append(run)
        else:
            run += 1
    return tuple(repeats), tuple(runs)


def stages(repeats: Sequence[int], pp: int, runs: Sequence[int] = ()) -> tuple[Stage, ...]:
    """The layers of each kind on each stage, contiguous and as even as possible.

    Kinds of one run are spread evenly over each other, each layer at its middle: the order of layers that alternate. NB a
    model whose first layers differ, such as DeepSeek's, has them on the first stage only. Runs, such as an encoder and a
    decoder, follow each other. Where pp does not divide the layers, the stages after
    the first have one more, because the first also holds the embedding.
    """
    run = runs or (0,) * len(repeats)
    order = sorted((run[kind], (n + 0.5) / number, kind) for kind, number in enumerate(repeats) for n in range(number))
    base, more = divmod(len(order), pp)
    sizes = [base + (1 <= stage <= more) for stage in range(pp)]
    found, start = [], 0
    for stage, size in enumerate(sizes):
        kinds = [kind for _, _, kind in order[start : start + size]]
        start += size
        counts = tuple(kinds.count(kind) for kind in range(len(repeats)))
        found.append(Stage(counts, stage == 0, stage == pp - 1))
    return tuple(found)


def duration_s(plan: Plan, forward_s: Sequence[float], backward_s: Sequence[float], microbatches: int) -> float:
    """The time of a step over stages that may differ, without the communication between them.

    Equal jobs through stages in a row take the sum of all stages and m - 1 times the slowest. GPipe does so forward, then
    backward; the other schedules with forward and backward together. Interleaving divides the time at both ends by v.
    """
    if plan.schedule == GPIPE:
        return sum(sum(times) + (microbatches - 1) * max(times) for times in (forward_s, backward_s))
    both = [f + b for f, b in zip(forward_s, backward_s, strict=True)]
    slowest = max(both)
    ends = {INTERLEAVED: (sum(both) - slowest) / plan.virtual, ZERO_BUBBLE: 0.0}.get(plan.schedule, sum(both) - slowest)
    return microbatches * slowest + ends
