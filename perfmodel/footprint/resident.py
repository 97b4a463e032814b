"""The memory of an analysed workload on one GPU, for the reports that show a time."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.analysis import Analysis
from perfmodel.footprint.account import Account
from perfmodel.footprint.lines import SHORTEST_TRAINED, Line, Plan
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.units import scaled


class Resident(NamedTuple):
    """The bytes that one GPU holds while a phase runs, and the capacity and reserve of the card."""

    lines: tuple[Line, ...]
    capacity_byte: int | None
    reserve_byte: int | None
    card: str

    @property
    def byte(self) -> int:
        """Total bytes of one GPU."""
        return sum(line.byte_per_gpu for line in self.lines)

    def of(self, kind: str) -> int:
        """Bytes of one kind of ``lines.KINDS``."""
        return sum(line.byte_per_gpu for line in self.lines if line.kind == kind)

    @property
    def room_byte(self) -> int | None:
        """Bytes available to a program's tensors; None without a card."""
        if self.capacity_byte is None or self.reserve_byte is None:
            return None
        return self.capacity_byte - self.reserve_byte

    @property
    def spare_byte(self) -> int | None:
        """Available bytes that remain, negative where the workload does not fit."""
        return None if self.room_byte is None else self.room_byte - self.byte

    @property
    def fits(self) -> bool | None:
        return None if self.spare_byte is None else self.spare_byte >= 0

    @property
    def sentence(self) -> str:
        """A warning with the figures and what to do; empty where the workload fits."""
        if self.room_byte is None or self.fits:
            return ""
        needed, room, kept = (scaled(value, "B", 4) for value in (self.byte, self.room_byte, self.reserve_byte or 0))
        return (
            f"It does not fit on one {self.card}: it needs {needed}, and {room} are available after a reserve of "
            f"{kept}. Times assume that it fits. Run 'perfmodel memory' for changes that make it fit."
        )


def resident(answer: Analysis, reserve: Reserve = DEFAULT) -> Resident | None:
    """The memory of one GPU without recomputation or sharding.

    None for training with weights of less than 2 bytes, which has no standard recipe.
    """
    account = Account(answer.workload, answer.phase, answer.dims, answer.fused, answer.form or None)
    if answer.phase == "train" and account.model.item < SHORTEST_TRAINED:
        return None
    lines = account.lines(Plan())
    if answer.gpu is None:
        return Resident(lines, None, None, "")
    capacity_byte = int(answer.gpu.capacity_byte.value)
    return Resident(lines, capacity_byte, reserve.byte(capacity_byte), answer.gpu.title)
