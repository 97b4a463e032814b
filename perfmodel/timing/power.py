"""The power limit: the rate of products that a board reaches in a burst and continuously.

Every operation takes energy. The sustained rate is the power limit, minus the power of the board itself, divided by
this energy; the clock falls until the limit is met. The board averages its power over about a millisecond
(``patience``). A kernel that is shorter runs above the sustained rate: ``surge`` times that rate, at most the peak. A
longer one soon falls to the sustained rate. The rest of the surge falls with the square of the time. Kernels one after
another count as one run.
"""

from __future__ import annotations

from math import inf

from perfmodel.arithmetic import Size, minimum
from perfmodel.timing.card import Card


def rate(card: Card, dtype: str, flops: Size) -> Size:
    """Operations per second that the power limit allows over a run of so many operations."""
    held = card.held_flop_per_s[dtype]
    surge = minimum(held * card.surge, card.peak_flop_per_s[dtype])
    return held + (surge - held) * _left(card, flops / held)


def settled(card: Card, dtype: str, flops: Size) -> Card:
    """Returns the card during a run of several kernels, which share one burst."""
    run_s = flops / card.held_flop_per_s[dtype] if dtype in card.held_flop_per_s else 0.0
    return card._replace(surge=1.0 + (card.surge - 1.0) * _left(card, run_s), patience_s=inf)


def _left(card: Card, run_s: Size) -> Size:
    """Returns the share of the burst that is left for a run of this length."""
    looked = run_s / card.patience_s
    return 1.0 / (1.0 + looked * looked)
