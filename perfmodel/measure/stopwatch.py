"""Times of a program on a device, by one of three protocols.

``cold``: the last-level cache is emptied before every run. ``warm``: run after run. Both replay a captured graph on a
GPU, so that the host does not enter. ``eager``: every kernel is launched by the host, as a program without graphs does.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from perfmodel.measure.program import Program

PROTOCOLS = ("cold", "warm", "eager")
FEWEST, MOST = 12, 60
STEADY = 0.05  # quartiles no further apart than this share of the median need no second try
WARM_UP = 3
BUDGET_S = 0.12  # of measured time for one case


class Samples(NamedTuple):
    """Microseconds of every run, in order."""

    times_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        return median(self.times_us)

    def quantile_us(self, share: float) -> float:
        """The time that this share of the runs does not exceed, between neighbours in proportion."""
        ordered = sorted(self.times_us)
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median."""
        return (self.quantile_us(0.75) - self.quantile_us(0.25)) / self.median_us

    def fields(self) -> dict[str, float]:
        """What a record says of them."""
        return {
            "median_us": round(self.median_us, 3),
            "p25_us": round(self.quantile_us(0.25), 3),
            "p75_us": round(self.quantile_us(0.75), 3),
            "n": len(self.times_us),
        }


def steadiest(measure: Callable[[], Samples], tries: int) -> tuple[Samples, int]:
    """Measures until the quartiles are close together; returns the samples with the least spread and the number of tries."""
    found: list[Samples] = []
    while len(found) < tries and (not found or found[-1].spread > STEADY):
        found.append(measure())
    return min(found, key=lambda samples: samples.spread), len(found)


class Cuda:
    """A GPU as torch sees it: captures a program once, empties the cache by reading, and times with events."""

    name = "cuda"
    tries = 3  # the host may fall behind the card for a moment, which shows in small kernels

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.stream = torch.cuda.Stream()
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        self._flush = torch.ones(max(4 * cache, 1 << 26) // 4, device="cuda")
        self._sink = torch.empty((), device="cuda")

    def flush(self) -> None:
        """Reads four times as much as the last-level cache holds: nothing of the case stays, and nothing waits to be
        written back."""
        self.torch.sum(self._flush, dim=0, out=self._sink)

    def ready(self, program: Program, protocol: str) -> tuple[Callable[[], None], Any]:
        """What one run is, and the outputs that it leaves: a replay, or the plain call."""
        torch = self.torch
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                out = program.run()
        torch.cuda.synchronize()
        if protocol == "eager":
            return self._eager(program), out
        del out
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            out = program.run()
        torch.cuda.synchronize()
        return graph.replay, out

    def _eager(self, program: Program) -> Callable[[], None]:
        def run() -> None:
            program.run()

        return run

    def times(self, run: Callable[[], None], protocol: str) -> Samples:
        """As many runs as the budget allows, each between two events; the host stays ahead of the card."""
        torch = self.torch
        with torch.cuda.stream(self.stream):
            first = self._between(run, protocol, 3)
            typical_s = median(first) * 1e-6 + (1e-4 if protocol == "cold" else 0)
            number = int(min(MOST, max(FEWEST, BUDGET_S / typical_s)))
            return Samples(tuple(self._between(run, protocol, number)))

    def _between(self, run: Callable[[], None], protocol: str, number: int) -> list[float]:
        torch = self.torch
        pairs = []
        if protocol == "warm":  # fills the queue, so that the host's own time never shows
            torch.cuda._sleep(2_000_000)
        for _ in range(number):
            if protocol == "cold":
                self.flush()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(self.stream)
            run()
            end.record(self.stream)
            pairs.append((start, end))
            if protocol == "eager":
                torch.cuda.synchronize()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) * 1e3 for start, end in pairs]

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def peak_byte(self) -> int:
        """The most memory that was taken at once since the last call."""
        found = int(self.torch.cuda.max_memory_allocated())
        self.torch.cuda.reset_peak_memory_stats()
        return found

    def release(self) -> None:
        """Gives the memory of the last case back."""
        self.torch.cuda.empty_cache()


class Cpu:
    """This processor: plain calls between two readings of the clock."""

    name = "cpu"
    tries = 1  # other work on a processor outlasts a second try

    def __init__(self, cache_byte: int) -> None:
        self._flush = bytearray(4 * max(cache_byte, 1 << 22))

    def flush(self) -> None:
        """Reads four times as much as the last-level cache holds."""
        sum(memoryview(self._flush)[::64])

    def ready(self, program: Program, protocol: str) -> tuple[Callable[[], None], Any]:
        """What one run is, and the outputs of the last one before it."""
        out = program.run()

        def run() -> None:
            program.run()

        return run, out

    def times(self, run: Callable[[], None], protocol: str) -> Samples:
        """As many runs as the budget allows."""
        first = self._between(run, protocol, 1)
        number = int(min(MOST, max(5, BUDGET_S / (first[0] * 1e-6 + 1e-6))))
        return Samples(tuple(self._between(run, protocol, number)))

    def _between(self, run: Callable[[], None], protocol: str, number: int) -> list[float]:
        found = []
        for _ in range(number):
            if protocol == "cold":
                self.flush()
            start = perf_counter()
            run()
            found.append((perf_counter() - start) * 1e6)
        return found

    def synchronize(self) -> None:
        """Nothing runs behind the host's back."""

    def peak_byte(self) -> int:
        """Not known of a processor."""
        return 0

    def release(self) -> None:
        """Python gives memory back by itself."""
