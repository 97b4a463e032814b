"""Speculative decoding in closed form (Leviathan et al. 2023).

A draft model proposes g tokens. The model checks them in one step and accepts each with probability a until the first
rejection; a rejected token is replaced, and after g accepted ones a further token comes for free. A step therefore yields
1 + a + ... + a^g = (1 - a^(g+1)) / (1 - a) tokens on average.
"""

from __future__ import annotations

from typing import NamedTuple

HALVINGS = 60


class Speculation(NamedTuple):
    """One round of g proposals and a verification, against plain decoding.

    ``break_even``: the acceptance from which speculation is faster; None if it never is.
    """

    acceptance: float
    length: int
    tokens: float
    draft_s: float
    verify_s: float
    plain_s: float
    break_even: float | None

    @property
    def token_s(self) -> float:
        return (self.draft_s + self.verify_s) / self.tokens

    @property
    def speedup(self) -> float:
        return self.plain_s / self.token_s


def accepted(acceptance: float, length: int) -> float:
    """Expected tokens of a round: (1 - a^(g+1)) / (1 - a), and g + 1 for a = 1."""
    if acceptance >= 1:
        return length + 1.0
    return float((1 - acceptance ** (length + 1)) / (1 - acceptance))


def break_even(cost: float, length: int) -> float | None:
    """The acceptance a at which 1 + a + ... + a^g equals the cost of a round in plain steps; None above g + 1.

    For g = 1 it is cost - 1. The sum increases with a, so that bisection finds it for any g.
    """
    if cost > length + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if accepted(middle, length) < cost else (low, middle)
    return high if cost > 1 else 0.0


def speculation(acceptance: float, length: int, draft_step_s: float, verify_s: float, plain_s: float) -> Speculation:
    """A round: ``length`` steps of the draft model, and one step of the model over ``length`` + 1 tokens."""
    round_s = length * draft_step_s + verify_s
    return Speculation(
        acceptance, length, accepted(acceptance, length), length * draft_step_s, verify_s, plain_s,
        break_even(round_s / plain_s, length),
    )  # fmt: skip
