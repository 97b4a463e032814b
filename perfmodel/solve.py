"""Where memory-bound turns compute-bound: the crossing of an operation with a card's ridge, solved for one symbol.

An engine's work takes as long as memory's when its FLOPs are I times the traffic, I being the engine's ridge in FLOP
per byte. For products that is a polynomial in each size, solved in closed form; the nearest whole sizes on either side
are then checked by the operation itself, with integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sympy

from perfmodel import block, symbolic
from perfmodel.errors import InputError, did_you_mean
from perfmodel.expression import Expression
from perfmodel.op import Engine, Kind, Op
from perfmodel.roofline import Bounds, Rates, bounds, together
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import LARGEST_SIZE
from perfmodel.workload import Workload

Kernels = Sequence[tuple[Any, Op]]  # repeats and operation of every kernel that is looked at as one


class Crossing(NamedTuple):
    """One place where the bound changes: the formula, its value, and the whole sizes next to it."""

    engine: str
    ridge_flop_per_byte: float
    closed_form: Any | None
    at: float
    below: int
    above: int
    bound_below: str | None
    bound_above: str | None
    limit: Limit | None


class Limit(NamedTuple):
    """What a crossing tends to as the sizes of a tensor grow together; ``trained`` says that it is a weight."""

    closed_form: Any
    at: float
    names: tuple[str, ...]
    trained: bool


class Answer(NamedTuple):
    """All crossings of one kernel, or of all kernels together; ``reason`` says why there is none.

    ``here`` is what bounds it at the workload's own value of the symbol, where it has one; ``enters`` says whether the
    intensity depends on the symbol at all.
    """

    name: str
    crossings: tuple[Crossing, ...]
    reason: str
    here: str | None
    enters: bool


class Solution(NamedTuple):
    """What was asked, and the answers: the whole first, then each kernel where there are several."""

    workload: Workload
    card: Rates
    name: str
    own: int | None
    sizes: dict[str, Any]
    fused: bool
    answers: tuple[Answer, ...]
    many: bool


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
    """The crossings of a workload in one of its symbols: all kernels together and, with ``each``, one by one."""
    name = ALIASES.get(name, name)
    phase, settings = phase or workload.default_phase, dict(settings or {})
    fused = workload.fused if fused is None else fused
    causal = workload.causal if causal is None else causal
    _check(workload, name, settings, phase)
    sizes = workload.dims(phase, {**settings, name: symbolic.symbol(name)}, checked=False)

    def at(value: Any) -> list[Any]:
        given = {**settings, name: value}
        dims = {"causal": int(causal), **workload.dims(phase, given, checked=isinstance(value, int))}
        train, checked = phase == "train", isinstance(value, int)
        steps = workload.steps_in(phase)
        return list(block.kernels(steps, dims, fused=fused, backward=train, optimizer=train, checked=checked))

    found = at(symbolic.symbol(name))
    formulas = list(
        symbolic.kernels_of(
            workload, phase, _free(workload, phase, {**settings, name: None}), fused=fused, causal=causal
        )
    )
    own = workload.dims(phase, settings).get(name)
    many = len(found) > 1
    title = "all kernels together" if many else found[0].name
    answers = [_answer(title, found, formulas, at, card, name, own, sizes)]
    if many and each:
        for i, kernel in enumerate(found):
            one = _only(at, i)
            answers.append(_answer(kernel.name, [kernel], formulas[i : i + 1], one, card, name, own, sizes))
    shown = {key: value for key, value in sizes.items() if key != name}
    return Solution(workload, card, name, own, shown, fused, tuple(answers), many)


def _only(at: Callable[[Any], list[Any]], i: int) -> Callable[[Any], list[Any]]:
    """The i-th kernel alone at a value."""
    return lambda value: at(value)[i : i + 1]


def _check(workload: Workload, name: str, settings: Mapping[str, Any], phase: str) -> None:
    if name not in SYMBOLS or name not in workload.settable():
        raise InputError(
            f"--for {name}", f"it is not a symbol of {workload.name}",
            f"its symbols are {', '.join(sorted(workload.settable(), key=list(SYMBOLS).index))}",
            did_you_mean(name, workload.settable()),
        )  # fmt: skip
    if SYMBOLS[name].kind not in ("size", "optional"):
        raise InputError(f"--for {name}", "it is not a size", "a size is solved for", "Set it with --set instead.")
    if name in settings:
        raise InputError(
            f"--for {name}", "it is set as well", "a symbol is either set or solved for", f"Drop --set {name}."
        )
    workload.dims(phase, settings)


def _free(workload: Workload, phase: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that tie one symbol to others stay in the closed form; a number that undoes a tie is a symbol there."""
    own = {**workload.sizes, **workload.phases[phase]}
    return {
        key: value if isinstance(value, Expression) else symbolic.symbol(key)
        for key, value in settings.items()
        if isinstance(value, Expression) or isinstance(own.get(key), Expression)
    }


