"""Money and energy of a step: GPU hours at a price, and the power of the boards."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.plans.step import Estimate, Model

HOUR_S = 3600.0
MILLION = 1e6


class Money(NamedTuple):
    """Figures of one plan. ``energy_j_per_token`` assumes that each board draws its power limit: an upper bound.

    ``per_million_tokens`` is in the unit of the price; None without a price.
    """

    price_per_hour: float | None
    gpu_s_per_token: float
    per_million_tokens: float | None
    board_w: float | None
    energy_j_per_token: float | None

    def of_run(self, tokens: float) -> tuple[float, float | None, float | None]:
        """GPU hours, cost and energy in joules of a run over so many tokens."""
        cost = None if self.per_million_tokens is None else self.per_million_tokens * tokens / MILLION
        energy = None if self.energy_j_per_token is None else self.energy_j_per_token * tokens
        return self.gpu_s_per_token * tokens / HOUR_S, cost, energy


def money(model: Model, estimate: Estimate, price_per_hour: float | None) -> Money:
    """The money and energy of an estimate."""
    each_s = estimate.expected_s * estimate.plan.gpus / max(1, estimate.tokens)
    watt = model.gpu.power.value if model.gpu.power else None
    cost = None if price_per_hour is None else each_s / HOUR_S * price_per_hour * MILLION
    return Money(price_per_hour, each_s, cost, watt, None if watt is None else each_s * watt)
