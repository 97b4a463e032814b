"""Measurements as JSON Lines: an environment line, then one line per case.

Code that reads live measurements reads stored files too. A truncated file is read up to its last complete line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.specfile import read_lines
from perfmodel.strictjson import escaped

SCHEMA = 1
METHOD = 2  # version of the measurement method. 2: unsteady cases on a GPU are measured again

# Keys that identify a case; all other keys of a line describe the measurement.
CASE_KEYS = (
    "op", "kind", "shape", "dtype", "dtypes", "impl", "protocol", "causal", "window", "direction", "activation",
    "torch",
)  # fmt: skip
# Keys of a measured time, and their unit in seconds.
MEASURED = {"measured_us": 1e-6, "median_us": 1e-6, "measured_s": 1.0}
AGREE = 1e-3  # largest relative difference of two times on one line, due to rounding
# All other keys that perfmodel writes to a case: in measurements, predictions, validations and sweeps.
_WRITTEN = (
    "schema median_us measured_s p25_us p75_us n tries relative_norm peak_byte kernels flags stream_us error failed "
    "sm_clock_mhz temperature_c power_w dram_read_byte dram_write_byte l2_byte achieved_occupancy "
    "tensor_instructions vector_instructions special_instructions "
    "flops contraction_flops traffic_byte compulsory_byte intensity_flop_per_byte bound lower_s no_overlap_s "
    "expected_s expected_low_s expected_high_s roof_notes of_bound of_roofline of_expected gpu"
)
WRITTEN = frozenset(_WRITTEN.split())


class Stored(NamedTuple):
    """A file of measurements: its environment line, and one record per case."""

    file: str
    environment: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]


def case_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the case of a record, without its measurement."""
    return {name: line[name] for name in CASE_KEYS if name in line}


def key(line: Mapping[str, Any]) -> str:
    """Returns a text that identifies a case, whatever the order of its keys."""
    return json.dumps(case_of(line), sort_keys=True)


def measured_s(line: Mapping[str, Any], where: str = "case") -> float | None:
    """Returns the measured time of a line in seconds; None if the line has none."""
    found: dict[str, float] = {}
    for name, unit in MEASURED.items():
        if line.get(name) is not None:
            _check_time(line, name, where, unit)
            found[name] = line[name] * unit
    times = list(found.values())
    if times and max(times) > min(times) * (1 + AGREE):
        raise InputError(
            where, f"{' and '.join(found)} give different times", "a case has one measured time", "Remove one of them."
        )
    return times[0] if times else None


def text(line: Mapping[str, Any]) -> str:
    """Returns the record as a line of the file."""
    return json.dumps(line) + "\n"


def read(path: str) -> Stored:
    """Reads a stored file; the environment line must come first."""
    lines = _parsed(read_lines(path), path)
    if not lines or "environment" not in lines[0]:
        raise InputError(
            f"{path}:1",
            "it does not begin with an environment line",
            "a file of 'perfmodel validate --save' is accepted",
            "Create the file with 'perfmodel validate --save', or use 'perfmodel predict' for cases without measurements.",
        )
    if not isinstance(lines[0]["environment"], dict):
        raise InputError(
            f"{path}:1", "the environment is not an object", "a file of 'perfmodel validate --save' is accepted"
        )
    for number, line in enumerate(lines[1:], 2):
        _check(line, f"{path}:{number}")
    latest = {key(line): line for line in lines[1:]}
    return Stored(path, lines[0]["environment"], tuple(latest.values()))


def _parsed(texts: Iterable[str], path: str) -> list[dict[str, Any]]:
    """Returns every complete line as an object; the last line may have been truncated while it was written."""
    kept = [(number, text) for number, text in enumerate(texts, 1) if text.strip()]
    found: list[dict[str, Any]] = []
    for number, one in kept:
        try:
            value = json.loads(one)
        except (ValueError, RecursionError):
            if number == kept[-1][0] and found:
                break
            raise InputError(
                f"{path}:{number}", "it is not JSON", "one JSON object per line is accepted", "Correct this line."
            ) from None
        if not isinstance(value, dict):
            raise InputError(
                f"{path}:{number}",
                f"{shown(value)} is not a JSON object",
                "one JSON object per line is accepted",
                "Correct this line.",
            )
        found.append(escaped(value))
    return found


def _check(line: Mapping[str, Any], where: str) -> None:
    """Checks that a record has a positive time, or an error."""
    if "error" in line:
        return
    for name in ("median_us", "p25_us", "p75_us"):
        _check_time(line, name, where, 1e-6)


def _check_time(line: Mapping[str, Any], name: str, where: str, unit: float) -> None:
    """Refuses a value that is not a time above zero."""
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6 / unit:
        raise InputError(
            where,
            f"'{name}' is {shown(value)}",
            f"a time in {'micro' if unit < 1 else ''}seconds above zero is accepted",
            "Measure it again.",
        )
