"""Kernels one behind another: what each finds in L2, the gaps between them, and the launch around all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfmodel.block import Kernel
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.kernels import parts
from perfmodel.timing.launch import ramp_s, starts
from perfmodel.timing.part import Part
from perfmodel.timing.power import settled
from perfmodel.timing.stream import NEAR, kept
from perfmodel.timing.terms import Body, Term


def expected(
    card: Card, kernels: Iterable[Kernel], dtype: str, *, impl: str = "", protocol: str = "warm", lower_s: float = 0.0
) -> Expected:
    """The time of kernels one behind another; never less than their lower bound."""
    found: list[Part] = []
    names: list[str] = []
    kind = "any"
    kernels = tuple(kernels)
    if protocol == "eager" and card.host_before:
        card = card._replace(before=True, host_before=False)
    if protocol == "eager" and card.settle_s:
        return _after_pauses(card, kernels, dtype, impl, lower_s)
    if len(kernels) > 1:
        card = settled(card, dtype, sum(kernel.op.contraction_flops() * kernel.repeat for kernel in kernels))
    for kernel in kernels:
        kind = _launched(kernel) if not found else kind
        launched = parts(card, kernel.operation, kernel.op, dtype, impl) * int(kernel.repeat)
        found.extend(launched)
        names.extend([kernel.name] * len(launched))
    time = sequence(card, found, protocol, lower_s, kind)
    return time._replace(kernels=tuple(names))


def _after_pauses(card: Card, kernels: tuple[Kernel, ...], dtype: str, impl: str, lower_s: float) -> Expected:
    """One call after a pause: short work runs near the clock that the pause left, longer work near the highest."""
    settle_s, card = card.settle_s, card._replace(settle_s=0.0)
    settled_ = expected(card, kernels, dtype, impl=impl, protocol="eager", lower_s=lower_s)
    busy_s = sum(body.seconds for body in settled_.bodies)
    if card.idle_share >= 1.0 or any(body.mechanism not in CLOCKED for body in settled_.bodies):
        return settled_
    up = busy_s**2 / (busy_s**2 + settle_s**2)
    share = card.idle_share + (1.0 - card.idle_share) * up
    slower = card._replace(
        clock_hz=card.clock_hz * share, l2_byte_per_s=card.l2_byte_per_s * share, lane_per_s=card.lane_per_s * share
    )
    return expected(slower, kernels, dtype, impl=impl, protocol="eager", lower_s=lower_s)


# Mechanisms whose pace at the clock of a pause was fitted.
CLOCKED = ("rows", "stream")


def _launched(kernel: Kernel) -> str:
    """What the host launches, as far as it makes a difference to it."""
    name = kernel.operation
    if name == "matmul":
        return "batch" if kernel.op.tensors[0].shape[0] > 1 else "linear"
    if name == "rmsnorm":
        return "layernorm"
    if name in WRAPPED:
        return "wrapped"
    return "linear" if name.startswith("linear") else name


# Calls that go through a module of Python, or take a number beside a tensor.
WRAPPED = ("relu", "gelu", "gelu_tanh", "silu", "sigmoid", "scale")


def sequence(card: Card, launched: Sequence[Part], protocol: str, lower_s: float = 0.0, kind: str = "any") -> Expected:
    """Launches in a row, with the floor of their replay around them."""
    warm = protocol != "cold"
    bodies = run(card, launched, warm, followed=warm)
    far = sum(body.far for body in bodies[1:])
    around = starts(card, [body.seconds for body in bodies], protocol, kind, far=far)
    return _expected(card, bodies, around, lower_s)


def steps(
    card: Card, kernels: Iterable[tuple[Kernel, float]], dtype: str, impl: str = ""
) -> tuple[list[Expected], Expected]:
    """Every kernel of a workload for one repeat, with the gap before it, and the whole with its launch; each not below its bound."""
    found: list[Expected] = []
    kernels = tuple(kernels)
    card = settled(card, dtype, sum(kernel.op.contraction_flops() * kernel.repeat for kernel, _ in kernels))
    whole = Expected(card.warm_s, card.warm_s, card.warm_s, (Term("launch", card.warm_s),))
    before: Part | None = None
    for kernel, lower_s in kernels:
        own = parts(card, kernel.operation, kernel.op, dtype, impl)
        bodies = run(card, own, False, before, followed=True)
        around = (
            Term("from kernel to kernel", len(own) * card.node_s),
            Term("ramp", sum(ramp_s(card, body.far) for body in bodies)),
        )
        one = _expected(card, bodies, around, lower_s)
        found.append(one)
        before = own[-1]
        whole = Expected(*(part + kernel.repeat * other for part, other in zip(whole[:3], one[:3], strict=True)))
    return found, whole


def run(
    card: Card, launched: Sequence[Part], warm: bool, before: Part | None = None, followed: bool = False
) -> list[Body]:
    """Kernels in a row: what one has touched the next may find in L2; weights come from memory unless the run is warm.

    The last one's last writes cost whoever comes next, so nobody unless it is ``followed``.
    """
    whole = kept(card, sum(part.byte for part in launched)) if warm else 0.0
    bodies = []
    last = len(launched) - 1
    for at, part in enumerate(launched):
        share = whole
        if before is not None and whole < 1.0 and part.byte:
            touched = min(1.0 - part.fresh_byte / part.byte, before.byte / part.byte)
            left = kept(card, part.byte + before.byte) * touched
            share = max(whole, left)
        body = part.body(share)
        if body.late_s and (followed or at < last):
            body = _drained(body)
        bodies.append(body._replace(far=share < NEAR))
        before = part
    return bodies


def _drained(body: Body) -> Body:
    """A kernel that others follow: its last writes leave L2 while they run, or while the same runs again."""
    late = Term("writes of the run before", body.late_s)
    return body._replace(seconds=body.seconds + body.late_s, terms=(*body.terms, late))


def _expected(card: Card, bodies: Sequence[Body], around: tuple[Term, ...], lower_s: float) -> Expected:
    """The sum of all, not below the bound, with its range."""
    seconds = sum(body.seconds for body in bodies) + sum(term.seconds for term in around)
    terms = (*around, *(term for body in bodies for term in body.terms))
    if seconds < lower_s:
        terms = (*terms, Term("up to the bound", lower_s - seconds))
        seconds = lower_s
    down, up = spread(card, bodies)
    return Expected(seconds, max(lower_s, seconds * down), seconds * up, terms, tuple(bodies))


def spread(card: Card, bodies: Sequence[Body]) -> tuple[float, float]:
    """The range's ends as shares of the time: those of its mechanisms, each by its part of it."""
    whole = sum(body.seconds for body in bodies)
    half = card.spread["any"]
    if whole > 0:
        half = sum(card.spread.get(body.mechanism, half) * body.seconds for body in bodies) / whole
    return 1.0 / (1.0 + half), 1.0 + half
