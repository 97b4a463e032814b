"""What an expected time is made of: named seconds, those that add up and those that hide behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Term(NamedTuple):
    """A named share of a kernel's time. One that does not ``count`` runs behind a longer one."""

    name: str
    seconds: float
    counts: bool = True


class Body(NamedTuple):
    """A kernel's own time from its first block to its last, without its launch, and what kind of model gave it."""

    seconds: float
    terms: tuple[Term, ...]
    mechanism: str
    choice: str = ""


def overlapped(parts: Sequence[tuple[str, float]], sharpness: float) -> tuple[float, tuple[Term, ...]]:
    """Streams of work that run at once: a little more than the longest, the more the closer the others come to it.

    (sum of t^p)^(1/p): with p large the longest alone, with p = 1 the sum. What the overlap lacks is told on its own.
    """
    longest = max(parts, key=lambda part: part[1])
    if longest[1] <= 0.0:
        return 0.0, ()
    scale = longest[1]
    whole = scale * sum((seconds / scale) ** sharpness for _, seconds in parts if seconds > 0.0) ** (1.0 / sharpness)
    terms = tuple(Term(name, seconds, name == longest[0]) for name, seconds in parts if seconds > 0.0)
    lost = whole - scale
    return whole, (*terms, Term("imperfect overlap", lost)) if lost > 1e-3 * whole else terms
