"""``perfmodel predict``: bounds and expected times for a file of cases."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from perfmodel import paths
from perfmodel.bulk.files import predicted
from perfmodel.cli import options
from perfmodel.cli.collection import without_collection
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError, shown
from perfmodel.given import captured
from perfmodel.hardware import gpu as read_gpu
from perfmodel.report.predictions import render
from perfmodel.specfile import read_lines
from perfmodel.timing import parameters as known


@command()
@click.option(
    "--cases",
    metavar="FILE",
    required=True,
    help="JSON Lines file, one case per line. '-' reads standard input; 'cases' is the example shipped with perfmodel.",
)
@options.gpu_option(required=True)
@options.knowledge
@options.columns
@options.formats("table", "json", "csv", "markdown")
def predict(cases: str, gpu: str, knowledge: str | None, columns: str, form: str) -> None:
    """FLOPs, bytes, bounds and expected time for every case of a file, compared with measured times.

    A case is an operation from 'perfmodel ops' with its sizes, or one of the workloads elementwise, mlp and layer.
    Optional keys are dtype, dtypes (by role), protocol and impl. Some operations also accept causal, window, direction
    and activation. Unknown keys are refused.

    With "measured_us", a measured time in microseconds, two ratios are printed. "of bound" is the lower bound divided
    by the measured time; 100 % is the fastest possible. "of expected" is the expected time divided by the measured
    time; 50 % means twice as slow as expected. Files of 'perfmodel validate --save' are accepted too.

    A case with an error is reported on stderr. The other cases are still computed, and the exit code is 1.

    \b
    perfmodel predict --cases cases --gpu a100

    \b
    Examples of cases:
    {"op": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "bf16", "measured_us": 612}
    {"op": "attention", "shape": {"B": 1, "H": 32, "H_kv": 8, "N": 2048, "d": 128}, "causal": true, "window": 256}
    """
    keys = options.column_keys(columns, form)
    card = read_gpu(gpu)
    path = cases if cases == "-" else paths.cases(cases)
    name = "standard input" if path == "-" else path
    state = known.card(card, knowledge).knowledge

    def environment(where: str, found: Mapping[str, Any]) -> None:
        if "gpu" in found and found["gpu"] not in card.matches:
            message = f"{where}: these cases were measured on {shown(found['gpu'])}, which is not {card.title}."
            echo(message, err=True)

    with without_collection():
        lines = read_lines(path)
        found = predicted(lines, name, card, knowledge=state, captured=captured, environment=environment)
        if not found:
            raise InputError(name, "it contains no case", "one JSON object per line is accepted", "Add a line.")
        if form != "table" or len(found.errors) < len(found):
            echo(render(found, card, form, state, keys), nl=False)
    for error in found.errors:
        echo(error, err=True)
    if found.errors:
        sys.exit(InputError.exit_code)
