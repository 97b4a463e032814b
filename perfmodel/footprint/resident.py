"""The memory of an analysed workload on one GPU: whether it fits, for every report that shows a time."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.analysis import Analysis
from perfmodel.footprint.account import Account
from perfmodel.footprint.lines import SHORTEST_TRAINED, Line, Plan
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.units import scaled


class Resident(NamedTuple):
    """What one GPU holds while a phase runs, and what a card has beside its reserve."""

    lines: tuple[Line, ...]
    capacity_byte: int | None
    reserve_byte: int | None
    card: str

    @property
    def byte(self) -> int:
        return sum(line.byte_per_gpu for line in self.lines)

    def of(self, kind: str) -> int:
        """The sum of one of ``lines.KINDS``."""
        return sum(line.byte_per_gpu for line in self.lines if line.kind == kind)

    @property
    def room_byte(self) -> int | None:
        """What a program's tensors may take; None without a card."""
        if self.capacity_byte is None or self.reserve_byte is None:
            return None
        return self.capacity_byte - self.reserve_byte

    @property
    def spare_byte(self) -> int | None:
        """What is left, negative where it does not fit."""
        return None if self.room_byte is None else self.room_byte - self.byte

    @property
    def fits(self) -> bool | None:
        return None if self.spare_byte is None else self.spare_byte >= 0

    @property
    def sentence(self) -> str:
        """That it does not fit, by which figures and what to do; nothing where it fits."""
        if self.room_byte is None or self.fits:
            return ""
        needed, room, kept = (scaled(value, "B", 4) for value in (self.byte, self.room_byte, self.reserve_byte or 0))
        return (
            f"It does not fit on one {self.card}: it needs {needed}, and {room} are available beside a reserve of "
            f"{kept}. Times assume that it fits. Run 'perfmodel memory' to see what would make it fit."
        )


def resident(answer: Analysis, reserve: Reserve = DEFAULT) -> Resident | None:
    """The account of one GPU without recomputation and shards.

    None where there is no account: for weights of less than 2 bytes there is no agreed recipe of training.
    """
    account = Account(answer.workload, answer.phase, answer.dims, answer.fused, answer.form or None)
    if answer.phase == "train" and account.model.item < SHORTEST_TRAINED:
        return None
    lines = account.lines(Plan())
    if answer.gpu is None:
        return Resident(lines, None, None, "")
    capacity_byte = int(answer.gpu.capacity_byte.value)
    return Resident(lines, capacity_byte, reserve.byte(capacity_byte), answer.gpu.title)
