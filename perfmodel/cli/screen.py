"""Output of the commands. Only this module prints, and it escapes control characters."""

from __future__ import annotations

import re

import click

from perfmodel.errors import printable

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


def echo(text: str, *, err: bool = False, nl: bool = True, styled: bool = False) -> None:
    """Prints text. Line breaks are kept; ``styled`` text also keeps its colours."""
    parts = _STYLE.split(text) if styled else [text]
    safe = (part if i % 2 else printable(part, "\n") for i, part in enumerate(parts))
    click.echo("".join(safe), err=err, nl=nl)
