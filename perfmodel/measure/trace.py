"""Writes a trace of cases with torch's profiler, for a trace viewer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from perfmodel import writing
from perfmodel.cases import case
from perfmodel.errors import NoDeviceError, PerfmodelError
from perfmodel.measure import environment
from perfmodel.validation import described


def write(cases: Sequence[Mapping[str, Any]], device: str, path: str) -> str:
    """Runs every case once under its own name and returns the path. Warm-up runs are not in the trace."""
    torch = environment.installed_torch()
    if torch is None:
        raise NoDeviceError(
            "--trace", "torch is not installed", "the trace requires torch's profiler", "Install torch."
        )
    from torch.profiler import ProfilerActivity, profile, record_function

    from perfmodel.measure.workloads import build

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    programs = []
    for line in cases:
        try:
            programs.append((described(line), build(torch, device, case(line))))
            programs[-1][1].run()
        except (PerfmodelError, RuntimeError):  # the report shows the error; the trace has the other cases
            continue
    with profile(activities=activities) as found:
        for name, program in programs:
            with record_function(name):
                program.run()
                if device == "cuda":
                    torch.cuda.synchronize()
    with TemporaryDirectory() as folder, writing.replacing(path, f"--trace {path}") as file:
        made = os.path.join(folder, "trace.json" + (".gz" if path.endswith(".gz") else ""))
        found.export_chrome_trace(made)
        with open(made, "rb") as contents:
            shutil.copyfileobj(contents, file)
    return path
