"""The crossings of a set of kernels, from the sign of each engine's time minus the memory time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import sympy

from perfmodel import symbolic
from perfmodel.errors import InputError
from perfmodel.op import Engine, Kind
from perfmodel.roofline import MEMORY, Bounds, Rates, Roof, bounds, computing, together
from perfmodel.solve.pieces import Run, root, run_at
from perfmodel.units import LARGEST_SIZE

# Listed crossings per answer, and sizes next to a crossing that are tested for acceptance.
LISTED = 24
LOOKED_AT = 2**18

Signs = Mapping[Engine, list[Run]]


class Crossing(NamedTuple):
    """A size at which the bound changes: its formula, its value, and the accepted sizes next to it."""

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
    """The limit of a crossing as the sizes of a tensor grow together.

    ``trained`` says that the tensor is a weight.
    """

    closed_form: Any
    at: float
    names: tuple[str, ...]
    trained: bool


class Crossings(NamedTuple):
    """The listed crossings, the reason why others are not listed, and crossings outside the accepted sizes."""

    listed: tuple[Crossing, ...]
    left_out: str
    outside: str


class Asked(NamedTuple):
    """The kernels as a function of the size, the accepted sizes, the card, the symbol, and the other sizes."""

    at: Callable[[Any], list[Any]]
    accepted: Accepted
    card: Rates
    x: Any
    sizes: Mapping[str, Any]

    def only(self, i: int) -> Asked:
        """The same question for the i-th kernel alone."""
        return self._replace(at=lambda value: self.at(value)[i : i + 1])

    def bounds(self, size: int) -> Bounds:
        """The bounds of all kernels together at an accepted size."""
        return together((bounds(kernel.op, self.card), kernel.repeat) for kernel in self.at(size))


class Accepted:
    """The whole sizes that an operation or a workload accepts."""

    def __init__(self, at: Callable[[Any], list[Any]], name: str, swept: Callable[..., Any]) -> None:
        self._at, self._name, self._swept = at, name, swept
        self._known: dict[tuple[int, int], int | None] = {}

    def nearest(self, size: int, step: int) -> int | None:
        """The nearest accepted size from ``size`` on, upwards or downwards; None if the search finds none."""
        if (size, step) not in self._known:
            self._known[size, step] = self._found(size, step)
        return self._known[size, step]

    def _found(self, size: int, step: int) -> int | None:
        try:
            self._at(size)
        except InputError:
            pass
        else:
            return size
        looked_at, many = 1, 64
        while looked_at < LOOKED_AT:
            low, high = sorted((size + step * looked_at, size + step * (looked_at + many - 1)))
            low, high = max(low, 1), min(high, LARGEST_SIZE)
            found = self._among(low, high) if low <= high else []
            if found:
                return int(min(found) if step > 0 else max(found))
            looked_at, many = looked_at + many, 4 * many
        return None

    def _among(self, low: int, high: int) -> list[float]:
        try:
            chunks = list(self._swept({self._name: range(low, high + 1)}))
        except InputError:
            return []
        return [size for chunk in chunks for size in chunk.at[self._name]]


class _Change(NamedTuple):
    """Two accepted sizes with different bounds, and the last size before the sign changes."""

    last: int
    below: int
    above: int


def by_roof(kernels: list[Any], card: Rates) -> dict[Engine, sympy.Expr]:
    """FLOPs of all kernels by the engine whose roof limits them.

    A product in a narrower type than the card's rates counts as many FLOPs as its time allows at these rates.
    """
    work: dict[Engine, Any] = {}
    for kernel in kernels:
        own = computing(kernel.op, card)
        for engine, count in kernel.op.engine_flops().items():
            on = own.roofs[engine].engine
            share = 1 if own is card else _rational(card.roofs[on]) / _rational(own.roofs[engine])
            work[on] = work.get(on, 0) + kernel.repeat * count * share
    return {engine: symbolic.expanded(count) for engine, count in work.items() if count != 0}


def _rational(roof: Roof) -> sympy.Rational:
    return sympy.Rational(roof.flop_per_s)


def crossings(signs: Signs, formulas: list[Any], asked: Asked) -> Crossings:
    """The first crossings in order of size, and a description of the others."""
    changes, outside = _changes(signs, asked)
    closed = cache(lambda engine: _closed_form(formulas, asked.card, engine, asked.x))
    listed = tuple(_crossing(change, signs, closed, formulas, asked) for change in changes[:LISTED])
    return Crossings(listed, "; ".join(_left_out(signs, listed, len(changes) > LISTED, asked.x.name)), outside)


def _side(signs: Signs, size: int) -> bool | None:
    """Whether an engine takes longer than memory at a size; None where that is undefined or unknown."""
    found = [run_at(runs, size).positive for runs in signs.values()]
    return None if None in found else any(found)


def _changes(signs: Signs, asked: Asked) -> tuple[list[_Change], str]:
    """The first changes between accepted sizes, at most one more than is listed, and a change outside them."""
    found: list[_Change] = []
    outside = ""
    for last in sorted({run.last for runs in signs.values() for run in runs[:-1]}):
        sides = _side(signs, last), _side(signs, last + 1)
        if None in sides or sides[0] is sides[1]:
            continue
        below, above = asked.accepted.nearest(last, -1), asked.accepted.nearest(last + 1, 1)
        if below is None or above is None:
            outside = outside or _outside(_root_at(signs, last), _side(signs, above or below or last), asked.x.name)
            if above is None:
                break
            continue
        new = not found or found[-1][1:] != (below, above)
        if new and _side(signs, below) is not _side(signs, above):
            found.append(_Change(last, below, above))
        if len(found) > LISTED:
            break
    return found, outside


def _outside(at: float, compute: bool | None, name: str) -> str:
    """The sentence for a single crossing outside the accepted sizes."""
    side = "compute" if compute else "memory"
    return f"{side}-bound at every accepted {name}: the crossing at {at:.4g} is outside this range"


def _root_at(signs: Signs, last: int, engine: Engine | None = None) -> float:
    """The root after a size: of this engine where its sign changes there, otherwise of the first whose sign does."""
    pairs = {e: (run_at(runs, last), run_at(runs, last + 1)) for e, runs in signs.items()}
    turned = {e: pair for e, pair in pairs.items() if pair[0].positive is not pair[1].positive}
    return root(*(turned[engine] if engine in turned else next(iter(turned.values()))))


def _crossing(
    change: _Change, signs: Signs, closed: Callable[[Engine], Any], formulas: list[Any], asked: Asked
) -> Crossing:
    below, above = _sides(change, signs, asked)
    compute = above if _side(signs, change.last + 1) else below
    engine_s = asked.bounds(compute).engine_s
    engine = max((e for e in signs if run_at(signs[e], compute).positive), key=lambda e: engine_s.get(e, 0.0))
    at, ridge, form = _root_at(signs, change.last, engine), asked.card.ridge(engine), closed(engine)
    form = form if form is not None and _agree(_value(form, asked.sizes, ridge), at) else None
    return Crossing(
        engine=asked.card.roofs[engine].name,
        ridge_flop_per_byte=ridge,
        closed_form=form,
        at=at,
        below=below,
        above=above,
        bound_below=asked.bounds(below).bound,
        bound_above=asked.bounds(above).bound,
        limit=_limit_of(form, formulas, asked.x, asked.sizes, ridge) if form is not None else None,
    )


def _sides(change: _Change, signs: Signs, asked: Asked) -> tuple[int, int]:
    """The sizes next to a crossing; the next one where rounding makes both times equal."""
    found = []
    for size, step in ((change.below, -1), (change.above, 1)):
        further = asked.accepted.nearest(size + step, step) if 1 <= size + step <= LARGEST_SIZE else None
        agrees = (asked.bounds(size).bound != MEMORY) is _side(signs, size)
        found.append(size if agrees or further is None or _side(signs, further) is not _side(signs, size) else further)
    return found[0], found[1]


def _left_out(signs: Signs, listed: tuple[Crossing, ...], more: bool, name: str) -> Iterator[str]:
    """Sentences on crossings beyond the listed ones, and on sizes that were not searched."""
    if more:
        yield f"more crossings exist above {name} = {listed[-1].above}"
    unsearched = [run for runs in signs.values() for run in runs if not run.searched]
    if unsearched:
        first, last = min(run.first for run in unsearched), max(run.last for run in unsearched)
        yield f"{name} = {first} to {last} was not searched: the bound changes too often there"


def _value(form: Any, sizes: Mapping[str, Any], ridge: float) -> float:
    """The value of a formula at the workload's sizes; NaN where it has other symbols, as for mixed data types."""
    items = {size for role, size in sizes.items() if role in symbolic.SHARED_ROLES}
    known = {symbolic.symbol(name): size for name, size in sizes.items() if isinstance(size, int)}
    known |= {symbolic.RIDGE: ridge, symbolic.symbol(symbolic.BYTES): next(iter(items), 0)}
    value = symbolic.value_at(form, known) if len(items) <= 1 else None
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:
        return float("inf")


