"""Plans that a search has estimated, and whether they exclude another plan by its bound."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from perfmodel.plans.plan import Plan

AXES = ("tp", "pp", "dp", "ep", "cp", "sequence_parallel", "zero", "microbatch", "schedule", "recompute")
Value = tuple[float, float]  # what the objective minimizes, and what decides between equal plans
Order = tuple[int, ...]  # the place in the space, which decides between plans that are equal in both
WORST = (float("inf"), float("inf"))


class Candidate(NamedTuple):
    """A plan that fits in memory, and the lower bound of its value. Use ``zero``, not the ZeRO stage of ``plan``."""

    bound: Value
    order: Order
    bound_s: float
    byte: int
    plan: Plan
    zero: int
    rough: bool = False  # whether ``bound`` is the rough one


class Timed(NamedTuple):
    """An estimated plan."""

    value: Value
    order: Order
    plan: Plan
    seconds: float
    byte: int


class Known:
    """The estimated plans, of which ``top`` are asked for."""

    def __init__(self, top: int) -> None:
        self.timed: list[Timed] = []
        self._top = top
        self._best: list[Value] = []
        self._of: dict[str, dict[object, Value]] = {axis: {} for axis in AXES}
        self._second = dict.fromkeys(AXES, WORST)
        self._last = WORST  # the largest of them: no plan with a larger bound is a runner-up
        self._front: list[tuple[float, int]] = []  # times ascending, bytes descending

    def needs(self, one: Candidate) -> bool:
        """Whether the answer may contain a plan."""
        return self._ranks(one) or self._is_runner_up(one) or not self._is_dominated(one)

    def _ranks(self, one: Candidate) -> bool:
        return len(self._best) < self._top or one.bound <= self._best[-1]

    def _is_runner_up(self, one: Candidate) -> bool:
        if one.bound > self._last:
            return False
        for axis, values in self._of.items():
            own = one.zero if axis == "zero" else getattr(one.plan, axis)
            if one.bound <= min(self._second[axis], values.get(own, WORST)):
                return True
        return False

    def _is_dominated(self, one: Candidate) -> bool:
        """Whether a plan that is faster than the bound needs no more memory."""
        place = bisect_left(self._front, (one.bound_s, -1))
        return place > 0 and self._front[place - 1][1] <= one.byte

    def add(self, one: Timed) -> None:
        """Adds an estimated plan."""
        self.timed.append(one)
        insort(self._best, one.value)
        del self._best[self._top :]
        for axis, values in self._of.items():
            own = getattr(one.plan, axis)
            if one.value < values.get(own, WORST):
                values[own] = one.value
                self._second[axis] = sorted(values.values())[1] if len(values) > 1 else WORST
        self._last = max(self._second.values())
        self._advance(one.seconds, one.byte)

    def _advance(self, seconds: float, byte: int) -> None:
        """Adds a point to the Pareto front and removes those that it dominates."""
        place = bisect_left(self._front, (seconds, byte))
        if place and self._front[place - 1][1] <= byte:
            return
        end = place
        while end < len(self._front) and self._front[end][1] >= byte:
            end += 1
        self._front[place:end] = [(seconds, byte)]
