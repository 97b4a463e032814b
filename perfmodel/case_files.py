"""Files of cases, read by ``predict``, ``validate`` and suites: one case per line, of one operation or of a step.

A line with an error becomes a ``Refused``, so the other lines are still read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel.cases import Case, case
from perfmodel.errors import InputError
from perfmodel.expression import Expression, expression
from perfmodel.limits import CASES
from perfmodel.records import MEASURED, measured_s
from perfmodel.step_cases import STEP, StepCase, step_case
from perfmodel.strictjson import parsed
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import LARGEST_SIZE
from perfmodel.vocabulary import kind


class Refused(NamedTuple):
    """A line that could not be read, with the error message."""

    line: Mapping[str, Any]
    error: str


FORMS = 4096  # forms of lines that are kept of a file
# Number of cases that are cached per file, because suites repeat their shapes.
REMEMBERED = 1 << 16


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
    forms: dict[tuple[Any, ...], Form] = {}
    filled = ((number, text) for number, text in enumerate(lines, 1) if text.strip())
    for number, text in CASES.counted(filled, file):
        where = f"{file}:{number}"
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
            found = _like(line, where, forms) or any_case(line, where)
            if len(known) < REMEMBERED and not _names_line(found):
                known[text] = found
            yield found
        except InputError as error:
            yield Refused(line, str(error))


class Form(NamedTuple):
    """A case whose line other lines repeat with other sizes: its sizes by their names in the shape, and the sizes that
    follow from them.
    """

    case: Case
    symbols: tuple[str, ...]
    ties: tuple[tuple[str, Expression], ...]


def _like(line: Mapping[str, Any], where: str, forms: dict[tuple[Any, ...], Form]) -> Case | None:
    """Returns the case of a line that differs from an earlier one in its sizes alone; None if it needs a closer look."""
    shape = line.get("shape")
    if not isinstance(shape, dict) or not all(
        type(size) is int and 1 <= size <= LARGEST_SIZE for size in shape.values()
    ):
        return None
    try:
        words = [item for item in line.items() if item[0] != "shape" and item[0] not in MEASURED]
        key = (*shape, *words, *(type(value) for _, value in words))  # true is equal to 1
        form = forms.get(key)
    except TypeError:  # a value that is no word, such as the data types by role
        return None
    if form is None:
        if len(forms) < FORMS and line.get("op") != STEP:
            found = case(line, where)
            sizes = all(SYMBOLS[symbol].kind == "size" for symbol in _symbols(shape))
            if sizes and not _names_line(found) and not SYMBOLS.keys() & line.keys():
                forms[key] = _form(found, shape)
            return found
        return None
    dims = dict(form.case.dims)
    dims.update(zip(form.symbols, shape.values(), strict=True))
    try:
        for symbol, size in form.ties:
            dims[symbol] = size(dims)
    except InputError:
        return None
    return form.case._replace(line=line, where=where, dims=dims, measured_s=measured_s(line, where))


def _symbols(shape: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(ALIASES.get(name) or name for name in shape)


def _form(found: Case, shape: Mapping[str, Any]) -> Form:
    symbols = _symbols(shape)
    ties = kind(found.op).ties
    follow = tuple((name, expression(ties[name], name)) for name in kind(found.op).shape if name in ties)
    return Form(found, symbols, tuple(one for one in follow if one[0] not in symbols))


def _names_line(found: Case | StepCase) -> bool:
    """Whether messages of the case name its line."""
    return isinstance(found, Case) and any(step.sizes for step in found.steps)
