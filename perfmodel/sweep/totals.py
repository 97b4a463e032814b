"""Sums over the kernels of a chunk, and the chunk of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfmodel.analysis import counted
from perfmodel.arithmetic import total
from perfmodel.block import Kernel
from perfmodel.hardware import Gpu
from perfmodel.op import Engine, by_engine
from perfmodel.roofline import LINK, MEMORY, Rates, link_s, seconds
from perfmodel.sweep.grid import Values

# The names of the indices in ``Chunk.bound``.
BOUNDS = (MEMORY, *(engine.value for engine in Engine), LINK)
_CODES = {engine: BOUNDS.index(engine.value) for engine in Engine}


class Chunk(NamedTuple):
    """Consecutive points of the grid on one card, as arrays of equal length in grid order.

    ``at`` holds the values of the swept symbols. ``sizes`` holds every size of the workload, as a plain integer where
    it is constant. ``bound`` holds indices into ``BOUNDS``. ``points`` includes the points that were not evaluated;
    ``skipped`` is the first of them. Expected times are None unless they were requested.
    """

    gpu: Gpu
    at: dict[str, Values]
    sizes: dict[str, Any]
    flops: Values
    contraction_flops: Values
    traffic_byte: Values
    intensity_flop_per_byte: Values
    bound: NDArray[np.int8]
    lower_s: Values
    no_overlap_s: Values
    points: int
    skipped: dict[str, int] | None = None
    expected_s: Values | None = None
    expected_low_s: Values | None = None
    expected_high_s: Values | None = None

    def __repr__(self) -> str:
        swept = ", ".join(f"{name} = {values[0]} to {values[-1]}" for name, values in self.at.items() if len(values))
        return f"<Chunk of {self.flops.size} points{f': {swept}' if swept else ''}>"

    def size(self, name: str) -> Values:
        """A size at every point, constant or not."""
        value = self.at[name] if name in self.at else self.sizes.get(name, 0)
        return value if isinstance(value, np.ndarray) else np.full(self.flops.shape, float(value))

    @property
    def bound_names(self) -> list[str]:
        """The bounds as words."""
        return [BOUNDS[code] for code in self.bound]


class Totals:
    """Sums over the kernels of a chunk, each in an array that is updated in place."""

    def __init__(self, points: int) -> None:
        self.points = points
        self.traffic_byte, self.lower_s, self.link_s = np.zeros(points), np.zeros(points), np.zeros(points)
        self.flops: dict[tuple[Engine, bool, bool], Values] = {}  # engine, of a contraction, counted

    def add(self, kernel: Kernel, counting: str, card: Rates) -> None:
        """Add the counts and the lower bound of one kernel."""
        repeat = kernel.repeat
        traffic_byte, flops = kernel.op.traffic_byte(), kernel.op.flops_by_kind()
        slowest_s, _ = _slowest(*seconds(traffic_byte, by_engine(flops), card))
        links_s = link_s(kernel.op.runs, card.gpu)
        self.link_s += _repeated(links_s, repeat)
        self.lower_s += _repeated(np.maximum(slowest_s, links_s), repeat)
        self.traffic_byte += _repeated(traffic_byte, repeat)
        counts = counted(flops, counting)
        for kind, number in flops.items():
            self._sum(self.flops, (*kind, kind in counts), _repeated(number, repeat))

    def _sum(self, sums: dict[Any, Values], key: Any, value: Any) -> None:
        if key not in sums:
            sums[key] = np.zeros(self.points)
        sums[key] += value

    def bound(self, longest: Mapping[Engine, Any], slowest_s: Any) -> NDArray[np.int8]:
        """The resource with the largest total time, as an index into ``BOUNDS``."""
        codes = np.zeros(self.points, np.int8)
        for engine, where in longest.items():
            codes[where if where is not True else slice(None)] = _CODES[engine]
        codes[self.link_s > slowest_s] = BOUNDS.index(LINK)
        return codes

    def chunk(self, card: Rates, at: Mapping[str, Any], dims: Mapping[str, Any], inside: Any) -> Chunk:
        """The results at the points inside the domain. The time without overlap is computed from the sums."""
        mask = None if inside is True else inside & np.ones(self.points, np.bool_)
        keep = slice(None) if mask is None else mask

        def kept(value: Any) -> Any:
            return value[keep] if np.ndim(value) else np.full(self.points, float(value))[keep]

        flops = total(number for (*_, counts), number in self.flops.items() if counts)
        contraction_flops = total(number for (_, contraction, _), number in self.flops.items() if contraction)
        memory_s, engine_s = seconds(self.traffic_byte, by_engine(self.flops), card)
        slowest_s, longest = _slowest(memory_s, engine_s)
        outside = None if mask is None or mask.all() else int(np.argmin(mask))
        return Chunk(
            gpu=card.gpu,
            at={name: kept(value) for name, value in at.items()},
            sizes={name: kept(value) if np.ndim(value) else value for name, value in dims.items()},
            flops=kept(flops),
            contraction_flops=kept(contraction_flops),
            traffic_byte=kept(self.traffic_byte),
            intensity_flop_per_byte=kept(flops / self.traffic_byte),
            bound=kept(self.bound(longest, slowest_s)),
            lower_s=kept(self.lower_s),
            no_overlap_s=kept(memory_s + total(engine_s.values()) + self.link_s),
            points=self.points,
            skipped=None if outside is None else {n: int(v[outside]) if np.ndim(v) else v for n, v in at.items()},
        )


def _repeated(value: Any, repeat: Any) -> Any:
    return value if type(repeat) is int and repeat == 1 else value * repeat


def _slowest(memory_s: Any, engine_s: Mapping[Engine, Any]) -> tuple[Any, dict[Engine, Any]]:
    """The longest time, and where it belongs to each engine. Memory wins ties, then the first engine."""
    slowest: Any = memory_s
    longest: dict[Engine, Any] = {}
    for engine, alone_s in engine_s.items():
        longer = np.greater(alone_s, slowest)
        if longer.all():
            slowest, longest = alone_s, {engine: True}
        elif longer.any():
            slowest = np.maximum(slowest, alone_s)
            longest = {other: where & ~longer for other, where in longest.items()}
            longest[engine] = longer
    return slowest, longest
