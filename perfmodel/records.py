"""Measurements as JSON Lines: an environment line, then one line per case.

Code that reads live measurements reads stored files too. A truncated file is read up to its last complete line. Every
value is checked on reading, so other code relies on its type and range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, said, shown
from perfmodel.limits import CASES
from perfmodel.specfile import read_lines
from perfmodel.strictjson import dumped, parsed
from perfmodel.units import COUNT, MEASURE, MICROSECONDS, SECONDS, SHARE

SCHEMA = 1
METHOD = 2  # version of the measurement method. 2: unsteady cases on a GPU are measured again

# Keys that identify a case; all other keys of a line describe the measurement.
CASE_KEYS = (
    "op", "kind", "shape", "dtype", "dtypes", "weights", "impl", "protocol", "causal", "window", "direction", "activation",
    "torch", "system", "ranks_per_node", "config", "phase", "plan",
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
    "expected_s expected_low_s expected_high_s expected_peak_byte headroom_s verdict reason limit_s reached reached_low reached_high roof_notes of_bound of_roofline of_expected gpu"
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
    return dumped(case_of(line), sort_keys=True)


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
    return dumped(line) + "\n"


def read(path: str, *, bare: bool = False) -> Stored:
    """Reads a stored file; the environment line must come first. ``bare``: a file of cases without that line is read
    too, each with a measured time or without.
    """
    lines = _parsed(read_lines(path), path)
    if bare and lines and "environment" not in lines[0][1]:
        return Stored(path, {}, tuple(_bare(line, f"{path}:{number}") for number, line in lines))
    if not lines or "environment" not in lines[0][1]:
        raise InputError(
            f"{path}:1",
            "it does not begin with an environment line",
            "a file of 'perfmodel validate --save' is accepted",
            "Create the file with 'perfmodel validate --save', or use 'perfmodel predict' for cases without measurements.",
        )
    first, *rest = lines
    environment = _environment(first[1]["environment"], f"{path}:{first[0]}")
    latest = {key(line): _record(line, f"{path}:{number}") for number, line in rest}
    return Stored(path, environment, tuple(latest.values()))


def _parsed(texts: Iterable[str], path: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns every complete line as an object with its number. The last line may have been truncated while it was
    written.
    """
    filled = ((number, text) for number, text in enumerate(texts, 1) if text.strip())
    kept = list(CASES.counted(filled, path))
    found: list[tuple[int, dict[str, Any]]] = []
    for number, one in kept:
        if number == kept[-1][0] and found and not one.rstrip().endswith(("}", "]")):
            break
        accepted = "one JSON object per line is accepted"
        found.append((number, parsed(one, f"{path}:{number}", accepted, "Correct this line.")))
    return found


# --- the values that the keys of a record may have

Check = Callable[[Any, str], object]


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise InputError(where, f"{said(value)} is not text", "text is accepted")


