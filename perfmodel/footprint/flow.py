"""Which tensor of a block a name means at a point of its run: a name is another tensor each time that it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from perfmodel.arithmetic import whole_bytes
from perfmodel.block import Step
from perfmodel.op import Tensor

# A name of the block, and how often it had been written.
Key = tuple[str, int]


class Stored(NamedTuple):
    """Bytes, and the shape that they come from."""

    byte: int
    formula: str


def stored(tensors: Iterable[Tensor]) -> Stored:
    """Tensors that lie together, such as the two halves of one product."""
    tensors = list(tensors)
    return Stored(whole_bytes(sum(t.size_byte for t in tensors)), " + ".join(shape(t) for t in tensors))


def shape(tensor: Tensor) -> str:
    """32 x 1,024 x 1,600 x 2 bytes."""
    return f"{' x '.join(f'{size:,}' for size in tensor.shape)} x {tensor.item} bytes"


class Flow:
    """The tensors that have passed so far."""

    def __init__(self) -> None:
        self.written: dict[Key, Stored] = {}
        self._versions: dict[str, int] = {}

    def now(self, name: str) -> Key:
        """The tensor that the name means now."""
        return name, self._versions.get(name, 0)

    def reads(self, tensors: Iterable[Tensor], flow: Mapping[str, str]) -> dict[Key, list[Tensor]]:
        """The block's tensors that an operation reads, each with the operands that are parts of it."""
        found: dict[Key, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.reads and not tensor.spill and tensor.name in flow:
                found.setdefault(self.now(flow[tensor.name]), []).append(tensor)
        return found

    def write(self, tensors: Iterable[Tensor], flow: Mapping[str, str]) -> dict[Key, list[Tensor]]:
        """The block's tensors that an operation writes: from here on the names mean these."""
        found: dict[str, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.writes and not tensor.spill and tensor.name in flow:
                found.setdefault(flow[tensor.name], []).append(tensor)
        for name in found:
            self._versions[name] = self._versions.get(name, 0) + 1
        keyed = {self.now(name): parts for name, parts in found.items()}
        self.written.update((key, stored(parts)) for key, parts in keyed.items())
        return keyed


def layers(steps: Iterable[Step], dims: Mapping[str, Any]) -> Iterator[tuple[str, int, tuple[Step, ...]]]:
    """Steps that repeat together, with the name of their group and how often; no name for what stands alone."""
    for (group, repeat), running in groupby(steps, key=lambda step: (step.group, times(step, dims))):
        yield group.rstrip("."), repeat, tuple(running)


def times(step: Step, dims: Mapping[str, Any]) -> int:
    """How often a step runs."""
    return int(step.repeat(dims)) if step.repeat else 1
