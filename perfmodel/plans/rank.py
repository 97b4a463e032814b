"""What one microbatch costs a rank, by kind of layer: kernels, collectives, parameters and activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.block import Kernel, Step
from perfmodel.footprint import inference
from perfmodel.footprint.activations import SQUARES, activations, size_byte
from perfmodel.footprint.flow import layers
from perfmodel.footprint.lines import Line, cache_lines, state_lines, workspace_line
from perfmodel.plans.division import EXPERTS, Division, Exchange, divided
from perfmodel.plans.plan import Plan
from perfmodel.plans.pricing import Cost, Prices, Talk
from perfmodel.workload import Workload

AXES = ("tp", "cp", "ep")


class Way(NamedTuple):
    """One direction of one layer: its kernels, and its communication by axis."""

    cost: Cost = Cost()
    talks: tuple[Talk, ...] = (Talk(),) * len(AXES)

    def plus(self, other: Way, times: float = 1) -> Way:
        talks = tuple(a.plus(b, times) for a, b in zip(self.talks, other.talks, strict=True))
        return Way(self.cost.plus(other.cost, times), talks)

    @property
    def exposed_s(self) -> float:
        """Expected time with the exposed communication."""
        return self.cost.expected_s + sum(talk.exposed_s for talk in self.talks)


class Held(NamedTuple):
    """Activations of one microbatch: of a layer of each kind, outside, and the largest moment of the backward pass."""

    layers: Mapping[str, int]
    outside: int
    passing: int

    def beyond(self, other: Held, times: int) -> Held:
        """So many steps from this to the other and on: tensors grow evenly with the batch."""

        def at(first: int, second: int) -> int:
            return first + times * (second - first)

        grown = {name: at(byte, other.layers[name]) for name, byte in self.layers.items()}
        return Held(grown, at(self.outside, other.outside), at(self.passing, other.passing))


class Part(NamedTuple):
    """Steps that repeat together on a rank: the parameters of one repeat, those of experts among them, which expert
    parallelism divides, those that are tied to another step, and the most that ZeRO gathers at once: a layer or a step.
    """

    name: str
    repeat: int
    parameters: int
    experts: int
    tied: int
    largest: int


class Segment(NamedTuple):
    """The cost of one repeat of a part. ``core``: its attention, if that stores N x S tensors."""

    part: Part
    forward: Way
    backward: Way
    core: Way

    def again(self, recompute: str) -> Way:
        """What recomputation adds to a backward pass: the whole layer, or the attention whose tensors were dropped."""
        if recompute == "full" and self.part.name:
            return self.forward
        return self.core if recompute == "selective" else Way()


class Rank:
    """One rank's work for one microbatch; figures are computed when asked for."""

    def __init__(
        self, workload: Workload, phase: str, dims: Mapping[str, Any], plan: Plan, fused: bool, form: str | None
    ) -> None:
        self.workload, self.phase, self.plan, self.fused = workload, phase, plan, fused
        self.train = phase == "train"
        self.division: Division = divided(workload.steps_in(phase, form), dims, plan, train=self.train)
        self.dims = self.division.dims

    def parts(self) -> tuple[Part, ...]:
        """The kinds of layers in order, with the steps between them as parts without a name."""
        return tuple(
            Part(name, repeat, *_parameters(block.wholes(steps, self.dims), layer=bool(name)))
            for name, repeat, steps in layers(self.division.steps, self.dims)
        )

    def segments(self, prices: Prices, parts: Sequence[Part]) -> tuple[Segment, ...]:
        """The cost of each part."""
        found = []
        for part, (_, _, steps) in zip(parts, layers(self.division.steps, self.dims), strict=True):
            forward = tuple(block.wholes(steps, self.dims))
            running = tuple(block.running(forward, steps, self.dims, fused=self.fused, backward=self.train))
            costs = prices.sequence(running)
            talks = self._talks(steps, running, costs, prices)
            forward_way, backward_way = (Way(_sum(costs, running, own), talks[own]) for own in (True, False))
            found.append(Segment(part, forward_way, backward_way, self._core(running, costs)))
        return tuple(found)

    def _talks(
        self, steps: Sequence[Step], running: Sequence[Kernel], costs: Sequence[Cost], prices: Prices
    ) -> dict[bool, tuple[Talk, ...]]:
        """Communication forward and backward by axis. What overlaps is exposed where it outlasts the step's kernels."""
        names = {step.name for step in steps}
        found = {}
        for forward in (True, False):
            own = [e for e in self.division.exchanges if e.step in names and e.backward != forward]
            found[forward] = tuple(
                _talk([e for e in own if e.axis == axis], prices, self.plan, _step_s(running, costs, forward))
                for axis in AXES
            )
        return found

    def stores_squares(self) -> bool:
        """Whether any step stores N x S tensors, which selective recomputation drops."""
        forward = block.wholes(self.division.steps, self.dims)
        return any(_square(kernel, self.fused, self.dims) for kernel in forward)

    def _core(self, running: Sequence[Kernel], costs: Sequence[Cost]) -> Way:
        cost = Cost()
        for kernel, own in zip(running, costs, strict=True):
            if kernel.forward and _square(kernel, self.fused, self.dims):
                cost = cost.plus(own)
        return Way(cost)

    def held(self, recompute: str) -> Held:
        """Activations that a training step keeps of one microbatch."""
        selective = recompute == "selective"
        steps = [step for step in self.division.kept if not (selective and _drops(step, self.dims))]
        found = activations(steps, self.dims, fused=self.fused, recompute=recompute)
        named = {layer.name: size_byte(layer.further or layer.first) for layer in found.layers[:-1]}
        outside = found.layers[-1].byte
        passing = max([layer.passing_byte for layer in found.layers], default=0)
        return Held(named, outside, max(passing, 2 * size_byte(found.logits)))

    def resident(self) -> tuple[list[Line], list[Line]]:
        """Inference: the caches and states of one microbatch over all layers, and the workspace."""
        steps, B = self.division.steps, self.dims.get("B", 1)
        keeps = "decode" in self.workload.phases
        space = workspace_line(inference.workspace(steps, self.dims, fused=self.fused, keeps_cache=keeps))
        if not keeps:
            return [], space
        item = self.dims.get("cache", self.dims.get("act", 2))
        held = cache_lines(inference.cache(steps, self.dims), B)
        return [*held, *state_lines(inference.states(steps, self.dims), item, B)], space


