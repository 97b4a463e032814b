"""What a host takes to launch a program's kernels, from ``hardware/hosts``."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

from perfmodel.paths import folders, report
from perfmodel.programs.program import Step
from perfmodel.specfile import load

DEFAULT = "server"


class HostTimes(NamedTuple):
    """Seconds of the host: per operator that launches (by phase), per view, per module, per function and per launch.

    ``start_s``: from the call of the program to its first operator; ``latency_s``: from a launch to the start of its
    kernel; ``gap_s``: between two kernels that wait in the queue; ``read_s``: until a value of the device is known;
    ``end_s``: from the last kernel's end to the host's notice.
    """

    operator_s: float
    backward_s: float
    optimizer_s: float
    view_s: float
    module_s: float
    function_s: float
    kernel_s: float
    compiled_s: float
    start_s: float
    latency_s: float
    gap_s: float
    read_s: float
    end_s: float

    def before_s(self, step: Step, run: str) -> float:
        """The time up to an operator's first launch, less that launch."""
        if run == "compiled":
            return 0.0
        own = {"backward": self.backward_s, "optimizer": self.optimizer_s}.get(step.phase, self.operator_s)
        host = step.host
        return own + host.views * self.view_s + host.modules * self.module_s + host.functions * self.function_s

    def launch_s(self, step: Step, run: str) -> float:
        """The time of one launch."""
        return self.compiled_s if run == "compiled" else self.kernel_s


def host_times(name: str = DEFAULT) -> HostTimes:
    """Returns the figures of a host."""
    paths = (os.path.join(folder, "hosts", f"{name}.yaml") for folder in folders("hardware"))
    path = next(path for path in paths if os.path.isfile(path))
    report(f"host {name}", path)
    return _read(path)


@cache
def _read(path: str) -> HostTimes:
    page = load(path)
    sources = page.mapping("sources")
    for key in sources:
        sources.text(key)
    table = page.mapping("times")
    found = HostTimes(*(table.quantity(name.removesuffix("_s"), "s") for name in HostTimes._fields))
    table.finish()
    page.finish()
    return found
