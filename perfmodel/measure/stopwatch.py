"""Times a program on a device under one of four protocols.

``cold``: the last-level cache is flushed before every run. ``warm``: runs follow one another without a flush. On a GPU
both replay a CUDA graph, which removes host overhead. ``rotating``, on a GPU: one graph of many runs, each of which uses
another copy of the weights, so that they come from memory. ``eager``: the host launches every kernel, as in a program
without graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from perfmodel.measure.program import Program

ON_PROCESSOR = ("cold", "warm", "eager")
PROTOCOLS = (*ON_PROCESSOR, "rotating")  # on a GPU
FEWEST, MOST = 12, 60
STEADY = 0.05  # measure again if the interquartile range exceeds this share of the median
WARM_UP = 3
QUEUED = ("warm", "rotating")  # protocols whose runs follow one another without a pause
BUDGET_S = 0.12  # measured time per case
# Rotating: all copies of the weights together are this many times as large as L2.
CACHES, FEWEST_COPIES, MOST_COPIES = 4, 6, 1024


class Samples(NamedTuple):
    """Time of every run in microseconds, in order."""

    times_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        return median(self.times_us)

    def quantile_us(self, share: float) -> float:
        """Returns a quantile of the times, with linear interpolation."""
        ordered = sorted(self.times_us)
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    @property
    def spread(self) -> float:
        """Interquartile range divided by the median."""
        return (self.quantile_us(0.75) - self.quantile_us(0.25)) / self.median_us

    def fields(self) -> dict[str, float]:
        """Returns the statistics that a record stores."""
        return {
            "median_us": round(self.median_us, 3),
            "p25_us": round(self.quantile_us(0.25), 3),
            "p75_us": round(self.quantile_us(0.75), 3),
            "n": len(self.times_us),
        }


def steadiest(measure: Callable[[], Samples], tries: int) -> tuple[Samples, int]:
    """Measures again while the spread is large. Returns the samples with the smallest spread and the number of tries."""
    found: list[Samples] = []
    while len(found) < tries and (not found or found[-1].spread > STEADY):
        found.append(measure())
    return min(found, key=lambda samples: samples.spread), len(found)


@contextmanager
def replaced(tensors: Sequence[Any], by: Sequence[Any]) -> Iterator[None]:
    """Lets tensors use the memory of others, without a copy. A graph that is captured meanwhile holds those addresses."""
    own = [one.detach() for one in tensors]
    for one, other in zip(tensors, by, strict=True):
        one.set_(other)
    try:
        yield
    finally:
        for one, before in zip(tensors, own, strict=True):
            one.set_(before)


def calling(program: Program) -> Callable[[], None]:
    """Returns the function of one plain call, which drops the outputs."""

    def run() -> None:
        program.run()

    return run


class Replay:
    """A CUDA graph of so many runs."""

    def __init__(self, replay: Callable[[], None], runs: int = 1) -> None:
        self._replay, self.runs = replay, runs

    def __call__(self) -> None:
        self._replay()


def _runs(run: Callable[[], None]) -> int:
    """Returns the number of runs of one call."""
    return run.runs if isinstance(run, Replay) else 1


def copies(weight_byte: int, cache_byte: int) -> int:
    """Returns the number of copies of the weights with which none is still in the cache when it is used again. The number
    is limited, so part of very small weights stays in the cache.
    """
    return min(MOST_COPIES, max(FEWEST_COPIES, -(-CACHES * cache_byte // max(1, weight_byte))))


class Cuda:
    """A GPU through torch. Captures a program in a CUDA graph, flushes L2 by reading, and times with events."""

    name = "cuda"
    protocols = PROTOCOLS
    tries = 3  # a short delay of the host can slow small kernels

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.stream = torch.cuda.Stream()
        self.cache_byte = torch.cuda.get_device_properties(0).L2_cache_size
        self._flush = torch.ones(max(4 * self.cache_byte, 1 << 26) // 4, device="cuda")
        self._sink = torch.empty((), device="cuda")
        self._kept: tuple[tuple[Any, ...], ...] = ()

    def flush(self) -> None:
        """Reads four times the size of L2. This evicts all lines of the case and writes back the dirty ones."""
        self.torch.sum(self._flush, dim=0, out=self._sink)

    def ready(self, program: Program, protocol: str) -> tuple[Callable[[], None], Any]:
        """Returns the function of one run, a graph replay or the plain call, and its outputs."""
        torch = self.torch
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                out = program.run()
        torch.cuda.synchronize()
        if protocol == "eager":
            return calling(program), out
        del out
        graph = torch.cuda.CUDAGraph()
        others = self._others(program) if protocol == "rotating" else ()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                for weights in others:
                    with replaced(program.weights, weights):
                        program.run()
                out = program.run()
        except Exception:
            self._leave_capture()
            raise
        torch.cuda.synchronize()
        self._kept = others  # the graph holds their addresses alone
        return Replay(graph.replay, len(others) + 1), out

    def _others(self, program: Program) -> tuple[tuple[Any, ...], ...]:
        """Returns copies of the weights, for all runs of a graph but the last."""
        byte = sum(one.numel() * one.element_size() for one in program.weights)
        number = copies(byte, self.cache_byte) - 1
        return tuple(tuple(one.clone() for one in program.weights) for _ in range(number))

    def _leave_capture(self) -> None:
        """Ends the state in which a failed capture leaves the random numbers of torch, by a capture that succeeds."""
        torch = self.torch
        with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self.stream):
            self._sink.zero_()

    def times(self, run: Callable[[], None], protocol: str) -> Samples:
        """Returns as many samples as the time budget allows, each between two events."""
        torch = self.torch
        with torch.cuda.stream(self.stream):
            first = self._between(run, protocol, 3)
            typical_s = median(first) * _runs(run) * 1e-6 + (1e-4 if protocol == "cold" else 0)
            number = int(min(MOST, max(FEWEST, BUDGET_S / typical_s)))
            return Samples(tuple(self._between(run, protocol, number)))

    def _between(self, run: Callable[[], None], protocol: str, number: int) -> list[float]:
        torch = self.torch
        pairs, runs = [], _runs(run)
        if protocol in QUEUED:
            torch.cuda._sleep(2_000_000)  # the host fills the queue meanwhile, which hides launch overhead
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
        return [start.elapsed_time(end) * 1e3 / runs for start, end in pairs]

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def peak_byte(self) -> int:
        """Returns the peak of allocated memory in bytes since the last call."""
        found = int(self.torch.cuda.max_memory_allocated())
        self.torch.cuda.reset_peak_memory_stats()
        return found

    def release(self) -> None:
        """Frees the memory of the last case."""
        self._kept = ()
        self.torch.cuda.empty_cache()


class Cpu:
    """This processor. Times plain calls with the clock of the host."""

    name = "cpu"
    protocols = ON_PROCESSOR
    tries = 1  # other load on a processor usually lasts longer than a second try

    def __init__(self, cache_byte: int) -> None:
        self._flush = bytearray(4 * max(cache_byte, 1 << 22))

    def flush(self) -> None:
        """Reads four times the size of the last-level cache."""
        sum(memoryview(self._flush)[::64])

    def ready(self, program: Program, protocol: str) -> tuple[Callable[[], None], Any]:
        """Returns the function of one run, and the outputs of an earlier run."""
        out = program.run()
        return calling(program), out

    def times(self, run: Callable[[], None], protocol: str) -> Samples:
        """Returns as many samples as the time budget allows."""
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
        """Does nothing: calls on a processor are synchronous."""

    def peak_byte(self) -> int:
        """Returns 0: peak memory is not measured on a processor."""
        return 0

    def release(self) -> None:
        """Does nothing: Python frees the memory."""
