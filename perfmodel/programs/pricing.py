"""The price of a call on a card: its kernels with their counts, their bounds and their times.

Equal calls share one price. The time of a kernel depends on the share of its bytes that lie in L2, which depends on the
calls before it (``reuse``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.aten import launched
from perfmodel.aten.calls import Call, Launched, Operand
from perfmodel.hardware import Gpu
from perfmodel.op import Op
from perfmodel.roofline import Bounds, Rates, lower_under, rates
from perfmodel.timing.card import Card
from perfmodel.timing.kernels import UNMODELLED, parts
from perfmodel.timing.launch import ramp_s
from perfmodel.timing.parameters import card as known_card
from perfmodel.timing.part import Part
from perfmodel.timing.sequence import drained
from perfmodel.timing.stream import NEAR
from perfmodel.timing.terms import Body
from perfmodel.timing.weights import Mechanism
from perfmodel.units import ITEM_BYTES

# Shares of L2 hits are rounded to this many steps, so that equal kernels at almost equal shares are timed once.
STEPS = 50
# Between the kernels of a graph, the gap of two protocols includes it.
START_S = Mechanism("programs").weight("start s")
# Generations on which torch prefers cuDNN's attention; elsewhere it takes its own kernels.
CUDNN = ("hopper", "blackwell")


class Kernel(NamedTuple):
    """One kernel of a call on a card. ``byte``: bytes that it reads and writes."""

    launched: Launched
    op: Op
    bounds: Bounds
    parts: tuple[Part, ...]
    read_byte: int
    write_byte: int
    flops: int
    contraction_flops: int
    number: int

    @property
    def known(self) -> bool:
        return self.launched.known


class Timed(NamedTuple):
    """A kernel's time from start to end, its bodies, and half of its range as a share of the time."""

    seconds: float
    bodies: tuple[Body, ...]
    spread: float


class Prices:
    """Prices of calls on one card, each found once."""

    def __init__(self, gpu: Gpu, knowledge: str | None = None) -> None:
        self.gpu = gpu
        self.card: Card = known_card(gpu, knowledge)
        self._rates: dict[str, Rates] = {}
        self._calls: dict[Any, tuple[Kernel, ...]] = {}
        self._times: dict[tuple[int, int, bool], Timed] = {}
        self._count = 0

    def forget(self) -> None:
        """Drops all prices, as the card has changed."""
        self._calls.clear()
        self._times.clear()

    def kernels(self, call: Call) -> tuple[Kernel, ...]:
        """The kernels of a call, in order."""
        key = signature(call)
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = tuple(self.kernel(one) for one in launched(call))
        return found

    def kernel(self, one: Launched) -> Kernel:
        """The price of one launched kernel."""
        dtype = one.dtype if one.dtype in ITEM_BYTES else "fp32"
        own = self._rates.get(dtype)
        if own is None:
            own = self._rates[dtype] = rates(self.gpu, dtype)
        self._count += 1
        return Kernel(
            one, one.op, lower_under(one.op, own, "warm"), parts(self.card, one.op, dtype, self._implementation(one)),
            int(one.op.read_byte()), int(one.op.write_byte()), int(one.op.flops()), int(one.op.contraction_flops()), self._count,
        )  # fmt: skip

    def _implementation(self, one: Launched) -> str:
        """The back end that torch takes on this card."""
        if one.impl == "cudnn" and self.card.generation not in CUDNN:
            return "efficient" if any(tensor.name == "mask" for tensor in one.op.tensors) else "flash"
        return one.impl

    def time(self, kernel: Kernel, share: float, *, near: bool | None = None) -> Timed:
        """The time of a kernel that finds this share of its bytes in L2.

        ``near``: its first access is an L2 hit. By default the share decides.
        """
        step = round(share * STEPS)
        near = (share >= NEAR if near is None else near) or not kernel.read_byte
        key = (kernel.number, step, near)
        found = self._times.get(key)
        if found is None:
            found = self._times[key] = self._timed(kernel, step / STEPS, near)
        return found

    def _timed(self, kernel: Kernel, share: float, near: bool) -> Timed:
        card = self.card
        bodies, seconds, width = [], 0.0, 0.0
        for part in kernel.parts:
            body = part.body(share)
            body = drained(body) if body.late_s else body
            bodies.append(body)
            own_s = START_S + body.seconds + ramp_s(card, not near) + part.code_s + part.among_s
            seconds += own_s
            width += own_s * card.half_range(body.mechanism)
            if part.byte < card.l2_byte:  # the next launch finds what this one touched
                share, near = 1.0, True
        held_s = max(seconds, kernel.bounds.lower_s)
        return Timed(held_s, tuple(bodies), width / seconds if seconds else card.spread["any"])


def modelled(timed: Timed) -> bool:
    """Whether every launch has a mechanism of its own."""
    return all(body.mechanism != UNMODELLED for body in timed.bodies)


def signature(call: Call) -> tuple[Any, ...]:
    """Returns the key that determines the kernels of a call: everything except the addresses of its tensors."""
    return (call.name, _plain(call.arguments), _plain(tuple(call.keywords.items())), _plain(call.results))


def _plain(value: Any) -> Any:
    if isinstance(value, Operand):
        return value[:3] if value.shape else (*value[:3], bool(value.storage))  # a single number may be the host's
    if isinstance(value, (tuple, list)):
        return tuple([_plain(item) for item in value])
    return value if value.__hash__ else repr(value)
