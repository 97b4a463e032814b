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
CASE_KEYS = (
    "op", "kind", "shape", "dtype", "dtypes", "impl", "protocol", "causal", "window", "direction", "activation",
    "torch",
)  # fmt: skip
# Keys that give a measured time, and their unit in seconds.
MEASURED = {"measured_us": 1e-6, "median_us": 1e-6, "measured_s": 1.0}
AGREE = 1e-3  # two of them on one line may differ by this share, which rounding explains
# Every other key that perfmodel writes beside a case: in measurements, in answers of predict and validate, in sweeps.
_WRITTEN = (
    "schema median_us measured_s p25_us p75_us n tries relative_norm peak_byte kernels flags stream_us error failed "
    "sm_clock_mhz temperature_c power_w dram_read_byte dram_write_byte l2_byte achieved_occupancy "
    "tensor_instructions vector_instructions special_instructions "
    "flops contraction_flops traffic_byte compulsory_byte intensity_flop_per_byte bound lower_s no_overlap_s "
    "expected_s expected_low_s expected_high_s roof_notes of_bound of_roofline of_expected gpu"
)
WRITTEN = frozenset(_WRITTEN.split())


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


def measured_s(line: Mapping[str, Any], where: str = "case") -> float | None:
    """The time that a line was measured to take; None where it gives none."""
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
        _check_time(line, name, where, 1e-6)


def _check_time(line: Mapping[str, Any], name: str, where: str, unit: float) -> None:
    """Refuses what is not a time above zero."""
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6 / unit:
        raise InputError(
            where,
            f"'{name}' is {shown(value)}",
            f"a time in {'micro' if unit < 1 else ''}seconds above zero is accepted",
            "Measure it again.",
        )
