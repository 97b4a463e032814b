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
            found = any_case(line, where)
            if len(known) < REMEMBERED and not _names_line(found):
                known[text] = found
            yield found
        except InputError as error:
            yield Refused(line, str(error))


def _names_line(found: Case | StepCase) -> bool:
    """Whether messages of the case name its line."""
    return isinstance(found, Case) and any(step.sizes for step in found.steps)
