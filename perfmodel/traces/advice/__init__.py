"""Suggested changes, ranked by the time that they save in a step: the expected time before minus that after."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from perfmodel.traces.advice import back_ends, copies, fusing, host, precision, sizes
from perfmodel.traces.advice.finding import LEAST_SHARE, Advice, Context
from perfmodel.traces.pricing import UNPRICED

__all__ = ["Advice", "Context", "advice"]

MOST = 20
FINDERS: tuple[Callable[[Context], Iterable[Advice]], ...] = (
    host.launches, sizes.misaligned, sizes.slow_products, sizes.larger_batch, fusing.chains, copies.grouped_heads, copies.layouts, copies.strided,
    precision.shorter, back_ends.attention, back_ends.own_rows, back_ends.optimizer,
)  # fmt: skip


def advice(found: Context, beside: Iterable[Advice] = ()) -> list[Advice]:
    """The advice for a step, the largest saving first. ``beside`` is advice about several ranks."""
    every = [*beside, *(one for finder in FINDERS for one in _found(finder, found))]
    least_s = LEAST_SHARE * found.spans.span_s
    return sorted((one for one in every if one.saves_s >= least_s), key=lambda one: -one.saves_s)[:MOST]


def _found(finder: Callable[[Context], Iterable[Advice]], found: Context) -> list[Advice]:
    """What one finder finds; nothing where it meets sizes that have no price."""
    try:
        return list(finder(found))
    except UNPRICED:
        return []
