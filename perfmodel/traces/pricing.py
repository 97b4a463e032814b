"""Prices what a trace ran: every operator's kernels get a formula, bounds and an expected time beside the measured one.

The kernels of one operator call are priced together: their measured times are summed, and so are the kernels that the
rule of the operator says it launches. Kernels run in the order of the trace, so each may find in L2 what the one before
it left there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.aten.calls import Call, Launched
from perfmodel.hardware import Gpu
from perfmodel.roofline import Bounds, Rates, lower_under, rates, together
from perfmodel.timing import parameters
from perfmodel.timing.card import Card
from perfmodel.timing.kernels import parts
from perfmodel.timing.launch import ramp_s
from perfmodel.timing.part import Part
from perfmodel.timing.sequence import run
from perfmodel.traces.linking import Tied
from perfmodel.units import ITEM_BYTES

SHAPES, NAME, PROGRAM = "shapes", "name", "program"
# Kernels of a step read activations that others just wrote, and weights from memory.
PROTOCOL = "rotating"


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
        return max(self.launched, key=lambda one: _count(one.op.flops()) + _count(one.op.traffic_byte()))


class Price(NamedTuple):
    """What the model says of a group: counts, the time that no program can beat, the expected time."""

    flops: int
    contraction_flops: int
    traffic_byte: int
    bounds: Bounds
    expected_s: float
    choice: str = ""

    @property
    def lower_s(self) -> float:
        return float(self.bounds.lower_s)


class Priced(NamedTuple):
    """A group with its price, if it has a formula and the card is known."""

    group: Group
    price: Price | None = None


def _count(value: Any) -> float:
    return float(value)


class Model:
    """The time model of a card. Equal kernels after equal kernels are priced once."""

    def __init__(self, gpu: Gpu, knowledge: str | None = None) -> None:
        self.gpu = gpu
        self.card: Card = parameters.card(gpu, knowledge)
        self._rates: dict[str, Rates] = {}
        self._parts: dict[int, tuple[Launched, tuple[Part, ...]]] = {}
        self._prices: dict[tuple[int, ...], tuple[tuple[Launched, ...], Price]] = {}

    def price(self, launched: Sequence[Launched], before: Launched | None = None) -> Price:
        """The price of these kernels, run after ``before``."""
        key = (*map(id, launched), id(before) if before else 0)
        if key not in self._prices:
            kept = (*launched, before) if before else tuple(launched)  # an id is only unique while its object lives
            self._prices[key] = kept, self._price(launched, before)
        return self._prices[key][1]

    def _price(self, launched: Sequence[Launched], before: Launched | None) -> Price:
        last = self.parts(before)[-1] if before and self.parts(before) else None
        expected_s, choice = 0.0, ""
        for one in launched:
            own = self.parts(one)
            bodies = run(self.card, own, 0.0, last, followed=True)
            kernel_s = sum(body.seconds + ramp_s(self.card, body.far) for body in bodies)
            expected_s += max(kernel_s, float(self.bounds(one).lower_s))
            choice = choice or next((body.choice for body in bodies if body.choice), "")
            last = own[-1] if own else last
        whole = together((self.bounds(one), 1) for one in launched)
        return Price(
            sum(int(one.op.flops()) for one in launched), sum(int(one.op.contraction_flops()) for one in launched),
            sum(int(one.op.traffic_byte()) for one in launched), whole, expected_s, choice,
        )  # fmt: skip

    def parts(self, one: Launched) -> tuple[Part, ...]:
        """The launches of the library behind one kernel of the model."""
        if id(one) not in self._parts:
            self._parts[id(one)] = one, parts(self.card, one.op, self.dtype(one), one.impl)
        return self._parts[id(one)][1]

    def bounds(self, one: Launched) -> Bounds:
        """The bounds of one kernel whose activations may be in L2."""
        return lower_under(one.op, self.rates(self.dtype(one)), PROTOCOL)

    def rates(self, dtype: str) -> Rates:
        """The roofs for a data type."""
        if dtype not in self._rates:
            self._rates[dtype] = rates(self.gpu, dtype)
        return self._rates[dtype]

    @staticmethod
    def dtype(one: Launched) -> str:
        """The data type of the arithmetic; integers and truth values run on the vector engine like fp32."""
        return one.dtype if one.dtype in ITEM_BYTES and not one.dtype.startswith("int") else "fp32"

    def priced(self, groups: Iterable[Group]) -> Iterator[Priced]:
        """Prices groups in the order of their first kernel."""
        before: Launched | None = None
        for group in groups:
            if not group.launched:
                yield Priced(group)
                continue
            yield Priced(group, self.price(group.launched, before))
            before = group.launched[-1]


def named(sizes: Mapping[str, Any]) -> str:
    """Sizes as text, ``m=8192 k=768``."""
    return " ".join(f"{name}={value}" for name, value in sizes.items())
