"""Measures how many expected times a second sweeps and ``predict`` give: python benchmarks/times.py [points] [cases]

Every line runs in a separate process on one core. Rates are those of CPU time, the best of three runs; the first run of a
process, which fills its caches, counts as well. The cases are distinct: every kind that ``predict`` accepts, with sizes
drawn by a seed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from perfmodel.given import workload
from perfmodel.hardware import gpu
from perfmodel.sweep import plan, spaced

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Grids: the workload and the first and last value of each symbol. Values are evenly spaced, so that most are odd sizes.
GRIDS: dict[str, tuple[str, dict[str, tuple[int, int]]]] = {
    "matmul": ("matmul", {"m": (16, 8192), "k": (16, 8192), "n": (16, 8192)}),
    "softmax": ("softmax", {"rows": (1, 65536), "cols": (16, 32768)}),
    "attention": ("attention", {"B": (1, 64), "N": (1, 8192)}),
    "llama-2-7b-layer": ("llama-2-7b-layer", {"N": (128, 8192), "B": (1, 256)}),
}
SEED = 2026


def swept(name: str, card: str, points: int) -> int:
    """Evaluates a grid of about so many points."""
    config, symbols = GRIDS[name]
    count = round(points ** (1 / len(symbols)))
    left, over = points, {}
    for symbol, (first, last) in sorted(symbols.items(), key=lambda one: one[1][1]):
        own = min(count if len(over) < len(symbols) - 1 else left, last - first + 1)
        over[symbol] = spaced(symbol, first, last, own)
        left = -(-left // own)
    ready = plan(workload(config, "fp16"), [gpu(card)], over, expected=True)
    found = 0
    for chunk in ready.chunks():
        assert chunk.expected_s is not None
        found += chunk.expected_s.size
    return found


WAYS: dict[str, Callable[..., int]] = {"sweep": swept}


def measured(way: str, *words: str) -> dict[str, float]:
    """The rate of the best of three runs."""
    best_s, done = float("inf"), 0
    for _ in range(3):
        start_s = time.process_time()
        done = WAYS[way](*words[:-1], int(words[-1]))
        best_s = min(best_s, time.process_time() - start_s)
    return {"done": done, "core_s": best_s}


def main() -> None:
    if len(sys.argv) > 3:
        print(json.dumps(measured(*sys.argv[1:])))
        return
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print("| grid | GPU | points | CPU time | expected times/s |\n|---|---|---:|---:|---:|", flush=True)
    for name in GRIDS:
        for card in ("h100", "a100"):
            command = [sys.executable, __file__, "sweep", name, card, str(points)]
            answer = subprocess.run(
                command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True, text=True
            )
            found: dict[str, Any] = json.loads(answer.stdout)
            rate = found["done"] / found["core_s"]
            print(f"| {name} | {card} | {found['done']:,} | {found['core_s']:.2f} s | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
