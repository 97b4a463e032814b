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
from perfmodel.op import Kind, Op
from perfmodel.programs.pricing import STEPS, Kernel, Prices
from perfmodel.roofline import Bounds, Rates, rates, together
from perfmodel.timing.card import Card
from perfmodel.timing.stream import kept
from perfmodel.traces.linking import Tied
from perfmodel.units import ITEM_BYTES

SHAPES, NAME, PROGRAM = "shapes", "name", "program"
ALIKE = 16  # tensors of one size that are followed


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
        return max(self.launched, key=lambda one: float(one.op.flops()) + float(one.op.traffic_byte()))


class Price(NamedTuple):
    """What the model says of a group: counts, the time that no program can beat, the expected time.

    ``shares`` are the shares of each kernel's bytes that L2 still holds from the kernels before.
    """

    flops: int
    contraction_flops: int
    traffic_byte: int
    bounds: Bounds
    expected_s: float
    shares: tuple[float, ...] = ()

    @property
    def lower_s(self) -> float:
        return float(self.bounds.lower_s)


class Priced(NamedTuple):
    """A group with its price, if it has a formula and the card is known."""

    group: Group
    price: Price | None = None


class Model:
    """The time model of a card. Equal kernels that find equal shares of their bytes in L2 are priced once."""

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

    def price(self, launched: Sequence[Launched], shares: Sequence[float] = ()) -> Price:
        """The price of these kernels. ``shares``: of each kernel's bytes in L2, by default none."""
        steps = tuple(round(share * STEPS) for share in shares) or (0,) * len(launched)
        key = (*map(id, launched), *steps)
        found = self._totals.get(key)
        if found is None:
            found = self._totals[key] = self._price(
                [self.kernel(one) for one in launched], [one / STEPS for one in steps]
            )
        return found

    def _price(self, kernels: Sequence[Kernel], shares: Sequence[float]) -> Price:
        times = [self.prices.time(kernel, share) for kernel, share in zip(kernels, shares, strict=True)]
        return Price(
            sum(one.flops for one in kernels), sum(one.contraction_flops for one in kernels),
            sum(one.read_byte + one.write_byte for one in kernels), together((one.bounds, 1) for one in kernels),
            sum(one.seconds for one in times), tuple(shares),
        )  # fmt: skip

    def rates(self, dtype: str) -> Rates:
        """The roofs for a data type."""
        return rates(self.gpu, dtype if dtype in ITEM_BYTES else "fp32")

    def priced(self, groups: Iterable[Group]) -> Iterator[Priced]:
        """Prices groups in the order of their first kernel."""
        recent = Recent(self.card)
        for group in groups:
            if not group.launched:
                yield Priced(group)
                continue
            shares = [recent.share(one.op) for one in group.launched]
            yield Priced(group, self.price(group.launched, shares))


class Recent:
    """What L2 may still hold: the sizes of the tensors that the last kernels touched, and how many bytes ago.

    A trace does not say where tensors lie. Tensors that a kernel reads count as the latest ones of their size, unless they
    are weights. A kernel's results count as memory that was not touched before.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._touched_byte = 0.0
        self._last: dict[tuple[int, float], list[float]] = {}  # the latest last

    def share(self, op: Op) -> float:
        """The share of a kernel's bytes in L2. Afterwards its tensors are the latest."""
        outer = [tensor for tensor in op.tensors if not tensor.spill and (tensor.reads or tensor.writes)]
        inside = whole = 0.0
        now = self._touched_byte + sum(float(tensor.size_byte) for tensor in outer)
        for tensor in sorted(outer, key=lambda one: bool(one.writes)):
            byte = float(tensor.size_byte)
            whole += byte
            last = self._last.setdefault((int(tensor.elements), float(tensor.item)), [])
            if tensor.reads and tensor.kind not in (Kind.PARAMETER, Kind.WEIGHT):
                before = next((place for place in reversed(range(len(last))) if last[place] != now), None)
                if before is not None:
                    inside += byte * kept(self.card, self._touched_byte - last.pop(before) + byte)
            last.append(now)
            del last[:-ALIKE]
        self._touched_byte = now
        return inside / whole if whole else 0.0


def named(sizes: Mapping[str, Any]) -> str:
    """Sizes as text, ``m=8192 k=768``."""
    return " ".join(f"{name}={value}" for name, value in sizes.items())
