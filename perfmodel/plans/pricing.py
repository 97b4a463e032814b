"""Times of a rank's kernels and collectives, each priced once per distinct shape.

A kernel's time depends on itself and on what the kernel before it left in L2, so pairs are remembered. A search over
thousands of plans prices some hundreds of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from perfmodel.block import Kernel
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.plans.division import Exchange
from perfmodel.plans.plan import Plan
from perfmodel.roofline import Bounds, bounds, rates
from perfmodel.systems import System
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.gemms import alike, powered_s
from perfmodel.timing.kernels import parts
from perfmodel.timing.launch import gap_s, ramp_s
from perfmodel.timing.parameters import card
from perfmodel.timing.part import Part
from perfmodel.timing.power import settled
from perfmodel.timing.sequence import run

PROTOCOL = "cold"
NONE = -1  # the number of no kernel
GROUPS: dict[str, Callable[[Plan], tuple[int, int]]] = {  # the ranks of an axis, and the stride of neighbours
    "tp": lambda plan: (plan.tp, 1),
    "cp": lambda plan: (plan.cp, plan.tp),
    "ep": lambda plan: (plan.ep, plan.tp * plan.cp),
    "dp": lambda plan: (plan.dp * plan.cp, plan.tp),
    "expert dp": lambda plan: (plan.dp // plan.ep, plan.tp * plan.cp * plan.ep),
    "pp": lambda plan: (min(2, plan.pp), plan.tp * plan.cp * plan.dp),
    "gpus": lambda plan: (plan.gpus, 1),
}
LONG = 1e18  # FLOPs after which the power limit has settled


class Cost(NamedTuple):
    """Seconds by kind, and FLOPs: bound and no overlap from the data sheet, and the expected time."""

    lower_s: float = 0.0
    no_overlap_s: float = 0.0
    expected_s: float = 0.0
    flops: float = 0
    contraction_flops: float = 0

    def plus(self, other: Cost, times: float = 1) -> Cost:
        """The sum with a number of times another cost."""
        return Cost(
            self.lower_s + times * other.lower_s, self.no_overlap_s + times * other.no_overlap_s,
            self.expected_s + times * other.expected_s, self.flops + times * other.flops,
            self.contraction_flops + times * other.contraction_flops,
        )  # fmt: skip


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    lower_s = no_overlap_s = expected_s = 0.0
    flops: float = 0
    products: float = 0
    for cost in costs:
        lower_s += cost[0]
        no_overlap_s += cost[1]
        expected_s += cost[2]
        flops += cost[3]
        products += cost[4]
    return Cost(lower_s, no_overlap_s, expected_s, flops, products)


class Talk(NamedTuple):
    """Seconds of communication: by the data sheet, expected, and the part of the expected time that is exposed."""

    lower_s: float = 0.0
    expected_s: float = 0.0
    exposed_s: float = 0.0

    def plus(self, other: Talk, times: float = 1) -> Talk:
        return Talk(
            self.lower_s + times * other.lower_s, self.expected_s + times * other.expected_s,
            self.exposed_s + times * other.exposed_s,
        )  # fmt: skip


class Prices:
    """Prices of one GPU in one system for one data type."""

    def __init__(self, gpu: Gpu, system: System | None, dtype: str, knowledge: str | None = None) -> None:
        self.gpu, self.system, self.dtype = gpu, system, dtype
        self.card = settled(card(gpu, knowledge), dtype, LONG)
        self._rates = rates(gpu, dtype)
        self._numbers: dict[Any, int] = {}
        self._known: list[Kernel] = []
        self._parts: dict[int, tuple[Part, ...]] = {}
        self._bounds: dict[int, Bounds] = {}
        self._resources: dict[int, tuple[float, ...]] = {}
        self._counts: dict[int, Cost] = {}
        self._kernels: dict[tuple[int, int], Cost] = {}
        self._collectives: dict[Any, tuple[float, float]] = {}

    def number(self, kernel: Kernel) -> int:
        """A number that kernels of the same operation and shape share, and products of the same sizes."""
        same = alike(kernel.op)
        key = (kernel.operation, kernel.op) if same is None else (same, self.dtype_of(kernel))
        found = self._numbers.setdefault(key, len(self._known))
        if found == len(self._known):
            self._known.append(kernel)
        return found

    def dtype_of(self, kernel: Kernel) -> str:
        """The data type in which a kernel's products run."""
        return kernel.op.computes or kernel.dtype or self.dtype

    def sequence(self, kernels: Iterable[Kernel]) -> list[Cost]:
        """The cost of each kernel of a sequence, for one repeat."""
        return self.costs(map(self.number, kernels))

    def costs(self, numbers: Iterable[int]) -> list[Cost]:
        """The cost of each kernel of a sequence of numbers."""
        found, before = list[Cost](), NONE
        for number in numbers:
            cost = self._kernels.get((before, number))
            if cost is None:
                cost = self._kernels[before, number] = self._cost(number, before)
            found.append(cost)
            before = number
        return found

    def back_end(self, kernel: Kernel) -> str:
        """The library of a kernel, empty for the usual one."""
        return ""

    def _launches(self, number: int) -> tuple[Part, ...]:
        if number not in self._parts:
            kernel = self._known[number]
            launched = parts(self.card, kernel.op, self.dtype_of(kernel), self.back_end(kernel))
            once = {id(part): part._replace(body=cache(part.body)) for part in launched}
            self._parts[number] = tuple(once[id(part)] for part in launched)
        return self._parts[number]

    def _cost(self, number: int, before: int) -> Cost:
        last = None if before == NONE else self._launches(before)[-1]
        bodies = run(self.card, self._launches(number), 0.0, last, followed=True)
        seconds, last_s = 0.0, 0.0
        for body in bodies:
            seconds += body.seconds + gap_s(self.card, PROTOCOL, last_s) + ramp_s(self.card, body.far)
            last_s = body.seconds
        counted = self._counted(number)
        return counted._replace(expected_s=max(seconds, counted.lower_s))

    def _counted(self, number: int) -> Cost:
        """The bounds and counts of a kernel, which do not depend on the kernel before it."""
        if number not in self._counts:
            op = self._known[number].op
            bound, flops = self._bound(number), op.flops_by_kind()
            products = sum(count for (_, product), count in flops.items() if product)
            self._counts[number] = Cost(bound.lower_s, bound.no_overlap_s, 0.0, sum(flops.values()), products)
        return self._counts[number]

    def _bound(self, number: int) -> Bounds:
        if number not in self._bounds:
            self._bounds[number] = bounds(self._known[number].op, self._rates)
        return self._bounds[number]

    def resources(self, number: int) -> tuple[float, ...]:
        """Seconds of a kernel on memory and on each engine by the data sheet, and of its products at the rate that the
        power limit allows. Its expected time is at least the longest.
        """
        if number not in self._resources:
            bound, kernel = self._bound(number), self._known[number]
            engines_s = (bound.engine_s.get(engine, 0.0) for engine in Engine)
            products_s = powered_s(self.card, kernel.op, self.dtype_of(kernel))
            self._resources[number] = bound.memory_s, *engines_s, products_s
        return self._resources[number]

    def exchange(self, exchange: Exchange, plan: Plan) -> tuple[float, float]:
        """Seconds of all repeats of a collective: by the data sheet, and expected."""
        lower_s, expected_s = self.collective(exchange.kind, exchange.byte, exchange.axis, plan)
        return lower_s * exchange.times, expected_s * exchange.times

    def collective(self, kind: str, byte: int, axis: str, plan: Plan) -> tuple[float, float]:
        """Seconds of one collective over an axis of the plan: by the data sheet, and expected."""
        ranks, local = group(axis, plan, self.system)
        if ranks == 1 or self.system is None or not byte:
            return 0.0, 0.0
        key = kind, byte, ranks, local
        if key not in self._collectives:
            found = collective_s(self.system, self.gpu, kind, byte, ranks, ranks_per_node=local)
            self._collectives[key] = found.lower_s, found.expected_s
        return self._collectives[key]


def group(axis: str, plan: Plan, system: System | None) -> tuple[int, int]:
    """Ranks of a collective's group, and how many of them share a node.

    Neighbours of the axis are ``stride`` ranks apart: a node of 8 GPUs holds 8 / stride of them.
    """
    ranks, stride = GROUPS[axis](plan)
    node = system.scale_up.gpus if system else 1
    return ranks, max(1, min(ranks, node // stride))
