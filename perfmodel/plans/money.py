"""Money and energy of a step: GPU hours at a price, and the power of the boards."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.plans.estimate import Estimate
from perfmodel.plans.step import Model
from perfmodel.timing.families import family, generation

HOUR_S = 3600.0
MILLION = 1e6
PICO = 1e-12


class Money(NamedTuple):
    """Figures of one plan. ``per_million_tokens`` is in the unit of the price; None without a price.

    ``board_w`` is the board's power limit, ``load_w`` what the board itself and its products draw, at most the limit: memory
    and links draw more. The energy per token lies between both. None where a figure is unknown.
    """

    price_per_hour: float | None
    gpu_s_per_token: float
    per_million_tokens: float | None
    board_w: float | None
    load_w: float | None
    energy_j_per_token: float | None
    least_energy_j_per_token: float | None

    def of_run(self, tokens: float) -> tuple[float, float | None, float | None]:
        """GPU hours, cost and energy in joules, with boards at their limit, of a run over so many tokens."""
        cost = None if self.per_million_tokens is None else self.per_million_tokens * tokens / MILLION
        energy = None if self.energy_j_per_token is None else self.energy_j_per_token * tokens
        return self.gpu_s_per_token * tokens / HOUR_S, cost, energy


def money(model: Model, estimate: Estimate, price_per_hour: float | None) -> Money:
    """The money and energy of an estimate."""
    each_s = estimate.expected_s * estimate.plan.gpus / max(1, estimate.tokens)
    limit_w = model.gpu.power.value if model.gpu.power else None
    load_w = _load_w(model, estimate, limit_w)
    cost = None if price_per_hour is None else each_s / HOUR_S * price_per_hour * MILLION
    most, least = (None if watt is None else each_s * watt for watt in (limit_w, load_w))
    return Money(price_per_hour, each_s, cost, limit_w, load_w, most, least)


def _load_w(model: Model, estimate: Estimate, limit_w: float | None) -> float | None:
    """The board's own power, and the energy of each operation of the products (``hardware/families``) at their rate."""
    known = family(generation(model.gpu)).sections.get("power", {})
    if limit_w is None or "board" not in known or model.prices.dtype not in known:
        return None
    rate = estimate.flops / (estimate.expected_s * estimate.plan.gpus)
    return float(min(limit_w, known["board"] * limit_w + known[model.prices.dtype] * PICO * rate))
