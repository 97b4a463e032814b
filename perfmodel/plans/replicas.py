"""Communication between replicas: gradients, and weights that are sharded, with the overlap that frameworks reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel import ops
from perfmodel.arithmetic import ceil_div
from perfmodel.block import Kernel, Step
from perfmodel.patterns import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER
from perfmodel.plans.holding import BUCKET_BYTE, Parameters
from perfmodel.plans.pipeline import Stage
from perfmodel.plans.plan import Plan
from perfmodel.plans.pricing import Cost, Prices
from perfmodel.plans.rank import Segment

CHUNK = 1 << 24  # parameters of the update that is priced; its time is proportional to them


class Sync(NamedTuple):
    """Seconds of one step: by the data sheet, expected, and exposed."""

    lower_s: float = 0.0
    expected_s: float = 0.0
    exposed_s: float = 0.0


def optimizer(prices: Prices, plan: Plan, own: Parameters) -> Cost:
    """The optimizer step over the parameters of a rank, or over its shard of them."""
    if plan.optimizer == "none":
        return Cost()
    replicas = plan.dp * plan.cp if plan.zero else 1
    number = ceil_div(own.all - own.experts, replicas) + ceil_div(own.experts, max(1, replicas // plan.ep))
    operation = ops.find("adam")
    step = Step("optimizer", operation)
    kernel = Kernel(
        "optimizer", "adam", 1, operation.function(**operation.checked({"params": CHUNK}, "optimizer")), step
    )
    return Cost().plus(prices.sequence([kernel])[0], number / CHUNK)


def accumulation(prices: Prices, plan: Plan, own: Parameters, item: float, microbatches: int) -> Cost:
    """Adding each microbatch's gradients to the sum so far: two reads and a write of every gradient, or of the rank's shard
    of them, for each microbatch after the first. NB a product that adds to a float32 sum moves as many bytes more.
    """
    replicas = plan.dp * plan.cp if plan.zero >= 2 else 1
    number = ceil_div(own.all, replicas) * (microbatches - 1)
    operation = ops.find("add")
    values = operation.checked({"numel": CHUNK, "act": item}, "accumulation")
    kernel = Kernel("accumulation", "add", 1, operation.function(**values), Step("accumulation", operation))
    return Cost().plus(prices.sequence([kernel])[0], number / CHUNK)


def synchronised(
    prices: Prices, plan: Plan, own: Parameters, item: float, microbatches: int, segments: Sequence[Segment], stage: Stage,
    pass_s: tuple[float, float], train: bool,
) -> Sync:  # fmt: skip
    """Gradients and sharded weights of one rank in one step."""
    if plan.dp * plan.cp == 1 or (not train and plan.zero < 3):
        return Sync()
    if plan.zero == 3:
        return _sharded(prices, plan, own, item, microbatches, segments, stage, train)
    found = Sync()
    for number, axis in ((own.all - own.experts, "dp"), (own.experts, "expert dp")):
        if number:
            found = Sync(
                *(
                    a + b
                    for a, b in zip(
                        found, _gradients(prices, plan, int(number * item), axis, segments, pass_s), strict=True
                    )
                )
            )
    return found


def _gradients(
    prices: Prices, plan: Plan, byte: int, axis: str, segments: Sequence[Segment], pass_s: tuple[float, float]
) -> Sync:
    """Buckets of gradients are reduced during the last backward pass; the first layer's bucket follows it. With sharded
    states, the new weights are gathered during the next forward pass.
    """
    ranks = max(1, plan.dp * plan.cp // (plan.ep if axis == "expert dp" else 1))
    buckets = max(1, round(byte / BUCKET_BYTE))
    layers = sum(segment.part.repeat for segment in segments if segment.part.name) or 1
    kind = REDUCE_SCATTER if plan.zero else ALL_REDUCE
    lower_s, each_s = prices.collective(kind, ceil_div(byte, buckets), axis, plan)
    all_s, window_s = buckets * each_s, pass_s[1] * (1 - 1 / layers)
    found = Sync(buckets * lower_s, all_s, max(min(each_s, all_s), all_s - window_s))
    if not plan.zero:
        return found
    lower_s, each_s = prices.collective(ALL_GATHER, ceil_div(byte, buckets * ranks), axis, plan)
    all_s, window_s = buckets * each_s, pass_s[0] * (1 - 1 / layers)
    return Sync(
        found.lower_s + buckets * lower_s,
        found.expected_s + all_s,
        found.exposed_s + max(min(each_s, all_s), all_s - window_s),
    )


def _sharded(
    prices: Prices,
    plan: Plan,
    own: Parameters,
    item: float,
    microbatches: int,
    segments: Sequence[Segment],
    stage: Stage,
    train: bool,
) -> Sync:
    """FSDP: each layer is gathered before its forward and its backward pass, one layer ahead, and its gradients are
    scattered after it, for each microbatch. What outlasts the layer's kernels is exposed, and so are the first gather and
    the last scatter.
    """
    lower_s = expected_s = exposed_s = 0.0
    counts = iter(stage.counts)
    first_s = last_s = 0.0
    ranks = plan.dp * plan.cp
    for segment in segments:
        times = next(counts) if segment.part.name else 1
        byte = int(segment.part.parameters * item)
        if not byte or not times:
            continue
        gather = prices.collective(ALL_GATHER, ceil_div(byte, ranks), "dp", plan)
        scatter = prices.collective(REDUCE_SCATTER, byte, "dp", plan) if train else (0.0, 0.0)
        first_s, last_s = first_s or gather[1], last_s or scatter[1]
        lower_s += times * ((2 if train else 1) * gather[0] + scatter[0])
        expected_s += times * ((2 if train else 1) * gather[1] + scatter[1])
        exposed_s += times * max(0.0, gather[1] - segment.forward.exposed_s)
        if train:
            backward_s = segment.backward.exposed_s + segment.again(plan.recompute).exposed_s
            exposed_s += times * max(0.0, gather[1] + scatter[1] - backward_s)
    exposed_s += first_s + last_s
    return Sync(*(microbatches * seconds for seconds in (lower_s, expected_s, exposed_s)))
