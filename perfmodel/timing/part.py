"""One launch of a library: its time as a function of what L2 holds of its bytes."""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.timing.terms import Body


class Part(NamedTuple):
    """Its time given the share of its bytes that L2 holds, all those bytes, and those of weights among them."""

    body: Callable[[float], Body]
    byte: int
    fresh_byte: int = 0
