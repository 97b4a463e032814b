"""The parts of an expected time: named seconds, those that add up and those that overlap with longer ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, largest, maximum, where
from perfmodel.timing.weights import Mechanism


class Term(NamedTuple):
    """A named part of a kernel's time. A term that does not ``count`` overlaps with a longer one."""

    name: str
    seconds: Size
    counts: bool = True


class Body(NamedTuple):
    """A kernel's time from its first block to its last, without its launch, and the mechanism that gave it.

    ``late_s``: DRAM time of writes that are still in L2 at its end, which the next kernel pays. ``far``: whether its
    first access goes to memory. Of many points at once, the seconds are arrays, and the terms are left out; ``times``
    is the number of such launches in a row, and the other figures are those of one of them.
    """

    seconds: Size
    terms: tuple[Term, ...]
    mechanism: str
    choice: str = ""
    late_s: Size = 0.0
    far: Size = False
    times: Size = 1

    @property
    def all_s(self) -> Size:
        """The time of all its launches."""
        return self.seconds * self.times


def quicker(first: Body, second: Body) -> Body:
    """The one that takes less time, at each of many points."""
    better = first.seconds <= second.seconds
    if isinstance(better, bool):
        return first if better else second
    kept = (where(better, getattr(first, name), getattr(second, name)) for name in ("seconds", "late_s", "far"))
    return first._replace(terms=(), **dict(zip(("seconds", "late_s", "far"), kept, strict=True)))


HIDDEN = Mechanism("terms").weight("hidden")


def at_once_s(streams: Sequence[Size], sharpness: Size) -> Size:
    """The time of streams that overlap, without their terms."""
    longest = largest(streams) if streams else 0.0
    if longest <= 0.0:
        return 0.0
    powers, hidden_s = 0.0, HIDDEN * longest
    for seconds in streams:
        powers += (seconds > hidden_s) * (seconds / longest) ** sharpness
    return longest * maximum(1.0, powers) ** (1.0 / sharpness)


def overlapped(parts: Sequence[tuple[str, Size]], sharpness: Size) -> tuple[Size, tuple[Term, ...]]:
    """The p-norm of the times of streams that overlap, slightly above their maximum, and its terms.

    (sum of t^p)^(1/p): with p large the longest alone, with p = 1 the sum. The excess over the longest is a term of its
    own.
    """
    whole = at_once_s([seconds for _, seconds in parts], sharpness)
    if not isinstance(whole, float):
        return whole, ()
    longest, name = 0.0, ""
    terms = []
    for own, seconds in parts:
        if seconds > longest:
            longest, name = seconds, own
    for own, seconds in parts:
        if seconds > 0.0:
            terms.append(Term(own, seconds, own == name))
    if whole > longest:
        terms.append(Term("imperfect overlap", whole - longest))
    return whole, tuple(terms)


def later(streams: Sequence[tuple[str, Size]], sharpness: float, seconds: Size, late_s: Size) -> Size:
    """Returns the time that the delayed writes would add to streams that together take ``seconds``."""
    if is_none(late_s):
        return 0.0
    (_, first_s), *others = streams
    return at_once_s([first_s + late_s, *(own_s for _, own_s in others)], sharpness) - seconds


def is_none(seconds: Any) -> bool:
    """Returns whether a time is the plain number 0."""
    return isinstance(seconds, (int, float)) and not seconds
