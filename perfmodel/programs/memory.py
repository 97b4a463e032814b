"""Memory of a program over time: the storages that exist while it runs, as counted by the allocator of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from perfmodel.aten import launched
from perfmodel.aten.calls import Call, Launched
from perfmodel.programs.program import Program

BLOCK = 512  # bytes: torch's allocator rounds every request up to a multiple
# Workspace that torch gives cuBLAS with the first product, by compute capability from which it holds.
WORKSPACE_BYTE = {9: 32 * 2**20, 0: 8 * 2**20 + 128 * 2**10}


# Roles of what a phase makes; else it is an activation.
ROLES = {"backward": "gradient", "replicas": "communication"}


class Usage(NamedTuple):
    """Bytes of a program: before it starts, at the highest point, and after each step.

    ``peak_step`` is the number of the step at the peak; ``peak_roles`` the bytes at the peak by role.
    """

    resident_byte: int
    peak_byte: int
    peak_step: int
    peak_roles: dict[str, int]
    over_time: tuple[int, ...]


def usage(program: Program, workspace_byte: int = 0) -> Usage:
    """The memory of every step. ``workspace_byte`` is held from the start."""
    live: dict[int, int] = {number: _rounded(one.byte) for number, one in program.resident.items()}
    roles = {number: one.role for number, one in program.resident.items()}
    now = sum(live.values()) + workspace_byte
    before, peak, peak_step, over_time = now, now, -1, []
    at_peak = dict(live)
    for number, step in enumerate(program.steps):
        for result in (*step.call.results, *step.call.operands):
            if result.storage and result.storage not in live:
                live[result.storage] = _rounded(result.storage_byte)
                roles[result.storage] = ROLES.get(step.phase, "activation")
                now += live[result.storage]
        highest = now + scratch_byte(step.call)
        if highest > peak:
            peak, peak_step, at_peak = highest, number, dict(live)
        for storage in step.frees:
            now -= live.pop(storage, 0)
        over_time.append(now)
    return Usage(before, peak, peak_step, _by_role(at_peak, roles, workspace_byte), tuple(over_time))


def _by_role(live: dict[int, int], roles: dict[int, str], workspace_byte: int) -> dict[str, int]:
    found = {"workspace": workspace_byte} if workspace_byte else {}
    for storage, byte in live.items():
        found[roles[storage]] = found.get(roles[storage], 0) + byte
    return found


def _rounded(byte: Any) -> int:
    return -(-int(byte) // BLOCK) * BLOCK


def scratch_byte(call: Call) -> int:
    """Bytes that a call holds beside its results while it runs."""
    found: Iterable[Launched] = launched(call) if call.name in SCRATCHY else ()
    return sum(int(one.scratch_byte) for one in found)


# Operators that allocate more than their results.
SCRATCHY = frozenset(
    f"_scaled_dot_product_{kind}_attention_backward" for kind in ("flash", "efficient", "cudnn")
) | frozenset(("convolution", "convolution_backward", "sort", "topk", "embedding_dense_backward"))
