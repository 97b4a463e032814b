"""The parts of an expected time: named seconds, those that add up and those that overlap with longer ones."""

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.timing.weights import Mechanism


class Term(NamedTuple):
    """A named part of a kernel's time. A term that does not ``count`` overlaps with a longer one."""

    name: str
    seconds: float
    counts: bool = True


class Body(NamedTuple):
    """A kernel's time from its first block to its last, without its launch, and the mechanism that gave it.

    ``late_s``: DRAM time of writes that are still in L2 at its end, which the next kernel pays. ``far``: whether its
    first access goes to memory.
    """

    seconds: float
    terms: tuple[Term, ...]
    mechanism: str
    choice: str = ""
    late_s: float = 0.0
    far: bool = False


HIDDEN = Mechanism("terms").weight("hidden")


def at_once_s(streams: Sequence[float], sharpness: float) -> float:
    """The time of streams that overlap, without their terms."""
    longest = max(streams)
    if longest <= 0.0:
        return 0.0
    powers, hidden_s = 0.0, HIDDEN * longest
    for seconds in streams:
        if seconds > hidden_s:
            powers += (seconds / longest) ** sharpness
    return longest if powers <= 1.0 else float(longest * powers ** (1.0 / sharpness))


def overlapped(parts: Sequence[tuple[str, float]], sharpness: float) -> tuple[float, tuple[Term, ...]]:
    """The p-norm of the times of streams that overlap, slightly above their maximum, and its terms.

    (sum of t^p)^(1/p): with p large the longest alone, with p = 1 the sum. The excess over the longest is a term of its
    own.
    """
    name, longest = "", 0.0
    for part in parts:
        if part[1] > longest:
            name, longest = part
    if longest <= 0.0:
        return 0.0, ()
    powers = 0.0
    terms = []
    for own, seconds in parts:
        if seconds > 0.0:
            terms.append(Term(own, seconds, own == name))
            if seconds > HIDDEN * longest:
                powers += (seconds / longest) ** sharpness
    if powers <= 1.0:
        return longest, tuple(terms)
    whole = longest * powers ** (1.0 / sharpness)
    return whole, (*terms, Term("imperfect overlap", whole - longest))


def later(streams: Sequence[tuple[str, float]], sharpness: float, seconds: float, late_s: float) -> float:
    """Seconds that the delayed writes, left out of the first stream, would add to streams that together take
    ``seconds``.
    """
    if not late_s:
        return 0.0
    (name, first_s), *others = streams
    return overlapped(((name, first_s + late_s), *others), sharpness)[0] - seconds
