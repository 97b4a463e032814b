"""``perfmodel calibrate``: measures the limits of this device."""

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
    help="The device: the GPU of this machine, or its processor (cpu).",
)
@click.option("-o", "--output", metavar="FILE", help="File to write. [default: a file in the user folder of perfmodel]")
def calibrate(gpu: str, output: str | None) -> None:
    """Measures bandwidths, FLOP rates, launch times and latency of this device in under a minute.

    The results are written to the user folder of perfmodel. For a GPU, all commands then use them for expected times.
    For a processor, a complete GPU file is written, which --gpu cpu selects.

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
    """Writes the card file of the processor; it was measured when the device was opened."""
    _write(path, contents)
    click.echo(contents, nl=False)
    click.echo(f"written to {path}; use it as --gpu {'cpu' if named else path}", err=True)


def _made(folder: str) -> str:
    """Returns the folder; creates it if it does not exist."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(
            folder, f"the folder cannot be created ({error.strerror or error})", "a writable folder is accepted",
            "Choose a file with -o.",
        ) from None  # fmt: skip
    return folder


def _may_write(path: str) -> None:
    """Refuses to overwrite a file that is not a measurement, such as a data sheet."""
    if os.path.isdir(path):
        raise InputError(path, "it is a folder", "a file is accepted", "Name a file in the folder.")
    if not os.path.exists(path):
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline(100)
    except OSError as error:
        raise InputError(
            path, f"it cannot be read ({error.strerror or error})", "a readable file is accepted", "Name another file."
        ) from None
    if not first.startswith("# Measured"):
        raise InputError(
            path,
            "a file that is not a measurement exists there",
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
