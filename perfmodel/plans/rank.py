"""The cost of one microbatch for a rank, by kind of layer: kernels, collectives, parameters and activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from perfmodel.block import Kernel
from perfmodel.footprint import inference
from perfmodel.footprint.activations import Activations, of_pages, size_byte
from perfmodel.footprint.lines import Line, cache_lines, state_lines, workspace_line
from perfmodel.op import Op
from perfmodel.plans.division import EXPERTS, Division, Exchange, divided
from perfmodel.plans.pieces import Numbers, Piece, Pieces
from perfmodel.plans.plan import Plan
from perfmodel.plans.pricing import Cost, Prices, Talk, total
from perfmodel.workload import Workload

AXES = ("tp", "cp", "ep")
NO_TALKS = (Talk(),) * len(AXES)


class Way(NamedTuple):
    """One direction of one layer: its kernels, and its communication by axis."""

    cost: Cost = Cost()
    talks: tuple[Talk, ...] = NO_TALKS

    def plus(self, other: Way, times: float = 1) -> Way:
        talks = self.talks
        if other.talks is not NO_TALKS:
            talks = tuple([a.plus(b, times) for a, b in zip(self.talks, other.talks, strict=True)])
        return Way(self.cost.plus(other.cost, times), talks)

    @property
    def exposed_s(self) -> float:
        """Expected time with the exposed communication."""
        tp, cp, ep = self.talks
        return self.cost.expected_s + (tp.exposed_s + cp.exposed_s + ep.exposed_s)


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


class Own(NamedTuple):
    """Parameters of one repeat of a part. ``experts``: those that expert parallelism divides. ``tied``: those that are
    tied to another step. ``largest``: the most that ZeRO gathers at once, a layer or a step.
    """

    parameters: int
    experts: int
    tied: int
    largest: int


class Part(NamedTuple):
    """Steps that repeat together on a rank: their parameters as in ``Own``, and where weights are quantised, the bytes in
    which these are stored.
    """

    name: str
    repeat: int
    parameters: int
    experts: int
    tied: int
    largest: int
    stored: Own | None = None


class Segment(NamedTuple):
    """The cost of one repeat of a part. ``core``: its attention, if that stores N x S tensors."""

    part: Part
    forward: Way
    backward: Way
    core: Way

    def again(self, recompute: str) -> Way:
        """Returns the cost that recomputation adds to a backward pass: the whole layer, or the attention whose tensors
        were dropped.
        """
        if recompute == "full" and self.part.name:
            return self.forward
        return self.core if recompute == "selective" else Way()


class Rank:
    """One rank's work for one microbatch; figures are computed when asked for."""

    def __init__(self, workload: Workload, phase: str, dims: Mapping[str, Any], plan: Plan, pieces: Pieces) -> None:
        self.workload, self.phase, self.plan, self._pieces = workload, phase, plan, pieces
        self.train, self.fused = phase == "train", pieces.fused
        self.division: Division = divided(pieces.steps, dims, plan, train=self.train, pieces=pieces)
        self.dims = self.division.dims
        self.groups = pieces.groups((plan.microbatch, plan.cp), self.dims)
        self.exchanges: dict[tuple[str, bool], list[Exchange]] = {}
        for exchange in self.division.exchanges:
            self.exchanges.setdefault((exchange.step, exchange.backward), []).append(exchange)

    def parts(self) -> tuple[Part, ...]:
        """The kinds of layers in order, with the steps between them as parts without a name."""
        quantised = self.workload.stores and not self.train
        return tuple(
            _part(name, repeat, [piece.whole for piece in self.division.pieces[start:end]], quantised)
            for name, repeat, start, end in self.groups
        )

    def segments(self, prices: Prices, parts: Sequence[Part]) -> tuple[Segment, ...]:
        """The cost of each part."""
        found = []
        for part, (_, _, start, end) in zip(parts, self.groups, strict=True):
            pieces = self.division.pieces[start:end]
            numbers = [piece.numbers(prices.number) for piece in pieces]
            forward = [number for own in numbers for number in own.forward]
            backward = [number for own in reversed(numbers) for number in own.backward]
            costs = prices.costs((*forward, *backward))
            ahead, back = costs[: len(forward)], costs[len(forward) :]
            ahead_s = _step_s(zip(pieces, (own.forward for own in numbers), strict=True), ahead)
            back_s = _step_s(zip(pieces[::-1], (own.backward for own in numbers[::-1]), strict=True), back)
            forward_way, backward_way = (
                Way(total(own), self._talks(pieces, own_s, prices, backward=own is back))
                for own, own_s in ((ahead, ahead_s), (back, back_s))
            )
            core = Way(total(cost for cost, square in zip(ahead, _squares(pieces, numbers), strict=True) if square))
            found.append(Segment(part, forward_way, backward_way, core))
        return tuple(found)

    def _talks(
        self, pieces: Sequence[Piece], step_s: Mapping[str, float], prices: Prices, *, backward: bool
    ) -> tuple[Talk, ...]:
        """Communication of one direction by axis. What overlaps is exposed where it outlasts the step's kernels."""
        names = dict.fromkeys(piece.step.name for piece in pieces)
        own = [exchange for name in names for exchange in self.exchanges.get((name, backward), ())]
        if not own:
            return NO_TALKS
        return tuple(_talk([e for e in own if e.axis == axis], prices, self.plan, step_s) for axis in AXES)

    def stores_squares(self) -> bool:
        """Whether any step stores N x S tensors, which selective recomputation drops."""
        return any(piece.square for piece in self.division.pieces)

    def held(self, recompute: str) -> Held:
        """Activations that a training step keeps of one microbatch. Ranks whose tensors have equal sizes share them."""
        kept = [
            (name, repeat, [p for p in self.division.kept[start:end] if not (recompute == "selective" and p.drops)])
            for name, repeat, start, end in self.groups
        ]
        key = recompute, tuple((name, repeat, *(piece.content for piece in pieces)) for name, repeat, pieces in kept)
        if key not in self._pieces.held:
            groups = [(name, repeat, [piece.page for piece in pieces]) for name, repeat, pieces in kept if pieces]
            self._pieces.held[key] = _held(of_pages(groups, recompute))
        found: Held = self._pieces.held[key]
        return found

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


