"""Output of the commands. Only this module prints, and it escapes control characters."""

from __future__ import annotations

import re

import click

from perfmodel.errors import printable
from perfmodel.writing import foreign

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


def echo(text: str, *, err: bool = False, nl: bool = True, styled: bool = False) -> None:
    """Prints text. Line breaks are kept; ``styled`` text also keeps its colours."""
    parts = _STYLE.split(text) if styled else [text]
    safe = (part if i % 2 else printable(part, "\n") for i, part in enumerate(parts))
    click.echo("".join(safe), err=err, nl=nl)


def warn_of(path: str) -> None:
    """States that an existing file will be replaced, if this program did not write it."""
    if note := foreign(path):
        echo(note, err=True)
