"""``perfmodel gpus``, ``models``, ``ops`` and ``symbols``: what there is."""

from __future__ import annotations

import click

from perfmodel import ops as operations
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.report import listings
from perfmodel.report.sheet import Sheet, render

FORMATS = ("table", "json", "csv", "markdown")


def _print(sheet: Sheet, form: str) -> None:
    click.echo(render(sheet, form), nl=False)


@command()
@options.formats(*FORMATS)
def gpus(form: str) -> None:
    """The GPU files and their main figures; short names in brackets."""
    _print(listings.gpus(), form)


@command()
@options.formats(*FORMATS)
def models(form: str) -> None:
    """The workloads that --config knows by name."""
    _print(listings.models(), form)


@command()
@options.formats(*FORMATS)
def ops(form: str) -> None:
    """The operations; 'perfmodel explain OP' shows one."""
    _print(listings.ops(operations.every()), form)


@command()
@options.formats(*FORMATS)
def symbols(form: str) -> None:
    """The notation table: every letter that an operation may take."""
    _print(listings.symbols(), form)
