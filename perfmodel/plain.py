"""ASCII in place of characters that the encoding of a terminal or a pipe lacks, such as cp1252 of Windows.

Lines of tables and units keep their width. Formulas get longer: ``N^4``, ``ceil(N / 16)``.
"""

from __future__ import annotations

import codecs
import unicodedata
from itertools import groupby

NAME = "perfmodel.plain"  # of the error handler
_SUPERSCRIPTS = {**dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", strict=True)), "ᵀ": "T", "ˣ": "x", "ⁿ": "n"}
_WORDS = {
    "─": "-", "│": "|", "└": "+", "┤": "+", "┴": "+", "┌": "+", "┐": "+", "┘": "+", "├": "+", "┬": "+", "┼": "+", "█": "#",
    "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "•": "*", "≈": "~", "≤": "<=", "≥": ">=", "→": "->", "∞": "inf",
    "√": "sqrt ", "½": "1/2", "µ": "u", "μ": "u", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")", "’": "'", "“": '"', "”": '"',
    "…": "...", "Δ": "Delta ", "Σ": "sum ", "Φ": "Phi", "β": "beta", "γ": "gamma", "ε": "eps", "π": "pi", "σ": "sigma",
    "φ": "phi", "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
}  # fmt: skip
_BRAILLE = range(0x2801, 0x2900)


def plain(text: str) -> str:
    """Returns the text in ASCII: a named replacement, the letter without its accent, or an escape."""
    parts = []
    for raised, characters in groupby(text, key=_SUPERSCRIPTS.__contains__):
        run = "".join(characters)
        parts.append("^" + "".join(_SUPERSCRIPTS[c] for c in run) if raised else "".join(map(_character, run)))
    return "".join(parts)


def _character(character: str) -> str:
    if character in _WORDS:
        return _WORDS[character]
    if ord(character) in _BRAILLE:  # the dots of a chart
        return "*"
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or character.encode("ascii", "backslashreplace").decode()


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error(NAME, _replaced)
