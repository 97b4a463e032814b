"""One launch of a library: its time as a function of what L2 holds of its bytes."""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.timing.terms import Body


class Part(NamedTuple):
    """Its time given the share of its bytes that L2 holds, all those bytes, and the bytes of weights among them.

    ``right_byte``: of a product, the bytes of the right operand, which the rotating protocol reads from memory. ``reads``:
    whether it reads anything; a kernel that only writes does not wait for memory.
    """

    body: Callable[[float], Body]
    byte: int
    fresh_byte: int = 0
    right_byte: int = 0
    reads: bool = True