def _answer(
    title: str,
    kernels: list[Any],
    formulas: list[Any],
    at: Callable[[Any], list[Any]],
    card: Rates,
    name: str,
    own: int | None,
    sizes: Mapping[str, Any],
) -> Answer:
    x = symbolic.symbol(name)
    traffic = symbolic.expanded(sum(kernel.repeat * kernel.op.traffic_byte() for kernel in kernels))
    work = _by_roof(kernels, card)

    def bound(value: int) -> str | None:
        return _bound(at, card, value)

    crossings, outside = [], []
    for engine, flops in work.items():
        ridge = card.ridge(engine)
        exact = sympy.Rational(card.roofs[engine].flop_per_s) / sympy.Rational(card.bandwidth_byte_per_s)
        for root in _roots(flops - exact * traffic, x, at, card, engine):
            if _leads(engine, work, card, x, root):
                below, above = _whole(root, bound)
                if below is None or above is None:
                    outside.append(f"the crossing at {root:.4g} lies outside the sizes that it accepts")
                    continue
                form = _closed_form(formulas, card, engine, x)
                form = form if form is not None and _agree(_value(form, sizes, ridge), root) else None
                crossings.append(
                    Crossing(
                        engine=card.roofs[engine].name,
                        ridge_flop_per_byte=ridge,
                        closed_form=form,
                        at=root,
                        below=below,
                        above=above,
                        bound_below=bound(below),
                        bound_above=bound(above),
                        limit=_limit_of(form, formulas, x, sizes, ridge) if form is not None else None,
                    )
                )
    enters = _enters(work, traffic, x)
    reason = "" if crossings else "; ".join(outside) or _reason(work, traffic, card, x)
    return Answer(title, tuple(sorted(crossings, key=lambda c: c.at)), reason, bound(own) if own else None, enters)


def _by_roof(kernels: list[Any], card: Rates) -> dict[Engine, sympy.Expr]:
    """FLOPs of all kernels by the engine whose roof they meet."""
    work: dict[Engine, Any] = {}
    for kernel in kernels:
        for engine, count in kernel.op.engine_flops().items():
            on = card.roofs[engine].engine
            work[on] = work.get(on, 0) + kernel.repeat * count
    return {engine: symbolic.expanded(count) for engine, count in work.items() if count != 0}


def _roots(difference: Any, x: Any, at: Callable[[Any], list[Any]], card: Rates, engine: Engine) -> list[float]:
    """Sizes from 1 at which an engine takes as long as memory."""
    if not symbolic.rounds(difference):
        top, _ = sympy.fraction(sympy.together(difference))
        if top.is_polynomial(x):
            polynomial = sympy.Poly(sympy.expand(top), x)
            roots = sympy.real_roots(polynomial) if polynomial.degree() > 0 else []
            return sorted({float(root) for root in roots if 1 <= float(root) <= LARGEST_SIZE})

    def difference_at(value: int) -> float:
        """Seconds of the engine less those of memory; not a number outside the operation's domain."""
        whole = _together(at, card, value)
        return whole.engine_s.get(engine, 0.0) - whole.memory_s if whole else float("nan")

    return _bisected(difference_at)


def _bisected(difference: Callable[[int], float]) -> list[float]:
    """Sign changes of a function that rounds to tiles, found on whole sizes between powers of two."""
    found, size = [], 1
    while size < 2**40:
        low, high = size, size * 2
        if difference(low) * difference(high) < 0:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if difference(low) * difference(middle) > 0 else (low, middle)
            found.append((low + high) / 2)
        size *= 2
    return found


def _leads(engine: Engine, work: dict[Engine, Any], card: Rates, x: Any, root: float) -> bool:
    """Whether no other engine takes longer there: otherwise the bound does not change."""
    seconds = {e: float(count.subs(x, root)) / card.roofs[e].flop_per_s for e, count in work.items()}
    return seconds[engine] >= max(seconds.values()) * (1 - 1e-9)


def _together(at: Callable[[Any], list[Any]], card: Rates, value: int) -> Bounds | None:
    """All kernels at a whole size; None where it is outside the domain."""
    try:
        kernels = at(value)
    except InputError:
        return None
    return together((bounds(kernel.op, card), kernel.repeat) for kernel in kernels)


def _bound(at: Callable[[Any], list[Any]], card: Rates, value: int) -> str | None:
    """What bounds the kernels together at a whole size; None where the size is outside the domain."""
    whole = _together(at, card, value)
    return whole.bound if whole else None


def _whole(root: float, bound: Callable[[int], str | None]) -> tuple[int | None, int | None]:
    """The largest whole size up to the root and the smallest above it that the operation accepts."""
    start = int(root)
    limit = max(512, start)
    below = next((n for n in range(start, max(0, start - limit), -1) if bound(n)), None)
    above = next((n for n in range(start + 1, start + 1 + limit) if bound(n)), None)
    return below, above