def _drops(step: Step, dims: Mapping[str, Any]) -> bool:
    """Whether a step is the dropout of the N x S probabilities."""
    if step.operation.name != "dropout" or "S" not in dims:
        return False
    return bool(step.values(dims)["numel"] % (dims["N"] * dims["S"]) == 0)


def _square(kernel: Kernel, fused: bool, dims: Mapping[str, Any]) -> bool:
    """Whether a kernel belongs to attention whose N x S tensors selective recomputation drops."""
    step = kernel.step
    if _drops(step, dims):
        return True
    if not (step.kernels == "apart" or (step.kernels == "either" and not fused)):
        return False
    whole = step.operation.function(**step.operation.checked(step.values(dims), step.name))
    return any(tensor.name in SQUARES and tensor.spill for tensor in whole.tensors)


def _sum(costs: Iterable[Cost], running: Iterable[Kernel], forward: bool) -> Cost:
    found = Cost()
    for cost, kernel in zip(costs, running, strict=True):
        if kernel.forward == forward:
            found = found.plus(cost)
    return found


def _step_s(running: Sequence[Kernel], costs: Sequence[Cost], forward: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    for kernel, cost in zip(running, costs, strict=True):
        if kernel.forward == forward:
            found[kernel.step.name] = found.get(kernel.step.name, 0.0) + cost.expected_s
    return found


def _talk(exchanges: Sequence[Exchange], prices: Prices, plan: Plan, step_s: Mapping[str, float]) -> Talk:
    whole, hidden = Talk(), dict[str, float]()
    for exchange in exchanges:
        lower_s, expected_s = prices.exchange(exchange, plan)
        if exchange.overlaps:
            hidden[exchange.step] = hidden.get(exchange.step, 0.0) + expected_s
        whole = whole.plus(Talk(lower_s, expected_s, 0.0 if exchange.overlaps else expected_s))
    late_s = sum(max(0.0, seconds - step_s.get(name, 0.0)) for name, seconds in hidden.items())
    return whole._replace(exposed_s=whole.exposed_s + late_s)


def _parameters(forward: Iterable[Kernel], *, layer: bool) -> tuple[int, int, int, int]:
    """Parameters of one repeat: all, those of experts, those tied to another step, and the most gathered at once."""
    own = experts = tied = largest = 0
    for kernel in forward:
        number = int(kernel.op.parameters())
        if kernel.step.tied:
            tied += number
            continue
        own += number
        largest = max(largest, number)
        experts += number if kernel.operation in EXPERTS else 0
    return own, experts, tied, own if layer else largest
