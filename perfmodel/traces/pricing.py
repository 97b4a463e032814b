"""Prices of a trace: every operator gets a formula, bounds and an expected time beside its measured time.

The kernels of one operator call are priced together: their measured times are summed, and so are the kernels that the
rule of the operator says it launches. A kernel reads its inputs, except weights, from L2 if it and the previous kernel
touch at most half of L2; larger ones read from memory. On the traces of ``benchmarks/traces.py`` this is nearer the
measured times than following every tensor, whose place a trace does not tell. The bound assumes that all of it may be
in L2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.aten.calls import Call, Launched
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import Gpu
from perfmodel.op import WEIGHTS
from perfmodel.programs.pricing import Kernel, Prices
from perfmodel.roofline import Bounds, together
from perfmodel.timing.card import Card
from perfmodel.traces.linking import Tied

SHAPES, NAME, PROGRAM = "shapes", "name", "program"
# Sizes that a kernel cannot have, such as attention over no queries, end in one of these: the kernel is then unknown.
UNPRICED = (PerfmodelError, ArithmeticError, ValueError)
SMALL = 0.5  # share of L2 that two kernels touch, up to which the second finds what it reads


class Group(NamedTuple):
    """The kernels of one operator call and what they compute: ``launched``, empty where it is unknown.

    ``source`` says where the sizes come from: the shapes of the trace, the kernel's name and grid, or a program.
    """

    kernels: tuple[Tied, ...]
    operator: str
    launched: tuple[Launched, ...] = ()
    call: Call | None = None
    source: str = SHAPES

    @property
    def known(self) -> bool:
        """Whether all of it has a formula."""
        return bool(self.launched) and all(one.known for one in self.launched)

    @property
    def measured_s(self) -> float:
        return sum(one.activity.seconds for one in self.kernels)

    @property
    def main(self) -> Launched:
        """The kernel with the most bytes and FLOPs, which gives the group its name."""
        if len(self.launched) == 1:
            return self.launched[0]
        return max(self.launched, key=lambda one: float(one.op.flops()) + float(one.op.traffic_byte()))


class Price(NamedTuple):
    """The figures of the model for a group: counts, lower bound, expected time.

    ``near``: its kernels find what they read in L2.
    """

    flops: int
    contraction_flops: int
    traffic_byte: int
    bounds: Bounds
    expected_s: float
    near: bool = False

    @property
    def lower_s(self) -> float:
        return float(self.bounds.lower_s)


class Priced(NamedTuple):
    """A group with its price, if it has a formula and the card is known."""

    group: Group
    price: Price | None = None


class Model:
    """The time model of a card. Equal kernels are priced once."""

    def __init__(self, gpu: Gpu, knowledge: str | None = None) -> None:
        self.gpu = gpu
        self.prices = Prices(gpu, knowledge)
        self._kernels: dict[tuple[int, str, str], Kernel] = {}
        self._totals: dict[tuple[int, ...], Price] = {}

    @property
    def card(self) -> Card:
        return self.prices.card

    def kernel(self, one: Launched) -> Kernel:
        """The price of one kernel; an operation at the same sizes is priced once."""
        key = (id(one.op), one.dtype, one.impl)
        found = self._kernels.get(key)
        if found is None:  # the kernel keeps the operation, so that the id stays its own
            found = self._kernels[key] = self.prices.kernel(one)
        return found

    def price(self, launched: Sequence[Launched], near: bool = False) -> Price:
        """The price of these kernels. ``near``: they find what they read in L2."""
        kernels = [self.kernel(one) for one in launched]
        key = (near, *(one.number for one in kernels))
        found = self._totals.get(key)
        if found is None:
            found = self._totals[key] = Price(
                sum(one.flops for one in kernels), sum(one.contraction_flops for one in kernels), _byte(kernels),
                together((one.bounds, 1) for one in kernels),
                sum(self.prices.time(one, _read_share(one) if near else 0.0).seconds for one in kernels), near,
            )  # fmt: skip
        return found

    def priced(self, groups: Iterable[Group]) -> list[Priced]:
        """Prices groups, in the order of their first kernels."""
        found, before_byte = [], float("inf")
        for one in groups:
            if not one.launched:
                found.append(Priced(one))
                continue
            try:
                byte = self.price(one.launched).traffic_byte
                near = byte + before_byte <= SMALL * self.card.l2_byte
                found.append(Priced(one, self.price(one.launched, near)))
                before_byte = byte
            except UNPRICED:
                found.append(Priced(one._replace(launched=())))
        return found


def _byte(kernels: Iterable[Kernel]) -> int:
    return sum(one.read_byte + one.write_byte for one in kernels)


def _read_share(one: Kernel) -> float:
    """The share of a kernel's bytes that it reads and that are no weights."""
    weights = sum(float(tensor.size_byte) for tensor in one.op.tensors if tensor.kind in WEIGHTS)
    whole = one.read_byte + one.write_byte
    return max(0.0, one.read_byte - weights) / whole if whole else 0.0


def named(sizes: Mapping[str, Any]) -> str:
    """Sizes as text, ``m=8192 k=768``."""
    return " ".join(f"{name}={value}" for name, value in sizes.items())
