"""A workload over a grid of sizes: the operation functions called with NumPy arrays, in chunks.

Sizes are float64, which holds integers exactly up to 2^53 (9.0e15). Counts below that are exact; larger ones are
rounded to 16 digits, and ``exact`` computes them again in integers. A symbol that is constant within a chunk is a
Python integer. Only one chunk is in memory at a time, for a grid of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel import block, limits
from perfmodel.analysis import analyse
from perfmodel.block import Step
from perfmodel.errors import InputError
from perfmodel.expression import Expression
from perfmodel.hardware import Gpu
from perfmodel.roofline import Rates, rates
from perfmodel.sweep import exact
from perfmodel.sweep.domain import Domain, OutsideError
from perfmodel.sweep.grid import Axis, axis, axis_from_text, box, doubled, spaced
from perfmodel.sweep.totals import BOUNDS, Chunk, Totals
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.workload import Workload, resolved

__all__ = [
    "BOUNDS",
    "POINTS",
    "Axis",
    "Chunk",
    "Plan",
    "axis",
    "axis_from_text",
    "doubled",
    "exact",
    "plan",
    "spaced",
    "sweep",
]


# Points per chunk: enough to hide the overhead of Python, few enough to fit in the L2 cache of the CPU.
POINTS = 16384


class Plan(NamedTuple):
    """A sweep that is ready to run: the workload, the grid, the cards, and how work is counted."""

    workload: Workload
    axes: tuple[Axis, ...]
    cards: tuple[Rates, ...]
    phase: str
    form: str
    fused: bool
    counting: str
    settings: dict[str, Any]
    given: dict[str, Any]
    varying: frozenset[str]
    steps: tuple[Step, ...]
    quotients: tuple[Expression, ...]
    expected: bool = False

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(one.symbol for one in self.axes)

    @property
    def points(self) -> int:
        """Points of the grid for one card."""
        return math.prod(one.number for one in self.axes)

    @property
    def causal(self) -> bool:
        return bool(self.given["causal"])

    def chunks(self, points: int | None = None) -> Iterator[Chunk]:
        """The grid in chunks of at most ``points`` points. The last symbol varies fastest and the card slowest."""
        # glibc returns freed arrays to the system until a larger block has been freed, and each reuse then causes page
        # faults. Without this line a sweep takes twice as long.
        np.empty(3 << 20)
        if self.expected:
            from perfmodel.sweep import times

            clocks = [times.Clock(self, card) for card in self.cards]
            points = points or times.POINTS
        points = points or POINTS
        for place, card in enumerate(self.cards):
            found, outside = False, None
            for low in range(0, self.points, points):
                chunk = _evaluated(self, card, low, min(low + points, self.points))
                if self.expected:
                    chunk = clocks[place].timed(chunk)
                found, outside = found or chunk.flops.size > 0, outside or chunk.skipped
                yield chunk
            if not found and outside is not None:
                raise InputError(
                    f"{self.workload.name}: sweep",
                    f"the operations accept none of the {self.points:,} points",
                    f"the first one is not accepted: {self.why(outside)}",
                    "Choose other ranges.",
                )

    def why(self, at: Mapping[str, int]) -> str:
        """A skipped point, and the reason why an operation does not accept it."""
        try:
            analyse(
                self.workload,
                phase=self.phase,
                form=self.form or None,
                settings={**self.settings, **at},
                fused=self.fused,
                causal=self.causal,
                count=self.counting,
            )
        except InputError as refused:
            reason = f"{refused.where}: {refused.found}; {refused.accepted}"
        else:
            reason = "the operations do not accept it"
        return f"{', '.join(f'{name} = {value}' for name, value in at.items())}: {reason}"


def sweep(
    workload: Workload, gpus: Sequence[Gpu], over: Mapping[str, Any], *, points: int | None = None, **choices: Any
) -> Iterator[Chunk]:
    """Totals and bounds of a workload on each card at every point of a grid, in chunks.

    ``over`` gives the values of each swept symbol as a list, an array, a range in text or an ``Axis``. ``choices`` are
    the keywords of ``plan``. Points outside the domain of an operation are skipped and counted. If all points are
    outside, an error is raised.
    """
    return plan(workload, gpus, over, **choices).chunks(points)


def plan(
    workload: Workload,
    gpus: Sequence[Gpu],
    over: Mapping[str, Any],
    *,
    phase: str | None = None,
    settings: Mapping[str, Any] | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    count: str | None = None,
    form: str | None = None,
    expected: bool = False,
) -> Plan:
    """A sweep that is ready to run, with checked symbols and cards. The keywords are those of ``analyse``.

    ``expected`` adds the expected time and its range to every point. That takes about 50 times as long as the rest.
    """
    phase = phase or workload.default_phase
    axes = tuple(axis(symbol, values) for symbol, values in over.items())
    known = {ALIASES.get(name, name): value for name, value in (settings or {}).items()}
    given = {"causal": int(workload.causal if causal is None else causal), **workload.given(phase, known)}
    _check_symbols(workload, [one.symbol for one in axes], known)
    given.update((one.symbol, one.first) for one in axes)
    varying = _varying(given, frozenset(one.symbol for one in axes))
    steps = tuple(_merged(workload.steps_in(phase, form)))
    points = math.prod(one.number for one in axes) * len(gpus)
    (limits.EXPECTED if expected else limits.POINTS).check(points, f"{workload.name}: sweep")
    return Plan(
        workload=workload,
        axes=axes,
        cards=tuple(rates(gpu, workload.dtypes["activation"]) for gpu in gpus),
        phase=phase,
        form=workload.form_in(phase, form),
        fused=workload.fused if fused is None else fused,
        counting=count or workload.counting,
        settings=known,
        given=given,
        varying=varying,
        steps=steps,
        quotients=tuple(_quotients(given, steps, varying)),
        expected=expected,
    )


def _check_symbols(workload: Workload, symbols: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raise unless each swept symbol is a size of the workload and is not set."""
    where = f"{workload.name}: sweep"
    settable = workload.settable()
    known = [name for name in SYMBOLS if name in settable and SYMBOLS[name].kind not in ("flag", "routing")]
    if not symbols:
        raise InputError(
            where,
            "no symbol is swept",
            f"its sizes are {', '.join(known)}",
            f"Sweep over one of them, for example {known[0]}.",
        )
    for symbol in symbols:
        if symbol not in known:
            raise InputError(
                f"{where} over {symbol}", "it is not a size of this workload", f"its sizes are {', '.join(known)}",
                "Sweep over one of them.",
            )  # fmt: skip
        if symbol in settings:
            raise InputError(
                f"{where} over {symbol}", "it is also set", "a symbol is either swept or set",
                "Remove one of the two.",
            )  # fmt: skip


