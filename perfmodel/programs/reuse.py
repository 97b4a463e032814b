"""Which bytes of a kernel still lie in L2 from the kernels before it.

A storage that was touched before stays in L2 until so many other bytes have been touched that they fill it. The
distance is counted in bytes from its last use.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.aten.calls import Operand
from perfmodel.timing.card import Card
from perfmodel.timing.stream import kept


class Reuse:
    """The order in which storages were touched last, as bytes touched since the start."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.touched_byte = 0.0
        self._last: dict[int, float] = {}

    def share(self, reads: Iterable[Operand], writes: Iterable[Operand], byte: float) -> float:
        """The share of a call's ``byte`` in L2. Afterwards all of its tensors are the latest."""
        inside, moved = 0.0, 0.0
        reads, writes = tuple(reads), tuple(writes)
        for operand in reads:
            own = float(operand.byte)
            moved += own
            last = self._last.get(operand.storage)
            if last is not None and operand.storage:
                inside += own * kept(self.card, self.touched_byte - last + own)
        for operand in writes:
            own = float(operand.byte)
            moved += own
            inside += own * kept(self.card, own)
        self.touched_byte += moved
        for operand in (*reads, *writes):
            self._last[operand.storage] = self.touched_byte
        whole = max(moved, byte)
        return min(1.0, inside / whole) if whole else 0.0

    def freed(self, storages: Iterable[int]) -> None:
        """Forgets storages that no longer exist."""
        for storage in storages:
            self._last.pop(storage, None)
