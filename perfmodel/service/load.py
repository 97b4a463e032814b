"""A serving stack under load: waits, time to the first token, time per token, stability and goodput."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from perfmodel.service import queueing
from perfmodel.service.queueing import Moments
from perfmodel.service.request import Request
from perfmodel.service.speculation import accepted
from perfmodel.service.step import Chunk, Stepper


class Point(NamedTuple):
    """A stack at a rate of requests per second. ``reason``: why no steady state exists; empty where one does.

    ``prompt_s``: processing of a prompt. ``decoding``: sequences that decode together. ``step_s``: a step of them.
    ``cluster``: sequences that start to decode together, as one of them sees it.
    """

    rate_per_s: float
    reason: str = ""
    load: float = math.inf
    prompt_s: float = math.inf
    wait_s: float = math.inf
    wait_at_most_s: float = math.inf
    token_s: float = math.inf
    step_s: float = math.inf
    decoding: float = math.inf
    cluster: float = 1.0

    @property
    def first_s(self) -> float:
        return self.wait_s + self.prompt_s


class Curve:
    """A time over the number of sequences: exact at powers of 2, linear between them, never decreasing."""

    def __init__(self, at: Callable[[int], float], most: int) -> None:
        self._at, self._known = at, dict[int, float]()
        self._lines: dict[int, tuple[int, int, float, float]] = {}  # by place in the grid
        self._grid = [0, *(1 << power for power in range(max(1, most).bit_length() + 1))]

    def __call__(self, number: float) -> float:
        above = min(bisect_right(self._grid, number), len(self._grid) - 1)
        low, size, low_s, rise_s = self._lines.get(above) or self._line(above)
        return low_s + rise_s * (number - low) / size

    def _line(self, above: int) -> tuple[int, int, float, float]:
        """The start of a line between two numbers, its width, the time at its start and the rise of the time."""
        low, high = self._grid[above - 1], self._grid[above]
        low_s = self._value(low)
        self._lines[above] = low, high - low, low_s, max(0.0, self._value(high) - low_s)
        return self._lines[above]

    def _value(self, number: int) -> float:
        if number not in self._known:
            self._known[number] = self._at(number)
        return self._known[number]


class Stack:
    """A model on GPUs under requests. ``draft``: the steps of a draft model on the same GPUs."""

    def __init__(
        self, stepper: Stepper, request: Request, most: int, draft: Stepper | None = None, transfer_s: float = 0.0
    ) -> None:
        self.stepper, self.request, self.draft, self.most, self.transfer_s = stepper, request, draft, most, transfer_s
        self.decode_s = Curve(lambda number: self._decode_s(max(1, number)), most)
        self._prompts: dict[int, Curve] = {}
        self.prompt_mean_s = Curve(lambda number: self.prompt_moments(number).mean_s, most)
        self.lengths = queueing.lengths(request.prompt, request.prompt_cv)

    # --- times without load

    def plain_s(self, number: int) -> float:
        """A decoding step of that many sequences without speculation."""
        return self.stepper.cost((Chunk(1, self.request.context, number),)).expected_s

    def round_s(self, number: int) -> tuple[float, float]:
        """A step of the draft model, and the verification of its proposals."""
        assert self.draft is not None
        g, context = self.request.draft_length, self.request.context
        verify = self.stepper.cost((Chunk(g + 1, context, number, g + 1),)).expected_s
        return self.draft.cost((Chunk(1, context, number),)).expected_s, verify

    def _decode_s(self, number: int) -> float:
        """Seconds per token of each of that many sequences."""
        if self.draft is None:
            return self.plain_s(number)
        draft_s, verify_s = self.round_s(number)
        return (self.request.draft_length * draft_s + verify_s) / accepted(
            self.request.acceptance, self.request.draft_length
        )

    def steps(self, length: int) -> tuple[tuple[Chunk, float], ...]:
        """The steps of a prompt, with how often each runs. Full chunks are the mean of the first and the last one."""
        cached = min(length - 1, int(self.request.prefix * length))
        new, chunk = length - cached, self.request.chunk or length
        full, rest = divmod(new, chunk)
        if not rest:
            full, rest = full - 1, chunk
        last = Chunk(rest, length - rest)
        if not full:
            return ((last, 1.0),)
        first, final = Chunk(chunk, cached, 1, 0), Chunk(chunk, cached + (full - 1) * chunk, 1, 0)
        return ((first, full / 2), (final, full / 2), (last, 1.0)) if full > 1 else ((first, 1.0), (last, 1.0))

    def prompt_s(self, length: int, decoding: float = 0.0) -> float:
        """Processing of a prompt; its chunks share their steps with decoding sequences."""
        if not self.request.chunk:
            decoding = 0.0
        if length not in self._prompts:
            self._prompts[length] = Curve(lambda number: self._prompt_s(length, number), self.most)
        return self._prompts[length](decoding)

    def _prompt_s(self, length: int, decoding: int) -> float:
        beside = (Chunk(1, self.request.context, decoding),) if decoding else ()
        steps = self.steps(length)
        found = sum(times * self.stepper.cost((chunk, *beside)).expected_s for chunk, times in steps)
        if self.draft is not None:
            found += sum(times * self.draft.cost((chunk,)).expected_s for chunk, times in steps)
        return found

    @cached_property
    def step_count(self) -> float:
        """Steps of a mean prompt."""
        return sum(weight * sum(times for _, times in self.steps(length)) for length, weight in self.lengths)

    def prompt_moments(self, decoding: float) -> Moments:
        return queueing.moments(lambda length: self.prompt_s(length, decoding), self.lengths)

    # --- under load

    def token_s(self, rate: float, number: float, first_s: float = 0.0) -> float:
        """Seconds per token of a sequence, one of ``number``, with the interruptions by prompts.

        ``first_s``: its time to the first token, in which the prompts behind it arrive.
        """
        own_s, tokens = self.decode_s(number), self.request.output - 1
        if self.request.disaggregated:
            return own_s
        prompt_s = self.prompt_mean_s(number)
        load = rate * prompt_s
        if load >= 1:
            return math.inf
        behind_s = queueing.behind(load, first_s)
        if not self.request.chunk:
            return own_s / (1 - load) + behind_s / tokens
        mixed_s = prompt_s / self.step_count
        shared_s = 1 / (load / mixed_s + (1 - load) / own_s)
        return shared_s + min(behind_s / tokens, mixed_s) * (1 - shared_s / mixed_s)

    def at(self, rate: float) -> Point:
        """The steady state at a rate, or the reason why there is none."""
        alone = self.prompt_moments(0.0)
        if rate * alone.mean_s >= 1:
            return Point(rate, "prompts")
        tokens = self.request.output - 1
        together = not self.request.disaggregated
        own = queueing.cluster(rate, alone) if together and not self.request.chunk else 1.0
        n = queueing.fixed_point(rate * tokens, lambda number: self.token_s(rate, number), self.most, own)
        if n is None:
            return Point(rate, "decoding")
        prompts = self.prompt_moments(n)
        load = rate * prompts.mean_s
        if load >= 1:
            return Point(rate, "prompts")
        step_s = self.decode_s(max(1.0, n))
        wait_s = queueing.pollaczek_khinchine(rate, prompts) + (queueing.vacation(n, step_s) if together else 0.0)
        at_most_s = queueing.daley(rate, prompts) + (step_s if together else 0.0)
        token_s = self.token_s(rate, own + n, wait_s + prompts.mean_s) + self.transfer_s / tokens
        decoding = rate * tokens * token_s
        if not decoding <= self.most:
            return Point(rate, "decoding")
        return Point(rate, "", load, prompts.mean_s, wait_s, at_most_s, token_s, step_s, decoding, own)

    def limit_per_s(self) -> float:
        """The rate below which a steady state exists."""
        return self.highest(math.inf, math.inf)

    def highest(self, first_s: float, token_s: float) -> float:
        """The highest rate at which the mean times meet the targets; 0 if even a single request misses one."""

        def holds(rate: float) -> bool:
            found = self.at(rate)
            return not found.reason and found.first_s <= first_s and found.token_s <= token_s

        return queueing.highest(holds, 1 / self.prompt_moments(0.0).mean_s)
