"""Times of a rank's kernels and collectives, each priced once per distinct shape.

A kernel's time depends on itself and on what the kernel before it left in L2, so pairs are remembered. A search over
thousands of plans prices some hundreds of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel.block import Kernel
from perfmodel.hardware import Gpu
from perfmodel.plans.division import Exchange
from perfmodel.plans.plan import Plan
from perfmodel.roofline import bounds, rates
from perfmodel.systems import System
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.kernels import parts
from perfmodel.timing.launch import gap_s, ramp_s
from perfmodel.timing.parameters import card
from perfmodel.timing.part import Part
from perfmodel.timing.power import settled
from perfmodel.timing.sequence import run

PROTOCOL = "cold"
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
        return Cost(*(a + times * b for a, b in zip(self, other, strict=True)))


class Talk(NamedTuple):
    """Seconds of communication: by the data sheet, expected, and the part of the expected time that is exposed."""

    lower_s: float = 0.0
    expected_s: float = 0.0
    exposed_s: float = 0.0

    def plus(self, other: Talk, times: float = 1) -> Talk:
        return Talk(*(a + times * b for a, b in zip(self, other, strict=True)))


class Prices:
    """Prices of one GPU in one system for one data type."""

    def __init__(self, gpu: Gpu, system: System | None, dtype: str, knowledge: str | None = None) -> None:
        self.gpu, self.system, self.dtype = gpu, system, dtype
        self.card = settled(card(gpu, knowledge), dtype, LONG)
        self._rates = rates(gpu, dtype)
        self._parts: dict[Any, tuple[Part, ...]] = {}
        self._kernels: dict[Any, Cost] = {}
        self._collectives: dict[Any, tuple[float, float]] = {}

    def sequence(self, kernels: Sequence[Kernel]) -> list[Cost]:
        """The cost of each kernel of a sequence, for one repeat."""
        found, before = [], None
        for kernel in kernels:
            key = (kernel.operation, kernel.op)
            pair = key, before
            if pair not in self._kernels:
                self._kernels[pair] = self._cost(kernel, key, before)
            found.append(self._kernels[pair])
            before = key
        return found

    def _launches(self, key: Any, kernel: Kernel) -> tuple[Part, ...]:
        if key not in self._parts:
            self._parts[key] = parts(self.card, kernel.op, kernel.dtype or self.dtype, "")
        return self._parts[key]

    def _cost(self, kernel: Kernel, key: Any, before: Any) -> Cost:
        launched = self._launches(key, kernel)
        bodies = run(self.card, launched, 0.0, self._parts[before][-1] if before else None, followed=True)
        seconds, last_s = 0.0, 0.0
        for body in bodies:
            seconds += body.seconds + gap_s(self.card, PROTOCOL, last_s) + ramp_s(self.card, body.far)
            last_s = body.seconds
        bound = bounds(kernel.op, self._rates)
        flops = kernel.op.flops_by_kind()
        products = sum(number for (_, product), number in flops.items() if product)
        return Cost(bound.lower_s, bound.no_overlap_s, max(seconds, bound.lower_s), sum(flops.values()), products)

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
    strides = {"tp": 1, "cp": plan.tp, "ep": plan.tp * plan.cp, "dp": plan.tp, "expert dp": plan.tp * plan.cp * plan.ep,
               "pp": plan.tp * plan.cp * plan.dp, "gpus": 1}  # fmt: skip
    ranks = {"tp": plan.tp, "cp": plan.cp, "ep": plan.ep, "dp": plan.dp * plan.cp, "expert dp": plan.dp // plan.ep,
             "pp": min(2, plan.pp), "gpus": plan.gpus}[axis]  # fmt: skip
    node = system.scale_up.gpus if system else 1
    return ranks, max(1, min(ranks, node // strides[axis]))
