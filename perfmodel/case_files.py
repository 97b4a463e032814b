"""Files of cases, read by ``predict``, ``validate`` and suites: one case per line, of one operation or of a step.

A line with an error becomes a ``Refused``, so the other lines are still read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel.cases import Case, case
from perfmodel.errors import InputError
from perfmodel.expression import Expression, expression
from perfmodel.limits import CASES
from perfmodel.step_cases import STEP, StepCase, step_case
from perfmodel.strictjson import parsed
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import LARGEST_SIZE
from perfmodel.vocabulary import kind


class Refused(NamedTuple):
    """A line that could not be read, with the error message."""

    line: Mapping[str, Any]
    error: str


# Numbers of forms and of cases that are cached per file, because suites repeat their lines.
FORMS, REMEMBERED = 4096, 1 << 16


def any_case(line: Mapping[str, Any], where: str = "case") -> Case | StepCase:
    """Returns the case of a JSON object: of a step if its ``op`` is ``step``, otherwise of an operation."""
    return step_case(line, where) if line.get("op") == STEP else case(line, where)


def read(
    lines: Iterable[str], file: str, environment: Callable[[str, Mapping[str, Any]], None] | None = None
) -> Iterator[Case | StepCase | Refused]:
    """Yields a case, or the error, for every line that is not blank.

    An environment line, as at the start of a measurement file, is not a case; it is passed to ``environment`` with its
    place. A repeated line gives the same case at another place.
    """
    known: dict[str, Case | StepCase] = {}
    forms: dict[tuple[str, ...], Form] = {}
    filled = ((number, text) for number, text in enumerate(lines, 1) if text.strip())
    for number, text in CASES.counted(filled, file):
        where = f"{file}:{number}"
        repeated = _repeated(text, where, forms)
        if repeated is not None:
            yield repeated
            continue
        if text in known:
            yield known[text]._replace(where=where)
            continue
        line: Mapping[str, Any] = {"line": number}
        try:
            line = parsed(text, where, "one JSON object per line is accepted", "Correct this line.")
            if "op" not in line and "environment" in line:
                if environment is not None and isinstance(line["environment"], dict):
                    environment(where, line["environment"])
                continue
            found = any_case(line, where)
            _keep(text, found, forms)
            if len(known) < REMEMBERED and not _names_line(found):
                known[text] = found
            yield found
        except InputError as error:
            yield Refused(line, str(error))


class Form(NamedTuple):
    """A line that others repeat with other sizes.

    ``names`` and ``symbols`` are its sizes as the shape and as ``symbols.py`` spell them. ``ties`` are the sizes that follow
    from them. ``start`` is the place of the first number of the shape in ``numbers``, all numbers of the line.
    """

    case: Case
    names: tuple[str, ...]
    symbols: tuple[str, ...]
    ties: tuple[tuple[str, Expression], ...]
    start: int
    numbers: list[str]


_NUMBERS = re.compile("([0-9]+)")
_DIGITS = len(str(LARGEST_SIZE)) - 1  # with which no size is too large


def _repeated(text: str, where: str, forms: Mapping[tuple[str, ...], Form]) -> Case | None:
    """Returns the case of a line that differs from an earlier one in its sizes alone; None if it needs a closer look."""
    parts = _NUMBERS.split(text)
    form = forms.get(tuple(parts[::2]))
    if form is None:
        return None
    numbers, start, end = parts[1::2], form.start, form.start + len(form.names)
    sizes = numbers[start:end]
    if numbers[:start] != form.numbers[:start] or numbers[end:] != form.numbers[end:]:
        return None
    if any(size[0] == "0" or len(size) > _DIGITS for size in sizes):
        return None
    values = [*map(int, sizes)]
    dims = dict(form.case.dims)
    dims.update(zip(form.symbols, values, strict=True))
    try:
        for symbol, size in form.ties:
            dims[symbol] = size(dims)
    except InputError:
        return None
    line = {**form.case.line, "shape": dict(zip(form.names, values, strict=True))}
    return form.case._replace(line=line, where=where, dims=dims)


def _keep(text: str, found: Case | StepCase, forms: dict[tuple[str, ...], Form]) -> None:
    """Keeps the form of a line, if its sizes are numbers of its shape."""
    if not isinstance(found, Case) or SYMBOLS.keys() & found.line.keys() or len(forms) >= FORMS:
        return
    if any("/" in size.text for step in found.steps for size in step.sizes.values()):  # whose messages name the line
        return
    names = tuple(found.line["shape"])
    symbols = tuple(ALIASES.get(name) or name for name in names)
    before, _, after = text.partition('"shape"')
    parts, start = _NUMBERS.split(text), len(_NUMBERS.findall(before))
    values = [str(size) for size in found.line["shape"].values()]
    if parts[1::2][start : start + len(values)] != values or '"shape"' in after or _NUMBERS.search("".join(names)):
        return
    if all(SYMBOLS[symbol].kind == "size" for symbol in symbols):
        ties = kind(found.op).ties
        follow = (name for name in kind(found.op).shape if name in ties and name not in symbols)
        tied = tuple((name, expression(ties[name], name)) for name in follow)
        forms[tuple(parts[::2])] = Form(found, names, symbols, tied, start, parts[1::2])


def _names_line(found: Case | StepCase) -> bool:
    """Whether messages of the case name its line."""
    return isinstance(found, Case) and any(step.sizes for step in found.steps)
