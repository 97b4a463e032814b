"""Content of an ``explain`` page: formulas, growth, numbers at chosen sizes, and crossings on a card."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from perfmodel import symbolic
from perfmodel.analysis import Analysis, analyse
from perfmodel.context_tables import Contexts, contexts
from perfmodel.errors import InputError, did_you_mean
from perfmodel.expert_tables import Spread, spread
from perfmodel.op import Op
from perfmodel.operation import Operation
from perfmodel.roofline import rates
from perfmodel.runs import Collective
from perfmodel.solve import Solution, solve
from perfmodel.solve.algorithms import Crossover, Way, crossovers, ways
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.tile_tables import Tiles, tiles
from perfmodel.workload import Workload, single


class Growth(NamedTuple):
    """Growth of the counts with one symbol, or with several equal ones."""

    name: str
    flops: symbolic.Order
    traffic: symbolic.Order
    unfused: symbolic.Order | None
    intensity: symbolic.Order


class Explanation(NamedTuple):
    """Everything that an ``explain`` page shows. ``ways`` and ``crossovers`` are the algorithms of a collective.
    ``tiles`` are the tiles that fit on chip, ``contexts`` the bytes of attention scores against the context, and
    ``experts`` the distribution of tokens over experts.
    """

    operation: Operation
    derivation: str
    op: Op
    formulas: symbolic.Formulas
    work: tuple[tuple[str, Any, str], ...]
    growth: tuple[Growth, ...]
    fused: Analysis
    unfused: Analysis | None
    crossings: tuple[Solution, ...]
    ways: tuple[Way, ...] = ()
    crossovers: tuple[Crossover, ...] = ()
    tiles: Tiles | None = None
    contexts: Contexts | None = None
    experts: Spread | None = None


# Sizes that are equal in self-attention. Cost is quadratic in the sequence length when both grow together.
TIED = ("S", "N")


def explain(
    operation: Operation, settings: Mapping[str, Any] | None = None, gpu: Any = None, dtype: str = "fp16",
    knowledge: str | None = None,
) -> Explanation:  # fmt: skip
    """Returns the content of one operation's page. Sizes that are not set take typical values."""
    settings = {ALIASES.get(name, name): value for name, value in (settings or {}).items()}
    unknown = next((name for name in settings if name not in operation.arguments), None)
    if unknown is not None:
        raise InputError(
            f"{operation.name}: set {unknown}", "it is not a size of this operation",
            f"its sizes are {', '.join(operation.arguments)}",
            did_you_mean(unknown, operation.arguments),
        )  # fmt: skip
    given = {name: value for name, value in settings.items() if SYMBOLS[name].kind in ("flag", "optional")}
    given = {
        name: symbolic.symbol(name) if SYMBOLS[name].kind == "optional" else value for name, value in given.items()
    }
    op = symbolic.op_of(operation, given)
    found = symbolic.formulas(op)
    workload = single(operation, dtype, gpu.sizes() if gpu else {})
    fused = analyse(workload, gpu=gpu, settings=settings, fused=True, knowledge=knowledge)
    collective = isinstance(op.runs, Collective)
    solvable = not collective and not settings.get("routing")  # a routing needs numbers of experts
    return Explanation(
        operation=operation,
        derivation=(import_module(operation.module).__doc__ or "").strip(),
        op=op,
        formulas=found,
        work=tuple((work.name, symbolic.tidy(work.amount.times), _mix(work)) for work in op.work),
        growth=tuple(_growth(operation, found)),
        fused=fused,
        unfused=analyse(workload, gpu=gpu, settings=settings, fused=False, knowledge=knowledge)
        if op.kernels()
        else None,
        crossings=_crossings(workload, settings, gpu, dtype, bool(op.kernels())) if solvable else (),
        ways=ways(op.runs) if isinstance(op.runs, Collective) else (),
        crossovers=crossovers(op.runs.kind, settings.get("gpus", op.runs.gpus), gpu)
        if isinstance(op.runs, Collective)
        else (),
        tiles=tiles(operation, workload, gpu, fused.dims, settings, knowledge),
        contexts=contexts(op, gpu, fused.dims["act"]) if "act" in fused.dims else None,
        experts=spread(operation, fused.dims),
    )


def _mix(work: Any) -> str:
    """Returns the primitives of one element as text: ``max, subtract, exp (special), add, divide``."""
    parts = []
    for number, primitive in work.amount.mix.primitives:
        engine = f" ({primitive.engine.value})" if primitive.engine and primitive.engine is not work.engine else ""
        parts.append(f"{number} {primitive.name}{engine}" if number > 1 else f"{primitive.name}{engine}")
    return ", ".join(parts) or "nothing"


def _growth(operation: Operation, found: symbolic.Formulas) -> list[Growth]:
    names = [name for name in operation.arguments if SYMBOLS[name].kind in ("size", "optional")]
    lines = [_line(name, name, found) for name in names if any(e is not None and _has(e, name) for e in found)]
    if set(TIED) <= set(names):
        tied = found._replace(
            **{
                key: value.subs(symbolic.symbol("S"), symbolic.symbol("N"))
                for key, value in found._asdict().items()
                if value is not None
            }
        )
        lines.append(_line("N = S", "N", tied))
    return [line for line in lines if any(order and str(order) != "-" for order in line[1:])]


def _has(expression: Any, name: str) -> bool:
    return bool(expression.has(symbolic.symbol(name)))


def _line(label: str, name: str, found: symbolic.Formulas) -> Growth:
    return Growth(
        label,
        symbolic.order(found.flops, name),
        symbolic.order(found.traffic_byte, name),
        symbolic.order(found.unfused_byte, name) if found.unfused_byte is not None else None,
        symbolic.order(found.intensity, name),
    )


def _crossings(
    workload: Workload, settings: Mapping[str, Any], gpu: Any, dtype: str, splits: bool
) -> tuple[Solution, ...]:
    """Returns the crossings of every size on a card, with the other sizes as set; for the unfused form too, if there is
    one.
    """
    if gpu is None:
        return ()
    card = rates(gpu, dtype)
    names = [name for name in workload.steps[0].operation.required if SYMBOLS[name].kind == "size"]
    others = {name: {key: value for key, value in settings.items() if key != name} for name in names}
    return tuple(
        solve(workload, card, name, others[name], fused=fused, each=False)
        for fused in ((True, False) if splits else (True,))
        for name in names
    )
