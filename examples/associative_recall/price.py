"""The price of a training step: its FLOPs by perfmodel and by torch's counter, and its time on a GPU, expected and measured.

    python -m examples.associative_recall.price [--gpu h100] [--strings 64 4096] [--measure] [-o FILE.jsonl]

``--measure`` runs the step on the GPU of this machine: eager, and as the replay of a CUDA graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import perfmodel
from examples.associative_recall.data import Batch, Task, batch
from examples.associative_recall.model import Sizes
from examples.associative_recall.train import Step

RUNS = ("eager", "graph")
WARM_UP, TIMED = 5, 60


def captured(task: Task, sizes: Sizes, strings: int) -> Any:
    """Returns the training step as a program. Nothing is computed."""
    with torch.device("meta"):
        step = Step(task, sizes, device="meta")
        given = Batch(*(torch.zeros(strings, task.length, dtype=torch.int64) for _ in range(2)))
    return perfmodel.capture(step, given)


def counted(task: Task, sizes: Sizes, strings: int) -> int:
    """Returns the FLOPs of matrix products that torch's counter sees in the same step on a processor."""
    step = Step(task, sizes)
    given = batch(task, strings, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        step(given)
    return int(counter.get_total_flops())


def priced(task: Task, sizes: Sizes, strings: int, gpu: str) -> dict[str, Any]:
    """Returns the counts of a step and its expected time in both runs. A replay also waits between kernels."""
    program = captured(task, sizes, strings)
    answers = {run: program.on(gpu, run=run) for run in RUNS}
    total = answers["graph"].total
    return {
        "strings": strings, "sizes": sizes._asdict(), "gpu": gpu, "kernels": len(answers["graph"].rows),
        "contraction_flops": total.contraction_flops, "traffic_byte": total.traffic_byte, "lower_s": total.lower_s,
        "eager_expected_s": answers["eager"].total.expected_s,
        "graph_expected_s": total.expected_s + total.gaps_s,
    }  # fmt: skip


def measured(task: Task, sizes: Sizes, strings: int) -> dict[str, float]:
    """Returns the median time of a step on this GPU in both runs, in seconds."""
    step = Step(task, sizes, device="cuda")
    given = Batch(*(part.cuda() for part in batch(task, strings, torch.Generator().manual_seed(0))))
    eager = timed(lambda: step(given))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(given)
    torch.cuda.current_stream().wait_stream(stream)
    step.optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(given)
    return {f"{run}_{name}": value for run, found in (("eager", eager), ("graph", timed(graph.replay)))
            for name, value in found.items()}  # fmt: skip


def timed(run: Callable[[], Any]) -> dict[str, float]:
    """Returns the quartiles of the seconds of a run between two events, after a wait for the device."""
    times = []
    for index in range(WARM_UP + TIMED):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if index >= WARM_UP:
            times.append(start.elapsed_time(end) / 1e3)
    p25, median, p75 = quantiles(times, n=4)
    return {"measured_s": median, "p25_s": p25, "p75_s": p75}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="h100", help="card of the expected times [h100]")
    parser.add_argument("--strings", type=int, nargs="+", default=[64, 4096], help="strings in a batch [64 4096]")
    parser.add_argument("--measure", action="store_true", help="run the step on the GPU of this machine")
    parser.add_argument("-o", "--output", type=Path, help="file for one JSON line per batch")
    given = parser.parse_args()
    if given.measure and not torch.cuda.is_available():
        sys.exit("price: torch finds no CUDA device; --measure needs one. Leave it out, or use a machine with a GPU.")
    lines: list[dict[str, Any]] = []
    print("strings  kernels   MFLOP  torch's counter  run    expected    measured")
    for strings in given.strings:
        line = {**priced(Task(), Sizes(), strings, given.gpu), "torch_flops": counted(Task(), Sizes(), strings)}
        line |= measured(Task(), Sizes(), strings) if given.measure else {}
        lines.append(line)
        for run in RUNS:
            found = f"{line[f'{run}_measured_s'] * 1e6:8.1f} us" if given.measure else "-"
            print(f"{strings:7}  {line['kernels']:7}  {line['contraction_flops'] / 1e6:6.0f}  {line['torch_flops'] / 1e6:15.0f}  "
                  f"{run:5}  {line[f'{run}_expected_s'] * 1e6:7.1f} us  {found}")  # fmt: skip
    if given.output:
        from perfmodel.measure.environment import cpu_line, gpu_line

        first = gpu_line(torch) if given.measure else cpu_line("torch")
        text = "".join(json.dumps(line) + "\n" for line in (first, *lines))
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
