"""Measures training with and without the fused kernels on a GPU, and writes one JSON line for each result.

    python -m examples.fused_training.measure h100-fused-training.jsonl [--steps 200] [--limit 270]

Needs torch with CUDA, and CuPy. The first line is the environment. A part that fails leaves a line with its error, and the
others go on. After ``--limit`` seconds no further part starts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import torch

from examples.fused_training import kernels
from examples.fused_training.rows import WAYS
from examples.fused_training.train import Epoch, Setting, epoch

EAGER_STEPS = 40
SKIPPED_STEPS = 5  # the first steps of an eager run compile and allocate
SETTINGS = (("bf16", 64, 64), ("fp32", 64, 64), ("bf16", 16, 256))

Part = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


def of_epoch(found: Epoch, skipped: int) -> dict[str, Any]:
    """Returns the fields of an epoch's record. Quartiles leave out the first steps."""
    p25, median, p75 = quantiles(found.times_ms[skipped:], n=4)
    return {
        "median_ms": round(median, 4),
        "p25_ms": round(p25, 4),
        "p75_ms": round(p75, 4),
        "total_s": round(sum(found.times_ms) / 1e3, 4),
        "peak_byte": found.peak_byte,
        "losses": [float(f"{loss:.7g}") for loss in found.losses],
    }


def epoch_part(way: str, size: tuple[str, int, int], steps: int, run: str) -> Part:
    """Returns the part that trains for some steps."""
    dtype, B, N = size
    fields = {"kind": "epoch", "way": way, "dtype": dtype, "B": B, "N": N, "run": run, "steps": steps}

    def measured() -> dict[str, Any]:
        skipped = 1 if run == "graph" else SKIPPED_STEPS
        return of_epoch(epoch(Setting(way, dtype, B, N), steps, graph=run == "graph"), skipped)

    return fields, measured


def parts(steps: int) -> Iterator[Part]:
    """Yields all parts, the most important first."""
    watch = kernels.Watch()

    def alone(cases: Iterator[kernels.Case]) -> Iterator[Part]:
        for case in cases:
            yield case.fields(), lambda case=case: watch.measured(case)

    main = SETTINGS[0]
    yield from (epoch_part(way, main, steps, "graph") for way in WAYS)
    yield from alone(kernels.model_cases(*main))
    yield from (epoch_part(way, main, EAGER_STEPS, "eager") for way in WAYS)
    yield from alone(kernels.model_cases(*main, "eager"))
    for size in SETTINGS[1:]:
        yield from (epoch_part(way, size, steps, "graph") for way in WAYS)
        yield from alone(kernels.model_cases(*size))
    yield from alone(kernels.large_cases())


def measure(path: Path, every: Iterator[Part], environment: dict[str, Any], limit_s: float) -> int:
    """Writes a line for each part as soon as it is measured. Returns the number of parts without a result."""
    began, failed = perf_counter(), 0
    with path.open("w", encoding="utf-8") as file:
        print(json.dumps(environment), file=file, flush=True)
        for fields, run in every:
            start = perf_counter()
            try:
                if start - began > limit_s:
                    raise TimeoutError(f"not started: the limit of {limit_s:g} s was over")
                found = run()
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"[:400]}
            failed += "error" in found
            print(json.dumps({**fields, **found}), file=file, flush=True)
            said = found.get("error") or found.get("median_us", found.get("median_ms"))
            print(f"{start - began:6.1f} s {list(fields.values())[1:]}: {said}", file=sys.stderr, flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return failed


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="file to write")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each epoch [200]")
    parser.add_argument("--limit", type=float, default=270, help="seconds after which no part starts [270]")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("measure: torch finds no CUDA device; one is needed. Run it on a machine with a GPU.")
    from perfmodel.measure.environment import gpu_line

    given.path.parent.mkdir(parents=True, exist_ok=True)
    failed = measure(given.path, parts(given.steps), gpu_line(torch), given.limit)
    if failed:
        print(f"{failed} parts have no result; their lines state the error.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
