"""Measured limits of this card: bandwidths, rates, latencies and launch overheads, each with its quartiles.

The benchmarks are streams, one large product per data type, and chains of one instruction. None of them is an operation
that the model is validated on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from perfmodel.measure.program import Program
from perfmodel.measure.stopwatch import Cuda, Samples
from perfmodel.measured import Reading

THREADS = 256
SUSTAINED_S = 1.5
BURSTS, PAUSE_S = 7, 0.06
PRODUCT_TYPES = ("fp16", "bf16", "tf32", "fp32", "fp8")


class Ceiling(NamedTuple):
    """A measured limit, with its section and name in the file."""

    section: str
    name: str
    reading: Reading


def measure(torch: Any, told: Callable[[str], None]) -> Iterator[Ceiling]:
    """Yields every limit, one group after another.

    ``told`` is called with the name of each group before it starts.
    """
    watch = Cuda(torch)
    # The products come last: they draw the most power, and a throttled board runs at a lower clock for a while.
    for title, group in (
        ("launches", _launches), ("latency", _latency), ("instructions", _instructions), ("second-level cache", _cache),
        ("streams", _streams), ("products", _products),
    ):  # fmt: skip
        told(title)
        yield from group(watch)


def reading(quartiles: Sequence[float], note: str = "") -> Reading:
    """Returns a reading from a median, a lower quartile and an upper quartile, in this order."""
    value, low, high = quartiles
    return Reading(value, low, high, note)


def _ceiling(section: str, name: str, amount: float, samples: Samples, note: str = "") -> Ceiling:
    """Returns a rate: an amount divided by the measured times."""
    rates = (samples.median_us, samples.quantile_us(0.75), samples.quantile_us(0.25))
    return Ceiling(section, name, reading([amount / us * 1e6 for us in rates], note))


def _timed(watch: Cuda, run: Callable[[], Any], protocol: str) -> Samples:
    replay, out = watch.ready(Program(run, lambda _: iter(())), protocol)
    found = watch.times(replay, protocol)
    del out
    return found


def _streams(watch: Cuda) -> Iterator[Ceiling]:
    """Bandwidth of elementwise kernels by their mix of reads and writes, from a cold cache. The best of several sizes
    counts.
    """
    torch = watch.torch
    best: dict[str, Ceiling] = {}
    for elements in (1 << 27, 1 << 28, 1 << 29):
        a, b, out = (torch.ones(elements, device="cuda", dtype=torch.float16) for _ in range(3))
        sink = torch.zeros(4, device="cuda", dtype=torch.int32)
        for name, moved, run in (
            ("read", 1, partial(read_all, a, sink, 1)),
            ("copy", 2, partial(torch.mul, a, 0.5, out=out)),
            ("add", 3, partial(torch.add, a, b, out=out)),
            ("write", 1, partial(out.fill_, 1.0)),
        ):
            note = f"{moved * 2 * elements / 1e6:.0f} MB moved, cold"
            found = _ceiling("stream", name, moved * 2 * elements, _timed(watch, run, "cold"), note)
            if name not in best or found.reading.value > best[name].reading.value:
                best[name] = found
        del a, b, out
    yield from best.values()


def _products(watch: Cuda) -> Iterator[Ceiling]:
    """Rate of one large product per data type, a whole number of waves of tiles.

    A burst runs after a pause. The sustained rate is reached when the power limit sets the clock.
    """
    torch = watch.torch
    count = torch.cuda.get_device_properties(0).multi_processor_count
    for dtype in PRODUCT_TYPES:
        m, n, k = 128 * count, *((4096, 4096) if dtype == "fp32" else (8192, 8192))
        try:
            run = _product(torch, dtype, m, n, k)
            run()
            torch.cuda.synchronize()
        except (RuntimeError, AttributeError, ValueError):  # the card or torch does not support this data type
            continue
        flops = 2 * m * n * k
        shape = f"{m} x {k} times {k} x {n}"
        bursts = []
        for _ in range(BURSTS):
            time.sleep(PAUSE_S)
            bursts += _each(watch, run, 1)
        yield _ceiling("matmul", f"{dtype} burst", flops, Samples(tuple(bursts)), shape)
        number = max(8, int(SUSTAINED_S / (median(bursts) * 1e-6)))
        times = _each(watch, run, number)
        last = Samples(tuple(times[number // 2 :]))
        yield _ceiling(
            "matmul", f"{dtype} sustained", flops, last, f"the second half of {SUSTAINED_S:g} s without a pause"
        )
        del run
        watch.release()


def _product(torch: Any, dtype: str, m: int, n: int, k: int) -> Callable[[], Any]:
    a, b = torch.randn(m, k, device="cuda"), torch.randn(k, n, device="cuda")
    kind = "tf32" if dtype == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    if dtype == "fp8":
        x, y = a.to(torch.float8_e4m3fn), b.t().contiguous().to(torch.float8_e4m3fn).t()
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(x, y, one, one, out_dtype=torch.bfloat16)
    if dtype in ("fp16", "bf16"):
        to = torch.float16 if dtype == "fp16" else torch.bfloat16
        a, b = a.to(to), b.to(to)
    return lambda: a @ b


def _each(watch: Cuda, run: Callable[[], Any], number: int) -> list[float]:
    """Returns the time of each of several consecutive runs, in microseconds."""
    torch = watch.torch
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(number + 1)]
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) * 1e3 for a, b in pairwise(marks)]


def _cache(watch: Cuda) -> Iterator[Ceiling]:
    """L2 bandwidth: reads a buffer of a quarter of L2 repeatedly, bypassing L1."""
    torch = watch.torch
    size = torch.cuda.get_device_properties(0).L2_cache_size // 4 // 4096 * 4096
    x, sink = torch.ones(size // 4, device="cuda"), torch.zeros(4, device="cuda", dtype=torch.int32)
    times = 64
    found = _timed(watch, lambda: read_all(x, sink, times), "warm")
    yield _ceiling("l2", "read", times * size, found, f"{size / 1e6:.0f} MB read {times} times")


def _instructions(watch: Cuda) -> Iterator[Ceiling]:
    """Instruction throughput: chains of one instruction on every multiprocessor."""
    count = watch.torch.cuda.get_device_properties(0).multi_processor_count
    blocks, rounds = 8 * count, 4096
    sink = watch.torch.zeros(4, device="cuda")
    threads = blocks * THREADS
    for kernel, section, name, each in (
        ("fma_fp32", "fma", "fp32", 2 * 16), ("fma_fp16", "fma", "fp16", 4 * 16), ("exponential", "special", "exp2", 8),
    ):  # fmt: skip
        found = _timed(watch, partial(launch, kernel, blocks, THREADS, (sink,), rounds), "warm")
        yield _ceiling(section, name, threads * rounds * each, found)


def _launches(watch: Cuda) -> Iterator[Ceiling]:
    """Launch overheads: the gap between kernels, and the replay of one empty kernel."""

    def empty(number: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(number):
                launch("nothing", 1, 32, (), 0)

        return run

    for protocol in ("warm", "cold"):
        found = _timed(watch, empty(1), protocol)
        yield _seconds(
            "launch",
            f"replay {protocol}",
            found.times_us,
            "replay of a graph with one empty kernel, between two events",
        )
    long, short = (_timed(watch, empty(number), "warm") for number in (201, 1))
    node = [(us - short.median_us) / 200 for us in long.times_us]
    yield _seconds("launch", "graph node", node, "gap between kernels of one graph")
    many = empty(1000)
    many()
    watch.synchronize()
    per_launch = []
    for _ in range(9):
        start = time.perf_counter()
        many()
        watch.synchronize()
        per_launch.append((time.perf_counter() - start) * 1e6 / 1000)
    yield _seconds("launch", "stream", per_launch, "gap between kernels that the host launches one by one")


def _latency(watch: Cuda) -> Iterator[Ceiling]:
    """Memory latency: follows a chain of addresses with a spacing of 256 bytes or more, through 512 MB and through an
    eighth of L2.
    """
    torch = watch.torch
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    for name, size, steps in (("dram", 1 << 29, 4000), ("l2", cache // 8, 20000)):
        lines = size // 256
        order = torch.randperm(lines, device="cuda")
        chain = torch.zeros(lines * 64, device="cuda", dtype=torch.int32)
        # the kernel starts at element 0, so the chain does too
        order = torch.cat([torch.zeros(1, device="cuda", dtype=order.dtype), order[order != 0]])
        chain[order * 64] = (order.roll(-1) * 64).to(torch.int32)
        sink = torch.zeros(4, device="cuda", dtype=torch.int32)
        protocol = "cold" if name == "dram" else "warm"
        found = _timed(watch, partial(launch, "chase", 1, 1, (chain, sink), steps), protocol)
        yield _seconds(
            "latency", name, [us / steps for us in found.times_us], "one thread, each load depends on the previous one"
        )
        del chain


def _seconds(section: str, name: str, times_us: Iterable[float], note: str) -> Ceiling:
    samples = Samples(tuple(times_us))
    us = (samples.median_us, samples.quantile_us(0.25), samples.quantile_us(0.75))
    return Ceiling(section, name, reading([one * 1e-6 for one in us], note))


def read_all(x: Any, sink: Any, times: int) -> None:
    """Reads a tensor ``times`` times. A single pass uses one thread per four accesses; repeated passes use as many
    threads as fit.
    """
    from perfmodel.measure.kernels.launch import cupy, multiprocessors

    wide = x.numel() * x.element_size() // 16
    blocks = -(-wide // (4 * THREADS)) if times == 1 else 8 * multiprocessors()
    launch("read_all", blocks, THREADS, (x, sink, cupy().int64(wide)), times)


def launch(name: str, blocks: int, threads: int, arguments: tuple[Any, ...], count: int) -> None:
    """Launches one kernel of ``ceilings.cu`` on torch's current stream, with a count as its last argument."""
    from perfmodel.measure.kernels import launch as kernels

    lib = kernels.cupy()
    compiled = kernels.module("ceilings.cu", "float32", VEC=1)
    pointers = tuple(lib.int64(a.data_ptr()) if hasattr(a, "data_ptr") else a for a in arguments)
    import torch

    handle = torch.cuda.current_stream()
    known = getattr(lib.cuda.Stream, "from_external", None)
    stream = known(handle) if known else lib.cuda.ExternalStream(handle.cuda_stream)
    kernels.launch(compiled, name, (blocks,), threads, (*pointers, lib.int32(count)), stream)
