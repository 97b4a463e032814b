"""Numbers as text, for many rows at once: records of fixed width, whose unused bytes are zero and dropped at the end.

Whole numbers below 2^53 are written as they are, others with 13 digits: ``1.234567890123e-05``. Larger whole numbers
come as integers and are written digit by digit, in a place as wide as the longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.sweep.totals import BOUNDS

DIGITS = 13
_WIDTH, _LONG = 18, 20

# Four digits as the four bytes of an integer; from 10^4 on without leading zeros, where zero is nothing or (last) 0.
_FOUR = np.frombuffer(b"".join(b"%04d" % i for i in range(10**4)), "<u4")
_BARE = np.frombuffer(b"".join((b"%d" % i).rjust(4, b"\0") for i in range(10**4)), "<u4")
_LAST = np.concatenate([_FOUR, _BARE])
_GROUP = np.concatenate([_FOUR, [0], _BARE[1:]]).astype("<u4")
# The parts of 1.234567890123e-05, and powers of ten from the smallest exponent that it can show.
_LEAD = np.frombuffer(b"".join(b"%d." % i for i in range(10)), "<u2")
_EXPONENT = np.frombuffer(b"".join(b"e%+03d" % i for i in range(-99, 100)), "<u4")
_POWER = np.array([float(f"1e{i}") for i in range(DIGITS - 100, DIGITS + 99)])
_WORDS = np.array([word.encode() for word in BOUNDS])


class Slot(NamedTuple):
    """A place in a line: the column that it shows, as a whole number, a longer one, a real one, a bound's name or digits."""

    column: str
    kind: str
    digits: int = 0


class Lines:
    """A line of text with places for numbers, to be filled for many rows at once."""

    def __init__(self, parts: Iterable[str | Slot]) -> None:
        self._slots: list[tuple[int, Slot]] = []
        self._texts: dict[str, bytes] = {}
        fields: list[tuple[str, str, int]] = []
        width = 0
        for part in parts:
            if isinstance(part, Slot):
                self._slots.append((width, part))
                fields += _fields(width, part)
                width += {"bound": _WORDS.itemsize, "digits": part.digits, "long": _LONG}.get(part.kind, _WIDTH)
            elif part:
                text = part.encode()
                self._texts[f"{width}"] = text
                fields.append((f"{width}", f"S{len(text)}", width))
                width += len(text)
        names, formats, offsets = [list(column) for column in zip(*fields, strict=True)] if fields else ([], [], [])
        line = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": width})
        self._records: NDArray[Any] = np.zeros(0, line)

    def filled(self, columns: Mapping[str, NDArray[Any]]) -> bytes:
        """The lines for these columns."""
        rows = len(next(iter(columns.values())))
        if rows > len(self._records):
            self._records = np.zeros(rows, self._records.dtype)
            for name, text in self._texts.items():
                self._records[name] = text
        records = self._records[:rows]
        for place, slot in self._slots:
            for part, digits in _FORMS[slot.kind](columns[slot.column]):
                records[f"{place} {part}"] = digits
        return records.tobytes().translate(None, b"\0")


def _fields(place: int, slot: Slot) -> list[tuple[str, str, int]]:
    """The parts of a place in a line, their formats and where they are; the two ways to write a number share bytes."""
    if slot.kind in ("bound", "digits"):
        return [(f"{place} word", _WORDS.dtype.str if slot.kind == "bound" else f"S{slot.digits}", place)]
    if slot.kind == "long":
        return [(f"{place} whole {i}", "<u4", place + 4 * i) for i in range(_LONG // 4)]
    groups = [*(("whole", i, 4 * i) for i in range(4)), *(("real", i, 2 + 4 * i) for i in range(4))]
    found = [(f"{place} {form} {i}", "<u4", place + offset) for form, i, offset in groups]
    return [*found, (f"{place} lead", "<u2", place), (f"{place} rest", "<u2", place + 16)]


def _bound(values: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    yield "word", _WORDS[values]


def slot(column: str, values: NDArray[Any]) -> Slot:
    """A place that is wide enough for these whole numbers, of 64 bits or Python's."""
    python = values.dtype.kind == "O"
    return Slot(column, "digits", len(str(values.max(initial=0)))) if python else Slot(column, "long", _LONG)


def _digits(values: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """Python's whole numbers."""
    yield "word", values.astype(str).astype(np.bytes_)


def _whole(values: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """Sixteen digits in four groups without leading zeros."""
    yield from _groups(values.astype(np.int64), 4)
    yield "rest", 0


def _long(values: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """Twenty digits, enough for 64 bits."""
    yield from _groups(values, _LONG // 4)


def _groups(left: NDArray[np.int64], number: int) -> Iterator[tuple[str, Any]]:
    """Groups of four digits without leading zeros."""
    largest = left.max(initial=0)
    for i in reversed(range(number)):
        if i < number - 1 and largest < 10 ** (4 * (number - 1 - i)):
            yield f"whole {i}", 0
        else:
            above = left // 10**4
            digits = left - above * 10**4 + (above == 0) * 10**4
            yield f"whole {i}", (_LAST if i == number - 1 else _GROUP).take(digits)
            left = above


def _real(values: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """A digit, a point, twelve digits and an exponent. NB the last digit may be off by one where two are as near."""
    exponent = np.floor(np.log10(np.where(values > 0, values, 1))).astype(np.int64)
    digits = np.rint(values * _POWER[99 - exponent])
    exponent += digits >= 10**DIGITS  # rounded up to the next power of ten, or the logarithm was rounded down
    exponent -= (digits < 10 ** (DIGITS - 1)) & (values > 0)
    left = np.rint(values * _POWER[99 - exponent]).astype(np.int64)
    yield "real 3", _EXPONENT.take(exponent + 99)
    for i in (2, 1, 0):
        above = left // 10**4
        yield f"real {i}", _FOUR.take(left - above * 10**4)
        left = above
    yield "lead", _LEAD.take(left)


_FORMS = {"bound": _bound, "long": _long, "digits": _digits, "whole": _whole, "real": _real}
