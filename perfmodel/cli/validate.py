"""``perfmodel validate``: measures real kernels on this device and compares them with the model."""

from __future__ import annotations

import sys

import click

from perfmodel import writing
from perfmodel.cli import options, ranked, running
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo, warn_of
from perfmodel.errors import NoDeviceError, UsageError, ValidationError, one_line, shown
from perfmodel.given import captured
from perfmodel.hardware import Gpu
from perfmodel.records import Stored
from perfmodel.validation import Outcome


@command()
@options.gpu_option(
    metavar="auto|cpu|GPU",
    help="Device: the GPU of this machine (auto), its processor (cpu), or a GPU that must be present. [default: auto]",
)
@click.option(
    "--suite",
    metavar="quick|full|programs|collectives|parallel|FILE",
    help="Cases to measure: a suite, or a file with one case per line; collectives and parallel need torchrun. [default: quick]",
)
@click.option(
    "--save",
    metavar="FILE",
    help="Write each record as soon as it is measured. An existing file of this device is continued.",
)
@click.option("--from", "stored", metavar="FILE", help="Read a stored run instead of measuring.")
@click.option("--plot", metavar="FILE", help="Draw predicted and measured points on one roofline: PNG, SVG or PDF.")
@click.option("--counters", is_flag=True, help="Also count DRAM bytes, L2 bytes and instructions with Nsight Compute.")
@click.option("--trace", metavar="FILE", help="Also write a trace of one run of every case, for a trace viewer.")
@click.option(
    "--limit",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="Time limit of one case. [default: 60]",
)
@options.formats("table", "json", "csv", "markdown", "html")
@click.option("-o", "--output", metavar="FILE.html", help="Write a page with the roofline, the errors and the cases.")
def validate(
    gpu: str | None, suite: str | None, save: str | None, stored: str | None, plot: str | None, counters: bool,
    trace: str | None, limit: float | None, form: str, output: str | None,
) -> None:  # fmt: skip
    """Measures kernels of torch and of this project, and compares them with the model.

    Every result is checked against float64 before the kernel is timed. The exit code is 3 if a result is wrong, a
    time is below the lower bound, or more than 10 % of the cases have no time. Without a GPU, the processor is measured.

    \b
    perfmodel validate --suite quick --save run.jsonl
    perfmodel validate --from run.jsonl --plot run.png
    perfmodel validate --from run.jsonl --format html -o run.html
    perfmodel validate --suite cases.jsonl --counters
    torchrun --nproc_per_node 2 -m perfmodel validate --suite collectives --save links.jsonl
    torchrun --nproc_per_node 4 -m perfmodel validate --suite parallel --save steps.jsonl
    """
    if stored is not None:
        others = {"--suite": suite, "--save": save, "--counters": counters, "--trace": trace, "--limit": limit}
        because = f"a stored run is read without {', '.join(others)}"
        options.refuse_together("perfmodel validate", "--from", others, because)
    _page(form, output)
    _files(save, trace, plot)
    if stored is None and (suite in ranked.SUITES or ranked.started()):
        others = {"--counters": counters, "--trace": trace, "--limit": limit, "--plot": plot}
        options.refuse_together("perfmodel validate", "torchrun", others, "ranks measure collectives and steps only")
        found_by_ranks = ranked.validate(gpu, suite or ranked.SUITE, save)
        if found_by_ranks is None:
            return
        run, card, complete = *found_by_ranks, True
    else:
        run, card, complete = _read(stored, gpu) if stored else _measure(gpu, suite, save, limit or 60, counters, trace)
    from perfmodel.report.validation import render
    from perfmodel.validation import compare

    found = compare(run.records, card, run.environment, captured=captured)
    if output is not None:
        _write(output, found, run, card, quiet=form != "html")
    if form != "html":
        echo(render(found, run.environment, card, form), nl=False)
    if plot is not None:
        from perfmodel.report.validation_plot import draw

        echo(f"plot written to {draw(found, card, run.environment, plot)}", err=True)
    for line in found.broken:
        echo(line, err=True)
    if not complete:
        sys.exit(130)
    if found.broken:
        sys.exit(ValidationError.exit_code)


def _files(save: str | None, trace: str | None, plot: str | None) -> None:
    """Checks, before anything is measured, that the files can be written."""
    if save is not None:
        writing.regular(writing.checked(save, f"--save {save}"), f"--save {save}")
    if trace is not None:
        warn_of(writing.checked(trace, f"--trace {trace}"))
    if plot is not None:
        from perfmodel.report.picture import checked

        warn_of(checked(plot, "--plot"))


def _page(form: str, output: str | None) -> None:
    """Refuses HTML without a file, and a file whose ending is not .html."""
    where = "perfmodel validate"
    if output is not None:
        if not output.lower().endswith((".html", ".htm")):
            raise UsageError(
                f"{where} -o {shown(output)}", "its ending is not .html", "a page is written there", "Use FILE.html."
            )
        writing.checked(output, f"{where} -o")
    elif form == "html":
        raise UsageError(where, "--format html is given without -o", "a page is written to a file", "Add -o FILE.html.")


def _write(path: str, found: Outcome, run: Stored, card: Gpu, *, quiet: bool) -> None:
    """Writes the page and says so, on standard error if it is not the only answer."""
    from perfmodel.report.validation_page import page

    replaced = writing.foreign(path)
    with writing.replacing(path, "perfmodel validate -o") as file:
        file.write(page(found, run.environment, card).encode())
    if replaced:
        echo(replaced, err=True)
    echo(f"Wrote {one_line(path)}.", err=quiet)


def _read(path: str, gpu: str | None) -> tuple[Stored, Gpu, bool]:
    """Returns a stored run, and the card on which it was measured."""
    from perfmodel.records import read

    run = read(path)
    return run, running.card_of(run, gpu), True


def _measure(
    gpu: str | None, suite: str | None, save: str | None, limit: float, counters: bool, trace: str | None
) -> tuple[Stored, Gpu, bool]:
    from perfmodel.measure import session
    from perfmodel.measure.suites import SUITES

    name = suite or "quick"
    given = [] if name in SUITES else running.cases(name, name)
    here = session.device(gpu or "auto")
    if here.note:
        echo(f"{here.note}.", err=True)
    if counters and here.kind == "cpu":
        raise NoDeviceError("--counters", "the device is a processor", "a GPU is required", "Remove the option.")
    if here.kind == "cpu" and name in ("full", "programs"):
        echo(f"--suite {name} is for GPUs; the processor suite is measured instead.", err=True)
    cases = given or SUITES["processor" if here.kind == "cpu" else name]()
    run, complete = running.run(here, cases, save, limit)
    if counters and complete:
        run = run._replace(records=tuple(session.with_counters(run.records)))
        if save:
            session.rewrite(save, run)
    if trace is not None and complete:
        echo(f"trace written to {session.trace(cases, here, trace)}", err=True)
    card = running.described(run) if "card" in run.environment else here.card  # a resumed run keeps its roofs
    return run, card, complete
