"""Amdahl's law for the row functions of a training step: from perfmodel's times, or from measured ones.

If a share f of the step becomes s times faster, the step becomes 1 / (1 - f + f / s) times faster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple


class Part(NamedTuple):
    """The time of one part of a step in seconds, before and after a change."""

    name: str
    before_s: float
    after_s: float

    @property
    def speedup(self) -> float:
        """How many times faster the part became."""
        return self.before_s / self.after_s


def speedup(step_s: float, parts: Iterable[Part]) -> float:
    """Returns how many times faster a step becomes if these parts of it do."""
    left = 1.0
    for part in parts:
        share = part.before_s / step_s
        left += share / part.speedup - share
    return 1 / left


def limit(step_s: float, parts: Iterable[Part]) -> float:
    """Returns how many times faster the step would be if these parts took no time."""
    return 1 / (1 - sum(part.before_s for part in parts) / step_s)


PARTS = ("softmax forward", "softmax backward", "LayerNorm forward", "LayerNorm backward")


def by_part(answer: Any) -> dict[str, float]:
    """Returns the expected seconds of a priced program, by row function and pass; ``other`` is the rest of the kernels.

    Each kernel comes with the gap after it in the replay of a graph.
    """
    found: dict[str, float] = defaultdict(float)
    gap_s = answer.total.gaps_s / answer.total.kernels
    for row in answer.rows:
        last = (row.module or "").rpartition(".")[2]
        name = "softmax" if last == "softmax" else "LayerNorm" if last.endswith("norm") else ""
        found[f"{name} {row.phase}" if name else "other"] += row.expected_s + gap_s
    return dict(found)


class Prediction(NamedTuple):
    """What perfmodel says of a step: its time in each way, and the parts that the fused kernels change."""

    step_s: dict[str, float]
    parts: list[Part]

    @property
    def speedup(self) -> float:
        """By Amdahl's law: only the row functions change."""
        return speedup(self.step_s["naive"], self.parts)


@cache
def predicted(setting: Any, gpu: str, ways: tuple[str, ...] = ("naive", "torch", "fused")) -> Prediction:
    """Captures the training step in each way on the meta device, and prices it on a card as the replay of a graph."""
    import perfmodel
    from examples.fused_training.train import step_on_meta

    answers = {way: perfmodel.capture(step_on_meta(setting._replace(way=way))).on(gpu, run="graph") for way in ways}
    before, after = by_part(answers["naive"]), by_part(answers["fused"])
    parts = [Part(name, before[name], after[name]) for name in PARTS]
    return Prediction({way: sum(by_part(answer).values()) for way, answer in answers.items()}, parts)
