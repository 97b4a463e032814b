"""Memory of one rank: weights, gradients, optimizer states, activations in flight, caches and communication buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.arithmetic import whole_bytes
from perfmodel.footprint.lines import Line, Model, Stored, training_states, weights
from perfmodel.footprint.lines import Plan as Shares
from perfmodel.plans.pipeline import Stage, in_flight
from perfmodel.plans.plan import Plan
from perfmodel.plans.rank import Held, Own, Part

MESSAGES = 4  # buffers of a microbatch's stream
BUCKET_BYTE = 25 * 2**20  # of torch's DistributedDataParallel


class Parameters(NamedTuple):
    """Parameters of one rank on a stage, those of experts among them, and those of its largest layer.

    ``stored``: the same in bytes, where weights are quantised.
    """

    all: int
    experts: int
    largest: int
    stored: Parameters | None = None


def parameters(parts: Sequence[Part], stage: Stage, pp: int) -> Parameters:
    """Parameters of a stage. With a pipeline, a tied output matrix is a copy on the last stage."""
    own = _summed(parts, parts, stage, pp)
    stored = [part.stored for part in parts if part.stored]
    return own._replace(stored=_summed(parts, stored, stage, pp)) if stored else own


def _summed(parts: Sequence[Part], figures: Sequence[Part | Own], stage: Stage, pp: int) -> Parameters:
    """The figures of the parts of a stage with their repeats."""
    found, experts, largest, counts = 0, 0, 0, iter(stage.counts)
    for part, own, first in zip(parts, figures, outside(parts), strict=True):
        times = next(counts) if part.name else int(stage.first if first else stage.last)
        number = own.parameters + (own.tied if pp > 1 else 0)
        found, experts = found + times * number, experts + times * own.experts
        largest = max(largest, own.largest) if times else largest
    return Parameters(found, experts, largest)


def outside(parts: Sequence[Part]) -> list[bool]:
    """For each part, whether it comes before the first layers. Steps between layers count with the last stage."""
    found, before = [], True
    for part in parts:
        before = before and not part.name
        found.append(before)
    return found


def states(own: Parameters, plan: Plan, item: float, *, train: bool, where: str) -> list[Line]:
    """Weights, gradients and optimizer states: dense parameters are sharded over dp x cp, experts' over dp / ep."""
    lines: dict[str, Line] = {}
    replicas = plan.dp * plan.cp
    byte = own.stored
    dense = Stored(byte.all - byte.experts, byte.largest) if byte else None
    sparse = Stored(byte.experts, 0) if byte else None
    for number, largest, share, stored in (
        (own.all - own.experts, own.largest, replicas, dense),
        (own.experts, 0, replicas // plan.ep, sparse),
    ):
        if not number:
            continue
        model, shares = Model(number, largest, item, stored), Shares(share, plan.zero, plan.recompute, plan.optimizer)
        for line in [*weights(model, shares), *(training_states(model, shares, where) if train else ())]:
            before = lines.get(line.name)
            lines[line.name] = line if before is None else line._replace(
                byte_per_gpu=before.byte_per_gpu + line.byte_per_gpu, formula=f"{before.formula} + experts {line.formula}"
            )  # fmt: skip
    return list(lines.values())


def microbatch_byte(held: Held, parts: Sequence[Part], stage: Stage) -> int:
    """Activations of one microbatch in the layers of a stage."""
    names = [part.name for part in parts if part.name]
    return sum(held.layers.get(name, 0) * count for name, count in zip(names, stage.counts, strict=True))


def activation_byte(held: Held, each: int, stage: Stage, flying: int, over: int) -> tuple[int, int, int]:
    """Activations of the microbatches in flight, those outside the layers, and the working memory of a backward pass.

    ``each``: the bytes of one microbatch, of which ``flying`` / ``over`` are in flight.
    """
    return -(-each * flying // over), held.outside if stage.last else 0, held.passing


def activation_lines(
    held: Held, parts: Sequence[Part], stage: Stage, number: int, plan: Plan, microbatches: int
) -> list[Line]:
    """Activations of the microbatches in flight on a stage, and the working memory of one backward pass."""
    each = microbatch_byte(held, parts, stage)
    flying, over = in_flight(plan, number, microbatches)
    byte, outside_byte, passing_byte = activation_byte(held, each, stage, flying, over)
    formula = f"{each:,} bytes of a microbatch x {flying}{f'/{over}' if over > 1 else ''} in flight"
    lines = [
        Line("activations", byte, formula, "activations"),
        Line("activations outside the layers", outside_byte, "embedding, last norm and logits", "activations"),
        Line("working memory", passing_byte, "the largest moment of a backward pass", "activations"),
    ]
    return [line for line in lines if line.byte_per_gpu]


def messages(plan: Plan, stream_byte: int) -> list[Line]:
    """Buffers of the pipeline: the activations and gradients that a stage receives and sends."""
    if plan.pp == 1:
        return []
    formula = f"{MESSAGES} x {stream_byte:,} bytes: activations and gradients, in and out"
    return [Line("pipeline buffers", MESSAGES * stream_byte, formula, "activations")]


def buckets(plan: Plan, own: Parameters, item: float) -> list[Line]:
    """Buckets of gradients of replicas."""
    if plan.dp * plan.cp == 1 or plan.zero == 3:
        return []
    byte = min(2 * BUCKET_BYTE, int(whole_bytes(own.all * item)))
    return [Line("gradient buckets", byte, "2 buckets of 25 MiB", "training")]