def _texts(value: Any, where: str) -> None:
    for one in _list(value, where):
        _text(one, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(where, f"{said(value)} is not a list", "a list is accepted")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(where, f"{said(value)} is not an object", "an object is accepted")
    return value


def _fields(value: Any, where: str, checks: Mapping[str, Check], required: Iterable[str] = ()) -> dict[str, Any]:
    """Checks an object: the keys that must be there, and the value of each key that has a check."""
    found = _object(value, where)
    for name in required:
        if name not in found:
            raise InputError(where, f"'{name}' is missing", f"{', '.join(required)} are required", "Measure it again.")
    for name, check in checks.items():
        if found.get(name) is not None or (name in found and name in required):
            check(found[name], f"{where}: {name}")
    return found


def _plain(value: Any, where: str) -> None:
    if isinstance(value, (dict, list)):
        raise InputError(where, f"{shown(value)} is not a single value", "text or a number is accepted")


def _sizes(value: Any, where: str) -> None:
    for name, size in _object(value, where).items():
        _plain(size, f"{where}: {shown(name)[1:-1]}")


def _kernels(value: Any, where: str) -> None:
    for kernel in _list(value, where):
        _fields(kernel, where, _KERNEL, _KERNEL)


def _streams(value: Any, where: str) -> None:
    for stream in _list(value, where):
        found = _fields(stream, where, _STREAM, () if "median_us" not in _object(stream, where) else _STREAM_KEYS)
        _ordered(found, where)


_KERNEL: dict[str, Check] = {
    "name": _text, "registers": COUNT.checked, "shared_byte": COUNT.checked, "threads": COUNT.checked, "occupancy": SHARE.checked,
}  # fmt: skip
_STREAM_KEYS = ("byte", "median_us", "p25_us", "p75_us")
_TIMES: dict[str, Check] = dict.fromkeys(("median_us", "p25_us", "p75_us"), MICROSECONDS.checked)
_STREAM: dict[str, Check] = {**_TIMES, "byte": MEASURE.checked, "cpu_share": MEASURE.checked}
_ENVIRONMENT: dict[str, Check] = {
    **dict.fromkeys(("gpu", "device", "card"), _text),
    **dict.fromkeys(("driver", "torch", "numpy", "cuda", "date", "python", "perfmodel"), _text),
    "streams": _streams,
}
_RECORD: dict[str, Check] = {
    **dict.fromkeys(
        ("op", "kind", "dtype", "weights", "impl", "protocol", "direction", "activation", "torch", "system"), _text
    ),
    **dict.fromkeys(("config", "phase"), _text),
    **dict.fromkeys(("error", "failed"), _text),
    **_TIMES,
    "stream_us": MICROSECONDS.checked,
    "measured_us": MICROSECONDS.checked,
    "measured_s": SECONDS.checked,
    **dict.fromkeys(("n", "tries", "peak_byte", "dram_read_byte", "dram_write_byte", "l2_byte"), MEASURE.checked),
    **dict.fromkeys(("sm_clock_mhz", "power_w", "relative_norm", "achieved_occupancy"), MEASURE.checked),
    **dict.fromkeys((f"{engine}_instructions" for engine in ("tensor", "vector", "special")), MEASURE.checked),
    "shape": _sizes,
    "dtypes": _sizes,
    "plan": _sizes,
    "window": _plain,
    "ranks_per_node": _plain,
    "causal": _plain,
    "flags": _texts,
    "kernels": _kernels,
}


def _environment(value: Any, where: str) -> Mapping[str, Any]:
    found = _present(_fields(value, f"{where}: environment", _ENVIRONMENT))
    return found | ({"streams": [_present(one) for one in found["streams"]]} if "streams" in found else {})


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out keys that are null, which means the same as an absent key. The keys of the case identify it and stay."""
    return {name: value for name, value in found.items() if value is not None or name in CASE_KEYS}


def _record(line: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns a record whose values have the types and ranges that other code relies on: a case with its times, or
    with the reason why it has none.
    """
    failed = "error" in line or "failed" in line
    found = _fields(line, where, _RECORD, ("op", "shape") if failed else ("op", "shape", *_TIMES))
    if not failed:
        _ordered(found, where)
    return _present(found)


def _bare(line: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns a case with any of a record's values, checked. Its quartiles need each other and a measured time."""
    found = _fields(line, where, _RECORD, ("op", "shape"))
    measured = measured_s(found, where)
    if not {"p25_us", "p75_us"} & found.keys():
        return found
    for name in ("p25_us", "p75_us"):
        if found.get(name) is None or measured is None:
            missing = name if measured is not None else "measured_us"
            raise InputError(
                where,
                f"'{missing}' is missing",
                "a measured time with both quartiles, or without, is accepted",
                "Add it.",
            )
    _ordered({"median_us": round(measured * 1e6, 6), **found} if measured else found, where)
    return found


def quartiles_s(line: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the first and the third quartile of a measured time in seconds; None if a line has none."""
    low, high = line.get("p25_us"), line.get("p75_us")
    return None if low is None or high is None else (low * 1e-6, high * 1e-6)


def _ordered(line: Mapping[str, Any], where: str) -> None:
    """Refuses quartiles that are not in order."""
    if "median_us" in line and not line["p25_us"] <= line["median_us"] <= line["p75_us"]:
        raise InputError(
            where, f"p25_us = {line['p25_us']}, median_us = {line['median_us']} and p75_us = {line['p75_us']} are not in order",
            "p25_us <= median_us <= p75_us is accepted", "Measure it again.",
        )  # fmt: skip


def _check_time(line: Mapping[str, Any], name: str, where: str, unit: float) -> None:
    """Refuses a value that is not a time above zero."""
    (MICROSECONDS if unit < 1 else SECONDS).checked(line.get(name), f"{where}: {name}")
