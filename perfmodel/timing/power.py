"""Power: how fast a board may multiply, in a burst and for good.

Every operation costs energy, so the watts of the board, less what the board itself takes, hold a certain rate; the
clock falls until it is met. The board looks at its power over a while, about a millisecond (``patience``): a kernel
that is over sooner runs at a rate that its watts could not hold (``surge`` times what they do, on a small board up to
its peak), one that lasts soon runs at the rate that they hold. What is left of the surge falls as the square of the
time: nothing is lost before the board has looked, and little is left after. Kernels one behind another are one run.
"""

from __future__ import annotations

from perfmodel.timing.card import Card

UNENDING = 1e9


def rate(card: Card, dtype: str, flops: float) -> float:
    """Operations per second that the power allows over a run of so many."""
    held = card.held_flop_per_s[dtype]
    surge = min(held * card.surge, card.peak_flop_per_s[dtype])
    return held + (surge - held) * _left(card, flops / held)


def settled(card: Card, dtype: str, flops: float) -> Card:
    """The card over a run of several kernels that multiply so much together: what is left of its surge, for all alike."""
    run_s = flops / card.held_flop_per_s[dtype] if dtype in card.held_flop_per_s else 0.0
    return card._replace(surge=1.0 + (card.surge - 1.0) * _left(card, run_s), patience_s=UNENDING)


def _left(card: Card, run_s: float) -> float:
    """The share of a surge that is left to a run."""
    looked = run_s / card.patience_s
    return 1.0 / (1.0 + looked * looked)
