"""Traces: how fast a large one is read, and how far the expected times of its kernels are from the measured ones.

    python benchmarks/traces.py speed [--events 1000000]     writes a synthetic trace and reads it; peak memory
    python benchmarks/traces.py accuracy FILE... [--gpu GPU]  error by operation, weighted by time

The bars: a million events in 20 s and 1 GB; kernels tied to a formula 95 % with shapes and 85 % in a CUDA graph; parts
that add up within 1 %; 15 % mean error by time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator

from perfmodel.given import known
from perfmodel.traces.tracing import trace

KERNELS = (
    "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul> >"
    "(int, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>)",
    "nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN",
)
TRACED = (
    "from perfmodel.traces.tracing import trace; from perfmodel.given import known; trace([{path!r}], known('h100'))"
)


def events(count: int) -> Iterator[dict[str, object]]:
    """Yields a synthetic step: an operator around another one, their launch, its arrow, the kernel."""
    for number in range(count // 5):
        start, outer = 1e12 + number * 20.0, number * 2
        rows = 1024 * (1 + number % 37)
        shapes = {"Input Dims": [[rows, 4096], [4096, 4096]], "Input type": ["c10::BFloat16"] * 2,
                  "Input Strides": [[4096, 1], [1, 4096]], "Concrete Inputs": ["", ""]}  # fmt: skip
        name, inner = ("aten::linear", "aten::mm") if number % 2 else ("aten::add", "aten::add")
        host = {"pid": 1, "tid": 1, "ph": "X"}
        yield {
            **host,
            "cat": "cpu_op",
            "name": name,
            "ts": start,
            "dur": 15.0,
            "args": {"External id": outer, **shapes},
        }
        yield {
            **host,
            "cat": "cpu_op",
            "name": inner,
            "ts": start + 1,
            "dur": 10.0,
            "args": {"External id": outer + 1, **shapes},
        }
        yield {**host, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": start + 3, "dur": 4.0,
               "args": {"External id": outer + 1, "correlation": number}}  # fmt: skip
        yield {"ph": "s", "id": number, "pid": 1, "tid": 1, "ts": start + 3, "cat": "ac2g", "name": "ac2g"}
        yield {"ph": "X", "cat": "kernel", "name": KERNELS[number % 2], "pid": 0, "tid": 7, "ts": start + 9, "dur": 9.0,
               "args": {"External id": outer + 1, "device": 0, "stream": 7, "correlation": number, "grid": [rows * 4, 1, 1],
                        "block": [128, 1, 1]}}  # fmt: skip


def write(path: str, count: int) -> None:
    """Writes the synthetic trace."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"schemaVersion": 1, "deviceProperties": [], "traceEvents": [')
        for number, event in enumerate(events(count)):
            file.write((",\n" if number else "\n") + json.dumps(event))
        file.write("\n]}")


def speed(count: int) -> None:
    """Reads a synthetic trace in a process of its own; prints seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large.json")
        write(path, count)
        size = os.path.getsize(path)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", TRACED.format(path=path)], check=True)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{count:,} events, {size / 1e6:.0f} MB: {seconds:.1f} s, of which {used.ru_utime + used.ru_stime:.1f} s on the processor, "
          f"peak {used.ru_maxrss * 1024 / 1e9:.2f} GB")  # fmt: skip


def accuracy(paths: list[str], gpu: str, rows: int) -> None:
    """Prints the share of the kernels' time with a formula, and the error by operation."""
    for path in paths:
        main = trace([path], known(gpu)).main
        groups = [one for one in main.priced if one.price and one.group.known]
        whole = sum(one.group.measured_s for one in groups) or 1.0
        wrong = sum(abs(one.price.expected_s - one.group.measured_s) for one in groups)
        expected = sum(one.price.expected_s for one in groups)
        spans = main.spans
        print(f"{os.path.basename(path)}: tied {main.known_share:.1%}, parts {spans.accounted_s / spans.span_s:.2%} of the step, "
              f"mean error {wrong / whole:.1%}, bias {expected / whole - 1:+.1%}")  # fmt: skip
        found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
        for one in groups:
            line = found[one.group.operator.rpartition("::")[2][:32], one.group.main.operation]
            for place, value in enumerate(
                (1, one.group.measured_s, one.price.expected_s, abs(one.price.expected_s - one.group.measured_s))
            ):
                line[place] += value
        for names, (count, took, expects, off) in sorted(found.items(), key=lambda item: -item[1][1])[:rows]:
            print(f"    {' / '.join(names):56} x{count:<5} {took * 1e3:8.3f} ms  expected {expects * 1e3:8.3f} ms "
                  f"({expects / took - 1:+.0%})  error {off / took:.0%}")  # fmt: skip


def main() -> None:
    """Runs one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("files", nargs="*")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--rows", type=int, default=12)
    given = parser.parse_intermixed_args()
    if given.what == "speed":
        speed(given.events)
    else:
        accuracy(given.files, given.gpu, given.rows)


if __name__ == "__main__":
    main()
