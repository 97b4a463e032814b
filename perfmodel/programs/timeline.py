"""When each kernel of a program starts and ends: streams of a device, and the host that launches them.

A kernel starts after its launch by the host, after the previous kernel of its stream, and after the kernels of other
streams whose results it reads. Communication runs in a stream of its own. It takes multiprocessors and memory bandwidth
from the kernels beside it, which are slower meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from perfmodel.programs.hosts import HostTimes
from perfmodel.programs.program import Program, Step

COMPUTE = 0  # the stream of everything but communication


class Timed(NamedTuple):
    """A kernel: the number of its step, and its seconds when it runs alone."""

    step: int
    seconds: float


class Times(NamedTuple):
    """The end of a program, and delays of each kernel.

    ``waits_s``: its stream waits for the host, with the gap between kernels. ``exposed_s``: its stream waits for kernels of
    other streams. ``slowed_s``: the kernel takes longer beside communication.
    """

    end_s: float
    waits_s: tuple[float, ...]
    exposed_s: tuple[float, ...]
    slowed_s: tuple[float, ...]


def run(
    program: Program, kernels: Iterable[Timed], host: HostTimes | None, way: str = "eager", lost: float = 0.0
) -> Times:
    """Returns the timeline of a program.

    ``way`` is the run, ``eager`` or ``compiled``. Without a host, kernels wait for each other only. ``lost`` is the share
    of their speed that kernels lose beside communication.
    """
    line = _Line(program, host, way, lost)
    by_step: dict[int, list[float]] = {}
    for kernel in kernels:
        by_step.setdefault(kernel.step, []).append(kernel.seconds)
    for number, step in enumerate(program.steps):
        line.step(step, by_step.get(number, ()))
    return Times(line.end_s(), tuple(line.waits_s), tuple(line.exposed_s), tuple(line.slowed_s))


class _Line:
    """The state of host and streams while the program goes on."""

    def __init__(self, program: Program, host: HostTimes | None, way: str, lost: float) -> None:
        self.host, self.way, self.speed = host, way, 1.0 - lost
        self.beside: deque[tuple[float, float]] = deque()  # start and end of communication, in order
        self.recorded = any(step.phase == "backward" for step in program.steps)
        self.several = any(step.stream != COMPUTE for step in program.steps)
        self.host_s = (host.compiled_start_s if way == "compiled" else host.start_s) if host else 0.0
        self.free_s: dict[int, float] = {}
        self.written: dict[int, tuple[int, float]] = {}  # the stream that wrote a storage last, and when
        self.waits_s: list[float] = []
        self.exposed_s: list[float] = []
        self.slowed_s: list[float] = []

    def step(self, step: Step, seconds: Iterable[float]) -> None:
        """Runs the kernels of a step."""
        host = self.host
        if host:
            self.host_s += host.before_s(step, self.way, self.recorded)
        needed_s = self._needed_s(step) if self.several else 0.0
        end_s = self.free_s.get(step.stream, 0.0)
        for place, own_s in enumerate(seconds):
            if host:
                self.host_s += host.kernel_s if place else 0.0
            end_s = self._kernel(step.stream, own_s, needed_s)
        if self.several:
            self.written.update((x.storage, (step.stream, end_s)) for x in step.call.results if x.storage)
        if host and step.host.waits:
            self.host_s = max(self.host_s, end_s) + host.read_s

    def _kernel(self, stream: int, seconds: float, needed_s: float) -> float:
        """Adds a kernel to a stream, and returns its end."""
        begun, free_s = stream in self.free_s, self.free_s.get(stream, 0.0)
        ready_s = free_s
        if self.host:
            ready_s = max(free_s + self.host.gap_s, self.host_s + self.host.latency_s)
        start_s = max(ready_s, needed_s)
        self.waits_s.append(ready_s - free_s if begun else 0.0)
        self.exposed_s.append(start_s - ready_s)
        end_s = start_s + seconds
        if stream != COMPUTE:
            self.beside.append((start_s, end_s))
        elif self.beside:
            end_s = self._slowed_end_s(start_s, seconds)
        self.slowed_s.append(end_s - start_s - seconds)
        self.free_s[stream] = end_s
        return end_s

    def _slowed_end_s(self, start_s: float, left_s: float) -> float:
        """Returns the end of a kernel of ``left_s`` seconds that is slower while communication runs."""
        while self.beside and self.beside[0][1] <= start_s:
            self.beside.popleft()
        now_s = start_s
        for begin_s, end_s in self.beside:
            alone_s = max(0.0, begin_s - now_s)
            if left_s <= alone_s:
                break
            left_s, now_s = left_s - alone_s, now_s + alone_s
            done_s = (end_s - now_s) * self.speed
            if left_s <= done_s:
                return now_s + left_s / self.speed
            left_s, now_s = left_s - done_s, end_s
        return now_s + left_s

    def _needed_s(self, step: Step) -> float:
        """Returns the time at which other streams have written what a step reads."""
        ends = (self.written.get(x.storage) for x in step.call.operands)
        return max((end_s for stream, end_s in filter(None, ends) if stream != step.stream), default=0.0)

    def end_s(self) -> float:
        """Returns the time at which the host notices the end of all streams; without a host, that end."""
        last_s = max(self.free_s.values(), default=0.0)
        return max(self.host_s, last_s + self.host.end_s) if self.host else last_s
