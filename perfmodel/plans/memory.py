"""The memory of plans of a workload on a GPU, and the figures that plans share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from operator import add
from typing import Any

from perfmodel.arithmetic import ceil_div
from perfmodel.footprint.flow import layers
from perfmodel.footprint.lines import Line
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.hardware import Gpu
from perfmodel.plans import holding
from perfmodel.plans.division import rank_dims
from perfmodel.plans.pieces import Pieces
from perfmodel.plans.pipeline import Stage, in_flight, kinds, stages
from perfmodel.plans.plan import Plan, Shape, shape_of
from perfmodel.plans.pricing import Prices
from perfmodel.plans.rank import Held, Part, Rank, Segment
from perfmodel.plans.space import Group, chunked
from perfmodel.systems import System
from perfmodel.workload import Workload


class Holder:
    """A workload at given sizes on a GPU in a system: the memory of any number of plans, with shared figures."""

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
        self._fixed: dict[Any, int] = {}
        self._streams: dict[Any, int] = {}

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
        key = plan.tp, plan.cp, plan.microbatch
        if key not in self._streams:
            dims = rank_dims(self.dims, plan)
            whole = dims.get("B", 1) * dims.get("N", 1) * dims.get("D", 1) * dims.get("act", 2)
            self._streams[key] = int(ceil_div(int(whole), plan.tp))
        return self._streams[key]

    # --- memory

    def memory(self, plan: Plan) -> tuple[Line, ...]:
        """Returns the lines of the stage that needs most memory."""
        found = [
            self._stage_lines(plan, number, stage)
            for number, stage in enumerate(self.stages(plan))
            if number in (0, 1, plan.pp - 1)
        ]
        return tuple(max(found, key=lambda lines: sum(line.byte_per_gpu for line in lines)))

    def memory_byte(self, plan: Plan) -> int:
        """Returns the bytes of the stage that needs most memory."""
        return sum(line.byte_per_gpu for line in self.memory(plan))

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
        return (
            [*lines, *holding.messages(plan, self.stream_byte(plan)), *holding.buckets(plan, own, item)]
            if self.train
            else lines
        )

    def bytes_of(self, group: Group) -> Iterator[tuple[Plan, list[int]]]:
        """Yields a plan for each recomputation mode and number of chunks of a group, with its bytes at each ZeRO stage.

        The bytes are those of ``memory_byte``, computed for many plans at once.
        """
        plan, m, parts = group.plan, self.microbatches(group.plan), self.parts(group.plan)
        places = [(n, stage) for n, stage in enumerate(self.stages(plan)) if n in (0, 1, plan.pp - 1)]
        fixed = [[self._states_byte(plan._replace(zero=zero), stage) for zero in group.zeros] for _, stage in places]
        if not self.train:
            own = [sum(line.byte_per_gpu for line in self._inference_lines(plan, stage)) for _, stage in places]
            yield plan, [max(map(add, own, states)) for states in zip(*fixed, strict=True)]
            return
        messages = holding.MESSAGES * self.stream_byte(plan) if plan.pp > 1 else 0
        for mode in group.modes:
            of_mode = plan._replace(recompute=mode)
            held = self._held_of(of_mode)
            each = [holding.microbatch_byte(held, parts, stage) for _, stage in places]
            for chunks in group.chunks:
                made = chunked(of_mode, chunks)
                own = [
                    messages + sum(holding.activation_byte(held, byte, stage, *in_flight(made, n, m)))
                    for byte, (n, stage) in zip(each, places, strict=True)
                ]
                yield made, [max(map(add, own, states)) for states in zip(*fixed, strict=True)]

    def _states_byte(self, plan: Plan, stage: Stage) -> int:
        """Weights, gradients, optimizer states and their buckets."""
        key = plan.tp, plan.ep, plan.pp, plan.dp * plan.cp, stage, plan.zero, plan.optimizer
        if key not in self._fixed:
            own, item = self.parameters(plan, stage), self.dims.get("weight", 2)
            lines = holding.states(own, plan, item, train=self.train, where=self.workload.name)
            lines += holding.buckets(plan, own, item) if self.train else []
            self._fixed[key] = sum(line.byte_per_gpu for line in lines)
        return self._fixed[key]

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
