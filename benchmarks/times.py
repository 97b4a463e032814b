"""Measures how many expected times a second sweeps and ``predict`` give: python benchmarks/times.py [points] [cases]

Every line runs in a separate process on one core. Rates are those of CPU time, the best of three runs. The cases are
distinct, with sizes drawn by a seed, in one file; reading them and writing the JSON document count.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from perfmodel.given import workload
from perfmodel.hardware import gpu
from perfmodel.sweep import plan, spaced

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Grids: the first and last value of each symbol and what its values are multiples of, evenly spaced, so that most are odd.
TRAINING = "llama-2-7b-layer, training"
GRIDS: dict[str, dict[str, tuple[int, int, int]]] = {
    "matmul": {"m": (16, 8192, 1), "k": (16, 8192, 1), "n": (16, 8192, 1)},
    "softmax": {"rows": (1, 65536, 1), "cols": (16, 32768, 1)},
    "attention": {"B": (1, 64, 1), "N": (1, 8192, 1)},
    "llama-2-7b-layer": {"N": (128, 8192, 1), "B": (1, 256, 1)},
    TRAINING: {"D": (1024, 16384, 32), "N": (128, 8192, 1)},
}
SEED = 2026
DTYPES = ("fp16", "bf16")
# The kinds of the original cases format, and all of them.
FIRST = ("matmul", "softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm", "gelu", "add", "attention",
         "conv1d", "qkv", "mlp", "layer")  # fmt: skip


def swept(name: str, card: str, points: int) -> float:
    """Evaluates a grid of about so many points, and returns its CPU time per point."""
    count, left, over = round(points ** (1 / len(GRIDS[name]))), points, {}
    for symbol, (first, last, step) in sorted(GRIDS[name].items(), key=lambda one: one[1][1] / one[1][2]):
        own = min(count if len(over) < len(GRIDS[name]) - 1 else left, (last - first) // step + 1)
        apart = (last - first) // step // (own - 1) * step
        over[symbol] = spaced(symbol, first, last if step == 1 else first + apart * (own - 1), own)
        left = -(-left // own)
    config, phase = name.partition(", ")[0], "train" if name == TRAINING else None
    ready = plan(workload(config, "fp16"), [gpu(card)], over, phase=phase, expected=True)
    best_s = float("inf")
    for _ in range(3):
        start_s = time.process_time()
        done = sum(chunk.flops.size for chunk in ready.chunks())
        best_s = min(best_s, (time.process_time() - start_s) / done)
    return best_s


def cases(kinds: str, count: int) -> list[str]:
    """So many distinct cases."""
    import drawn

    draw, known = random.Random(SEED), {}
    names = FIRST if kinds == "first" else drawn.NAMED
    while len(known) < count:
        for name in names:
            for dtype in DTYPES:
                line = drawn.line(draw, name, {"dtype": dtype})
                if line is not None:
                    known[json.dumps(line)] = None
    lines = [*known][:count]
    draw.shuffle(lines)
    return lines


def predicted(kinds: str, card: str, count: int) -> float:
    """Predicts so many cases, and returns the CPU time per case."""
    from perfmodel.bulk import files
    from perfmodel.cli.collection import without_collection
    from perfmodel.report.predictions import render

    lines, known, best_s = cases(kinds, count), gpu(card), float("inf")
    for _ in range(3):
        with without_collection():
            start_s = time.process_time()
            found = files.predicted(lines, "cases", known)
            render(found, known, "json")
            best_s = min(best_s, (time.process_time() - start_s) / len(found))
    return best_s


WAYS: dict[str, Callable[[str, str, int], float]] = {"sweep": swept, "predict": predicted}


def line(way: str, name: str, card: str, count: int) -> str:
    """A line of the table, measured in a process of its own."""
    command = [sys.executable, __file__, way, name, card, str(count)]
    answer = subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True, capture_output=True, text=True)
    each_s = float(answer.stdout)
    return f"| {way} | {name} | {card} | {each_s * 1e6:.2f} us | {1 / each_s:,.0f} |"


def main() -> None:
    if len(sys.argv) > 3:
        way, name, card, count = sys.argv[1:]
        print(WAYS[way](name, card, int(count)))
        return
    numbers: list[Any] = [int(text) for text in sys.argv[1:]]
    points, count = [*numbers, *(1_000_000, 100_000)[len(numbers) :]]
    print("| command | grid or kinds | GPU | CPU time each | expected times/s |\n|---|---|---|---:|---:|", flush=True)
    for name in GRIDS:
        for card in ("h100", "a100"):
            print(line("sweep", name, card, points), flush=True)
    for kinds in ("first", "all"):
        print(line("predict", kinds, "h100", count), flush=True)


if __name__ == "__main__":
    main()
