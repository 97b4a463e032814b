"""The events of a trace: operators and launches of the host, kernels of the device, ranges that the program names.

Times are seconds from the file's first event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.errors import printable


class Signature(NamedTuple):
    """The arguments of an operator, as the profiler writes them: shapes, types, strides and the values of numbers."""

    dims: list[Any]
    types: list[Any]
    strides: list[Any]
    values: list[Any]


class Range(NamedTuple):
    """A stretch of one host thread: an operator, a range that the program names, or a module.

    ``number`` is the profiler's external id, -1 where there is none. ``sequence`` is autograd's number, which a forward
    operator and its backward share, -1 where there is none. ``forward`` is the thread that autograd says the forward ran
    in.
    """

    name: str
    start_s: float
    end_s: float
    thread: int
    number: int = -1
    sequence: int = -1
    signature: Signature | None = None
    forward: int = -1


class Launch(NamedTuple):
    """A call of the CUDA runtime or driver that put work on a stream."""

    name: str
    start_s: float
    end_s: float
    thread: int
    number: int = -1


class Activity(NamedTuple):
    """Work of a device: a kernel, a copy or a fill.

    ``correlation`` ties it to its launch, ``number`` is the external id of the operator that launched it. ``details``
    are further values of the profiler: bytes, the sizes of a collective.
    """

    name: str
    kind: str
    start_s: float
    end_s: float
    device: int
    stream: int
    correlation: int
    number: int = -1
    grid: tuple[int, int, int] = (0, 0, 0)
    block: tuple[int, int, int] = (0, 0, 0)
    shared_byte: int = 0
    details: Mapping[str, Any] = {}

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


class Trace(NamedTuple):
    """One file. ``operators`` and ``modules`` are by thread, in the order of their start.

    ``delays`` are stretches in which the profiler itself held the host. ``graphs`` are the launches that start a CUDA
    graph. ``dropped`` counts events without a usable time.
    """

    path: str
    header: Mapping[str, Any]
    operators: Mapping[int, list[Range]]
    named: list[Range]
    modules: Mapping[int, list[Range]]
    launches: Mapping[int, Launch]
    activities: list[Activity]
    delays: list[Range]
    threads: tuple[tuple[Any, Any], ...]
    events: int
    dropped: int = 0

    @property
    def rank(self) -> int:
        """The process's rank in a distributed program, 0 where the file does not say."""
        found = self.header.get("distributedInfo")
        rank = found.get("rank") if isinstance(found, dict) else None
        return rank if isinstance(rank, int) else 0

    @property
    def device_name(self) -> str:
        """The name that the driver reports for the device that ran the kernels, or an empty text."""
        devices = self.header.get("deviceProperties")
        ran = self.activities[0].device if self.activities else 0
        names = [
            str(one.get("name", "")) for one in (devices if isinstance(devices, list) else ())
            if isinstance(one, dict) and (one.get("id") == ran or len(devices) == 1)  # type: ignore[arg-type]
        ]  # fmt: skip
        return printable(names[0]) if names else ""
