"""The answer for one plan: time, memory and notes."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.footprint.lines import Line
from perfmodel.plans.plan import Plan
from perfmodel.timing.terms import Term


class Estimate(NamedTuple):
    """One step under a plan. ``terms`` add up to ``expected_s``."""

    plan: Plan
    microbatches: int
    lower_s: float
    expected_s: float
    no_overlap_s: float
    bubble_s: float
    exposed_s: float
    communication_s: float
    terms: tuple[Term, ...]
    lines: tuple[Line, ...]
    room_byte: int | None
    tokens: int
    flops: int
    mfu: float
    notes: tuple[str, ...] = ()

    @property
    def memory_byte(self) -> int:
        return sum(line.byte_per_gpu for line in self.lines)

    @property
    def fits(self) -> bool | None:
        return None if self.room_byte is None else self.memory_byte <= self.room_byte

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.expected_s if self.expected_s else 0.0
