"""Pages of text for the terminal, formatted by rich: wrapped paragraphs, and styled headings if the terminal has
styles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from perfmodel.errors import printable

TITLE, HEADING = "bold", "bold cyan"


def page(title: str, paragraphs: Iterable[str], sections: Iterable[tuple[str, Sequence[str]]], width: int) -> str:
    """Returns title, paragraphs and sections as text; plain outside a terminal. Empty sections are omitted."""
    # Only the styles of this page are escape sequences.
    title, paragraphs = printable(title), map(printable, paragraphs)
    sections = [(printable(heading), [printable(line, "\n") for line in lines]) for heading, lines in sections]
    console = Console(file=sys.stdout, width=width)
    with console.capture() as capture:
        for text, style in ((title, TITLE), *((paragraph, "") for paragraph in paragraphs)):
            console.print(Text(text, style), Text(), sep="\n")
        for heading, lines in sections:
            if lines:
                console.print(Text(heading, HEADING))
                # The lines are already wrapped; wrapping them again would break tables and indents.
                console.print(Text("\n".join((*lines, "")), no_wrap=True, overflow="ignore"), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"
