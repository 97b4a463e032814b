"""Lower bounds of the time of one microbatch on a rank, for all microbatches, without timing kernels.

The expected time of a kernel is never below its bound from the data sheet, the longest of memory and the engines. That of
a matrix product is never below its FLOPs at the rate that the power limit allows either. The bytes and the FLOPs of a kernel
are affine in the microbatch, or concave where more sequences read more rows of a table or more experts. So at any
microbatch they are at least the linear interpolation between the smallest and the largest microbatch.

Sizes that are divided by a degree may be rounded up. If such a size at the largest microbatch is the multiple of that at
the smallest, then it is the multiple at each microbatch. Kernels whose sizes are not, and collectives whose bytes are not,
are left out. A collective that overlaps with a step is exposed where it outlasts the step's kernels, so both together
take at least the longer of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from perfmodel.plans.division import Exchange
from perfmodel.plans.pieces import Numbers, Piece
from perfmodel.plans.plan import Plan
from perfmodel.plans.pricing import Prices
from perfmodel.plans.rank import Rank

Ends = tuple[float, float]  # a figure at the smallest and at the largest microbatch
Talks = tuple[tuple[str, int, str, int], ...]  # collectives: kind, bytes of one sequence, axis and how many are alike


class Work(NamedTuple):
    """Least seconds of kernels: a sum of affine figures, and of the largest figure of each group in ``bends``."""

    affine: Ends
    bends: tuple[tuple[Ends, ...], ...]

    def seconds(self, share: float) -> float:
        """Seconds at a share of the way from the smallest to the largest microbatch."""
        found = _between(self.affine, share)
        for bend in self.bends:
            found += max([_between(ends, share) for ends in bend])
        return found


class Step(NamedTuple):
    """A step's kernels and the collectives that overlap with it, of each axis."""

    work: Work
    hidden: tuple[Talks, ...]


class Direction(NamedTuple):
    """One direction of a layer: its collectives without overlap, the kernels beside them, and the steps with overlap."""

    talks: Talks
    work: Work
    steps: tuple[Step, ...]

    def seconds(self, share: float, prices: Prices, plan: Plan) -> float:
        found = self.work.seconds(share) + _talks_s(self.talks, prices, plan)
        for work, hidden in self.steps:
            found += max(work.seconds(share), *(_talks_s(own, prices, plan) for own in hidden))
        return found


class Layer(NamedTuple):
    """A part of a rank: both directions, and the attention that selective recomputation repeats."""

    forward: Direction
    backward: Direction
    core: Work


class Least(NamedTuple):
    """Seconds that one repeat of a part needs at least."""

    forward_s: float
    backward_s: float
    core_s: float

    def again_s(self, recompute: str, *, layer: bool) -> float:
        """Returns the least time that recomputation adds to the backward pass."""
        if recompute == "full" and layer:
            return self.forward_s
        return self.core_s if recompute == "selective" else 0.0


class Floor:
    """The bounds of ranks that differ in the microbatch alone, from the smallest (one sequence) and the largest."""

    def __init__(self, small: Rank, large: Rank, prices: Prices) -> None:
        self._prices, self._range = prices, large.plan.microbatch - small.plan.microbatch
        self._layers = tuple(_layer(small, large, start, end, prices) for _, _, start, end in small.groups)

    def at(self, plan: Plan) -> tuple[Least, ...]:
        """Returns the bounds of each part at the microbatch of a plan."""
        share = (plan.microbatch - 1) / self._range if self._range else 0.0
        return tuple(
            Least(
                layer.forward.seconds(share, self._prices, plan), layer.backward.seconds(share, self._prices, plan),
                layer.core.seconds(share),
            )
            for layer in self._layers
        )  # fmt: skip


def _between(ends: Ends, share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _talks(exchanges: Iterable[Exchange]) -> Talks:
    found: dict[tuple[str, int, str], int] = {}
    for each in exchanges:
        key = each.kind, each.byte, each.axis
        found[key] = found.get(key, 0) + each.times
    return tuple((*key, times) for key, times in found.items())


def _talks_s(talks: Talks, prices: Prices, plan: Plan) -> float:
    """Expected seconds of collectives."""
    seconds = 0.0
    for kind, byte, axis, times in talks:
        seconds += prices.collective(kind, byte * plan.microbatch, axis, plan)[1] * times
    return seconds


def _layer(small: Rank, large: Rank, start: int, end: int, prices: Prices) -> Layer:
    pieces = small.division.pieces[start:end]
    both = [
        (piece, piece.numbers(prices.number), other.numbers(prices.number))
        if _even(piece, other, large.plan.microbatch)
        else (piece, Numbers((), ()), Numbers((), ()))
        for piece, other in zip(pieces, large.division.pieces[start:end], strict=True)
    ]
    core = _work([(own.forward, other.forward) for piece, own, other in both if piece.square], prices)
    forward, backward = (_direction(small, large, both, way, prices) for way in (False, True))
    return Layer(forward, backward, core)


def _even(small: Piece, large: Piece, times: int) -> bool:
    """Whether the sizes that a plan divides are constant or proportional to the microbatch, with no rounding between."""
    own, other = dict(small.own), dict(large.own)
    return own.keys() == other.keys() and all(other[name] in (value, times * value) for name, value in own.items())


def _direction(
    small: Rank, large: Rank, both: Sequence[tuple[Piece, Numbers, Numbers]], backward: bool, prices: Prices
) -> Direction:
    alone, plain, steps = list[Exchange](), list[tuple[Sequence[int], Sequence[int]]](), list[Step]()
    kernels: dict[str, list[tuple[Sequence[int], Sequence[int]]]] = {}
    for piece, own, other in both:
        kernels.setdefault(piece.step.name, []).append((own[backward], other[backward]))
    for name, numbers in kernels.items():
        found = _proportional(small, large, name, backward)
        late = [each for each in found if each.overlaps]
        hidden = tuple(_talks(each for each in late if each.axis == axis) for axis in {each.axis for each in late})
        alone += [each for each in found if not each.overlaps]
        if late:
            steps.append(Step(_work(numbers, prices), hidden))
        else:
            plain += numbers
    return Direction(_talks(alone), _work(plain, prices), tuple(steps))


def _proportional(small: Rank, large: Rank, name: str, backward: bool) -> list[Exchange]:
    """The collectives of a step whose bytes are proportional to the microbatch, with those of one sequence."""
    own, other = (rank.exchanges.get((name, backward), []) for rank in (small, large))
    times = large.plan.microbatch
    return [e for e, more in zip(own, other, strict=True) if e._replace(byte=times * e.byte) == more]


def _work(numbers: Iterable[tuple[Sequence[int], Sequence[int]]], prices: Prices) -> Work:
    """The bound of kernels at both ends. Where one resource is the longest at both, it is the longest between them."""
    low = high = 0.0
    bends = list[tuple[Ends, ...]]()
    for own, other in numbers:
        for one, two in zip(own, other, strict=True):
            ends = tuple(zip(prices.resources(one), prices.resources(two), strict=True))
            longest = max(end[0] for end in ends), max(end[1] for end in ends)
            if longest in ends:
                low, high = low + longest[0], high + longest[1]
            else:
                bends.append(ends)
    return Work((low, high), tuple(bends))
