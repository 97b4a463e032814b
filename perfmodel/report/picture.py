"""Saving a figure: file formats, the style that all pictures share, and complete writing of the file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from perfmodel import writing

FORMATS = (".png", ".svg", ".pdf")
DPI = 200
WIDTH_PT = 504.0  # the text width of a letter page with two columns: 7 inches
FONT_PT = 8.0

# Okabe and Ito (2008): colours that colour-blind readers can distinguish, without yellow, which is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The same colours, dark enough for text on white.
INKS = ("#005A8E", "#A84A00", "#00704F", "#8F4A75", "#8A5F00", "#2A6F95", "#000000")
# Each series has a shape of its own as well, so that a grey print tells them apart.
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)), (0, (3, 1.5)), (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))
INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"

SETTINGS = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # the second for a viewer of an SVG that lacks the first
    "font.size": FONT_PT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "text.hinting": "none",  # the width of hinted text depends on the resolution
    "text.parse_math": False,  # a dollar sign in a name does not start a formula
    "pdf.fonttype": 42,
    "svg.hashsalt": "perfmodel",
    "svg.fonttype": "none",  # text stays text
}
# No date, so that equal figures give equal files.
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": "perfmodel"},
    ".svg": {"Date": None, "Creator": "perfmodel"},
    ".pdf": {"CreationDate": None, "Creator": "perfmodel"},
}


def checked(path: str, where: str) -> str:
    """Returns the path if a picture can be written to it; raises InputError otherwise."""
    return writing.checked(path, where, FORMATS, "pictures")


@contextmanager
def settings() -> Iterator[None]:
    """Sets the fonts and formats of all pictures while one is drawn."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # characters that the font lacks are shown as boxes, so no warning is needed
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def save(figure: Any, path: str, where: str) -> None:
    """Writes the picture in the format of the path's ending."""
    contents = drawn(figure, os.path.splitext(checked(path, where))[1].lower())
    with writing.replacing(path, where) as file:
        file.write(contents)


def drawn(figure: Any, ending: str) -> bytes:
    """Returns the contents of a file with this ending."""
    file = BytesIO()  # a pipe has no positions, which PDF and PNG need
    with settings():
        if ending == ".png":
            _save_png(figure, file)
        else:
            figure.savefig(file, format=ending[1:], dpi=DPI, metadata=METADATA[ending])
    return file.getvalue()


def _save_png(figure: Any, file: Any) -> None:
    """Writes a PNG with a palette of 256 colours: a third of the size of one with true colours."""
    from PIL import Image, PngImagePlugin

    pixels = BytesIO()
    figure.savefig(pixels, format="rgba", dpi=DPI)
    width, height = (int(inches * DPI) for inches in figure.get_size_inches())
    about = PngImagePlugin.PngInfo()
    for key, value in METADATA[".png"].items():
        about.add_text(key, value)
    whole = Image.frombuffer("RGBA", (width, height), pixels.getvalue(), "raw", "RGBA", 0, 1).convert("RGB")
    small = whole.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(file, format="png", optimize=True, dpi=(DPI, DPI), pnginfo=about)
