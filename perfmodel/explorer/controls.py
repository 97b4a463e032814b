"""The sizes that the page offers as sliders, with the values that a slider steps through."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.symbols import SYMBOLS
from perfmodel.workload import Workload

# Largest value of a slider: a round size far beyond those in use, or so many times the workload's own size.
LARGEST = {"B": 4096, "N": 1 << 20, "S": 1 << 20}
SMALLEST_RANGE, TIMES = 64, 8


class Control(NamedTuple):
    """A size of a phase: its symbol and meaning, its own value, and the values of its slider. ``asked``: a size of the
    question (batch and tokens), not of the model.
    """

    symbol: str
    meaning: str
    value: int
    steps: list[int]
    asked: bool


def controls(workload: Workload, phase: str) -> list[Control]:
    """The sizes of a phase that are numbers, those of the question first."""
    own, known = workload.given(phase), workload.settable()
    found = [
        Control(name, SYMBOLS[name].meaning, value, steps(name, value), name in ("B", "N", "S", "N_e"))
        for name, value in own.items()
        if isinstance(value, int) and SYMBOLS[name].kind in ("size", "optional") and name in known
    ]
    return sorted(found, key=lambda one: not one.asked)


def steps(name: str, own: int) -> list[int]:
    """Powers of two and the sizes half way between them, with the workload's own size."""
    most = max(LARGEST.get(name, 0), SMALLEST_RANGE, TIMES * own)
    found, size = {own}, 1
    while size <= most:
        found.add(size)
        if size > 1 and 3 * size // 2 <= most:
            found.add(3 * size // 2)
        size *= 2
    return sorted(found)
