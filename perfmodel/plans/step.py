"""The time and memory of one step under a plan: a bound, a sum without overlap, and the expected time with its terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from perfmodel.arithmetic import ceil_div
from perfmodel.footprint.flow import layers
from perfmodel.footprint.lines import Line
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.patterns import ALL_GATHER, SEND_RECV
from perfmodel.plans import holding
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.pieces import Pieces
from perfmodel.plans.pipeline import Stage, duration_s, kinds, stages
from perfmodel.plans.plan import Plan, Shape, checked, shape_of
from perfmodel.plans.pricing import Cost, Prices, Talk
from perfmodel.plans.rank import AXES, Held, Part, Rank, Segment, Way
from perfmodel.plans.replicas import Sync, accumulation, optimizer, synchronised
from perfmodel.systems import System
from perfmodel.timing.terms import Term
from perfmodel.workload import Workload

NAMES = {"tp": "tensor parallelism", "cp": "context parallelism", "ep": "expert parallelism"}


class Model:
    """A workload at given sizes on a GPU in a system: estimates of any number of plans, with shared prices."""

    def __init__(
        self, workload: Workload, phase: str, gpu: Gpu, system: System | None, settings: Mapping[str, Any] | None = None, *,
        fused: bool | None = None, causal: bool | None = None, form: str | None = None, knowledge: str | None = None,
        reserve: Reserve = DEFAULT, prices: Prices | None = None,
    ) -> None:  # fmt: skip
        self.workload, self.phase, self.gpu, self.system, self.form = workload, phase, gpu, system, form
        self.fused = workload.fused if fused is None else fused
        self.dims = {"causal": int(workload.causal if causal is None else causal), **workload.dims(phase, settings)}
        self.train = phase == "train"
        self.prices = prices or Prices(gpu, system, workload.dtypes["activation"], knowledge)
        capacity = int(gpu.capacity_byte.value)
        self.room_byte = capacity - reserve.byte(capacity)
        steps = workload.steps_in(phase, form)
        self._pieces = Pieces(steps, fused=self.fused, train=self.train)
        self.repeats, self.runs = kinds(layers(steps, self.dims))
        latent = any(step.operation.name.startswith("mla") for step in steps)
        self.shape: Shape = shape_of(self.dims, sum(self.repeats), phase, latent)
        self._segments: dict[Any, tuple[Segment, ...]] = {}
        self._ranks: dict[Any, Rank] = {}
        self._parts: dict[Any, tuple[Part, ...]] = {}
        self._own: dict[Any, holding.Parameters] = {}
        self._held: dict[Any, Held] = {}
        self._states: dict[Any, list[Line]] = {}
        self._resident: dict[Any, tuple[list[Line], list[Line]]] = {}
        self._stages: dict[int, tuple[Stage, ...]] = {}
        self._byte: dict[Any, int] = {}
        self._ways: dict[Any, tuple[Way, Way, Way]] = {}
        self._whole = 0

    def estimate(self, plan: Plan) -> Estimate:
        """The estimate of a legal plan. Raises InputError for an illegal one."""
        plan = checked(plan, self.shape, f"{self.workload.name}: plan {plan.words}")
        return self.priced(plan, self.memory(plan))

    def microbatches(self, plan: Plan) -> int:
        return max(1, self.shape.batch // (plan.dp * plan.microbatch))

    @cached_property
    def stores_squares(self) -> bool:
        """Whether selective recomputation saves anything."""
        return self.rank(Plan(microbatch=1)).stores_squares()

    # --- shared figures

    def _key(self, plan: Plan) -> tuple[Any, ...]:
        return plan.tp, plan.cp, plan.ep, plan.sequence_parallel, plan.microbatch

    def rank(self, plan: Plan) -> Rank:
        key = self._key(plan)
        if key not in self._ranks:
            self._ranks[key] = Rank(self.workload, self.phase, self.dims, plan, self._pieces)
        return self._ranks[key]

    def segments(self, plan: Plan) -> tuple[Segment, ...]:
        key = self._key(plan)
        if key not in self._segments:
            self._segments[key] = self.rank(plan).segments(self.prices, self.parts(plan))
        return self._segments[key]

    def parts(self, plan: Plan) -> tuple[Part, ...]:
        key = plan.tp, plan.ep
        if key not in self._parts:
            self._parts[key] = self.rank(plan).parts()
        return self._parts[key]

    def parameters(self, plan: Plan, stage: Stage) -> holding.Parameters:
        key = plan.tp, plan.ep, plan.pp, stage
        if key not in self._own:
            self._own[key] = holding.parameters(self.parts(plan), stage, plan.pp)
        return self._own[key]

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        if plan.pp not in self._stages:
            self._stages[plan.pp] = stages(self.repeats, plan.pp, self.runs)
        return self._stages[plan.pp]

    def stream_byte(self, plan: Plan) -> int:
        """Bytes of the tensor between two stages: the residual stream of a microbatch, of which each tensor-parallel
        rank sends its part (Narayanan et al. 2021, section 4.1).
        """
        dims = self.rank(plan).dims
        whole = dims.get("B", 1) * dims.get("N", 1) * dims.get("D", 1) * dims.get("act", 2)
        return int(ceil_div(int(whole), plan.tp))

    # --- memory

    def memory(self, plan: Plan) -> tuple[Line, ...]:
        """The lines of the stage that needs most memory."""
        found = [
            self._stage_lines(plan, number, stage)
            for number, stage in enumerate(self.stages(plan))
            if number in (0, 1, plan.pp - 1)
        ]
        return tuple(max(found, key=lambda lines: sum(line.byte_per_gpu for line in lines)))

    def memory_byte(self, plan: Plan) -> int:
        """Bytes of the stage that needs most memory."""
        if plan not in self._byte:
            self._byte[plan] = sum(line.byte_per_gpu for line in self.memory(plan))
        return self._byte[plan]

    def _stage_lines(self, plan: Plan, number: int, stage: Stage) -> list[Line]:
        parts, own = self.parts(plan), self.parameters(plan, stage)
        item = self.dims.get("weight", 2)
        shares = plan.tp, plan.ep, plan.pp, stage, plan.zero, plan.dp, plan.cp, plan.optimizer
        if shares not in self._states:
            self._states[shares] = holding.states(own, plan, item, train=self.train, where=self.workload.name)
        lines = list(self._states[shares])
        if self.train:
            lines += holding.activation_lines(self._held_of(plan), parts, stage, number, plan, self.microbatches(plan))
        else:
            lines += self._inference_lines(plan, stage)
        return [*lines, *holding.buffers(plan, self.stream_byte(plan), own, item)] if self.train else lines

    def _held_of(self, plan: Plan) -> Held:
        """Activations of one microbatch; of more than two sequences, from those of one and of two."""
        key = (*self._key(plan), plan.recompute)
        if key not in self._held:
            if plan.microbatch > 2:
                one, two = (self._held_of(plan._replace(microbatch=number)) for number in (1, 2))
                self._held[key] = one.beyond(two, plan.microbatch - 1)
            else:
                self._held[key] = self.rank(plan).held(plan.recompute)
        return self._held[key]

    def _inference_lines(self, plan: Plan, stage: Stage) -> list[Line]:
        key = self._key(plan)
        if key not in self._resident:
            self._resident[key] = self.rank(plan).resident()
        caches, space = self._resident[key]
        own, whole, m = sum(stage.counts), sum(self.repeats), self.microbatches(plan)
        if own == whole and m == 1:
            return [*caches, *space]
        part = f"; {m} microbatches, {own} of {whole} layers"
        return [
            *(
                line._replace(byte_per_gpu=line.byte_per_gpu * own * m // whole, formula=line.formula + part)
                for line in caches
            ),
            *space,
        ]

    # --- time

    def priced(self, plan: Plan, lines: tuple[Line, ...]) -> Estimate:
        """The estimate of a plan whose memory is known."""
        segments, m = self.segments(plan), self.microbatches(plan)
        found = [self._stage(plan, segments, stage) for stage in self.stages(plan)]
        send = self._send(plan)
        forward_s = [ways[0].exposed_s + send.exposed_s for ways in found]
        backward_s = [ways[1].exposed_s + ways[2].exposed_s + (send.exposed_s if self.train else 0.0) for ways in found]
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

    def _stage(self, plan: Plan, segments: Sequence[Segment], stage: Stage) -> tuple[Way, Way, Way]:
        """Forward, backward and recomputation of one microbatch on a stage."""
        key = (*self._key(plan), plan.recompute, stage)
        if key not in self._ways:
            self._ways[key] = self._stage_ways(plan, segments, stage)
        return self._ways[key]

    def _stage_ways(self, plan: Plan, segments: Sequence[Segment], stage: Stage) -> tuple[Way, Way, Way]:
        forward, backward, again, counts = Way(), Way(), Way(), iter(stage.counts)
        for segment, first in zip(segments, holding.outside(self.parts(plan)), strict=True):
            times = next(counts) if segment.part.name else int(stage.first if first else stage.last)
            if times:
                forward, backward = forward.plus(segment.forward, times), backward.plus(segment.backward, times)
                again = again.plus(segment.again(plan.recompute), times)
        return forward, backward, again

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
        """FLOPs of products over what all GPUs could do at their peak."""
        peak = self.gpu.peak(Engine.TENSOR, self.prices.dtype)
        return flops / (seconds * plan.gpus * peak[0]) if peak and seconds else 0.0


def _talk(ways: tuple[Way, Way, Way], send: Talk, m: int, train: bool) -> Talk:
    found = Talk().plus(send, m * (2 if train else 1))
    for way in ways:
        for talk in way.talks:
            found = found.plus(talk, m)
    return found
