"""Which bytes of a kernel still lie in L2 from the kernels before it.

Data that was touched before stays in L2 until so many other bytes have been touched that they fill it. A kernel walks
through all of its tensors at once, from their beginnings to their ends. The distance of a byte has three parts: the
rest of the kernel that touched it last, the kernels between, and the earlier part of this kernel. A new tensor lies
where a freed one of its size lay, as in torch's allocator. Where that memory is still in L2, its old contents are never
written back, so that the new ones cost no memory traffic yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from perfmodel.aten.calls import Operand
from perfmodel.timing.card import Card
from perfmodel.timing.stream import kept_between


class Found(NamedTuple):
    """Shares in L2: of all bytes of a call, and of those that it reads."""

    share: float
    read_share: float


class Reuse:
    """When each piece of memory was touched last: from and to which number of bytes touched since the start."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.touched_byte = 0.0
        self._last: dict[int, tuple[float, float]] = {}
        self._size: dict[int, float] = {}
        self._free: dict[float, list[tuple[float, float]]] = {}

    def found(self, reads: Iterable[Operand], writes: Iterable[Operand], byte: float) -> Found:
        """The shares of a call's ``byte`` in L2. Afterwards all of its tensors are the latest.

        Only some rows are touched of a tensor that has more bytes than the call moves, such as a table of embeddings. It
        counts as neither in L2 nor touched.
        """
        reads, writes = (tuple(x for x in group if float(x.byte) <= byte) for group in (reads, writes))
        for operand in writes:
            self._place(operand)
        start = self.touched_byte
        read_byte, write_byte = (sum(float(operand.byte) for operand in group) for group in (reads, writes))
        end = start + read_byte + write_byte
        from_reads, from_writes = (
            sum(self._inside(operand, start, end) for operand in group) for group in (reads, writes)
        )
        self.touched_byte = end
        for operand in (*reads, *writes):
            self._last[operand.storage] = (start, end)
            self._size.setdefault(operand.storage, float(operand.storage_byte or operand.byte))
        whole = max(read_byte + write_byte, byte)
        share = min(1.0, (from_reads + from_writes) / whole) if whole else 0.0
        return Found(share, from_reads / read_byte if read_byte else 1.0)

    def _inside(self, operand: Operand, start: float, end: float) -> float:
        """Bytes of a tensor that are still in L2 when a kernel between these places of the count touches them."""
        last = self._last.get(operand.storage)
        if last is None or not operand.storage:
            return 0.0
        return float(operand.byte) * kept_between(self.card, start - last[0], end - last[1])

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
