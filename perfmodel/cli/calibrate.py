"""``perfmodel calibrate``: what the device at hand can do at most, measured."""

from __future__ import annotations

import os.path

import click

from perfmodel.cli.command import command
from perfmodel.errors import InputError
from perfmodel.paths import MEASURED

ANYTHING = "auto"


@command()
@click.option(
    "--gpu",
    default=ANYTHING,
    show_default=True,
    metavar="auto|cpu|GPU",
    help="The device: the GPU at hand, or this processor.",
)
@click.option("-o", "--output", metavar="FILE", help="Where to write it. [default: hardware/NAME.measured.yaml]")
def calibrate(gpu: str, output: str | None) -> None:
    """Bandwidths, rates, launch times and latency of this device, each with its spread, in under a minute.

    The readings of a GPU go beside its data sheet and are used from then on wherever its time is told. Of a processor
    a file for --gpu FILE is written.

    \b
    perfmodel calibrate
    perfmodel calibrate --gpu cpu -o my-cpu.yaml
    """
    from perfmodel.measure import session

    device = session.device(gpu)
    if output is not None:
        _may_write(output)
    if device.kind == "cpu":
        _processor(output or "cpu.yaml")
        return
    from perfmodel.measure.ceilings import measure
    from perfmodel.measured import text
    from perfmodel.report.calibration import sheet
    from perfmodel.report.sheet import render

    path = output or os.path.join(os.path.dirname(device.card.file), device.card.name + MEASURED)
    found = list(measure(device.torch, lambda title: click.echo(f"measuring: {title}", err=True)))
    readings = [(one.section, one.name, one.reading) for one in found]
    _write(path, text(device.card.name, session.made(device), readings))
    click.echo(render(sheet(readings, device.card), "table"), nl=False)
    click.echo(f"written to {path}", err=True)


def _processor(path: str) -> None:
    from perfmodel.measure.processor import hardware_file

    _may_write(path)
    contents = hardware_file()
    _write(path, contents)
    click.echo(contents, nl=False)
    click.echo(f"written to {path}; use it as --gpu {path}", err=True)


def _may_write(path: str) -> None:
    """A data sheet is never written over: only a file that says of itself that it was measured."""
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not first.startswith("# Measured"):
        raise InputError(
            f"-o {path}",
            "a file that was not measured stands there",
            "a new file or an older measurement is accepted",
            "Name another file.",
        )


def _write(path: str, contents: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(contents)
    except OSError as error:
        raise InputError(
            f"-o {path}",
            f"it cannot be written ({error.strerror or error})",
            "a path that can be written is accepted",
            "Name another file.",
        ) from None
