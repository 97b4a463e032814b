"""How long it will take: named mechanisms, each in a file of its own, every parameter a physical one.

``parameters`` says what is known of a card and from where; ``kernels`` finds an operation's mechanism; the parts of a
case run one behind another with their launches. No time is looked up: a shape that was never measured is as good as any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.block import Kernel
from perfmodel.timing.card import Card
from perfmodel.timing.kernels import Part, parts
from perfmodel.timing.launch import starts
from perfmodel.timing.stream import kept
from perfmodel.timing.terms import Body, Term


class Expected(NamedTuple):
    """A time, the range that about 80 % of measurements lie in, and its terms: those that count add up to it."""

    expected_s: float
    low_s: float
    high_s: float
    terms: tuple[Term, ...] = ()
    bodies: tuple[Body, ...] = ()


def expected(
    card: Card, kernels: Iterable[Kernel], dtype: str, *, impl: str = "", protocol: str = "warm", lower_s: float = 0.0
) -> Expected:
    """The time of kernels one behind another; never less than their lower bound."""
    found: list[Part] = []
    for kernel in kernels:
        own = parts(card, kernel.operation, kernel.op, dtype, impl, kernel.forward)
        found.extend(own * int(kernel.repeat))
    return sequence(card, found, protocol, lower_s)


def sequence(card: Card, launched: Sequence[Part], protocol: str, lower_s: float = 0.0) -> Expected:
    """Launches in a row: what one leaves in L2 the next finds there; weights come from memory in a cold run."""
    whole = kept(card, sum(part.byte for part in launched)) if protocol != "cold" else 0.0
    bodies = []
    before: Part | None = None
    for part in launched:
        share = whole
        if before is not None and whole < 1.0 and part.byte:
            left = kept(card, part.byte + before.byte) * (1.0 - part.fresh_byte / part.byte)
            share = max(whole, left)
        bodies.append(part.body(share))
        before = part
    around = starts(card, [body.seconds for body in bodies], protocol)
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
    if whole <= 0:
        return 1.0, 1.0
    half = sum(card.spread.get(body.mechanism, card.spread["any"]) * body.seconds for body in bodies) / whole
    return 1.0 / (1.0 + half), 1.0 + half
