"""``perfmodel validate``: real kernels measured on this device, held against the model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.errors import InputError, NoDeviceError, ValidationError
from perfmodel.hardware import Gpu
from perfmodel.records import Stored


@command()
@click.option(
    "--gpu",
    metavar="auto|cpu|GPU",
    help="The device: the GPU at hand, this processor, or a GPU that must be here. [default: auto]",
)
@click.option("--suite", metavar="quick|full|FILE", help="Which cases; a file holds one a line. [default: quick]")
@click.option("--save", metavar="FILE", help="Writes records as they come; a file of this device is resumed.")
@click.option("--from", "stored", metavar="FILE", help="Reads a stored run instead of measuring.")
@click.option("--plot", metavar="FILE", help="Predicted and measured on one roofline: PNG, SVG or PDF.")
@click.option("--counters", is_flag=True, help="Also DRAM and L2 bytes and instructions, counted by Nsight Compute.")
@click.option("--trace", metavar="FILE", help="Also a trace of one run of every case, for a trace viewer.")
@click.option(
    "--limit",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="The most that one case may take. [default: 60]",
)
@options.formats("table", "json", "csv", "markdown")
def validate(
    gpu: str | None, suite: str | None, save: str | None, stored: str | None, plot: str | None, counters: bool,
    trace: str | None, limit: float | None, form: str,
) -> None:  # fmt: skip
    """Measures kernels of torch and of our own, and shows what the model says of each beside it.

    Every program is checked against float64 before it is timed. Exit code 3: a result was wrong, or a time lay below
    the model's bound. Without a GPU this processor is measured.

    \b
    perfmodel validate --suite quick --save run.jsonl
    perfmodel validate --from run.jsonl --plot run.png
    perfmodel validate --suite cases.jsonl --counters
    """
    if stored is not None:
        others = {"--suite": suite, "--save": save, "--counters": counters, "--trace": trace, "--limit": limit}
        because = f"a stored run is read without {', '.join(others)}"
        options.refuse_together("perfmodel validate", "--from", others, because)
    run, card, complete = _read(stored, gpu) if stored else _measure(gpu, suite, save, limit or 60, counters, trace)
    from perfmodel.report.validation import render
    from perfmodel.validation import compare

    found = compare(run.records, card, run.environment)
    click.echo(render(found, run.environment, card, form), nl=False)
    if plot is not None:
        from perfmodel.report.validation_plot import draw

        click.echo(f"drawn to {draw(found, card, run.environment, plot)}", err=True)
    for line in found.broken:
        click.echo(line, err=True)
    if not complete:
        sys.exit(130)
    if found.broken:
        sys.exit(ValidationError.exit_code)


def _read(path: str, gpu: str | None) -> tuple[Stored, Gpu, bool]:
    """A stored run, and the card that it was made on."""
    from perfmodel.hardware import gpu as read_gpu
    from perfmodel.records import read
    from perfmodel.validation import card_of

    run = read(path)
    if gpu not in (None, "auto"):
        return run, read_gpu(str(gpu)), True
    if "card" in run.environment:
        return run, _described(run), True
    known = card_of(run.environment)
    if known is None:
        raise InputError(
            f"{path}:1", f"no one GPU file describes '{run.environment.get('gpu')}'", "a card of 'perfmodel gpus' is accepted",
            "Name it with --gpu.",
        )  # fmt: skip
    return run, known, True


def _described(run: Stored) -> Gpu:
    """A processor's own description, kept with its run."""
    from perfmodel.hardware import described
    from perfmodel.specfile import parse

    return described(parse(str(run.environment["card"]), f"{run.file}:1"), f"{run.file}:1")


def _measure(
    gpu: str | None, suite: str | None, save: str | None, limit: float, counters: bool, trace: str | None
) -> tuple[Stored, Gpu, bool]:
    from perfmodel.measure import session
    from perfmodel.measure.suites import SUITES

    name = suite or "quick"
    given = [] if name in SUITES else _cases(name)
    here = session.device(gpu or "auto")
    if here.note:
        click.echo(f"{here.note}.", err=True)
    if counters and here.kind == "cpu":
        raise NoDeviceError(
            "--counters", "this processor is measured", "counters are read on a GPU", "Leave the option out."
        )
    if here.kind == "cpu" and name == "full":
        click.echo("--suite full is for GPUs: a processor runs its own short suite.", err=True)
    cases = given or SUITES["processor" if here.kind == "cpu" else name]()
    run, complete = _run(here, cases, save, limit)
    if counters:
        run = run._replace(records=tuple(session.with_counters(run.records)))
        if save:
            session.rewrite(save, run)
    if trace is not None:
        click.echo(f"traced to {session.trace(cases, here, trace)}", err=True)
    return run, here.card, complete


def _cases(name: str) -> list[Mapping[str, Any]]:
    """Returns the cases of a file; a line that cannot be read is refused before anything is measured."""
    from perfmodel.cases import Refused
    from perfmodel.cases import read as read_cases
    from perfmodel.measure.workloads import refused
    from perfmodel.specfile import read_lines

    found = []
    for case in read_cases(read_lines(name), name):
        if isinstance(case, Refused):
            raise InputError(*_split(case.error))
        if error := refused(case):
            raise error
        found.append(case.line)
    if not found:
        raise InputError(name, "there is no case in it", "one JSON object per line is accepted", "Add a line.")
    return found


def _split(message: str) -> tuple[str, str]:
    where, _, rest = message.partition(": ")
    return where, rest.rstrip(".")


def _run(here: Any, cases: Sequence[Mapping[str, Any]], save: str | None, limit: float) -> tuple[Stored, bool]:
    """Measures what is not in the file yet; an interruption ends it with what there is."""
    from perfmodel.measure import session
    from perfmodel.report.progress import Bar
    from perfmodel.validation import described

    log = session.Log(save, here)
    waiting = [case for case in cases if not log.has(case)]
    if len(waiting) < len(cases):
        click.echo(f"{len(cases) - len(waiting)} of {len(cases)} cases are in {save} already", err=True)
    complete, bar = True, Bar("cases", len(waiting)) if sys.stderr.isatty() and waiting else None
    try:
        for number, record in enumerate(session.records(here, waiting, log, limit), 1):
            if bar is not None:
                bar.at(number, described(record))
    except KeyboardInterrupt:
        complete = False
        click.echo(
            f"interrupted; {len(log.records)} cases were measured" + (f" and are in {save}" if save else ""), err=True
        )
    finally:
        if bar is not None:
            bar.close()
    return Stored(save or "this run", log.environment, tuple(_in_order(cases, log.records))), complete


def _in_order(cases: Iterable[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    from perfmodel.records import key

    return [records[key(case)] for case in cases if key(case) in records]
