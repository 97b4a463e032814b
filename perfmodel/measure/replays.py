"""Times of a call on all ranks: the slowest rank counts, and the first one decides how often the call runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter

from perfmodel.measure.ranks import Ranks
from perfmodel.measure.stopwatch import Samples

BUDGET_S, FEWEST, MOST = 0.12, 7, 60
FIRST = 3  # runs from which the number of runs is decided


def sampled(
    ranks: Ranks,
    measured: Callable[[int], list[float]],
    *,
    calls: int = 1,
    budget_s: float = BUDGET_S,
    fewest: int = FEWEST,
) -> Samples:
    """Returns samples: a few runs first, then as many as the budget allows. One run is of ``calls`` calls."""

    def slowest(number: int) -> list[float]:
        ranks.meet()
        times = ranks.agreed(lambda: measured(number))
        return [max(of_ranks) for of_ranks in zip(*ranks.gathered(times), strict=True)]

    typical_s = median(slowest(FIRST)) * 1e-6
    number = ranks.told(int(min(MOST, max(fewest, budget_s / max(typical_s, 1e-6) / calls))))
    return Samples(tuple(slowest(number)))


def graph(ranks: Ranks, run: Callable[[], object], calls: int) -> Callable[[], None]:
    """Captures ``calls`` calls in a CUDA graph and returns the function that replays it. The call must have run before."""
    torch = ranks.torch
    captured, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.graph(captured, stream=stream, capture_error_mode="thread_local"):
        for _ in range(calls):
            run()
    torch.cuda.synchronize()
    replay: Callable[[], None] = captured.replay
    for _ in range(2):
        replay()
    torch.cuda.synchronize()
    return replay


def replays(ranks: Ranks, replay: Callable[[], None], calls: int, number: int) -> list[float]:
    """Returns microseconds of one call, from replays back to back."""
    torch = ranks.torch
    torch.cuda._sleep(2_000_000)  # the host fills the queue meanwhile
    events = [torch.cuda.Event(enable_timing=True) for _ in range(number + 1)]
    events[0].record()
    for event in events[1:]:
        replay()
        event.record()
    torch.cuda.synchronize()
    return [first.elapsed_time(last) * 1e3 / calls for first, last in pairwise(events)]


def between_events(ranks: Ranks, run: Callable[[], object]) -> float:
    """Returns microseconds of one call that the host launches, by the clock of the device, until its end."""
    ranks.meet()
    if not ranks.cuda:
        return _host_us(ranks, run)
    begin, end = (ranks.torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    ranks.torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1e3


def wall(ranks: Ranks, run: Callable[[], object]) -> float:
    """Returns microseconds of one call by the clock of the host, the device idle before and after it."""
    ranks.synchronize()
    ranks.meet()
    return _host_us(ranks, run)


def _host_us(ranks: Ranks, run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    ranks.synchronize()
    return (perf_counter() - start) * 1e6