def _value(form: Any, sizes: Mapping[str, Any], ridge: float) -> float:
    """A formula at the workload's sizes; not a number where it has others, such as a mixture of data types."""
    items = {size for role, size in sizes.items() if role in symbolic.SHARED_ROLES}
    known = {symbolic.symbol(name): size for name, size in sizes.items() if isinstance(size, int)}
    known |= {symbolic.RIDGE: ridge, symbolic.symbol(symbolic.BYTES): next(iter(items), 0)}
    value = form.subs(known)
    return float(value) if value.is_number and value.is_finite and len(items) <= 1 else float("nan")


def _agree(value: float, root: float) -> bool:
    return abs(value - root) <= 1e-6 * root


def _limit_of(form: Any, formulas: list[Any], x: Any, sizes: Mapping[str, Any], ridge: float) -> Limit | None:
    """The crossing of one kernel for large sizes of a tensor that the symbol is no size of: wide weights, large matrices."""
    if len(formulas) > 1:
        return None
    grows = sympy.Dummy(positive=True)
    for tensor in formulas[0].op.tensors:
        shape = sympy.Tuple(*tensor.shape).free_symbols
        names = sorted((shape & form.free_symbols) - {x}, key=str)
        if x in shape or not names:
            continue
        limit = sympy.limit(sympy.cancel(form.subs({s: s * grows for s in names}, simultaneous=True)), grows, sympy.oo)
        if limit.is_finite is not False and limit not in (0, form) and not limit.has(*names):
            trained = tensor.kind is Kind.PARAMETER
            return Limit(symbolic.tidy(limit), _value(limit, sizes, ridge), tuple(map(str, names)), trained)
    return None


def _closed_form(formulas: list[Any], card: Rates, engine: Engine, x: Any) -> Any | None:
    """The crossing with every other size a symbol and the ridge I; None where the equation has no short solution."""
    traffic = sympy.expand(sum(kernel.repeat * kernel.op.traffic_byte() for kernel in formulas))
    flops = _by_roof(formulas, card).get(engine, sympy.Integer(0))
    top, _ = sympy.fraction(sympy.together(flops - symbolic.RIDGE * traffic))
    if symbolic.rounds(top) or not top.is_polynomial(x):
        return None
    polynomial = sympy.Poly(sympy.expand(top), x)
    while polynomial.degree() > 0 and polynomial.eval(0) == 0:
        polynomial = sympy.Poly(sympy.cancel(polynomial.as_expr() / x), x)
    if polynomial.degree() != 1:
        return None
    slope, constant = polynomial.all_coeffs()
    return symbolic.quotient(-constant, slope)


def _reason(work: dict[Engine, Any], traffic: Any, card: Rates, x: Any) -> str:
    """Why it stays on one side: the intensity, from size 1 to the limit, of the work that comes nearest to its ridge."""
    if not work:
        return "memory-bound at every size: it does no arithmetic"
    if not _enters(work, traffic, x):
        return _without(work, traffic, card, x)
    nearest = (0.0, "")
    for engine, count in work.items():
        roof = card.roofs[engine]
        ridge = roof.flop_per_s / card.bandwidth_byte_per_s
        ends = sorted((_ratio_at(count, traffic, x, 1), _limit(count, traffic, x)))
        if ends[0] > ridge:
            return (
                f"compute-bound at every {x.name}: {roof.name} work of {ends[0]:.4g} FLOP/B or more, ridge {ridge:.4g}"
            )
        text = f"{roof.name} work of at most {ends[1]:.4g} FLOP/B, ridge {ridge:.4g}"
        nearest = max(nearest, (ends[1] / ridge, text))
    return f"memory-bound at every {x.name}: {nearest[1]}"


def _enters(work: dict[Engine, Any], traffic: Any, x: Any) -> bool:
    """Whether an intensity depends on the symbol; what rounds is not looked into."""
    pairs = [(count, traffic) for count in work.values() if count.has(x) or traffic.has(x)]
    return any(symbolic.rounds(count + below) or (count / below).has(x) for count, below in pairs)


def _without(work: dict[Engine, Any], traffic: Any, card: Rates, x: Any) -> str:
    """What bounds it where the symbol leaves the intensity as it is."""
    ratios = {engine: float(count / traffic) for engine, count in work.items()}
    engine = max(ratios, key=lambda e: ratios[e] / card.ridge(e))
    side = "compute" if ratios[engine] > card.ridge(engine) else "memory"
    roof = f"{card.roofs[engine].name} work of {ratios[engine]:.4g} FLOP/B, ridge {card.ridge(engine):.4g}"
    return f"{side}-bound whatever {x.name} is: {roof}"


def _ratio_at(count: Any, traffic: Any, x: Any, size: int) -> float:
    """FLOP per byte at a size; zero where no tile fits yet, or outside the domain."""
    above, below = (sympy.sympify(part).subs(x, size) for part in (count, traffic))
    return float(above) / float(below) if above.is_finite and below.is_finite and below != 0 else 0.0


def _limit(count: Any, traffic: Any, x: Any) -> float:
    """FLOP per byte for a size without end."""
    if symbolic.rounds(count) or symbolic.rounds(traffic):
        return _ratio_at(count, traffic, x, 2**40)
    return float(sympy.limit(sympy.cancel(count / traffic), x, sympy.oo))
