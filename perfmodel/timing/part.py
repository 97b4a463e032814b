"""One launch of a library: its time as a function of what L2 holds of its bytes."""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.timing.terms import Body


class Part(NamedTuple):
    """Its time given the share of its bytes that L2 holds, all those bytes, and the bytes of weights among them.

    ``right_byte``: of a product, the bytes of the right operand, which the rotating protocol reads from memory.
    ``code_s``: the time to fetch its code after other kernels have run, not part of ``body``. ``among_s``: the same of a
    kernel whose fetch the protocols of single kernels count in their launch, so that it shows in programs alone. ``reads``:
    whether it reads anything; a kernel that only writes does not wait for memory.
    """

    body: Callable[[float], Body]
    byte: int
    fresh_byte: int = 0
    right_byte: int = 0
    code_s: float = 0.0
    among_s: float = 0.0
    reads: bool = True
