"""Files of cases, read by ``predict``, ``validate`` and suites: one case per line, of one operation or of a step.

A line with an error becomes a ``Refused``, so the other lines are still read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel.cases import Case, case
from perfmodel.errors import InputError
from perfmodel.limits import CASES
from perfmodel.step_cases import STEP, StepCase, step_case
from perfmodel.strictjson import parsed


class Refused(NamedTuple):
    """A line that could not be read, with the error message."""

    line: Mapping[str, Any]
    error: str


Asked = Case | StepCase | Refused
Environment = Callable[[str, Mapping[str, Any]], None]  # takes the place and the content of an environment line
REMEMBERED = 1 << 16  # cases that are kept per file, because suites repeat their lines


def any_case(line: Mapping[str, Any], where: str = "case") -> Case | StepCase:
    """Returns the case of a JSON object: of a step if its ``op`` is ``step``, otherwise of an operation."""
    return step_case(line, where) if line.get("op") == STEP else case(line, where)


def read(lines: Iterable[str], file: str, environment: Environment | None = None) -> Iterator[Asked]:
    """Yields a case, or the error, for every line that is not blank.

    An environment line, as at the start of a measurement file, is not a case; it is passed to ``environment`` with its
    place. A first line that describes an environment in another form is left out. A repeated line gives the same case at
    another place.
    """
    started = False
    for _, asked in numbered(CASES.counted(filled(lines), file), file, environment):
        if started or not describes(asked):
            yield asked
        started = True


# What says of a line that it tells where a file was measured, and what says that it was meant as a case or a sweep's row.
_ENVIRONMENT = {"environment", "gpu", "driver"}
_CASE = {"op", "shape", "config"}


def describes(asked: Asked) -> bool:
    """Whether a refused line describes the card and the software of the measurements below it."""
    return isinstance(asked, Refused) and bool(_ENVIRONMENT & asked.line.keys()) and not _CASE & asked.line.keys()


def filled(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, with their numbers."""
    return ((number, text) for number, text in enumerate(lines, 1) if text.strip())


def numbered(
    lines: Iterable[tuple[int, str]], file: str, environment: Environment | None = None
) -> Iterator[tuple[int, Asked]]:
    """Yields cases and errors as ``read``, with the numbers of their lines."""
    known: dict[str, Case | StepCase] = {}
    for number, text in lines:
        where = f"{file}:{number}"
        if text in known:
            yield number, known[text]._replace(where=where)
            continue
        line: Mapping[str, Any] = {"line": number}
        try:
            line = _parsed(text, where)
            if "op" not in line and "environment" in line:
                if environment is not None and isinstance(line["environment"], dict):
                    environment(where, line["environment"])
                continue
            found = any_case(line, where)
            if len(known) < REMEMBERED and not _names_line(found):
                known[text] = found
            yield number, found
        except InputError as error:
            yield number, Refused(line, str(error))


def parsed_case(text: str, where: str) -> Case | StepCase:
    """Returns the case of a line of JSON."""
    return any_case(_parsed(text, where), where)


def _parsed(text: str, where: str) -> dict[str, Any]:
    return parsed(text, where, "one JSON object per line is accepted", "Correct this line.")


def _names_line(found: Case | StepCase) -> bool:
    """Whether messages of the case name its line."""
    return isinstance(found, Case) and any(step.sizes for step in found.steps)
