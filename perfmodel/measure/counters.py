"""Bytes and instructions of a case from the hardware counters, read by Nsight Compute."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfmodel.errors import NoDeviceError, one_line
from perfmodel.measure import child
from perfmodel.records import case_of, key
from perfmodel.strictjson import dumped

# Name of each count in a record, and the metrics that it is the sum of. Bytes and instructions are counted in separate
# runs of one profiler pass each, because a second pass would start from a warm cache.

BYTES = {
    "dram_read_byte": ("dram__bytes_read.sum",),
    "dram_write_byte": ("dram__bytes_write.sum",),
    "l2_byte": ("lts__t_bytes.sum",),
}
INSTRUCTIONS = {
    "achieved_occupancy": ("sm__warps_active.avg.pct_of_peak_sustained_active",),
    "tensor_instructions": ("sm__inst_executed_pipe_tensor.sum",),
    "vector_instructions": ("sm__inst_executed_pipe_fma.sum", "sm__inst_executed_pipe_alu.sum"),
    "special_instructions": ("sm__inst_executed_pipe_xu.sum",),
}
MARKER = "nothing"  # the empty kernel before every case
FLUSH = "read_all"  # the kernel after every case: its DRAM writes are the lines that the case left dirty in L2
HEADER = '"Kernel Name"'
LIMIT_S = 900

Metrics = Mapping[str, tuple[str, ...]]


def counted(cases: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns the counts of every case that could be counted, by the key of the case."""
    profiler = shutil.which("ncu")
    if profiler is None:
        raise NoDeviceError(
            "--counters", "Nsight Compute (ncu) is not installed", "ncu reads the hardware counters", "Install it, or omit the option.",
        )  # fmt: skip
    counts: dict[str, dict[str, float]] = {key(case): {} for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cases.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(dumped(case_of(case)) + "\n" for case in cases)
        for metrics in (BYTES, INSTRUCTIONS):
            for case, found in zip(cases, by_case(_profiled(profiler, path, metrics), metrics), strict=False):
                counts[key(case)] |= found
    return counts


def _profiled(profiler: str, path: str, metrics: Metrics) -> list[str]:
    """Returns the lines of Nsight Compute's table for the cases of a file."""
    names = sorted({metric for several in metrics.values() for metric in several})
    command = [
        profiler, "--clock-control", "none", "--cache-control", "none", "--profile-from-start", "off", "--csv",
        "--print-units", "base", "--metrics", ",".join(names), *child.command("perfmodel.measure.counted", path),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NoDeviceError(
            "--counters",
            f"Nsight Compute took longer than {LIMIT_S} s",
            "a run within that limit is accepted",
            "Pass fewer cases.",
        ) from None
    if HEADER not in done.stdout:
        reason = next((line for line in done.stdout.splitlines() if "==ERROR==" in line), done.stderr.strip()[-200:])
        raise NoDeviceError(
            "--counters", f"the hardware counters cannot be read ({one_line(reason, 200)})", "permission to read them is required",
            "Omit the option, or ask the administrator of this machine for access to the performance counters.",
        )  # fmt: skip
    return done.stdout.splitlines()


def by_case(lines: Iterable[str], metrics: Metrics) -> list[dict[str, float]]:
    """Returns the counts of each case. The table has one row per kernel and metric; rows are summed between markers.

    The counts of a case that did not run are empty.
    """
    text = iter(lines)
    header = next(line for line in text if HEADER in line)
    found: list[dict[str, float]] = []
    marker = ""
    for row in csv.DictReader([header, *text]):
        kernel, metric, value = row["Kernel Name"], row["Metric Name"], row["Metric Value"].replace(",", "")
        if kernel.startswith(MARKER):
            if row["ID"] != marker:  # the marker has one row per metric
                found.append({})
                marker = row["ID"]
            continue
        for name, several in metrics.items():
            owed = not kernel.startswith(FLUSH) or name == "dram_write_byte"
            if found and owed and metric in several and value.replace(".", "", 1).isdigit():
                found[-1][name] = _joined(name, found[-1].get(name), float(value))
    return found


def _joined(name: str, before: float | None, value: float) -> float:
    """Adds a count to the counts of earlier kernels of a case. For occupancy, keeps the maximum."""
    if name == "achieved_occupancy":
        return max(before or 0.0, round(value / 100, 3))
    return round((before or 0) + value)
