"""Which range of the host encloses which: operators, modules and the ranges that the program names, by thread."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from perfmodel.traces.events import Range, Trace

ROUNDING_S = 2e-9  # of two times that the profiler writes in nanoseconds
NODE = "autograd::engine::evaluate_function: "
OPTIMIZER = ("Optimizer.step", "Optimizer.zero_grad")


class Place(NamedTuple):
    """An operator: its thread, and where it stands among the operators of the thread."""

    thread: int
    at: int


def parents(ranges: Sequence[Range]) -> list[int]:
    """The index of the range around each range, -1 for the outermost. The ranges are in order of their start."""
    found: list[int] = []
    stack: list[tuple[float, int]] = []
    for index, one in enumerate(ranges):
        while stack and stack[-1][0] <= one.start_s:
            stack.pop()
        found.append(stack[-1][1] if stack else -1)
        stack.append((one.end_s, index))
    return found


class Lane:
    """Ranges of one thread in the order of their start, each with the index of the range around it (-1: none)."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = ranges
        self.parents = parents(ranges)
        self._starts = [one.start_s for one in ranges]
        self._outer = [i for i, above in enumerate(self.parents) if above < 0]
        self._outer_starts = [ranges[i].start_s for i in self._outer]

    def at(self, time_s: float) -> int:
        """The innermost range at a time, -1 where there is none."""
        index = bisect_right(self._starts, time_s + ROUNDING_S) - 1
        while index >= 0 and self.ranges[index].end_s < time_s:
            index = self.parents[index]
        return index

    def around(self, index: int) -> Iterator[int]:
        """A range and all those around it, from the inside out."""
        while index >= 0:
            yield index
            index = self.parents[index]

    def outermost(self, time_s: float) -> tuple[Range | None, float]:
        """The outermost range at a time and its end; without one, the start of the next one."""
        place = bisect_right(self._outer_starts, time_s) - 1
        if place >= 0 and self.ranges[self._outer[place]].end_s > time_s:
            found = self.ranges[self._outer[place]]
            return found, found.end_s
        after = place + 1
        return None, self._outer_starts[after] if after < len(self._outer) else float("inf")


EMPTY = Lane(())


class Nesting:
    """The lanes of a trace: operators, modules and named ranges."""

    def __init__(self, trace: Trace) -> None:
        self.operators = {thread: Lane(ranges) for thread, ranges in trace.operators.items()}
        self._modules = {thread: Lane(ranges) for thread, ranges in trace.modules.items()}
        self._named = {thread: Lane(ranges) for thread, ranges in _by_thread(trace.named).items()}
        self._numbers = {
            one.number: Place(thread, i)
            for thread, ranges in trace.operators.items() for i, one in enumerate(ranges) if one.number >= 0
        }  # fmt: skip
        self._creators = _creators(trace.operators)

    def operator(self, place: Place) -> Range:
        return self.operators[place.thread].ranges[place.at]

    def at(self, thread: int, time_s: float) -> Place | None:
        """The innermost operator of a thread at a time."""
        index = self.operators.get(thread, EMPTY).at(time_s)
        return Place(thread, index) if index >= 0 else None

    def numbered(self, number: int) -> Place | None:
        """The operator with an external id."""
        return self._numbers.get(number)

    def around(self, place: Place) -> Iterator[Place]:
        """The operator and all those around it, from the inside out."""
        return (Place(place.thread, index) for index in self.operators[place.thread].around(place.at))

    def node(self, place: Place) -> Range | None:
        """The node of autograd around an operator, if it runs in a backward pass."""
        around = map(self.operator, self.around(place))
        return next((one for one in around if one.forward > 0 and one.sequence >= 0), None)

    def created(self, node: Range) -> Place | None:
        """The forward operator that created a node of autograd."""
        return self._creators.get(node.sequence)

    def module(self, thread: int, time_s: float) -> str:
        """The path of the modules around a time of a thread, from the outside in, such as ``BertModel_0.BertLayer_1``."""
        lane = self._modules.get(thread, EMPTY)
        path = [lane.ranges[index].name for index in lane.around(lane.at(time_s))]
        return ".".join(reversed(path))

    def names(self, thread: int, time_s: float) -> list[str]:
        """The ranges that the program itself names around a time, from the inside out: on this thread, else on any."""
        for lane in (self._named.get(thread, EMPTY), *self._named.values()):
            index = lane.at(time_s)
            if index >= 0:
                return [lane.ranges[one].name for one in lane.around(index)]
        return []

    def doing(self, thread: int, time_s: float) -> tuple[str, float]:
        """Returns the outermost operator of the host at a time, and its end; an empty text outside any operator."""
        found, until_s = self.operators.get(thread, EMPTY).outermost(time_s)
        return found.name.removeprefix(NODE) if found else "", until_s


def _by_thread(ranges: Sequence[Range]) -> Mapping[int, list[Range]]:
    found: dict[int, list[Range]] = {}
    for one in ranges:
        found.setdefault(one.thread, []).append(one)
    return found


def _creators(operators: Mapping[int, list[Range]]) -> dict[int, Place]:
    """The forward operator that created each node of autograd: the last one with its sequence number."""
    found: dict[int, tuple[float, Place]] = {}
    for thread, ranges in operators.items():
        for index, one in enumerate(ranges):
            if one.sequence >= 0 and one.forward <= 0:
                found[one.sequence] = max(
                    found.get(one.sequence, (-1.0, Place(thread, index))), (one.start_s, Place(thread, index))
                )
    return {number: place for number, (_, place) in found.items()}
