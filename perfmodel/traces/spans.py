"""The parts of the time of a step: kernels, communication, and idle time by cause. The parts add up to the step.

The step lasts from the start of its first kernel to the end of its last. At each moment of it the device runs a kernel,
a copy or a fill; or only communication (``exposed``); or nothing. Idle time before a kernel that the host launched
after the device had run dry is the host's. All other idle time is ``other``: the kernel was launched and waited for
another stream, for an event, or for the gap of about 1 us between two kernels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from perfmodel.timing.weights import Mechanism
from perfmodel.traces.events import Activity, Launch, Range, Trace
from perfmodel.traces.kernel_names import is_communication
from perfmodel.traces.nesting import Nesting

Stretch = tuple[float, float]
OUTSIDE = "Python, outside any operator"
PROFILER = "the profiler itself: "
WAITS = "waiting for the device: "
# Per operator and launch, with or without shapes.
RECORDED_S = Mechanism("programs").weight("recorded s")


class Idle(NamedTuple):
    """A stretch in which the device runs nothing, and the activity that ends it. ``host``: the host was late."""

    start_s: float
    end_s: float
    ends: Activity
    host: bool

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


class Spans(NamedTuple):
    """The parts of a step. ``kernel_s`` is the union over streams of kernels, copies and fills without communication.

    ``stretches_s`` is the sum of the same without regard to overlap. ``host_in`` is the idle time because of the host, by
    what the host did. ``profiler_s`` is what the profiler itself added, where the time without it is known;
    ``recording_s`` is an estimate of it from the number of events.
    """

    start_s: float
    end_s: float
    kernel_s: float
    stretches_s: float
    communication_exposed_s: float
    communication_hidden_s: float
    idle_host_s: float
    idle_other_s: float
    idle: tuple[Idle, ...]
    host_in: Mapping[str, float]
    profiler_s: float | None = None
    recording_s: float = 0.0

    @property
    def span_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def accounted_s(self) -> float:
        return self.kernel_s + self.communication_exposed_s + self.idle_host_s + self.idle_other_s


def spans(trace: Trace, activities: Sequence[Activity], nesting: Nesting, unprofiled_s: float | None = None) -> Spans:
    """Takes the time of these activities apart. They are in the order of their start."""
    communication = [(one.start_s, one.end_s) for one in activities if is_communication(one.name)]
    others = [(one.start_s, one.end_s) for one in activities if not is_communication(one.name)]
    kernel_s, communication_s = length(union(others)), length(union(communication))
    busy_s = length(union((*others, *communication)))
    idle = tuple(_idle(activities, trace.launches))
    start_s, end_s = activities[0].start_s, max(one.end_s for one in activities)
    profiler_s = None if unprofiled_s is None else max(0.0, end_s - start_s - unprofiled_s)
    return Spans(
        start_s, end_s, kernel_s, sum(end - start for start, end in others), busy_s - kernel_s,
        communication_s - (busy_s - kernel_s), sum(one.seconds for one in idle if one.host),
        sum(one.seconds for one in idle if not one.host), idle, _host_in(trace, nesting, idle), profiler_s, _recording(trace, start_s, end_s),
    )  # fmt: skip


def _recording(trace: Trace, start_s: float, end_s: float) -> float:
    """Returns the overhead of recording on the host: the delays of the profiler, and a fixed time for every event."""
    starts = [one.start_s for ranges in trace.operators.values() for one in ranges]
    starts += [one.start_s for one in trace.launches.values()]
    return length((one.start_s, one.end_s) for one in trace.delays) + RECORDED_S * sum(
        start_s <= at <= end_s for at in starts
    )


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches that do not overlap and cover the same time."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def length(stretches: Iterable[Stretch]) -> float:
    """The sum of their lengths."""
    return sum(end - start for start, end in stretches)


def _idle(activities: Sequence[Activity], launches: Mapping[int, Launch]) -> Iterable[Idle]:
    dry_s = activities[0].end_s
    for one in activities[1:]:
        if one.start_s > dry_s:
            launch = launches.get(one.correlation)
            yield Idle(dry_s, one.start_s, one, launch is not None and launch.start_s > dry_s)
        dry_s = max(dry_s, one.end_s)


def _host_in(trace: Trace, nesting: Nesting, idle: Iterable[Idle]) -> dict[str, float]:
    """Seconds of idle time because of the host, by what the launching thread did in them, the longest first."""
    found: dict[str, float] = {}
    delays, waits = Overlaps(trace.delays), _waits(trace)
    for gap in idle:
        if not gap.host:
            continue
        launch = trace.launches[gap.ends.correlation]
        left = gap.seconds
        for kind, ranges in ((PROFILER, delays), (WAITS, waits.get(launch.thread, NONE))):
            for name, shared_s in ranges.within(gap.start_s, gap.end_s):
                _add(found, kind + name, min(left, shared_s))
                left -= min(left, shared_s)
        if left > 0.0:
            for name, share in _shares(nesting, launch, gap):
                _add(found, name, share * left)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _add(found: dict[str, float], name: str, seconds: float) -> None:
    if seconds > 0.0:
        found[name] = found.get(name, 0.0) + seconds


class Overlaps:
    """Ranges in the order of their start; they are assumed not to overlap each other."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = sorted(ranges, key=lambda one: one.start_s)
        self._ends = [one.end_s for one in self._ranges]

    def within(self, start_s: float, end_s: float) -> Iterable[tuple[str, float]]:
        """The name of each range that touches a stretch, with the seconds that they share."""
        for one in self._ranges[bisect_right(self._ends, start_s) :]:
            if one.start_s >= end_s:
                return
            yield one.name, min(one.end_s, end_s) - max(one.start_s, start_s)


NONE = Overlaps(())


def _waits(trace: Trace) -> dict[int, Overlaps]:
    """Calls in which the host waits for the device, by thread."""
    found: dict[int, list[Range]] = {}
    for one in trace.launches.values():
        if "Synchronize" in one.name:
            found.setdefault(one.thread, []).append(Range(one.name, one.start_s, one.end_s, one.thread))
    return {thread: Overlaps(ranges) for thread, ranges in found.items()}


def _shares(nesting: Nesting, launch: Launch, gap: Idle) -> Iterable[tuple[str, float]]:
    """What the launching thread did from the start of a gap to the end of the launch, each with its share of that."""
    time_s, end_s = gap.start_s, max(launch.end_s, gap.start_s + 1e-9)
    while time_s < end_s:
        name, until_s = nesting.doing(launch.thread, time_s)
        until_s = min(max(until_s, time_s + 1e-9), end_s)
        named = "" if name else next(iter(nesting.names(launch.thread, time_s)), "")
        yield name or (f"{OUTSIDE} ({named})" if named else OUTSIDE), (until_s - time_s) / (end_s - gap.start_s)
        time_s = until_s
