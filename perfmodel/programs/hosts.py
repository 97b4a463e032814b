"""Times of the host that launches a program's kernels, from ``hardware/hosts``."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

from perfmodel.figures import stated
from perfmodel.paths import folders, report
from perfmodel.programs.program import Step
from perfmodel.specfile import load

DEFAULT = "server"


class HostTimes(NamedTuple):
    """Seconds of the host.

    Operators: ``operator_s`` is an operator with its first launch and all Python around it; ``recorded_s`` is what autograd
    adds while it records. ``backward_s`` and ``optimizer_s`` are an operator of these phases, ``view_s`` and
    ``backward_view_s`` one that launches nothing. ``kernel_s`` is each further launch of one operator, ``compiled_s`` a
    launch by compiled code. ``module_s`` is the time to enter a module.

    Start and end: ``start_s`` is from the call of the program to its first operator, ``compiled_start_s`` the same where
    guards are checked first. ``latency_s`` is from a launch to the start of its kernel, ``gap_s`` between two kernels in
    the queue. ``read_s`` is until a value of the device is known, ``end_s`` from the end of the last kernel until the host
    notices it.

    FSDP: ``unit_s`` is each run of its Python hooks around a layer, ``shard_s`` the optimizer's time for each shard.
    ``stream_s`` is the time between two kernels launched one by one, as ``perfmodel calibrate`` measures it.
    """

    operator_s: float
    recorded_s: float
    backward_s: float
    optimizer_s: float
    view_s: float
    backward_view_s: float
    module_s: float
    kernel_s: float
    compiled_s: float
    start_s: float
    compiled_start_s: float
    latency_s: float
    gap_s: float
    read_s: float
    end_s: float
    unit_s: float
    shard_s: float
    stream_s: float

    def as_measured(self, stream_s: float | None) -> HostTimes:
        """Returns the figures scaled to a measured ``stream_s``, if there is one; ``latency_s`` and ``gap_s`` are not scaled."""
        if not stream_s:
            return self
        factor = stream_s / self.stream_s
        fixed = ("latency_s", "gap_s", "stream_s")
        return self._replace(
            **{name: value if name in fixed else value * factor for name, value in self._asdict().items()}
        )

    def before_s(self, step: Step, run: str, recorded: bool) -> float:
        """Returns the time of an operator up to the end of its first launch. ``recorded``: a backward pass follows."""
        if step.phase == "replicas":  # launched by code of torch that is not Python
            return (self.compiled_s if step.stream else self.operator_s) + step.host.units * self.unit_s
        if run == "compiled":
            return self.compiled_s
        views, host = step.host.views, step.host
        if step.phase == "backward":
            return self.backward_s + views * self.backward_view_s
        own_s = self.optimizer_s if step.phase == "optimizer" else self.operator_s + recorded * self.recorded_s
        return own_s + views * self.view_s + host.modules * self.module_s + host.shards * self.shard_s


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
    keys = [name.removesuffix("_s").replace("_", " ") for name in HostTimes._fields]
    found = HostTimes(*(stated(path, f"times.{key}", table.quantity(key, "s")) for key in keys))
    table.finish()
    page.finish()
    return found
