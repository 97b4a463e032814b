"""One launch of a library: its time by the share of its bytes that is in L2; and the bytes of an operation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, total
from perfmodel.op import WEIGHTS, Op
from perfmodel.timing.card import Card
from perfmodel.timing.terms import Body

OWN = ("ours", "fused")  # implementations by kernels of this package


class Part(NamedTuple):
    """A launch: its time by the share of its bytes that L2 holds, all those bytes, and the bytes of weights among them.

    ``right_byte``: of a product, the bytes of the right operand, which the rotating protocol reads from memory.
    ``code_s``: the time to fetch its code after other kernels have run, not part of ``body``. ``among_s``: the same of a
    kernel whose fetch the protocols of single kernels count in their launch, so that it shows in programs alone. ``reads``:
    whether it reads anything; a kernel that only writes does not wait for memory. ``limited``: ``body`` as a function of
    the card too, if the power limit can hold the kernel back; a run of kernels changes what that limit allows. ``times``:
    of many points at once, the number of such launches in a row, each after a launch that moves the same bytes.
    """

    body: Callable[[Size], Body]
    byte: Size
    fresh_byte: Size = 0
    right_byte: Size = 0
    code_s: float = 0.0
    among_s: float = 0.0
    reads: Size = True
    limited: Callable[[Card, Size], Body] | None = None
    times: Size = 1


def limited(card: Card, body: Callable[[Card, Size], Body], byte: Size, **more: Any) -> Part:
    """A launch whose time depends on the power limit."""
    return Part(partial(body, card), byte, limited=body, **more)


class Bytes(NamedTuple):
    """Bytes of all outer tensors of an operation: read, written, both, and the weights among those read."""

    read: Any
    write: Any
    both: Any
    weights: Any


def moved_bytes(op: Op) -> Bytes:
    """The bytes that cross memory; tensors that stay on the chip have none."""
    moved = [(t.read_byte, t.write_byte, t.kind in WEIGHTS) for t in op.tensors if not t.spill]
    return Bytes(
        total(read for read, _, _ in moved),
        total(write for _, write, _ in moved),
        sum(read + write for read, write, _ in moved),
        sum(read for read, _, held in moved if held),
    )


def item_byte(item: Any) -> Any:
    """Bytes per element: a whole number stays one; the sub-byte types are fractions."""
    return int(item) if item == int(item) else float(item)
