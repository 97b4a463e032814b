"""The step of a trace: the kernels that were launched inside a range that the program names.

Without a name the whole file is the step, unless torch.profiler's schedule divides it: then it is the last
``ProfilerStep#N``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.errors import InputError, near_or_known, shown
from perfmodel.traces.events import Activity, Range, Trace

SCHEDULED = "ProfilerStep#"


class Step(NamedTuple):
    """The kernels of a step, the name of its range (empty: the whole file) and how many ranges had that name."""

    activities: Sequence[Activity]
    name: str = ""
    of: int = 1


def step(trace: Trace, name: str | None = None) -> Step:
    """Selects a step. Of several ranges with the name, it is the last one that launched a kernel."""
    if name is None:
        scheduled = [one for one in trace.named if one.name.startswith(SCHEDULED)]
        if not scheduled:
            return Step(trace.activities)
        ranges = scheduled
    else:
        ranges = [one for one in trace.named if one.name == name]
    for one in reversed(ranges):
        found = launched_in(trace, one)
        if found:
            return Step(found, one.name, len(ranges))
    if name is None:
        return Step(trace.activities)
    names = {one.name for one in trace.named}
    raise InputError(
        f"{trace.path}: --step {shown(name)}",
        "no kernel was launched in a range of this name" if ranges else "the trace has no range of this name",
        "a name that the program gave with record_function, or ProfilerStep#N, is accepted",
        near_or_known(name, names) or "Leave out --step to read the whole file.",
    )  # fmt: skip


def launched_in(trace: Trace, one: Range) -> list[Activity]:
    """The activities whose launch began in a range; those without a launch, if they began in it."""
    found = []
    for activity in trace.activities:
        launch = trace.launches.get(activity.correlation)
        if one.start_s <= (launch.start_s if launch else activity.start_s) <= one.end_s:
            found.append(activity)
    return found
