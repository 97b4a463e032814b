"""Power: how fast a board may multiply, in a burst and for good.

Every operation costs energy, so the watts of the board, less what the board itself takes, hold a certain rate; the
clock falls until it is met. The board looks at its power over a while: a kernel that is over sooner runs at a rate that
its watts could not hold, one that lasts approaches the rate that they do.
"""

from __future__ import annotations

from perfmodel.timing.card import Card


def rate(card: Card, dtype: str, flops: float) -> float:
    """Operations per second that the power allows over a run of so many."""
    held = card.held_flop_per_s[dtype]
    surge = min(held * card.surge, card.peak_flop_per_s[dtype])
    return held + (surge - held) / (1.0 + flops / held / card.patience_s)
