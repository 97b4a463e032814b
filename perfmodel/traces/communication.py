"""Collectives of a trace: the data that each moves, the lower bound of the network, and the ranks that wait.

A collective ends on all ranks together, so the rank that comes last spends the least time in it. What the others spend
above that is waiting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.aten.calls import ITEMS
from perfmodel.hardware import Gpu
from perfmodel.traces.events import Activity

_NAMES = {
    "allreduce": "all_reduce", "allgather": "all_gather", "reducescatter": "reduce_scatter", "alltoall": "all_to_all",
    "broadcast": "broadcast", "reduce": "reduce", "sendrecv": "send_recv", "send": "send_recv", "recv": "send_recv",
}  # fmt: skip
_TYPES = {
    "BFloat16": "bf16", "Half": "fp16", "Float": "fp32", "Double": "fp64", "Long": "int64", "Int": "int32", "Byte": "uint8",
    "Char": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32", "f64": "fp64", "u8": "uint8", "i64": "int64", "i32": "int32",
}  # fmt: skip


class Collective(NamedTuple):
    """One call: the operation, the bytes that each rank gives to it and receives, the size of the group, the type."""

    name: str
    in_byte: int
    out_byte: int
    gpus: int
    dtype: str

    @property
    def shape(self) -> dict[str, int]:
        return {"byte": self.in_byte, "gpus": self.gpus} if self.in_byte else {}

    @property
    def least_byte(self) -> float:
        """Bytes that one GPU must send or receive, whatever the algorithm, even if the network sums."""
        apart = (self.gpus - 1) / self.gpus if self.gpus > 1 else 0.0
        if self.name in ("all_gather",):
            return self.out_byte * apart
        if self.name in ("reduce_scatter", "all_to_all"):
            return self.in_byte * apart
        return float(self.in_byte) if self.gpus > 1 else 0.0


def collective(activity: Activity) -> Collective:
    """The collective that a kernel runs, from the profiler's details, or else from its name."""
    details = activity.details
    given = re.sub(
        r"[^a-z]", "", str(details.get("Collective name", "")).lower().removeprefix("_").removesuffix("base")
    )
    plain = re.sub(r"[^a-z]", "", activity.name.lower())
    name = next((found for key, found in _NAMES.items() if key in (given or plain)), given or "collective")
    dtype = _TYPES.get(str(details.get("dtype", "")), "") or _type(activity.name)
    item = ITEMS.get(dtype, 1)
    counts = [_whole(details.get(key)) for key in ("In msg nelems", "Out msg nelems")]
    return Collective(name, int(counts[0] * item), int(counts[1] * item), _whole(details.get("Group size")), dtype)


def _type(kernel: str) -> str:
    found = re.search(r"_(bf16|f16|f32|f64|u8|i64|i32)_", kernel)
    return _TYPES[found[1]] if found else ""


def _whole(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def lower_s(one: Collective, gpu: Gpu) -> float | None:
    """The time of its bytes over one direction of the card's links; None where they are unknown."""
    link = gpu.links.get("nvlink")
    if link is None or not one.least_byte:
        return None
    return one.least_byte / (link.value / 2)  # the data sheet adds both directions


def waiting(ranks: Sequence[Iterable[Activity]]) -> list[dict[int, float]]:
    """Seconds that each collective of each rank waits for the last rank, by its place among the rank's collectives.

    The n-th collective of a group on one rank belongs with the n-th on the others.
    """
    lanes = [_by_group(one) for one in ranks]
    found: list[dict[int, float]] = [{} for _ in ranks]
    for group in set().union(*lanes) if lanes else ():
        calls = [lane.get(group, []) for lane in lanes]
        for same in zip(*(one for one in calls if one), strict=False):
            least_s = min(seconds for _, seconds in same)
            if len(same) < 2:
                continue
            owners = [rank for rank, one in enumerate(calls) if one]
            for rank, (place, seconds) in zip(owners, same, strict=True):
                found[rank][place] = seconds - least_s
    return found


def _by_group(activities: Iterable[Activity]) -> Mapping[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for place, one in enumerate(activities):
        group = f"{one.details.get('Process Group Name', '')} {one.details.get('Process Group Ranks', '')}"
        found.setdefault(group, []).append((place, one.seconds))
    return found
