"""Lines of text that differ in their numbers alone, found in a whole file at once.

Every run of digits is replaced by a mark. Lines with the same text around their marks are of one kind. The numbers of a
kind are an array with one row for each line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.units import LARGEST_SIZE

_DIGITS, _ZERO, _BREAK = b"0123456789", ord("0"), ord("\n")
_LONGEST = len(str(LARGEST_SIZE)) - 1  # digits of a number that is certainly a size
_ONLY_DIGITS = bytes(code if code in _DIGITS else ord(" ") for code in range(256))


class Kind(NamedTuple):
    """Lines of one kind: their places in the file, and their numbers, one row for each line."""

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def split(self, columns: NDArray[np.int64]) -> Iterator[Kind]:
        """The lines in groups that agree in some of their numbers."""
        fixed = self.numbers[:, columns]
        if (fixed == fixed[0]).all():
            yield self
            return
        _, group = np.unique(fixed, axis=0, return_inverse=True)
        order = np.argsort(group.reshape(-1), kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1):
            yield Kind(self.places[rows], self.numbers[rows])


def kinds(lines: Sequence[str], least: int) -> Iterator[Kind]:
    """The kinds with at least so many lines. Lines with a number that starts with 0 or is too long are left out."""
    text = "\n".join(chain(lines, [""])).encode("utf-8", "surrogatepass")
    codes = np.frombuffer(text, np.uint8)
    digit: NDArray[np.bool_] = codes - _ZERO < len(_DIGITS)  # codes below that of 0 wrap around
    starts, ends = np.flatnonzero(np.diff(digit, prepend=False, append=False)).reshape(-1, 2).T
    breaks = np.flatnonzero(codes == _BREAK)
    if breaks.size != len(lines):  # a text holds a line break
        return
    numbers: Any = np.fromstring(text.translate(_ONLY_DIGITS), np.int64, sep=" ")
    zero, lengths = codes[starts] == _ZERO, ends - starts
    unusual = np.zeros(len(lines), np.bool_)
    unusual[np.searchsorted(breaks, starts[(lengths > _LONGEST) | (zero & (lengths > 1))])] = True
    marked = codes.copy()
    marked[starts] = np.where(zero, _ZERO, _ZERO + 1)
    kept = ~digit
    kept[starts] = True
    alike: dict[bytes, list[int]] = {}
    for place, around in enumerate(marked[kept].tobytes().split(b"\n")[:-1]):
        alike.setdefault(around, []).append(place)
    last = np.searchsorted(starts, breaks)
    first = np.concatenate([[0], last[:-1]])
    for found in alike.values():
        places = np.array(found)
        places = places[~unusual[places]]
        if places.size >= least:
            yield Kind(places, numbers[first[places, None] + np.arange(last[places[0]] - first[places[0]])])
