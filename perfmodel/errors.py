"""Errors and messages, in one form: *where: what was found; what is accepted. What to do.*"""

from __future__ import annotations

from collections.abc import Iterable


class PerfmodelError(Exception):
    """An error that a user can correct. The command line prints it as one line on stderr and exits with its code."""

    exit_code = 1

    def __init__(self, where: str, found: str, accepted: str = "", action: str = "") -> None:
        self.where, self.found, self.accepted, self.action = map(one_line, (where, found, accepted, action))
        rest = f"; {self.accepted}" if self.accepted else ""
        super().__init__(f"{self.where}: {self.found}{rest}. {self.action or 'Correct it.'}")


class InputError(PerfmodelError):
    """A file, a size or a name that cannot be used."""


class SizeRangeError(InputError):
    """A size that exceeds the largest supported size."""


class UsageError(PerfmodelError):
    """A command line that is incomplete or contradictory."""

    exit_code = 2


class ValidationError(PerfmodelError):
    """A measurement outside the bounds it was checked against."""

    exit_code = 3


class NoDeviceError(PerfmodelError):
    """The requested device is not available."""

    exit_code = 4


def printable(text: str, kept: str = "") -> str:
    r"""Returns text with every unprintable character escaped, as ``\x1b``, except those in ``kept``.

    All text that comes from a file is shown through this function: control characters change the state of a terminal
    (OSC 52 writes its clipboard), and marks of direction reorder a line.
    """
    plain = text
    for c in kept:
        plain = plain.replace(c, "")
    if plain.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, limit: int = 400) -> str:
    """Returns text shortened to ``limit`` characters, with unprintable characters escaped."""
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns a sentence that suggests the most similar known words; empty if none is similar."""
    from difflib import get_close_matches

    by_fold = {choice.casefold(): choice for choice in sorted(known)}
    begun = [choice for fold, choice in by_fold.items() if len(word) >= 3 and fold.startswith(word.casefold())]
    if 1 <= len(begun) <= 4:
        return f"Did you mean {' or '.join(repr(choice) for choice in begun)}?"
    near = get_close_matches(word.casefold(), begun or by_fold, n=1, cutoff=0.6)
    return f"Did you mean '{by_fold[near[0].casefold()]}'?" if near else ""


def near_or_known(word: str, known: Iterable[str]) -> str:
    """Returns a suggestion as ``did_you_mean``, else a list of the known words if they are few."""
    choices = sorted(known)
    listed = f"Known: {', '.join(choices)}." if 0 < len(choices) <= 24 else ""
    return did_you_mean(word, choices) or listed


def shown(value: object, limit: int = 60) -> str:
    """Returns a value quoted for a message: one line, printable, short."""
    try:
        text = repr(value)
    except ValueError:  # an int with more digits than Python prints
        text = "a number of thousands of digits"
    return one_line(text, limit)


def said(value: object, limit: int = 60) -> str:
    """Returns a value as JSON writes it, quoted for a message."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else shown(value, limit)
