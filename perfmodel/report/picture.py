"""A figure as a file: which formats there are, what all pictures share, and that a file is written whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perfmodel.report import files

FORMATS = (".png", ".svg", ".pdf")
DPI = 200
WIDTH_PT = 504.0  # the text of a letter page with two columns: 7 inches
FONT_PT = 8.0

# Okabe and Ito (2008): colours that colour-blind readers tell apart. Yellow is left out, too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The same, dark enough for text on white.
INKS = ("#005A8E", "#A84A00", "#00704F", "#8F4A75", "#8A5F00", "#2A6F95", "#000000")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (3, 1.5)), (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))
INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"

SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": FONT_PT,
    "axes.linewidth": 0.6,
    "text.hinting": "none",  # a hinted text is wider at some resolutions than at others
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "pdf.fonttype": 42,
    "svg.hashsalt": "perfmodel",
}
# No date: the same figures give the same bytes.
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": "perfmodel"},
    ".svg": {"Date": None, "Creator": "perfmodel"},
    ".pdf": {"CreationDate": None, "Creator": "perfmodel"},
}


def checked(path: str, where: str) -> str:
    """The path, where a picture can be written to it; asked before any work is done."""
    return files.checked(path, where, FORMATS, "pictures")


@contextmanager
def settings() -> Iterator[None]:
    """The fonts and formats of all pictures, for as long as one is made."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # a name in a script that the font lacks shows boxes, which says enough
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def save(figure: Any, path: str, where: str) -> None:
    """Writes the picture in the format of its ending."""
    ending = os.path.splitext(checked(path, where))[1].lower()
    with files.replacing(path, where) as file, settings():
        figure.savefig(file, format=ending[1:], dpi=DPI, metadata=METADATA[ending])
