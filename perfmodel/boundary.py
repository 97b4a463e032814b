"""The bytes that cross the boundary of a block: those of tensors that its steps do not pass to one another."""

from collections.abc import Iterable
from itertools import groupby

from perfmodel.block import Kernel, Step
from perfmodel.op import Kind, Op, Tensor


def compulsory_byte(forward: Iterable[Kernel]) -> int:
    """Bytes of the block's outer tensors: inputs, read once, and outputs, written once.

    An input is read before any step has written it. An output is written and not read by a later step. Keys and values
    that later tokens need are outputs, although attention reads them. A tensor outside the flow is an outer tensor.
    Repeated steps are evaluated twice; the second evaluation represents all further repeats.
    """
    ledger = _Ledger()
    for _, group in groupby(forward, key=lambda kernel: (kernel.step.group, kernel.repeat)):
        together = tuple(group)
        repeat = together[0].repeat
        ledger.moved += ledger.run(together)
        if repeat > 1:
            ledger.moved += ledger.run(together) * (repeat - 1)
    return ledger.moved + sum(ledger.written[name] for name in ledger.unread)


class _Ledger:
    """The tensors of a block that have been written, with their bytes, and the outer tensors that have been read."""

    def __init__(self) -> None:
        self.moved = 0
        self.written: dict[str, int] = {}
        self.unread: set[str] = set()
        self._read: set[str] = set()

    def run(self, running: Iterable[Kernel]) -> int:
        """Bytes that enter or leave the block while these kernels run once."""
        return sum(self._crossing(tensor, kernel.step) for kernel in running for tensor in _inputs_first(kernel.op))

    def _crossing(self, tensor: Tensor, step: Step) -> int:
        name = step.flow.get(tensor.name)
        if name is None or tensor.spill:
            return int(tensor.compulsory_byte)
        moved = 0
        if tensor.kind is Kind.CACHE and step.cached:
            moved += self.written.get(name, 0)  # later tokens need what is written now
        if tensor.reads:
            self.unread.discard(name)
            if name in self.written:  # the cache holds more tokens than were written now
                moved += max(0, tensor.size_byte - self.written[name])
            elif name not in self._read:
                moved += tensor.size_byte
                self._read.add(name)
        if tensor.writes:
            # Overwriting part of a tensor, such as the rotated part of a head, keeps the rest.
            self.written[name] = max(tensor.size_byte, self.written.get(name, 0))
            self.unread.add(name)
        return moved


def _inputs_first(op: Op) -> list[Tensor]:
    return sorted(op.tensors, key=lambda tensor: bool(tensor.writes))
