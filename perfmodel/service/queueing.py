"""Queueing laws of a serving stack, as functions of moments and rates.

Prompts arrive at random (a Poisson process) and are processed one after another: an M/G/1 queue, whose mean wait is that
of Pollaczek and Khinchine. A prompt that arrives during a decoding step also waits for the end of that step. This is a
server with vacations, whose wait is the sum of both (Fuhrmann and Cooper 1985).

Sequences that decode share the steps. With n of them a step takes t(n), so that each advances 1 / t(n) tokens per second.
This is processor sharing with a rate that depends on n (Cohen 1979). Its mean depends on the mean output length alone. An
arriving sequence finds n others on average, so its time per token is T = t(1 + n) with n = rate x output x T. For
t(n) = a + b n the solution is T = t(1) / (1 - rate x output x b).

Where prompts go first, decoding starts when no prompt is left, for all sequences of a busy period at once. A sequence then
decodes beside all of these (``cluster``), and first waits for the prompts that arrived after its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

MOST_ROUNDS = 10_000
CLOSE = 1e-12
HALVINGS = 60
# Gauss-Hermite nodes and weights for a standard normal variable (5 points: exact up to the ninth power).
NODES = ((0.0, 8 / 15), *((sign * math.sqrt(5 + turn * math.sqrt(10)), (7 - 2 * turn * math.sqrt(10)) / 60)
         for turn in (-1, 1) for sign in (-1, 1)))  # fmt: skip


class Moments(NamedTuple):
    """Mean and second moment of a time."""

    mean_s: float
    square_s2: float


def lengths(mean: float, cv: float) -> tuple[tuple[int, float], ...]:
    """Lengths with weights: one length, or a log-normal distribution of this mean and coefficient of variation."""
    if not cv:
        return ((max(1, round(mean)), 1.0),)
    sigma = math.sqrt(math.log1p(cv * cv))
    return tuple((max(1, round(mean * math.exp(sigma * z - sigma * sigma / 2))), weight) for z, weight in NODES)


def moments(times: Callable[[int], float], weighted: tuple[tuple[int, float], ...]) -> Moments:
    """Moments of a time over a distribution of lengths."""
    found = [(times(length), weight) for length, weight in weighted]
    return Moments(sum(t * w for t, w in found), sum(t * t * w for t, w in found))


def pollaczek_khinchine(rate: float, service: Moments) -> float:
    """Mean wait of M/G/1: rate E[s^2] / (2 (1 - rate E[s])); infinite from a load of 1."""
    load = rate * service.mean_s
    return rate * service.square_s2 / (2 * (1 - load)) if load < 1 else math.inf


def daley(rate: float, service: Moments, arrivals_cv: float = 1.0) -> float:
    """The largest mean wait of any renewal arrivals of this coefficient of variation (Daley 1977).

    E[s] (2 - load) cv^2 / (2 (1 - load)) + rate var(s) / (2 (1 - load)).
    """
    load = rate * service.mean_s
    if load >= 1:
        return math.inf
    variance = max(0.0, service.square_s2 - service.mean_s**2)
    return (service.mean_s * (2 - load) * arrivals_cv**2 + rate * variance) / (2 * (1 - load))


def vacation(busy: float, step_s: float) -> float:
    """Mean wait for the end of a step of constant length, if one runs with probability 1 - exp(-busy)."""
    return -math.expm1(-busy) * step_s / 2


def cluster(rate: float, service: Moments) -> float:
    """Mean number of prompts in the busy period of a prompt, itself included (M/G/1): E[X^2] / E[X].

    E[X] = 1 / (1 - load), var(X) = (load (1 - load) + rate^2 E[s^2]) / (1 - load)^3 (Takacs 1962). 1 / (1 - load)^2 for
    constant times.
    """
    free = 1 - rate * service.mean_s
    return ((1 - free) * free + rate**2 * service.square_s2) / free**2 + 1 / free if free > 0 else math.inf


def behind(load: float, first_s: float) -> float:
    """Returns the mean time of the prompts that arrive while a prompt waits and is processed, with those that follow
    them.

    rate x first_s prompts are left behind, and each starts a busy period of E[s] / (1 - load).
    """
    return load / (1 - load) * first_s


def fixed_point(flow: float, token_s: Callable[[float], float], most: float, own: float = 1.0) -> float | None:
    """The mean number of sequences n = flow x token_s(own + n), from below; None if it exceeds ``most``.

    ``flow``: tokens per second. ``own``: sequences that arrive together, as one of them sees it. ``token_s`` must not decrease with the number of sequences.
    """
    n = 0.0
    for _ in range(MOST_ROUNDS):
        following = flow * token_s(own + n)
        if following > most or not math.isfinite(following):
            return None
        if following - n <= CLOSE * max(1.0, following):
            return following
        n = following
    return None


def highest(holds: Callable[[float], bool], above: float) -> float:
    """The highest rate at which a condition holds that fails from some rate on, by bisection; 0 if it never holds.

    ``above``: a rate at which it fails.
    """
    low, high = 0.0, above
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low if low > above * 1e-9 else 0.0
