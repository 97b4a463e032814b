"""Crossings from memory-bound to compute-bound, solved for one symbol.

An engine and memory take equally long where FLOPs = I x traffic, with the ridge I of the engine in FLOP per byte.
``pieces`` finds every whole size at which the difference changes its sign. The nearest sizes that the operation accepts
on both sides are then checked with the operation itself, in integers. For matrix products the difference is a
polynomial in each size; a linear one has a closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import sympy

from perfmodel import block, symbolic
from perfmodel.errors import InputError, did_you_mean
from perfmodel.expression import Expression
from perfmodel.op import Engine
from perfmodel.roofline import LINK, Rates, rates
from perfmodel.runs import Collective
from perfmodel.solve.algorithms import Crossover, crossovers
from perfmodel.solve.crossings import Accepted, Asked, Crossing, Limit, by_roof, crossings
from perfmodel.solve.pieces import BUDGET, Formula, Run
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import LARGEST_SIZE
from perfmodel.workload import Workload

# Relative error of the intensities in a reason, and the search budget for proving that they are limits.
DIGITS = 1e-5
FEW = 200

__all__ = ["Answer", "Crossing", "Limit", "Solution", "solve"]


class Answer(NamedTuple):
    """All crossings of one kernel, or of all kernels together.

    ``reason`` explains why there is none. ``here`` is the bound at the workload's own value of the symbol, where it has
    one. ``enters`` says whether the intensity depends on the symbol. ``left_out`` describes crossings that are not
    listed.
    """

    name: str
    crossings: tuple[Crossing, ...]
    reason: str
    here: str | None
    enters: bool
    left_out: str = ""


class Solution(NamedTuple):
    """The question, and the answers: all kernels together first, then each kernel where there are several.

    ``crossovers`` are those between the algorithms of a collective, if the question is for its bytes.
    """

    workload: Workload
    card: Rates
    name: str
    own: int | None
    sizes: dict[str, Any]
    fused: bool
    answers: tuple[Answer, ...]
    many: bool
    crossovers: tuple[Crossover, ...] = ()


def solve(
    workload: Workload,
    card: Rates,
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    phase: str | None = None,
    fused: bool | None = None,
    causal: bool | None = None,
    each: bool = True,
) -> Solution:
    """The crossings of a workload in one symbol: all kernels together and, with ``each``, every kernel alone."""
    name = ALIASES.get(name, name)
    phase, settings = phase or workload.default_phase, dict(settings or {})
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    _check(workload, name, settings, phase)
    sizes = workload.dims(phase, {**settings, name: symbolic.symbol(name)}, checked=False)

    def at(value: Any) -> list[Any]:
        given = {**settings, name: value}
        dims = {"causal": int(causal), **workload.dims(phase, given, checked=isinstance(value, int))}
        train, checked = phase == "train", isinstance(value, int) or symbolic.admitted
        steps = workload.steps_in(phase)
        return list(block.kernels(steps, dims, fused=fused, backward=train, optimizer=train, checked=checked))

    x = symbolic.symbol(name)
    found = at(x)
    narrow = {kernel.op.computes for kernel in found}
    card = rates(card.gpu, narrow.pop()) if len(narrow) == 1 and narrow != {""} else card
    formulas = list(
        symbolic.kernels_of(
            workload, phase, _free(workload, phase, {**settings, name: None}), fused=fused, causal=causal
        )
    )
    own = workload.dims(phase, settings).get(name)

    def swept(over: Mapping[str, Any]) -> Any:
        from perfmodel.sweep import sweep  # NumPy loads only where a size is not accepted

        return sweep(workload, [card.gpu], over, phase=phase, settings=settings, fused=fused, causal=causal)

    asked = Asked(at, Accepted(at, name, swept), card, x, sizes)
    many = len(found) > 1
    answers = [_answer("all kernels together" if many else found[0].name, found, formulas, asked, own)]
    if many and each:
        for i, kernel in enumerate(found):
            answers.append(_answer(kernel.name, [kernel], formulas[i : i + 1], asked.only(i), own))
    shown = {key: value for key, value in sizes.items() if key != name}
    fact = found[0].op.runs if name == "byte" and not many else None
    between = crossovers(fact.kind, fact.gpus, card.gpu) if isinstance(fact, Collective) else ()
    return Solution(workload, card, name, own, shown, fused, tuple(answers), many, between)


def _check(workload: Workload, name: str, settings: Mapping[str, Any], phase: str) -> None:
    if name not in SYMBOLS or name not in workload.settable():
        raise InputError(
            f"--for {name}", f"it is not a symbol of {workload.name}",
            f"its symbols are {', '.join(sorted(workload.settable(), key=list(SYMBOLS).index))}",
            did_you_mean(name, workload.settable()),
        )  # fmt: skip
    if SYMBOLS[name].kind not in ("size", "optional"):
        raise InputError(
            f"--for {name}", "it is not a size", "only a size can be solved for", "Set it with --set instead."
        )
    if name in settings:
        raise InputError(
            f"--for {name}", "it is also set", "a symbol is either set or solved for", f"Remove --set {name}."
        )
    workload.dims(phase, settings)


def _free(workload: Workload, phase: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that change the closed form.

    A setting that ties a symbol to others stays in it. A setting that replaces a tie by a number becomes a symbol.
    """
    own = {**workload.sizes, **workload.phases[phase]}
    return {
        key: value if isinstance(value, Expression) else symbolic.symbol(key)
        for key, value in settings.items()
        if isinstance(value, Expression) or isinstance(own.get(key), Expression)
    }


