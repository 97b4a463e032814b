"""A step under DistributedDataParallel: every replica gets the sum of all gradients.

Each gradient is copied into a bucket as soon as the backward pass has made it, and divided by the number of replicas. A full
bucket is summed over all replicas while the backward pass goes on. At its end the sums are copied back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from perfmodel.aten.calls import Call
from perfmodel.patterns import ALL_REDUCE, BROADCAST
from perfmodel.programs.program import Program, Resident, Step
from perfmodel.programs.wrapping import PHASE, Gradient, Wrapped, dense

FIRST_BUCKET_BYTE, BUCKET_BYTE = 2**20, 25 * 2**20  # defaults of torch


def buckets(found: Iterable[Gradient]) -> Iterator[list[Gradient]]:
    """Yields buckets of gradients, in the order in which these are complete. The first bucket is small, so that
    communication begins early.
    """
    held, limit_byte = list[Gradient](), FIRST_BUCKET_BYTE
    for one in found:
        held.append(one)
        if sum(other.tensor.byte for other in held) >= limit_byte:
            yield held
            held, limit_byte = [], BUCKET_BYTE
    if held:
        yield held


class Summed(Wrapped):
    """A program under DistributedDataParallel, on one of ``ranks`` replicas."""

    def __init__(self, source: Program, found: Sequence[Gradient], ranks: int) -> None:
        super().__init__(source, ranks)
        self._shared_buffers()
        last = max(index for index, step in enumerate(source.steps) if step.phase == "backward")
        for held in buckets(found):
            byte = sum(int(one.tensor.byte) for one in held)
            bucket = self.flat(byte, held[0].tensor.dtype)
            self.resident[bucket.storage] = Resident(bucket.storage_byte, "bucket")
            for one in held:
                part = dense(one.tensor)._replace(storage=bucket.storage, storage_byte=bucket.storage_byte)
                self._add(one.step, Call("mul", (dense(one.tensor), 1 / ranks), {}, (part,)), one.module)
                self._add(last, Call("copy_", (dense(one.tensor), part), {}, (dense(one.tensor),)), one.module)
            self.after[held[-1].step].append(self.collective(ALL_REDUCE, bucket, bucket))
        # The sums are copied back after the last bucket has been sent.
        self.after[last].sort(key=lambda step: step.call.name == "copy_")

    def _add(self, number: int, call: Call, module: str) -> None:
        self.after.setdefault(number, []).append(Step(call, module, PHASE, source=f"aten::{call.name}"))

    def _shared_buffers(self) -> None:
        """The first replica's buffers are sent to all before the forward pass."""
        byte = sum(int(one.byte) for one in self.source.resident.values() if one.role == "buffer")
        if byte:
            flat = self.flat(byte, "fp32")
            self.before[0] = [self.collective(BROADCAST, flat, flat)]
