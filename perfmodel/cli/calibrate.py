"""``perfmodel calibrate``: what the device at hand can do at most, measured."""

from __future__ import annotations

import os

import click

from perfmodel.cli.command import command
from perfmodel.errors import InputError
from perfmodel.paths import MEASURED, user_folder

ANYTHING = "auto"
PROCESSOR = "cpu.yaml"


@command()
@click.option(
    "--gpu",
    default=ANYTHING,
    show_default=True,
    metavar="auto|cpu|GPU",
    help="The device: the GPU at hand, or this processor.",
)
@click.option("-o", "--output", metavar="FILE", help="Where to write it. [default: in the user's own folder]")
def calibrate(gpu: str, output: str | None) -> None:
    """Bandwidths, rates, launch times and latency of this device, each with its spread, in under a minute.

    The readings of a GPU are written to the user's own folder and are used from then on wherever a time on it is
    printed. Of a processor the file of a card is written there, which --gpu cpu names from then on.

    \b
    perfmodel calibrate
    perfmodel calibrate --gpu cpu -o my-cpu.yaml
    """
    from perfmodel.measure import session

    if output is not None:  # refused before anything is measured
        _may_write(output)
    device = session.device(gpu)
    name = PROCESSOR if device.kind == "cpu" else device.card.name + MEASURED
    path = output or os.path.join(_made(user_folder("hardware")), name)
    _may_write(path)
    if device.kind == "cpu":
        _processor(device.description, path, named=output is None)
        return
    from perfmodel.measure.ceilings import measure
    from perfmodel.measured import text
    from perfmodel.report.calibration import sheet
    from perfmodel.report.sheet import render

    found = list(measure(device.torch, lambda title: click.echo(f"measuring: {title}", err=True)))
    readings = [(one.section, one.name, one.reading) for one in found]
    _write(path, text(device.card.name, session.made(device), readings))
    click.echo(render(sheet(readings, device.card), "table"), nl=False)
    click.echo(f"written to {path}", err=True)


def _processor(contents: str, path: str, named: bool) -> None:
    """Writes the card that the device was described by, measured when the device was asked for."""
    _write(path, contents)
    click.echo(contents, nl=False)
    click.echo(f"written to {path}; use it as --gpu {'cpu' if named else path}", err=True)


def _made(folder: str) -> str:
    """Returns the folder, made where there was none."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(
            folder, f"the folder cannot be made ({error.strerror or error})", "a folder that can be written is accepted",
            "Name a file with -o.",
        ) from None  # fmt: skip
    return folder


def _may_write(path: str) -> None:
    """A data sheet is never written over: only a file that says of itself that it was measured."""
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        raise InputError(path, "it is a folder", "a file is accepted", "Name a file in it.")
    with open(path, encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not first.startswith("# Measured"):
        raise InputError(
            path,
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
            path,
            f"it cannot be written ({error.strerror or error})",
            "a path that can be written is accepted",
            "Name another file.",
        ) from None
