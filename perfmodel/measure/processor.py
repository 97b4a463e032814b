"""Measured limits of this processor as a GPU file. Without a data sheet, the best measured rates are the peaks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from time import perf_counter
from typing import Any

from perfmodel.measure import environment

REPEATS = 7
ORDERS = (384, 768, 1152)  # of the square matrices whose products give the FLOP rate


def hardware_file() -> str:
    """Returns the contents of a file for ``--gpu FILE``. Every rate is the best of several runs of NumPy or torch."""
    cache = environment.cache_byte()
    with _library() as lib:
        memory, held = _stream_byte_per_s(lib, 4 * cache), _stream_byte_per_s(lib, cache // 8)
        rates = {dtype: _product_flop_per_s(lib, dtype) for dtype in ("fp64", "fp32")}
    name = environment.processor_name()
    peaks = "\n".join(
        f"  {dtype}: {{value: {rate / 1e9:.5g} GFLOP/s, from: measured}}" for dtype, rate in rates.items()
    )
    return f"""# Measured by 'perfmodel calibrate --gpu cpu': the best of several runs, not a data sheet.
title: {name} ({environment.cores()} cores)
vendor: {name.split()[0]}
architecture: unknown
form: processor
matches: ["{name}"]
sources:
  measured: {{title: measured with {lib.__name__}, read: {date.today().isoformat()}}}
multiprocessors: {{value: {environment.cores()}, from: measured, note: cores available to this process}}
clocks: {{}}
memory:
  type: system memory
  capacity: {{value: {_memory_byte()} B, from: measured}}
  bandwidth: {{value: {memory / 1e9:.5g} GB/s, from: measured, note: "best of copy, add and sum over arrays of {4 * cache / 1e6:.0f} MB"}}
caches:
  l2: {{value: {cache} B, from: measured, note: last-level cache}}
  l2_bandwidth: {{value: {max(held, memory) / 1e9:.5g} GB/s, from: measured, note: "best of copy, add and sum over arrays of {cache / 8e6:.1f} MB"}}
vector:
{peaks}
"""


@contextmanager
def _library() -> Iterator[Any]:
    """Yields torch, with a thread for each core during the block, or NumPy if torch is not installed."""
    torch = environment.installed_torch()
    if torch is None:
        import numpy

        yield numpy
        return
    before = torch.get_num_threads()
    torch.set_num_threads(environment.cores())
    try:
        yield torch
    finally:
        torch.set_num_threads(before)


def _best_s(run: Callable[[], Any], repeats: int = 0) -> float:
    run()
    times = []
    for _ in range(repeats or REPEATS):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


def _stream_byte_per_s(lib: Any, size: int) -> float:
    """Returns the highest rate of bytes read and written, of a copy, an addition and a sum over initialised arrays.

    A copy alone underestimates the bandwidth, because each cache line that it writes is read first. An addition writes
    a smaller share of its bytes, and a sum writes none.
    """
    a, b, c = (lib.ones(size // 8, dtype=lib.float64) for _ in range(3))
    rounds = max(1, (1 << 28) // size)

    def rate(arrays: int, run: Callable[[], Any]) -> float:
        def often() -> None:
            for _ in range(rounds):
                run()

        return arrays * size * rounds / _best_s(often)

    return max(rate(2, lambda: b.__setitem__(slice(None), a)), rate(3, lambda: lib.add(a, b, out=c)), rate(1, a.sum))


def _product_flop_per_s(lib: Any, dtype: str) -> float:
    """Returns the highest rate of matrix products of several sizes."""
    kind = lib.float64 if dtype == "fp64" else lib.float32
    rates = []
    for n in ORDERS:
        a = lib.ones((n, n), dtype=kind)
        rates.append(2 * n**3 / _best_s(partial(lib.matmul, a, a), 15 if n < 1000 else 5))
    return max(rates)


def _memory_byte() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 << 30
