"""``perfmodel calibrate``: measures the limits of this device."""

from __future__ import annotations

import os

import click

from perfmodel import writing
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError
from perfmodel.paths import MEASURED, user_folder

WHERE = "perfmodel calibrate"
ANYTHING = "auto"
PROCESSOR = "cpu.yaml"


@command()
@options.gpu_option(
    default=ANYTHING,
    show_default=True,
    metavar="auto|cpu|GPU",
    help="The device: the GPU of this machine, or its processor (cpu).",
)
@click.option("-o", "--output", metavar="FILE", help="File to write. [default: a file in the user folder of perfmodel]")
def calibrate(gpu: str, output: str | None) -> None:
    """Measures bandwidths, FLOP rates, launch times and latency of this device in under a minute.

    The results are written to the user folder of perfmodel. For a GPU, all commands then use them for expected times.
    For a processor, a complete GPU file is written, which --gpu cpu selects. Under torchrun, the links between the GPUs
    are measured too.

    \b
    perfmodel calibrate
    perfmodel calibrate --gpu cpu -o my-cpu.yaml
    torchrun --nproc_per_node 2 -m perfmodel calibrate
    """
    from perfmodel.cli import ranked
    from perfmodel.measure import session

    if output is not None:  # refused before anything is measured
        _may_write(output)
    links = ranked.calibrate(gpu) if ranked.started() else []
    if links is None:
        return
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

    found = [*measure(device.torch, lambda title: echo(f"measuring: {title}", err=True)), *links]
    readings = [(one.section, one.name, one.reading) for one in found]
    writing.write(path, WHERE, text(device.card.name, session.made(device), readings))
    echo(render(sheet(readings, device.card), "table"), nl=False)
    echo(f"written to {path}", err=True)


def _processor(contents: str, path: str, named: bool) -> None:
    """Writes the card file of the processor; it was measured when the device was opened."""
    writing.write(path, WHERE, contents)
    echo(contents, nl=False)
    echo(f"written to {path}; use it as --gpu {'cpu' if named else path}", err=True)


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
    writing.checked(path, WHERE)
    if os.path.isfile(path) and not writing.begins(path, "# Measured"):
        raise InputError(
            path,
            "a file that is not a measurement exists there",
            "a new file or an older measurement is accepted",
            "Name another file.",
        )
