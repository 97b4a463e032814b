"""On-chip memory against context: the bytes of the N x N scores of one head, and the smallest memory that holds them.

Attention that keeps the scores of a head needs b N² bytes, 2 N² in fp16. The shared memory of a block holds them for a few
hundred tokens. FlashAttention keeps a tile of them, whose size does not depend on N.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from perfmodel.hardware import Gpu
from perfmodel.op import Op

CONTEXTS = tuple(256 * 2**i for i in range(10))  # 256 to 128 Ki tokens


class Level(NamedTuple):
    """A memory of a card, its bytes, and the longest context whose scores it holds."""

    name: str
    byte: int
    longest: int


class Context(NamedTuple):
    """The scores of one head at a context of ``tokens``, and the smallest memory that holds them; None if none does,
    or without a card."""

    tokens: int
    score_byte: int
    level: str | None


class Contexts(NamedTuple):
    """Contexts of rising length, and the memories of the card from the smallest on."""

    item_byte: int
    contexts: tuple[Context, ...]
    levels: tuple[Level, ...]


def contexts(op: Op, gpu: Gpu | None, item_byte: int) -> Contexts | None:
    """Returns the table for an operation with scores of N queries in several heads; None for another one."""
    scores = next((tensor.shape for tensor in op.tensors if tensor.name == "scores"), ())
    if len(scores) != 4 or scores[2] == 1:
        return None
    levels = tuple(Level(name, byte, isqrt(byte // item_byte)) for name, byte in _memories(gpu)) if gpu else ()

    def at(tokens: int) -> Context:
        needed = item_byte * tokens**2
        return Context(tokens, needed, next((level.name for level in levels if needed <= level.byte), None))

    return Contexts(item_byte, tuple(map(at, CONTEXTS)), levels)


def _memories(gpu: Gpu) -> list[tuple[str, int]]:
    """Returns the known memories of a card, from the smallest on."""
    own = {
        key: gpu.multiprocessor.get(name)
        for key, name in (("block", "shared_memory_per_block"), ("all", "shared_memory"))
    }
    block, every = own["block"], own["all"]
    known = [
        ("shared memory of a block", block.value if block else None),
        ("shared memory of all multiprocessors", every.value * gpu.multiprocessors.value if every else None),
        ("L2", gpu.caches["l2"].value if "l2" in gpu.caches else None),
        ("device memory", gpu.capacity_byte.value),
    ]
    return sorted(((name, int(byte)) for name, byte in known if byte), key=lambda level: level[1])
