"""Errors of parallel steps, and their scaling: python benchmarks/parallel.py [--gpu GPU] [--plot FILE] RECORDS.jsonl ...

RECORDS are runs of ``torchrun ... validate --suite parallel``, or of cases of steps like its own. Prints the mean error by
kind of step, of times and of peak memory, and then the measured and predicted efficiency of data parallelism. Strong scaling
keeps the batch, weak scaling the batch of each replica, both relative to one GPU of the same file. ``--plot`` draws it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from statistics import mean
from typing import Any, NamedTuple

sys.path.pop(0)  # transformers looks for a package named kernels, and would find the script beside this one

from perfmodel import records, validation
from perfmodel.capture.steps import program
from perfmodel.hardware import gpu

TOLERANCE = 0.05  # accepted difference of predicted and measured efficiency


class Run(NamedTuple):
    """A training step, with its measured and predicted seconds. ``batch`` is the global batch."""

    config: str
    tokens: int
    batch: int
    gpus: int
    zero: int
    measured_s: float
    expected_s: float


class Scaled(NamedTuple):
    """Efficiency of several GPUs, measured and predicted."""

    run: Run
    kind: str
    measured: float
    predicted: float


def training(cases: Iterable[validation.Compared]) -> Iterator[Run]:
    """Yields the training steps of data parallelism and of one GPU."""
    for one in cases:
        record, plan = one.record, one.record.get("plan", {})
        if record.get("phase") != "train" or record.get("impl") != "transformers" or one.measured_s is None:
            continue
        shape = record["shape"]
        yield Run(
            record["config"], shape["N"], shape["B"], plan.get("dp", 1), plan.get("zero", 0), one.measured_s,
            one.expected_s or 0.0,
        )  # fmt: skip


def scaled(runs: list[Run]) -> Iterator[Scaled]:
    """Yields the efficiency of every step of several GPUs, relative to one GPU with the same batch and with that of a replica."""
    alone = {(run.config, run.tokens, run.batch): run for run in runs if run.gpus == 1}
    for run in runs:
        if run.gpus == 1:
            continue
        for kind, batch in (("strong", run.batch), ("weak", run.batch // run.gpus)):
            one = alone.get((run.config, run.tokens, batch))
            if one is not None:
                times = run.gpus if kind == "strong" else 1
                yield Scaled(
                    run, kind, one.measured_s / run.measured_s / times, one.expected_s / run.expected_s / times
                )


def errors(cases: Iterable[validation.Compared]) -> None:
    """Prints mean errors by kind of step."""
    times: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for one in cases:
        name = validation.family(one.record)
        if one.error is not None:
            times.setdefault(name, []).append(one.error)
        peak = one.prediction.peak_byte
        if peak and one.record.get("peak_byte"):
            memory.setdefault(name, []).append(peak / one.record["peak_byte"] - 1)
    print("| steps | cases | mean error | bias | peak memory |\n|---|---:|---:|---:|---:|")
    for name, own in times.items():
        of_peak = f"{mean(map(abs, memory[name])):.1%}" if name in memory else ""
        print(f"| {name} | {len(own)} | {mean(map(abs, own)):.1%} | {mean(own):+.1%} | {of_peak} |")


def efficiencies(found: list[Scaled]) -> None:
    """Prints efficiencies side by side."""
    print("\n| model | N | batch | GPUs | ZeRO | scaling | measured | predicted | difference |")
    print("|---|---:|---:|---:|---:|---|---:|---:|---:|")
    for one in found:
        run = one.run
        print(
            f"| {run.config} | {run.tokens} | {run.batch} | {run.gpus} | {run.zero} | {one.kind} | {one.measured:.2f} | "
            f"{one.predicted:.2f} | {one.predicted - one.measured:+.2f} |"
        )
    for zero in (0, 3):
        for kind in ("strong", "weak"):
            own = [one.predicted - one.measured for one in found if one.run.zero == zero and one.kind == kind]
            if own:
                inside = sum(abs(difference) <= TOLERANCE for difference in own)
                print(
                    f"ZeRO {zero}, {kind}: {mean(map(abs, own)):.3f} mean difference, {inside} of {len(own)} within {TOLERANCE}"
                )


def draw(found: list[Scaled], path: str) -> None:
    """Draws measured efficiency against predicted, one panel per kind of scaling."""
    from matplotlib.figure import Figure

    from perfmodel.report import picture
    from perfmodel.report.picture import COLOURS, FAINT, GRID, SHAPES, WIDTH_PT

    with picture.settings():
        figure = Figure(figsize=(WIDTH_PT / 72, 3.6), layout="constrained")
        for axes, kind in zip(figure.subplots(1, 2), ("strong", "weak"), strict=True):
            axes.plot((0, 1.1), (0, 1.1), color=FAINT, linewidth=0.8)
            groups = sorted({(one.run.config, one.run.zero) for one in found})
            for number, (config, zero) in enumerate(groups):
                own = [o for o in found if (o.run.config, o.run.zero) == (config, zero) and o.kind == kind]
                label = f"{config}, {'FSDP' if zero else 'DDP'}"
                axes.plot(
                    [o.measured for o in own], [o.predicted for o in own], SHAPES[number % len(SHAPES)], markersize=4,
                    color=COLOURS[number % len(COLOURS)], label=label, linestyle="",
                )  # fmt: skip
            axes.set(xlabel="measured efficiency", ylabel="predicted efficiency", xlim=(0, 1.1), ylim=(0, 1.1))
            axes.set_title(f"{kind.capitalize()} scaling", loc="left", fontsize=8, weight="bold")
            axes.grid(color=GRID, linewidth=0.4)
        axes.legend(loc="upper left", fontsize=7)
    picture.save(figure, path, "--plot")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", metavar="RECORDS.jsonl")
    parser.add_argument("--gpu")
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    cases: list[validation.Compared] = []
    whole: list[Scaled] = []
    for path in options.records:
        run = records.read(path)
        card: Any = gpu(options.gpu) if options.gpu else validation.card_of(run.environment)
        found = validation.compare(run.records, card, run.environment, captured=program).cases
        cases += found
        whole += scaled(list(training(found)))
    errors(cases)
    efficiencies(whole)
    if options.plot:
        draw(whole, options.plot)


if __name__ == "__main__":
    main()
