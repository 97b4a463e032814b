"""Measures time and memory of sweeps: python benchmarks/sweep.py [largest power of ten]

Each line runs in a separate process. Times are the minimum of three runs, or one run from 10^8 points on. Wall time and
CPU time are shown, because they differ on a busy machine. The workload is llama-2-7b-layer on an A100. The last line
writes 11 GB to the folder for temporary files.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from perfmodel.analysis import analyse
from perfmodel.config_files import workload
from perfmodel.hardware import gpu
from perfmodel.report.rows import write
from perfmodel.sweep import Plan, plan, spaced
from perfmodel.workload import setting

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MEBI = 2**20


def axes(*symbols: tuple[str, int, int], power: int) -> dict[str, Any]:
    """Returns a grid of 10^power points over these symbols, each with its first value and an upper limit for its last."""
    counts = [10 ** ((power + i) // len(symbols)) for i in range(len(symbols))]
    return {
        name: spaced(name, first, first + (most - first) // (count - 1) * (count - 1) if count > 1 else first, count)
        for (name, first, most), count in zip(symbols, counts, strict=True)
    }


def grid(name: str, power: int) -> Plan:
    """Returns the plan of a grid by its name, with 10^power points."""
    layer, card = workload("llama-2-7b-layer"), gpu("a100")
    settings = dict([setting("F=D*43//16"), setting("d=D/H")])
    match name:
        case "N x B":
            return plan(layer, [card], axes(("N", 128, 32768), ("B", 1, 10240), power=power))
        case "N x B, training":
            return plan(layer, [card], axes(("N", 128, 32768), ("B", 1, 10240), power=power), phase="train")
        case "N x B, unfused":
            return plan(layer, [card], axes(("N", 128, 32768), ("B", 1, 10240), power=power), fused=False)
        case "N x B x D":
            over = axes(("N", 128, 32768), ("B", 1, 1024), ("D", 64, 65536), power=power)
            over["D"] = spaced("D", 64, 64 * over["D"].number, over["D"].number)
            return plan(layer, [card], over, settings=settings)
        case "S, decode":
            return plan(layer, [card], axes(("S", 1, 10**9), power=power), phase="decode")
    raise ValueError(name)


def evaluated(ready: Plan) -> int:
    return sum(chunk.flops.size for chunk in ready.chunks())


def written(ready: Plan, ending: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return write(os.path.join(folder, "rows" + ending), ready, ready.chunks(), "benchmark")


WAYS: dict[str, Callable[[Plan], int]] = {
    "evaluate": evaluated,
    "to CSV": lambda ready: written(ready, ".csv"),
    "to JSONL": lambda ready: written(ready, ".jsonl"),
}


def measured(name: str, way: str, power: int) -> dict[str, float]:
    """Returns wall time, CPU time and peak memory of this process."""
    ready, clock_s, core_s = grid(name, power), float("inf"), float("inf")
    for _ in range(1 if power >= 8 else 3):
        clock, core = time.perf_counter(), time.process_time()
        rows = WAYS[way](ready)
        clock_s, core_s = min(clock_s, time.perf_counter() - clock), min(core_s, time.process_time() - core)
    assert rows == ready.points
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"points": rows, "clock_s": clock_s, "core_s": core_s, "peak_byte": peak}


def lines(largest: int) -> Iterator[tuple[str, str, int]]:
    yield from (("N x B", "evaluate", power) for power in range(3, largest + 1))
    for name in ("N x B x D", "S, decode", "N x B, training", "N x B, unfused"):
        yield from ((name, "evaluate", power) for power in (6, 8) if power <= largest)
    for way in ("to CSV", "to JSONL"):
        yield "N x B", way, min(6, largest)
    if largest >= 8:
        yield "N x B", "to CSV", 8


def compared() -> str:
    """Compares single analyses with the same points of a sweep."""
    ready = plan(workload("llama-2-7b-layer"), [gpu("a100")], {"N": spaced("N", 128, 8192, 100), "B": range(1, 11)})
    (chunk,) = ready.chunks()
    exact, worst, start = 0, 0.0, time.perf_counter()
    for i in range(chunk.flops.size):
        settings = {name: int(values[i]) for name, values in chunk.at.items()}
        found = analyse(ready.workload, gpu=gpu("a100"), settings=settings).total
        assert found.bound == chunk.bound_names[i]
        exact += (found.flops, found.traffic_byte) == (int(chunk.flops[i]), int(chunk.traffic_byte[i]))
        pairs = (
            (found.flops, chunk.flops[i]),
            (found.lower_s, chunk.lower_s[i]),
            (found.no_overlap_s, chunk.no_overlap_s[i]),
        )
        worst = max(worst, *(abs(float(many) / float(one or 0) - 1) for one, many in pairs))
    each_us = (time.perf_counter() - start) / chunk.flops.size * 1e6
    large = int((chunk.flops >= 2**53).sum())
    return (
        f"One call of `analysis.analyse` takes {each_us:.0f} us. Of 1000 points ({large} with 2^53 FLOP or more), "
        f"{exact} have identical counts. All bottlenecks agree; counts and times differ by at most {worst:.0e}."
    )


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
        return
    print("| grid | output | points | wall time | CPU time | points/s per core | peak memory |", flush=True)
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for name, way, power in lines(int(sys.argv[1]) if len(sys.argv) == 2 else 8):
        command = [sys.executable, __file__, name, way, str(power)]
        answer = subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True, text=True)
        found = json.loads(answer.stdout)
        rate, peak = found["points"] / found["core_s"] / 1e6, found["peak_byte"] / MEBI
        times = f"{found['clock_s'] * 1e3:,.1f} ms | {found['core_s'] * 1e3:,.1f} ms"
        print(f"| {name} | {way} | 10^{power} | {times} | {rate:.1f} M | {peak:.0f} MiB |", flush=True)
    print("\n" + compared())


if __name__ == "__main__":
    main()
