"""``perfmodel sweep``: an operation or a workload over ranges of its sizes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from perfmodel.cli import options
from perfmodel.cli.collection import without_collection
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo, warn_of
from perfmodel.errors import UsageError
from perfmodel.hardware import Gpu
from perfmodel.hardware import gpu as read_gpu
from perfmodel.report.progress import Bar

if TYPE_CHECKING:
    from perfmodel.sweep import Chunk, Plan

WHERE = "perfmodel sweep"
SECONDS_WITHOUT_A_BAR = 1.0


@command()
@options.operation
@options.config
@options.gpus
@click.option(
    "--over", "ranges", metavar="SYMBOL=FROM:TO[:COUNT][:log]", multiple=True,
    help="Values of a size. May be repeated; the last one varies fastest.",
)  # fmt: skip
@options.settings
@options.phase
@options.dtype
@options.fused
@options.causal
@options.count
@options.decode_form
@options.logits
@click.option(
    "--expected",
    is_flag=True,
    help="Add expected times with their range. This computes some million points of one operation per second.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write every row to FILE.csv or FILE.jsonl. [default: print a table of some rows]",
)
@click.option(
    "--plot", "picture", metavar="FILE", help="Plot the time over one or two sizes to FILE.png, FILE.svg or FILE.pdf."
)
def sweep(ranges: tuple[str, ...], settings: tuple[str, ...], output: str | None, picture: str | None,
          **given: Any) -> None:  # fmt: skip
    """FLOPs, bytes, bottleneck and time over ranges of sizes, for each GPU.

    \b
    N=128:8192        65 evenly spaced values, or every whole number if there are fewer
    N=1:64:16         16 values
    N=128:8Ki:log     128, 256, 512, ..., 8192: each twice the one before, and the last value
    N=1Ki:1Mi:25:log  25 values at a constant ratio, rounded to distinct whole numbers

    Several --over options form a grid. --set S=N makes a size equal to a swept one. Points at which an operation is not
    defined (for example, H_kv does not divide H) are skipped, and their number is printed on stderr. With --op, the
    lines of FILE.jsonl are cases for 'perfmodel predict'; in training, without the optimizer.

    \b
    perfmodel sweep --config llama-2-7b-layer --gpu a100 --gpu h100 --over N=128:32Ki:log --plot layer.pdf
    perfmodel sweep --op matmul --gpu t4 --over m=64:8192:100 --set k=m --set n=m -o square.csv
    """
    plan = _planned(ranges, settings, given)
    from perfmodel.report import picture as pictures
    from perfmodel.report import rows
    from perfmodel.report.sample import Sample, table
    from perfmodel.sweep.features import thinned

    if output is not None:
        warn_of(rows.checked(output, WHERE))
    if picture is not None:
        from perfmodel.report import sweep_plot

        warn_of(pictures.checked(picture, WHERE))
        sweep_plot.check(plan, WHERE)
    if plan.expected:
        _warn_if_slow(thinned(plan) if picture is not None and output is None else plan)
    watch = _Watch(plan if output is not None or picture is None else thinned(plan._replace(expected=False)))
    with without_collection():
        if output is not None:
            number = rows.write(output, plan, watch, WHERE)
            echo(f"{number:,} rows", err=True)
            echo(output)
            for card in plan.cards:
                for note in card.notes:
                    echo(note, err=True)
        else:
            sample = Sample()
            for chunk in watch:
                sample.add(chunk)
            if picture is None:
                echo(table(plan, sample), nl=False)
    if picture is not None:
        pictures.save(sweep_plot.figure(plan), picture, WHERE)
        echo(picture)
    watch.report()


def _warn_if_slow(plan: Plan) -> None:
    from perfmodel.sweep import times

    minutes = times.seconds(plan) / 60
    if minutes > 1:
        points = plan.points * len(plan.cards)
        echo(
            f"{WHERE}: computing the expected times of {points:,} points takes about {minutes:,.0f} minutes. "
            "Use fewer points, or leave --expected out, to be faster.",
            err=True,
        )


def _planned(ranges: tuple[str, ...], settings: tuple[str, ...], given: dict[str, Any]) -> Plan:
    chosen = options.chosen(given.pop("operation"), given.pop("config"), given.pop("dtype"), WHERE)
    logits = given.pop("logits")
    chosen = chosen.with_logits(logits) if logits else chosen
    gpus = _gpus(given.pop("gpus"))
    if not ranges:
        raise UsageError(
            WHERE,
            "no range is given",
            "--over SYMBOL=FROM:TO is required and may be repeated",
            "Write --over N=128:8192.",
        )
    from perfmodel.sweep import axis_from_text, plan

    axes = [axis_from_text(text) for text in ranges]
    over = options.once("--over", ((axis.symbol, axis) for axis in axes))
    given["form"] = given.pop("decode_form")
    sizes = options.read_settings(settings)
    options.check_form(WHERE, [chosen], given["phase"], given["fused"], given["causal"], sizes)
    return plan(chosen, gpus, over, settings=sizes, **given)


def _gpus(names: tuple[str, ...]) -> list[Gpu]:
    if not names:
        raise UsageError(
            WHERE, "no GPU is named", "--gpu GPU is required and may be repeated", "See 'perfmodel gpus' for the names."
        )
    return options.distinct(map(read_gpu, names))


class _Watch:
    """Iterates over the chunks of a sweep, shows a progress bar on a terminal, and counts skipped points."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.skipped = 0
        self.first: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Chunk]:
        bar, done, started = None, 0, time.monotonic()
        try:
            for chunk in self.plan.chunks():
                yield chunk
                self._note(chunk)
                done += chunk.points
                if bar is None and sys.stderr.isatty() and time.monotonic() - started > SECONDS_WITHOUT_A_BAR:
                    bar = Bar("points", self.plan.points * len(self.plan.cards))
                if bar is not None:
                    bar.at(done)
        finally:
            if bar is not None:
                bar.close()

    def _note(self, chunk: Chunk) -> None:
        if chunk.gpu is self.plan.cards[0].gpu:
            self.skipped += chunk.points - chunk.flops.size
            self.first = self.first or chunk.skipped

    def report(self) -> None:
        """Prints the number of skipped points, and the reason for the first one."""
        if self.first is not None:
            count = f"{self.skipped:,} of {self.plan.points:,} points skipped"
            echo(f"{WHERE}: {count}: {self.plan.why(self.first)}.", err=True)
