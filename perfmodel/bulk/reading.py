"""Cases whose lines differ in the sizes of their shapes alone: one case, and its sizes as arrays.

The first line of a form is read as any other. What holds for its text holds for all, so no other line is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.bulk.lines import Kind, kinds
from perfmodel.case_files import parsed_case
from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.expression import Expression, expression
from perfmodel.sweep.exact import ROUNDED
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.vocabulary import COLLECTIVES, kind

_SHAPE = '"shape"'
_NUMBERS = re.compile("[0-9]+")


class Alike(NamedTuple):
    """Cases of one form: the first one, and the places of all in the file.

    ``shape`` holds the numbers of their shapes, one column for each name. ``sizes`` are by symbol, and include those that
    follow from others.
    """

    case: Case
    places: NDArray[np.int64]
    shape: NDArray[np.int64]
    sizes: Mapping[str, NDArray[np.float64]]

    def taken(self, rows: Any) -> Alike:
        """Some of the cases."""
        some = {name: values[rows] for name, values in self.sizes.items()}
        return Alike(self.case, self.places[rows], self.shape[rows], some)


def alike(numbers: Sequence[int], lines: Sequence[str], file: str, least: int) -> Iterator[Alike]:
    """The forms of at least so many lines, which have these numbers. Lines that need a closer look are in none."""

    def read(own: Kind) -> tuple[Case, str] | None:
        """The first case of a kind and its line: the first of a few lines that has no error."""
        for place in own.places[:least].tolist():
            case = _read(lines[place], f"{file}:{numbers[place]}")
            if case is not None:
                return case, lines[place]
        return None

    at = np.array(numbers)
    for found in kinds(lines, least):
        first = read(found)
        columns = _columns(*first) if first else None
        if columns is None:
            continue
        outside = np.delete(np.arange(found.numbers.shape[1]), columns)
        for own in found.split(outside):
            if own is not found:
                first = read(own) if own.places.size >= least else None
            if first:
                yield _form(first[0], at[own.places], own.numbers[:, columns])


def _columns(case: Case, text: str) -> slice | None:
    """The sizes of the shape among the numbers of a line; None if they are not as the shape has them."""
    names, sizes = tuple(case.line["shape"]), tuple(case.line["shape"].values())
    ahead, _, behind = text.partition(_SHAPE)
    start = len(_NUMBERS.findall(ahead))
    found = slice(start, start + len(names))
    if _NUMBERS.search("".join(names)) or _SHAPE in behind or case.line.keys() & case.line["shape"].keys():
        return None
    if [*map(str, sizes)] != _NUMBERS.findall(text)[found]:
        return None
    return found if all(SYMBOLS[ALIASES.get(name, name)].kind == "size" for name in names) else None


def _read(text: str, where: str) -> Case | None:
    """The case of a line, if it is of an operation and without an error; none of a collective."""
    try:
        found = parsed_case(text, where)
    except InputError:
        return None
    return found if isinstance(found, Case) and found.op not in COLLECTIVES else None


def _form(case: Case, places: NDArray[np.int64], shape: NDArray[np.int64]) -> Alike:
    """The cases whose shapes have these numbers, without those of which a size that follows from others is not whole."""
    symbols = [ALIASES.get(name, name) for name in case.line["shape"]]
    sizes = {symbol: column.astype(np.float64) for symbol, column in zip(symbols, shape.T, strict=True)}
    whole = np.ones(places.size, np.bool_)
    known = kind(case.op)
    for name in (name for name in known.shape if name in known.ties and name not in sizes):
        size = expression(known.ties[name], name)
        if size.names & sizes.keys():
            sizes[name], fits = _following(size, {**case.dims, **sizes})
            whole &= fits
    found = Alike(case, places, shape, sizes)
    return found if whole.all() else found.taken(whole)


def _following(size: Expression, values: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A size that follows from others, and where it is exact and whole."""
    found = np.asarray(size(values), np.float64)
    fits = np.abs(found) < ROUNDED
    for above, below in size.quotients(values):
        fits = fits & (np.floor(above / below) == above / below)
    return found, fits
