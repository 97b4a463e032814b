"""Measurements as JSON Lines: one line that says where they were made, then one for each case.

Whatever reads a live measurement reads a stored file of them too; a file that was cut short is good up to its last
whole line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.specfile import read_lines

SCHEMA = 1
METHOD = 2  # of measuring; a change of protocol raises it. 2: unsteady cases on a GPU are measured again

# What tells one case from another; everything else on a line is about the measurement.
CASE_KEYS = ("op", "kind", "shape", "dtype", "impl", "protocol", "causal", "direction", "activation")


class Stored(NamedTuple):
    """A file of measurements: its environment line, and a record for every case."""

    file: str
    environment: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]


def case_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """The case of a record, without its measurement."""
    return {name: line[name] for name in CASE_KEYS if name in line}


def key(line: Mapping[str, Any]) -> str:
    """One text for one case, whatever the order in which its words stand."""
    return json.dumps(case_of(line), sort_keys=True)


def text(line: Mapping[str, Any]) -> str:
    """A line of the file."""
    return json.dumps(line) + "\n"


def read(path: str) -> Stored:
    """A stored file; the environment line must come first."""
    lines = _parsed(read_lines(path), path)
    if not lines or "environment" not in lines[0]:
        raise InputError(
            f"{path}:1",
            "it does not begin with an environment line",
            "a file of 'perfmodel validate --save' is accepted",
            "Measure with --save, or use 'perfmodel predict' for cases without measurements.",
        )
    if not isinstance(lines[0]["environment"], dict):
        raise InputError(
            f"{path}:1", "its environment is not an object", "a file of 'perfmodel validate --save' is accepted"
        )
    for number, line in enumerate(lines[1:], 2):
        _check(line, f"{path}:{number}")
    latest = {key(line): line for line in lines[1:]}
    return Stored(path, lines[0]["environment"], tuple(latest.values()))


def _parsed(texts: Iterable[str], path: str) -> list[dict[str, Any]]:
    """Every whole line as an object; the last may have been cut short while it was written."""
    kept = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    found: list[dict[str, Any]] = []
    for number, one in kept:
        try:
            value = json.loads(one)
        except (ValueError, RecursionError):
            if number == kept[-1][0] and found:
                break
            raise InputError(
                f"{path}:{number}", "it is not JSON", "one JSON object per line is accepted", "Mend the line."
            ) from None
        if not isinstance(value, dict):
            raise InputError(
                f"{path}:{number}",
                f"{shown(value)} stands there",
                "one JSON object per line is accepted",
                "Mend the line.",
            )
        found.append(value)
    return found


def _check(line: Mapping[str, Any], where: str) -> None:
    """A record holds a time above zero, or says why it has none."""
    if "error" in line:
        return
    for name in ("median_us", "p25_us", "p75_us"):
        value = line.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            raise InputError(
                where,
                f"'{name}' is {shown(value)}",
                "a time in microseconds above zero is accepted",
                "Measure it again.",
            )
