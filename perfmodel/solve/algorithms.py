"""Crossovers between the algorithms of a collective, in closed form.

The textbook model: s steps and b bytes of the busiest rank take s x latency + b / rate. An algorithm with fewer steps and
more bytes is faster below one size of the tensor: n = latency x rate x (difference of steps) / (difference of bytes per
byte of the tensor).
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import sympy

from perfmodel import patterns, symbolic, systems
from perfmodel.hardware import Gpu
from perfmodel.runs import Collective
from perfmodel.timing.links import link

LATENCY, RATE = sympy.Symbol("latency", positive=True), sympy.Symbol("rate", positive=True)


class Way(NamedTuple):
    """An algorithm in formulas: bytes that a rank sends on average, elements that it adds, and its steps."""

    algorithm: str
    sent_byte: Any
    added: Any
    steps: Any


class Crossover(NamedTuple):
    """Below ``byte`` the first algorithm is faster, above it the second. ``at`` is its value on a card, if there is one."""

    below: str
    above: str
    closed_form: Any
    at: float | None


def _plain(value: Any) -> Any:
    """A number or a formula as an expression."""
    return sympy.sympify(value, strict=True)


def ways(fact: Collective) -> tuple[Way, ...]:
    """The algorithms of a collective, with the sizes of the fact."""
    found = []
    for name in patterns.ALGORITHMS[fact.kind]:
        total = fact.messages(name)
        sent, added = _plain(total.sent) / fact.gpus, _plain(total.added) / fact.gpus
        found.append(Way(name, symbolic.tidy(sent), symbolic.tidy(added), _plain(total.steps)))
    return tuple(found)


def crossovers(kind: str, gpus: Any, gpu: Gpu | None = None) -> tuple[Crossover, ...]:
    """Every pair of algorithms of which each is faster at some size, with more than two ranks."""
    p = _plain(gpus)
    if p.is_Integer and p <= 2:
        return ()
    found = []
    for first, second in permutations(patterns.ALGORITHMS[kind], 2):
        steps = _steps(kind, second, p) - _steps(kind, first, p)
        byte = _busiest(kind, first, p) - _busiest(kind, second, p)
        if _positive(steps) and _positive(byte):
            form = LATENCY * RATE * symbolic.quotient(steps, byte)
            found.append(Crossover(first, second, form, _value(form, gpu)))
    return tuple(found)


def _steps(kind: str, algorithm: str, p: Any) -> Any:
    return _plain(patterns.messages(kind, algorithm, sympy.Integer(1), p, 1).steps)


def _busiest(kind: str, algorithm: str, p: Any) -> Any:
    return _plain(patterns.busiest(kind, algorithm, p))


def _positive(difference: Any) -> bool:
    """Whether a difference is above zero for many ranks, or for the ranks that are given."""
    free = difference.free_symbols
    return bool(difference.subs(dict.fromkeys(free, 64)) > 0) if free else bool(difference > 0)


def _value(form: Any, gpu: Gpu | None) -> float | None:
    """The crossover on a card: the latency of one hop, and the rate of the links of its default system."""
    if gpu is None:
        return None
    latency_s, rate = figures(gpu)
    number = form.subs({LATENCY: latency_s, RATE: rate})
    return float(number) if number.is_number else None


def figures(gpu: Gpu) -> tuple[float, float]:
    """The latency of one hop in seconds, and the rate of the links in bytes per second."""
    level = systems.default(gpu).scale_up
    return link(level.link).ring[0].hop_s, level.one_way_byte_per_s.value
