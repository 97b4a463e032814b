"""Power: how fast a board may multiply, in a burst and for good.

Every operation costs energy, so the watts of the board, less what the board itself takes, hold a certain rate; the
clock falls until it is met. The board looks at its power over a while: a kernel that is over sooner runs at a rate that
its watts could not hold, one that lasts approaches the rate that they do. Kernels one behind another are one run.
"""

from __future__ import annotations

from perfmodel.timing.card import Card

UNENDING = 1e9
SHARPNESS = 2.0


def rate(card: Card, dtype: str, flops: float) -> float:
    """Operations per second that the power allows over a run of so many."""
    held = card.held_flop_per_s[dtype]
    surge = min(held * card.surge, card.peak_flop_per_s[dtype])
    return held + (surge - held) / (1.0 + (flops / held / card.patience_s) ** SHARPNESS)


def settled(card: Card, dtype: str, flops: float) -> Card:
    """The card over a run of several kernels that multiply so much together: what is left of its surge, for all alike."""
    run_s = flops / card.held_flop_per_s[dtype] if dtype in card.held_flop_per_s else 0.0
    left = (card.surge - 1.0) / (1.0 + (run_s / card.patience_s) ** SHARPNESS)
    return card._replace(surge=1.0 + left, patience_s=UNENDING)