def _agree(value: float, root: float) -> bool:
    return abs(value - root) <= 1e-6 * root


def _limit_of(form: Any, formulas: list[Any], x: Any, sizes: Mapping[str, Any], ridge: float) -> Limit | None:
    """The limit of a kernel's crossing as a tensor without this symbol grows, such as wide weights."""
    if len(formulas) > 1:
        return None
    grows = sympy.Dummy(positive=True)
    for tensor in formulas[0].op.tensors:
        shape = sympy.Tuple(*tensor.shape).free_symbols
        names = sorted((shape & form.free_symbols) - {x}, key=str)
        if x in shape or not names:
            continue
        limit = symbolic.limit(form.subs({s: s * grows for s in names}, simultaneous=True), grows)
        if limit is not None and limit not in (0, form) and not limit.has(*names):
            trained = tensor.kind is Kind.PARAMETER
            return Limit(symbolic.tidy(limit), _value(limit, sizes, ridge), tuple(map(str, names)), trained)
    return None


def _closed_form(formulas: list[Any], card: Rates, engine: Engine, x: Any) -> Any | None:
    """The crossing as a formula of the other sizes and the ridge I; None where the equation is not linear."""
    traffic = sympy.expand(sum(kernel.repeat * kernel.op.traffic_byte() for kernel in formulas))
    flops = by_roof(formulas, card).get(engine, sympy.Integer(0))
    top, _ = sympy.fraction(sympy.together(flops - symbolic.RIDGE * traffic))
    # Numbers of blocks, of which this size is no part.
    fixed = {one: sympy.Dummy(positive=True, integer=True) for one in top.atoms(sympy.ceiling) if not one.has(x)}
    top = top.xreplace(fixed)
    if symbolic.rounds(top) or not top.is_polynomial(x):
        return None
    polynomial = sympy.Poly(sympy.expand(top), x)
    while polynomial.degree() > 0 and polynomial.eval(0) == 0:
        polynomial = sympy.Poly(sympy.cancel(polynomial.as_expr() / x), x)
    if polynomial.degree() != 1:
        return None
    slope, constant = polynomial.all_coeffs()
    return symbolic.quotient(-constant, slope).xreplace({dummy: one for one, dummy in fixed.items()})
