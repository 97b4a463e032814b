"""``perfmodel sweep``: an operation or a workload over ranges of its sizes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
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
    help="The values of a size; may be repeated, the last varies fastest.",
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
    help="Expected times too, with their range: some thousands of points of one operation a second.",
)
@click.option("-o", "--output", metavar="FILE", help="FILE.csv or FILE.jsonl: every row. [default: a table of some]")
@click.option("--plot", "picture", metavar="FILE", help="FILE.png, FILE.svg or FILE.pdf: time over one size or two.")
def sweep(ranges: tuple[str, ...], settings: tuple[str, ...], output: str | None, picture: str | None,
          **given: Any) -> None:  # fmt: skip
    """FLOPs, bytes, bound and time over ranges of sizes, for every GPU.

    \b
    N=128:8192        65 values evenly spaced, or every whole number where there are no more
    N=1:64:16         16 values
    N=128:8Ki:log     128, 256, 512, ..., 8192: doublings, and the last
    N=1Ki:1Mi:25:log  25 values, each the same factor above the one before, as distinct whole numbers

    Several --over make a grid. --set S=N keeps a size tied to a swept one. Points where an operation is not
    defined (H_kv that does not divide H, say) are skipped and counted on stderr. Lines of an --op sweep in
    FILE.jsonl are cases that 'perfmodel predict' reads, in training without the optimizer's step.

    \b
    perfmodel sweep --config llama-2-7b-layer --gpu a100 --gpu h100 --over N=128:32Ki:log --plot layer.pdf
    perfmodel sweep --op matmul --gpu t4 --over m=64:8192:100 --set k=m --set n=m -o square.csv
    """
    if given["expected"] and output is None:
        options.refuse_together(WHERE, "--expected", {"--plot": picture}, "a plot shows the bounds")
    plan = _planned(ranges, settings, given)
    from perfmodel.report import picture as pictures
    from perfmodel.report import rows
    from perfmodel.report.sample import Sample, table
    from perfmodel.sweep.features import thinned

    if output is not None:
        rows.checked(output, WHERE)
    if picture is not None:
        from perfmodel.report import sweep_plot

        pictures.checked(picture, WHERE)
        sweep_plot.check(plan, WHERE)
    if plan.expected:
        _tell_if_long(plan)
    watch = _Watch(plan if output is not None or picture is None else thinned(plan._replace(expected=False)))
    if output is not None:
        number = rows.write(output, plan, watch, WHERE)
        click.echo(f"{number:,} rows", err=True)
        click.echo(output)
        for card in plan.cards:
            for note in card.notes:
                click.echo(note, err=True)
    else:
        sample = Sample()
        for chunk in watch:
            sample.add(chunk)
        if picture is None:
            click.echo(table(plan, sample), nl=False)
    if picture is not None:
        pictures.save(sweep_plot.figure(plan._replace(expected=False)), picture, WHERE)
        click.echo(picture)
    watch.report()


def _tell_if_long(plan: Plan) -> None:
    from perfmodel.sweep import times

    minutes = times.seconds(plan) / 60
    if minutes > 1:
        points = plan.points * len(plan.cards)
        click.echo(
            f"{WHERE}: the expected times of {points:,} points take some {minutes:,.0f} minutes; "
            "fewer points or a sweep without --expected are quicker.",
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
            WHERE, "no GPU is named", "--gpu GPU is required and may be repeated", "'perfmodel gpus' lists the names."
        )
    return options.distinct(map(read_gpu, names))


class _Watch:
    """The chunks of a sweep, with a bar on a terminal if they take their time, and a count of what was skipped."""

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
        """Says how many points were skipped, and why the first of them."""
        if self.first is not None:
            count = f"{self.skipped:,} of {self.plan.points:,} points skipped"
            click.echo(f"{WHERE}: {count}: {self.plan.why(self.first)}.", err=True)
