"""``perfmodel predict``: bounds for a file of cases."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os.path import exists
from typing import Any

import click

from perfmodel.cases import read
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.errors import InputError, shown
from perfmodel.hardware import gpu as read_gpu
from perfmodel.paths import find
from perfmodel.prediction import predictions
from perfmodel.report.predictions import render
from perfmodel.specfile import read_lines
from perfmodel.timing import parameters as known


@contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing here runs in circles, and going through all predictions again and again takes a fifth of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@command()
@click.option(
    "--cases",
    metavar="FILE",
    required=True,
    help="JSON Lines, one case a line; - reads standard input, 'cases' is the example that is shipped.",
)
@click.option("--gpu", metavar="GPU", required=True, help="A GPU: a name of 'perfmodel gpus', or a YAML file.")
@options.knowledge
@options.columns
@options.formats("table", "json", "csv", "markdown")
def predict(cases: str, gpu: str, knowledge: str | None, columns: str, form: str) -> None:
    """FLOPs, bytes, bounds and the expected time for every case of a file, and how far measured times are off them.

    A case names an operation of 'perfmodel ops' with its sizes, or one of the workloads elementwise, mlp and layer.
    Other keys are dtype, dtypes (by role), protocol, impl, and by operation causal, window, direction, activation.
    Unknown keys are refused.

    With "measured_us", a time in microseconds, two shares are printed: "of bound" is the bound divided by the measured
    time, "of expected" is the expected time divided by it. 100 % of the bound is the speed of light; 50 % of expected
    means twice as slow as these kernels run on this card. A file of 'perfmodel validate --save' can be read too.

    A case that cannot be done is reported on stderr, and the exit code is 1 after all others were done.

    \b
    perfmodel predict --cases cases --gpu a100
    {"op": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "bf16", "measured_us": 612}
    {"op": "attention", "shape": {"B": 1, "H": 32, "H_kv": 8, "N": 2048, "d": 128}, "causal": true, "window": 256}
    """
    keys = options.column_keys(columns, form)
    card = read_gpu(gpu)
    path = cases if cases == "-" or exists(cases) else find("cases", cases)
    name = "standard input" if path == "-" else path
    state = known.card(card, knowledge).knowledge

    def environment(where: str, found: Mapping[str, Any]) -> None:
        if "gpu" in found and found["gpu"] not in card.matches:
            told = f"{where}: these cases were measured on {shown(found['gpu'])}, which is not {card.title}."
            click.echo(told, err=True)

    with _without_collection():
        found = list(predictions(read(read_lines(path), name, environment), card, knowledge=state))
        if not found:
            raise InputError(name, "there is no case in it", "one JSON object per line is accepted", "Add a line.")
        if form != "table" or any(prediction.total for prediction in found):
            click.echo(render(found, card, form, state, keys), nl=False)
    refused = [prediction.error for prediction in found if prediction.total is None]
    for error in refused:
        click.echo(error, err=True)
    if refused:
        sys.exit(InputError.exit_code)
