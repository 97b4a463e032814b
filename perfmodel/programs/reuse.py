"""Which bytes of a kernel still lie in L2 from the kernels before it.

Data that was touched before stays in L2 until so many other bytes have been touched that they fill it. The distance is
counted in bytes from its last use. A new tensor lies where a freed one of its size lay, as in torch's allocator. Where
that memory is still in L2, its old contents are never written back, so that the new ones cost no memory traffic yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.aten.calls import Operand
from perfmodel.timing.card import Card
from perfmodel.timing.stream import kept


class Reuse:
    """When each piece of memory was touched last, counted in bytes touched since the start."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.touched_byte = 0.0
        self._last: dict[int, float] = {}
        self._size: dict[int, float] = {}
        self._free: dict[float, list[float]] = {}

    def share(self, reads: Iterable[Operand], writes: Iterable[Operand], byte: float) -> float:
        """The share of a call's ``byte`` in L2. Afterwards all of its tensors are the latest."""
        reads, writes = tuple(reads), tuple(writes)
        for operand in writes:
            self._place(operand)
        inside, moved = 0.0, 0.0
        for operand in (*reads, *writes):
            own = float(operand.byte)
            moved += own
            last = self._last.get(operand.storage)
            if last is not None and operand.storage:
                inside += own * kept(self.card, self.touched_byte - last + own)
        self.touched_byte += moved
        for operand in (*reads, *writes):
            self._last[operand.storage] = self.touched_byte
            self._size.setdefault(operand.storage, float(operand.storage_byte or operand.byte))
        whole = max(moved, byte)
        return min(1.0, inside / whole) if whole else 0.0

    def _place(self, operand: Operand) -> None:
        """A new tensor takes the memory of the latest freed one of its size."""
        if operand.storage in self._last:
            return
        size = float(operand.storage_byte or operand.byte)
        free = self._free.get(size)
        if free:
            self._last[operand.storage] = free.pop()
        self._size[operand.storage] = size

    def freed(self, storages: Iterable[int]) -> None:
        """Returns the memory of storages that no longer exist."""
        for storage in storages:
            last, size = self._last.pop(storage, None), self._size.pop(storage, None)
            if last is not None and size is not None:
                self._free.setdefault(size, []).append(last)