def _held(found: Activations) -> Held:
    named = {layer.name: size_byte(layer.further or layer.first) for layer in found.layers[:-1]}
    passing = max([layer.passing_byte for layer in found.layers], default=0)
    return Held(named, found.layers[-1].byte, max(passing, 2 * size_byte(found.logits)))


def _squares(pieces: Sequence[Piece], numbers: Sequence[Numbers]) -> Iterator[bool]:
    """For each forward kernel, whether selective recomputation drops its tensors."""
    for piece, own in zip(pieces, numbers, strict=True):
        yield from [piece.square] * len(own.forward)


def _step_s(kernels: Iterable[tuple[Piece, Sequence[int]]], costs: Iterable[Cost]) -> dict[str, float]:
    """The expected time of each step's kernels."""
    found: dict[str, float] = {}
    rest = iter(costs)
    for piece, numbers in kernels:
        name = piece.step.name
        found[name] = sum((cost.expected_s for cost in islice(rest, len(numbers))), found.get(name, 0.0))
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


def _part(name: str, repeat: int, forward: Sequence[Kernel], quantised: bool) -> Part:
    stored = _own(forward, Op.stored_byte, layer=bool(name)) if quantised else None
    return Part(name, repeat, *_own(forward, Op.parameters, layer=bool(name)), stored)


def _own(forward: Iterable[Kernel], figure: Callable[[Op], int], *, layer: bool) -> Own:
    """A figure of the kernels of one repeat."""
    own = experts = tied = largest = 0
    for kernel in forward:
        number = int(figure(kernel.op))
        if kernel.step.tied:
            tied += number
            continue
        own += number
        largest = max(largest, number)
        experts += number if kernel.operation in EXPERTS else 0
    return Own(own, experts, tied, own if layer else largest)
