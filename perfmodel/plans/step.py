"""The time and memory of one step under a plan: a bound, a sum without overlap, and the expected time with its terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel.footprint.lines import Line
from perfmodel.op import Engine
from perfmodel.patterns import ALL_GATHER, SEND_RECV
from perfmodel.plans import holding
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.least import Floor, Least
from perfmodel.plans.memory import Holder
from perfmodel.plans.pipeline import Stage, duration_s
from perfmodel.plans.plan import Plan, checked
from perfmodel.plans.pricing import Cost, Talk
from perfmodel.plans.rank import AXES, Segment, Way
from perfmodel.plans.replicas import Sync, accumulation, optimizer, synchronised
from perfmodel.timing.terms import Term

NAMES = {"tp": "tensor parallelism", "cp": "context parallelism", "ep": "expert parallelism"}


class Pace(NamedTuple):
    """One microbatch on each stage: its costs forward, backward and recomputed, and its seconds forward and backward."""

    ways: tuple[tuple[Way, Way, Way], ...]
    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]


class Model(Holder):
    """A workload at given sizes on a GPU in a system: estimates of any number of plans, with shared prices."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._ways: dict[Any, tuple[Way, Way, Way]] = {}
        self._paces: dict[Any, Pace] = {}
        self._floors: dict[Any, Floor] = {}
        self._least: dict[Any, tuple[Least, ...]] = {}
        self._least_paces: dict[Any, tuple[list[float], list[float]]] = {}
        self._whole = 0

    def estimate(self, plan: Plan) -> Estimate:
        """The estimate of a legal plan. Raises InputError for an illegal one."""
        plan = checked(plan, self.shape, f"{self.workload.name}: plan {plan.words}")
        return self.priced(plan, self.memory(plan))

    # --- time

    def priced(self, plan: Plan, lines: tuple[Line, ...]) -> Estimate:
        """The estimate of a plan whose memory is known."""
        segments, m = self.segments(plan), self.microbatches(plan)
        send = self._send(plan)
        found, forward_s, backward_s = self._pace(plan, send)
        slowest = max(range(plan.pp), key=lambda stage: forward_s[stage] + backward_s[stage])
        whole_s = duration_s(plan, forward_s, backward_s, m)
        bubble_s = whole_s - m * (forward_s[slowest] + backward_s[slowest])
        own = self.parameters(plan, self.stages(plan)[slowest])
        sync = synchronised(self.prices, plan, own, self.dims.get("weight", 2), m, segments, self.stages(plan)[slowest],
                            (forward_s[slowest], backward_s[slowest]), self.train)  # fmt: skip
        update = optimizer(self.prices, plan, own) if self.train else Cost()
        sums = accumulation(self.prices, plan, own, self.dims.get("weight", 2), m) if self.train else Cost()
        terms = self._terms(found[slowest], send, m, bubble_s, sync, (sums.expected_s, update.expected_s))
        expected_s = sum(term.seconds for term in terms)
        talks = _talk(found[slowest], send, m, self.train).plus(Talk(sync.lower_s, sync.expected_s, sync.exposed_s))
        bounds = [self._bound(plan, found, m, kind) + getattr(update, kind) for kind in ("lower_s", "no_overlap_s")]
        bounds[1] += sums.no_overlap_s  # the lower time assumes that the products add to the sums
        flops = self.whole_flops()
        tokens = self.shape.batch * self.shape.tokens
        return Estimate(
            plan, m, max(bounds[0], talks.lower_s), expected_s, bounds[1] + talks.lower_s, bubble_s, talks.exposed_s,
            talks.expected_s, terms, lines, self.room_byte, tokens, flops, self._mfu(plan, flops, expected_s),
            self.rank(plan).division.notes,
        )  # fmt: skip

    def least_s(self, plan: Plan) -> float:
        """The time of the microbatches through the pipeline, which the expected time is never below.

        The options of a group of plans that differ in their ZeRO stage add to it: the communication of replicas,
        the accumulation of gradients and the optimizer.
        """
        pace = self._pace(plan, self._send(plan))
        return duration_s(plan, pace.forward_s, pace.backward_s, self.microbatches(plan))

    def floor_s(self, plan: Plan) -> float:
        """A lower bound of ``least_s`` that times no kernel."""
        key = (*self._key(plan), plan.pp, plan.recompute)
        if key not in self._least_paces:
            self._least_paces[key] = self._least_pace(plan)
        forward_s, backward_s = self._least_paces[key]
        send_s = self._send(plan).exposed_s
        after_s = send_s if self.train else 0.0
        return duration_s(
            plan, [s + send_s for s in forward_s], [s + after_s for s in backward_s], self.microbatches(plan)
        )

    def _least_pace(self, plan: Plan) -> tuple[list[float], list[float]]:
        """Returns lower bounds of one microbatch, forward and backward, on each stage."""
        found = self._least_of(plan)
        parts, first = self.parts(plan), holding.outside(self.parts(plan))
        stages = self.stages(plan)
        own: dict[Stage, tuple[float, float]] = {}
        for stage in stages:
            if stage not in own:
                counts, forward_s, backward_s = iter(stage.counts), 0.0, 0.0
                for part, least, before in zip(parts, found, first, strict=True):
                    times = next(counts) if part.name else int(stage.first if before else stage.last)
                    forward_s += times * least.forward_s
                    backward_s += times * (least.backward_s + least.again_s(plan.recompute, layer=bool(part.name)))
                own[stage] = forward_s, backward_s
        return [own[stage][0] for stage in stages], [own[stage][1] for stage in stages]

    def _least_of(self, plan: Plan) -> tuple[Least, ...]:
        key = self._key(plan)
        if key not in self._least:
            degrees = key[:-1]
            if degrees not in self._floors:
                small, large = (self.rank(plan._replace(microbatch=size)) for size in (1, self.shape.batch))
                self._floors[degrees] = Floor(small, large, self.prices)
            self._least[key] = self._floors[degrees].at(plan)
        return self._least[key]

    def _pace(self, plan: Plan, send: Talk) -> Pace:
        """One microbatch on each stage, with the messages between stages."""
        key = (*self._key(plan), plan.recompute, plan.pp)
        if key not in self._paces:
            segments = self.segments(plan)
            ways = tuple(self._stage(plan, segments, stage) for stage in self.stages(plan))
            forward_s = tuple(forward.exposed_s for forward, _, _ in ways)
            backward_s = tuple(backward.exposed_s + again.exposed_s for _, backward, again in ways)
            self._paces[key] = Pace(ways, forward_s, backward_s)
        pace = self._paces[key]
        if plan.pp == 1:
            return pace
        after_s = send.exposed_s if self.train else 0.0
        return Pace(
            pace.ways, tuple(s + send.exposed_s for s in pace.forward_s), tuple(s + after_s for s in pace.backward_s)
        )

    def _stage(self, plan: Plan, segments: Sequence[Segment], stage: Stage) -> tuple[Way, Way, Way]:
        """Forward, backward and recomputation of one microbatch on a stage."""
        key = (*self._key(plan), plan.recompute, stage)
        if key not in self._ways:
            self._ways[key] = self._stage_ways(plan, segments, stage)
        return self._ways[key]

    def _stage_ways(self, plan: Plan, segments: Sequence[Segment], stage: Stage) -> tuple[Way, Way, Way]:
        forward, backward, again, counts = Way(), Way(), Way(), iter(stage.counts)
        known = self._ways.get((*self._key(plan), "none", stage))  # recomputation only adds
        for segment, first in zip(segments, holding.outside(self.parts(plan)), strict=True):
            times = next(counts) if segment.part.name else int(stage.first if first else stage.last)
            if times and known is None:
                forward, backward = forward.plus(segment.forward, times), backward.plus(segment.backward, times)
            if times and plan.recompute != "none":
                again = again.plus(segment.again(plan.recompute), times)
        return (known[0], known[1], again) if known else (forward, backward, again)

    def _send(self, plan: Plan) -> Talk:
        """Sending a microbatch to the next stage, with the all-gather of its parts."""
        if plan.pp == 1:
            return Talk()
        byte = self.stream_byte(plan)
        lower_s, expected_s = self.prices.collective(SEND_RECV, byte, "pp", plan)
        if not plan.sequence_parallel:
            gather = self.prices.collective(ALL_GATHER, byte, "tp", plan)
            lower_s, expected_s = lower_s + gather[0], expected_s + gather[1]
        return Talk(lower_s * plan.virtual, expected_s * plan.virtual, expected_s * plan.virtual)

    def _bound(self, plan: Plan, found: Sequence[tuple[Way, Way, Way]], m: int, kind: str) -> float:
        """The step from bounds of kernels alone, with the bubble of its schedule."""
        forward = [getattr(ways[0].cost, kind) for ways in found]
        backward = [getattr(ways[1].cost, kind) + getattr(ways[2].cost, kind) for ways in found]
        return duration_s(plan, forward, backward, m)

    def _terms(
        self, ways: tuple[Way, Way, Way], send: Talk, m: int, bubble_s: float, sync: Sync, states_s: tuple[float, float]
    ) -> tuple[Term, ...]:
        names = ("kernels, forward", "kernels, backward", "recomputation")
        terms = [Term(name, m * way.cost.expected_s) for name, way in zip(names, ways, strict=True)]
        for number, axis in enumerate(AXES):
            terms.append(Term(f"{NAMES[axis]}, exposed", m * sum(way.talks[number].exposed_s for way in ways)))
        terms.append(Term("pipeline messages", m * send.exposed_s * (2 if self.train else 1)))
        terms.append(Term("pipeline bubble", bubble_s))
        terms += [
            Term("gradients and weights of replicas, exposed", sync.exposed_s),
            Term("gradient accumulation", states_s[0]),
            Term("optimizer", states_s[1]),
        ]
        return tuple(term for term in terms if term.seconds)

    def whole_flops(self) -> int:
        """FLOPs of products of the whole step on one GPU, without recomputation."""
        if not self._whole:
            one = Plan(microbatch=self.shape.batch)
            self._whole = int(
                sum(
                    (segment.forward.cost.contraction_flops + segment.backward.cost.contraction_flops)
                    * segment.part.repeat
                    for segment in self.segments(one)
                )
            )
        return self._whole

    def _mfu(self, plan: Plan, flops: int, seconds: float) -> float:
        """Returns the FLOPs of products divided by those that all GPUs could compute at their peak."""
        peak = self.gpu.peak(Engine.TENSOR, self.prices.dtype)
        return flops / (seconds * plan.gpus * peak[0]) if peak and seconds else 0.0


def _talk(ways: tuple[Way, Way, Way], send: Talk, m: int, train: bool) -> Talk:
    found = Talk().plus(send, m * (2 if train else 1))
    for way in ways:
        for talk in way.talks:
            found = found.plus(talk, m)
    return found
