"""Files of cases, read by ``predict``, ``validate`` and suites: one case per line, of one operation or of a step.

A line with an error becomes a ``Refused``, so the other lines are still read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
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
    forms: dict[str, Form] = {}
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
    from them. ``before`` and ``after`` are the numbers of the line around those of the shape. ``last`` is the place after
    the shape's last number.
    """

    case: Case
    names: tuple[str, ...]
    symbols: tuple[str, ...]
    ties: tuple[tuple[str, Expression], ...]
    before: list[str]
    after: list[str]
    last: int


# A number as a shape may hold it. A zero at its start, or more digits, are not accepted as a size, and stay in the text
# between the numbers, which such lines have in common with no form.
_NUMBERS = re.compile(f"([1-9][0-9]{{0,{len(str(LARGEST_SIZE)) - 2}}})")
_MARK = "1"  # in place of a number; no text between numbers holds it
assert Case._fields[:2] == ("line", "where")
_DIMS = Case._fields.index("dims")
_case: Callable[[tuple[Any, ...]], Case] = partial(tuple.__new__, Case)  # ``_make`` without its check of the length


def _repeated(text: str, where: str, forms: Mapping[str, Form]) -> Case | None:
    """Returns the case of a line that differs from an earlier one in its sizes alone; None if it needs a closer look."""
    parts = _NUMBERS.split(text)
    form = forms.get(_MARK.join(parts[::2]))
    if form is None:
        return None
    case, names, symbols, ties, before, after, last = form
    numbers, start = parts[1::2], len(before)
    if numbers[last:] != after or (before and numbers[:start] != before):
        return None
    values = [*map(int, numbers[start:last])]
    dims = {**case.dims, **dict(zip(symbols, values, strict=True))}
    try:
        for symbol, size in ties:
            dims[symbol] = size(dims)
    except InputError:
        return None
    line = {**case.line, "shape": dict(zip(names, values, strict=True))}
    return _case((line, where, *case[2:_DIMS], dims, *case[_DIMS + 1 :]))


def _keep(text: str, found: Case | StepCase, forms: dict[str, Form]) -> None:
    """Keeps the form of a line, if its sizes are numbers of its shape."""
    if not isinstance(found, Case) or SYMBOLS.keys() & found.line.keys() or len(forms) >= FORMS:
        return
    if any("/" in size.text for step in found.steps for size in step.sizes.values()):  # whose messages name the line
        return
    names = tuple(found.line["shape"])
    symbols = tuple(ALIASES.get(name) or name for name in names)
    ahead, _, behind = text.partition('"shape"')
    parts, start = _NUMBERS.split(text), len(_NUMBERS.findall(ahead))
    last, numbers = start + len(names), parts[1::2]
    values = [str(size) for size in found.line["shape"].values()]
    if numbers[start:last] != values or '"shape"' in behind or _NUMBERS.search("".join(names)):
        return
    if all(SYMBOLS[symbol].kind == "size" for symbol in symbols):
        ties = kind(found.op).ties
        follow = (name for name in kind(found.op).shape if name in ties and name not in symbols)
        tied = tuple((name, expression(ties[name], name)) for name in follow)
        form = Form(found, names, symbols, tied, numbers[:start], numbers[last:], last)
        forms[_MARK.join(parts[::2])] = form


def _names_line(found: Case | StepCase) -> bool:
    """Whether messages of the case name its line."""
    return isinstance(found, Case) and any(step.sizes for step in found.steps)