def _answer(title: str, kernels: list[Any], formulas: list[Any], asked: Asked, own: int | None) -> Answer:
    x, card = asked.x, asked.card
    traffic = symbolic.expanded(sum(kernel.repeat * kernel.op.traffic_byte() for kernel in kernels))
    work = by_roof(kernels, card)
    signs = {engine: _runs(flops, traffic, _ridge(card, engine), x) for engine, flops in work.items()}
    found = crossings(signs, formulas, asked)
    here = asked.bounds(own) if own is not None and asked.accepted.nearest(own, 1) == own else None
    reason = "" if found.listed else found.outside or _reason(work, traffic, signs, card, x)
    if reason and here and here.bound == LINK:
        reason = f"the GPU alone, without the link: {reason}"
    return Answer(
        name=title,
        crossings=found.listed,
        reason=reason,
        here=here.bound if here else None,
        enters=_enters(work, traffic, x),
        left_out=found.left_out,
    )


def _ridge(card: Rates, engine: Engine) -> Any:
    """Exact FLOP per byte at which an engine and memory take equally long."""
    return sympy.Rational(card.roofs[engine].flop_per_s) / sympy.Rational(card.bandwidth_byte_per_s)


def _runs(flops: Any, traffic: Any, ridge: Any, x: Any, budget: int = BUDGET) -> list[Run]:
    """The sizes at which the work takes longer than memory traffic, and those at which it does not."""
    return Formula(flops - ridge * traffic, x, budget).runs(1, LARGEST_SIZE)


def _reason(work: dict[Engine, Any], traffic: Any, signs: Mapping[Engine, list[Run]], card: Rates, x: Any) -> str:
    """Why the bound never changes: the intensity of the work nearest to its ridge, from size 1 to the limit."""
    if not work:
        return "memory-bound at every size: it has no FLOPs"
    if not _enters(work, traffic, x):
        return _without(work, traffic, card, x)
    nearest = (0.0, "")
    for engine, count in work.items():
        roof, ridge = card.roofs[engine], card.ridge(engine)
        low, high = sorted((_ratio_at(count, traffic, x, 1), _limit(count, traffic, x)))
        if all(run.positive is not False for run in signs[engine]):
            known = low > 0 and _bounded(-count, -traffic, low * (1 - DIGITS), x)
            least = f"of {low:.4g} FLOP/B or more, ridge" if known else "above its ridge of"
            return f"compute-bound at every {x.name}: {roof.name} work {least} {ridge:.4g}"
        most = (
            f"of at most {high:.4g} FLOP/B, ridge"
            if _bounded(count, traffic, high * (1 + DIGITS), x)
            else "below its ridge of"
        )
        nearest = max(nearest, (high / ridge, f"{roof.name} work {most} {ridge:.4g}"))
    if any(run.positive for runs in signs.values() for run in runs):
        return f"the bound is the same at every accepted value of {x.name}"
    return f"memory-bound at every {x.name}: {nearest[1]}"


def _bounded(count: Any, traffic: Any, ratio: float, x: Any) -> bool:
    """Whether the intensity stays on one side of a ratio at every size."""
    runs = _runs(count, traffic, sympy.Rational(ratio), x, budget=FEW)
    return not any(run.positive or not run.searched for run in runs)


def _enters(work: dict[Engine, Any], traffic: Any, x: Any) -> bool:
    """Whether an intensity depends on the symbol. Expressions that round are assumed to depend on it."""
    pairs = [(count, traffic) for count in work.values() if count.has(x) or traffic.has(x)]
    return any(symbolic.rounds(count + below) or (count / below).has(x) for count, below in pairs)


def _without(work: dict[Engine, Any], traffic: Any, card: Rates, x: Any) -> str:
    """Explains why there is no crossing where the intensity does not depend on the symbol."""
    ratios = {engine: float(count / traffic) for engine, count in work.items()}
    engine = max(ratios, key=lambda e: ratios[e] / card.ridge(e))
    side = "compute" if ratios[engine] > card.ridge(engine) else "memory"
    roof = f"{card.roofs[engine].name} work of {ratios[engine]:.4g} FLOP/B, ridge {card.ridge(engine):.4g}"
    return f"{side}-bound at every {x.name}: {roof}"


def _ratio_at(count: Any, traffic: Any, x: Any, size: int) -> float:
    """FLOP per byte at a size; zero where no tile fits, or outside the domain."""
    above, below = (symbolic.value_at(part, {x: size}) for part in (count, traffic))
    return float(above / below) if above is not None and below else 0.0


def _limit(count: Any, traffic: Any, x: Any) -> float:
    """The limit of FLOP per byte for large sizes."""
    if symbolic.rounds(count) or symbolic.rounds(traffic):
        return _ratio_at(count, traffic, x, 2**40)
    limit = symbolic.limit(count / traffic, x)
    return float(limit) if limit is not None else float("inf")