# Fields of a step that ``work`` compares as text or ignores.
_COMPARED_OTHERWISE = ("name", "operation", "sizes", "repeat", "flow", "group")


def _merged(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps that do the same work, as one step with more repeats."""
    alike: dict[tuple[Any, ...], list[Step]] = {}
    for step in steps:
        alike.setdefault(work(step), []).append(step)
    for same in alike.values():
        times = Expression(f"{len(same)} * ({_often(same[0])})", f"{same[0].name}: repeat")
        yield same[0] if len(same) == 1 else same[0]._replace(repeat=times)


def work(step: Step) -> tuple[Any, ...]:
    """Returns the work of a step and its repeats as a key; equal for steps that do the same work."""
    sizes = tuple(sorted((name, size.text) for name, size in step.sizes.items()))
    manner = (value for field, value in step._asdict().items() if field not in _COMPARED_OTHERWISE)
    return step.operation.name, sizes, _often(step), *manner


def _often(step: Step) -> str:
    return step.repeat.text if step.repeat else "1"


def _varying(given: Mapping[str, Any], swept: frozenset[str]) -> frozenset[str]:
    """The swept symbols and all symbols that depend on them."""
    tied = {name: value.names for name, value in given.items() if isinstance(value, Expression)}
    more = swept | {name for name, names in tied.items() if names & swept}
    return swept if more == swept else _varying(given, more)


def _quotients(given: Mapping[str, Any], steps: Sequence[Step], varying: frozenset[str]) -> Iterator[Expression]:
    """The expressions with divisions that may be exact at some points only."""
    every = [*given.values(), *(size for step in steps for size in (*step.sizes.values(), step.repeat))]
    return (size for size in every if isinstance(size, Expression) and "/" in size.text and size.names & varying)


def _evaluated(plan: Plan, card: Rates, low: int, high: int) -> Chunk:
    """One chunk. Points outside the domain are evaluated too, and their results are dropped."""
    totals, at = Totals(high - low), box(plan.axes, low, high)
    with np.errstate(all="ignore"):
        try:
            dims = resolved({**plan.given, **at}, plan.workload.name, checked=False)
            domain = Domain(dims, plan.quotients)
            train = plan.phase == "train"
            for kernel in block.kernels(
                plan.steps, dims, fused=plan.fused, backward=train, optimizer=train, checked=domain
            ):
                domain.accept("L", kernel.repeat)
                totals.add(kernel, plan.counting, card)
        except (OutsideError, InputError):
            return totals.chunk(card, at, at, inside=False)
        return totals.chunk(card, at, dims, domain.inside)
