"""``perfmodel gpus``, ``systems``, ``models``, ``ops`` and ``symbols``: lists of the names that options accept."""

from __future__ import annotations

from perfmodel import ops as operations
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.report import listings
from perfmodel.report.sheet import Sheet, render

FORMATS = ("table", "json", "csv", "markdown")


def _print(sheet: Sheet, form: str) -> None:
    echo(render(sheet, form), nl=False)


@command()
@options.hardware
@options.formats(*FORMATS)
def gpus(form: str) -> None:
    """Lists the GPUs and their main figures, with their short names."""
    _print(listings.gpus(), form)


@command()
@options.hardware
@options.formats(*FORMATS)
def systems(form: str) -> None:
    """Lists the systems that --system accepts: their GPUs, links and networks."""
    _print(listings.systems(), form)


@command()
@options.formats(*FORMATS)
def models(form: str) -> None:
    """Lists the workloads that --config accepts by name."""
    _print(listings.models(), form)


@command()
@options.formats(*FORMATS)
def ops(form: str) -> None:
    """Lists the operations. 'perfmodel explain OP' explains one."""
    _print(listings.ops(operations.every()), form)


@command()
@options.formats(*FORMATS)
def symbols(form: str) -> None:
    """Lists the symbols of the notation table: every size that an operation may have."""
    _print(listings.symbols(), form)
