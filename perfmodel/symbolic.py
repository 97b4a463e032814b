"""Operations called with symbols: formulas, LaTeX and growth orders. Only this module and ``solve`` import sympy.

All symbols are created here, positive and integer: sympy treats symbols with other assumptions as different.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache, lru_cache
from math import ceil, floor, prod
from typing import Any, NamedTuple

import sympy
from sympy.printing.latex import LatexPrinter

from perfmodel import block
from perfmodel.arithmetic import lacks, register
from perfmodel.errors import InputError
from perfmodel.expression import Expression
from perfmodel.op import Op
from perfmodel.operation import Operation, checked_value
from perfmodel.symbols import SYMBOLS
from perfmodel.units import SIZES_ACCEPTED
from perfmodel.workload import Workload

register(
    "sympy", ceil_div=lambda a, b: sympy.ceiling(a / b), maximum=sympy.Max, minimum=sympy.Min,
    ceil_log2=lambda p: sympy.ceiling(sympy.log(p, 2)),
)  # fmt: skip

# Functions of torch's symbolic sizes, by the name of their class.
_FOREIGN: dict[str, Any] = {
    "FloorDiv": lambda a, b: sympy.floor(a / b),
    "CleanDiv": lambda a, b: a / b,
    "CeilDiv": lambda a, b: sympy.ceiling(a / b),
    "IntTrueDiv": lambda a, b: a / b,
    "FloatTrueDiv": lambda a, b: a / b,
    "PythonMod": sympy.Mod,
    "Mod": sympy.Mod,
    "Max": sympy.Max,
    "Min": sympy.Min,
    "ModularIndexing": lambda a, b, c: sympy.Mod(sympy.floor(a / b), c),
    "CeilToInt": sympy.ceiling,
    "FloorToInt": sympy.floor,
    "TruncToInt": sympy.floor,
    "ToFloat": lambda a: a,
    "Identity": lambda a: a,
    "PowByNatural": sympy.Pow,
    "FloatPow": sympy.Pow,
}

# One symbol for the roles that usually share one data type; the others keep their default number of bytes.
BYTES = "b"
SHARED_ROLES = ("act", "weight", "cache", "mask", "out")
RIDGE = sympy.Symbol("I", positive=True)


@cache
def symbol(name: str) -> sympy.Symbol:
    """The symbol of that name."""
    return sympy.Symbol(name, positive=True, integer=True)


def symbols_of(operation: Operation, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments as symbols. Optional arguments and flags keep their defaults; given values are used as they are."""
    values: dict[str, Any] = {}
    for name in operation.arguments:
        if name in SHARED_ROLES and name not in operation.booleans:
            values[name] = symbol(BYTES)
        elif name in operation.defaults and SYMBOLS[name].kind != "size":
            values[name] = operation.defaults[name]
        else:
            values[name] = symbol(name)
    values.update(given or {})
    return tied(values)


def tied(values: dict[str, Any]) -> dict[str, Any]:
    """The values with every expression (such as ``S = N``) evaluated."""
    plain = {name: value for name, value in values.items() if not isinstance(value, Expression)}
    free = _Symbols(plain)
    return {name: value(free) if isinstance(value, Expression) else value for name, value in values.items()}


class _Symbols(dict[str, Any]):
    """Values by name. A name without a value is its own symbol."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> sympy.Symbol:
        return symbol(name)


def op_of(operation: Operation, given: Mapping[str, Any] | None = None) -> Op:
    """The operation with symbols for its sizes."""
    return operation.function(**symbols_of(operation, given))


@lru_cache(maxsize=512, typed=True)  # an operation has the same expression in several of its counts
def tidy(expression: Any) -> sympy.Expr:
    """The shortest form of a sum: expanded, or with common factors in front."""
    (given,), powers = _shielded(expression)
    expanded = sympy.expand(given)
    candidates = [expanded, sympy.factor_terms(expanded), sympy.factor(expanded), given]
    return _without_minus(_shortest(candidates)).xreplace(powers)


def _shortest(candidates: Iterable[sympy.Expr]) -> sympy.Expr:
    """The expression with the fewest operations; the shortest text of these."""
    found = {candidate: sympy.count_ops(candidate) for candidate in candidates}  # equal ones once
    fewest = [candidate for candidate, number in found.items() if number == min(found.values())]
    return fewest[0] if len(fewest) == 1 else min(fewest, key=lambda e: len(str(e)))


def _without_minus(expression: sympy.Expr) -> sympy.Expr:
    """The expression with fewer minus signs: N (a + b) (2 S - N + 1) instead of N (-a - b) (N - 2 S - 1)."""
    factors = sympy.Mul.make_args(expression)
    sums = [factor for factor in factors if isinstance(factor, sympy.Add)]
    if not sums:
        return expression
    turned = [_fewer_minuses(factor) for factor in sums]
    sign = -1 if sum(a != b for a, b in zip(sums, turned, strict=True)) % 2 else 1
    others = sign * sympy.Mul(*(factor for factor in factors if not isinstance(factor, sympy.Add)))
    if others.could_extract_minus_sign():
        least = min(range(len(turned)), key=lambda i: _minuses(-turned[i]) - _minuses(turned[i]))
        turned[least], others = sympy.expand(-turned[least]), -others
    return sympy.Mul(others, *turned)


def _fewer_minuses(terms: sympy.Expr) -> sympy.Expr:
    """A sum or its negative, whichever has fewer negative terms; the sum if they are equal."""
    parts = sympy.Add.make_args(sympy.expand(terms))
    return sympy.expand(-terms) if 2 * sum(map(_negative, parts)) > len(parts) else terms


def quotient(top: Any, bottom: Any) -> sympy.Expr:
    """A ratio with common factors cancelled, and tidy numerator and denominator."""
    if rounds(top) or rounds(bottom):
        return tidy(top) / tidy(bottom)
    (top, bottom), powers = _shielded(top, bottom)
    above, below = sympy.fraction(sympy.cancel(top / bottom))
    above, below = min(((above, below), (-above, -below)), key=lambda pair: _minus_signs(*pair))
    return (tidy(above) / tidy(below)).xreplace(powers)


def _minus_signs(above: sympy.Expr, below: sympy.Expr) -> tuple[bool, int]:
    """Sort key of a ratio: whether the whole of it is negative, then the number of negative terms."""
    leads = _minuses(above) == len(sympy.Add.make_args(sympy.expand(above)))
    return leads, _minuses(above) + _minuses(below)


def _minuses(expression: sympy.Expr) -> int:
    """Number of negative terms of the expanded expression."""
    return sum(map(_negative, sympy.Add.make_args(sympy.expand(expression))))


def _negative(term: sympy.Expr) -> bool:
    return bool(term.as_coeff_Mul()[0] < 0)


# The highest power that is expanded. The fraction of idle experts has the number of tokens as its exponent.
HIGHEST_POWER = 8


def rounds(expression: Any) -> bool:
    """Whether an expression contains roundings, maxima or powers too high to expand and cancel."""
    found = sympy.sympify(expression, strict=True)
    rounded = found.has(sympy.ceiling, sympy.floor, sympy.Max, sympy.Min)
    return bool(rounded) or any(map(_high, found.atoms(sympy.Pow)))


def _high(power: sympy.Pow) -> bool:
    """Whether a power is too high to multiply out. An exponent of symbols counts by its coefficients."""
    terms = sympy.Add.make_args(sympy.expand(power.exp))
    return bool(power.base.free_symbols) and any(abs(term.as_coeff_Mul()[0]) > HIGHEST_POWER for term in terms)


def _shielded(*expressions: Any) -> tuple[list[sympy.Expr], dict[sympy.Expr, sympy.Expr]]:
    """The expressions with a symbol in the place of each high power, and the powers by symbol."""
    found = [sympy.sympify(expression, strict=True) for expression in expressions]
    powers = {power: sympy.Dummy() for one in found for power in one.atoms(sympy.Pow) if _high(power)}
    return [one.xreplace(powers) for one in found], {symbol: power for power, symbol in powers.items()}


def value_at(expression: Any, sizes: Mapping[Any, Any]) -> Fraction | None:
    """The value of a formula at sizes by symbol; None where it is undefined or has other symbols.

    Exact but for high powers, which are computed in floating point: sympy would multiply them out.
    """
    found = sympy.sympify(expression, strict=True)
    if found.is_Symbol:
        return Fraction(sizes[found]) if found in sizes else None
    if found.is_Number:
        return Fraction(int(found.p), int(found.q)) if found.is_Rational else _finite(found)
    values = [value_at(part, sizes) for part in found.args]
    if None in values or not values:
        return None
    return _combined(found, [value for value in values if value is not None])


def _finite(number: Any) -> Fraction | None:
    return Fraction(float(number)) if number.is_finite else None


def _combined(node: Any, values: list[Fraction]) -> Fraction | None:
    """The value of one node from the values of its arguments."""
    if node.is_Add:
        return sum(values, Fraction(0))
    if node.is_Mul:
        return prod(values, start=Fraction(1))
    for kind, function in _EXACT.items():
        if isinstance(node, kind):
            return Fraction(function(values))
    base, exponent = values
    try:
        if exponent.denominator == 1 and abs(exponent) <= HIGHEST_POWER:
            return base ** int(exponent)
        return 1 - lacks(base, exponent) if base >= 0 else None
    except (ZeroDivisionError, OverflowError):
        return None


_EXACT: dict[Any, Callable[[list[Fraction]], Any]] = {
    sympy.floor: lambda values: floor(values[0]),
    sympy.ceiling: lambda values: ceil(values[0]),
    sympy.Max: max,
    sympy.Min: min,
}


def expanded(expression: Any) -> sympy.Expr:
    """The expression multiplied out, where that is short."""
    found = sympy.sympify(expression, strict=True)
    return found if rounds(found) else sympy.expand(found)


def innermost_rounded(expressions: Iterable[Any]) -> sympy.Expr | None:
    """The shortest ceiling or floor that contains no other."""
    found = {atom for e in expressions for atom in e.atoms(sympy.ceiling, sympy.floor)}
    plain = [atom for atom in found if not rounds(atom.args[0])]
    return min(plain, key=lambda atom: (sympy.count_ops(atom), str(atom)), default=None)


def sum_of(expression: Any) -> tuple[sympy.Expr, list[sympy.Expr]]:
    """The factor and the terms of a product with one sum, positive terms first; other expressions are one term."""
    factors = sympy.Mul.make_args(expression)
    sums = [factor for factor in factors if isinstance(factor, sympy.Add)]
    if len(sums) != 1:
        return sympy.Integer(1), [expression]
    terms = terms_of(sums[0])
    return sympy.Mul(*(factor for factor in factors if factor is not sums[0])), terms


def factors_of(product: sympy.Expr) -> list[sympy.Expr]:
    """The factors of a product in the order in which formulas show them."""
    return sorted(sympy.Mul.make_args(product), key=_rank)


def terms_of(terms: sympy.Expr) -> list[sympy.Expr]:
    """The terms of a sum in the order in which formulas show them: positive ones first."""
    return sorted(terms.args, key=lambda t: (t.could_extract_minus_sign(), -_degree(t), _rank(t)))


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def text(expression: Any) -> str:
    """A formula on one line: ``4 B N² D``, symbols in the order of the notation table."""
    return str(_Text({"order": "none"}).doprint(sympy.sympify(expression, strict=True)))


class _Text(sympy.printing.str.StrPrinter):  # type: ignore[misc]
    """Prints products with spaces, powers as superscripts, and symbols in the order of the notation table."""

    def _print_Mul(self, expr: sympy.Expr) -> str:
        numerator, denominator = sympy.fraction(expr, exact=True)
        sign = ""
        if sympy.Mul.make_args(numerator)[0].is_negative:
            sign, numerator = "-", -numerator
        top = self._product(numerator)
        return sign + (top if denominator == 1 else f"{top} / {self._product(denominator, divisor=True)}")

    def _product(self, expr: sympy.Expr, divisor: bool = False) -> str:
        factors = factors_of(expr)
        inner = " ".join(
            f"({self._print(f)})" if isinstance(f, sympy.Add) and len(factors) > 1 else self._print(f) for f in factors
        )
        closed = divisor and (len(factors) > 1 or isinstance(expr, sympy.Add))
        only_sum = not divisor and isinstance(expr, sympy.Add)
        return f"({inner})" if closed or only_sum else inner

    def _print_Pow(self, expr: sympy.Expr, rational: bool = False) -> str:
        base, exponent = expr.as_base_exp()
        shown = f"({self._print(base)})" if isinstance(base, (sympy.Add, sympy.Mul)) else self._print(base)
        if exponent == sympy.Rational(1, 2):
            return f"√{shown}"
        if exponent.is_Integer and exponent > 0:
            return shown + str(exponent).translate(_SUPERSCRIPT)
        if exponent.is_Integer:
            return f"1 / {self._print(base**-exponent)}"
        return f"{shown}^({self._print(exponent)})"

    def _print_Add(self, expr: sympy.Expr, order: str | None = None) -> str:
        parts = [self._print(term) for term in terms_of(expr)]
        return " ".join([parts[0], *(f"- {p[1:]}" if p.startswith("-") else f"+ {p}" for p in parts[1:])])

    def _print_Max(self, expr: sympy.Expr) -> str:
        return f"max({', '.join(self._print(a) for a in sorted(expr.args, key=_rank))})"

    def _print_Min(self, expr: sympy.Expr) -> str:
        return f"min({', '.join(self._print(a) for a in sorted(expr.args, key=_rank))})"

    def _print_ceiling(self, expr: sympy.Expr) -> str:
        return f"⌈{self._print(expr.args[0])}⌉"

    def _print_floor(self, expr: sympy.Expr) -> str:
        return f"⌊{self._print(expr.args[0])}⌋"


def _rank(expr: Any) -> tuple[int, str]:
    """Sort key: numbers first, then symbols in the order of the notation table, then sums."""
    if expr.is_number:
        return (0, "")
    base = expr.as_base_exp()[0]
    if isinstance(base, sympy.Symbol):
        if base.name == BYTES:
            return (1, "")
        order = [*SYMBOLS]
        return (2 + order.index(base.name), "") if base.name in order else (1, base.name)
    return (1000, str(expr))


def _degree(term: Any) -> int:
    return int(
        sum(
            int(f.as_base_exp()[1]) if f.as_base_exp()[1].is_Integer else 0
            for f in sympy.Mul.make_args(term)
            if not f.is_number
        )
    )


def latex(expression: Any) -> str:
    """The formula in LaTeX, with the symbols of the notation table."""
    names = {symbol(s.name): s.latex or s.name for s in SYMBOLS.values()}
    return str(_Latex({"symbol_names": names}).doprint(sympy.sympify(expression, strict=True)))


class _Latex(LatexPrinter):  # type: ignore[misc]
    """Prints sums with a positive term first."""

    def _as_ordered_terms(self, expr: sympy.Expr, order: str | None = None) -> list[sympy.Expr]:
        terms = super()._as_ordered_terms(expr, order=order)
        return sorted(terms, key=lambda term: bool(term.as_coeff_Mul()[0] < 0))


class Order(NamedTuple):
    """How a quantity grows in one symbol: its leading power.

    At power 0, ``rises`` says whether it rises or falls to its limit.
    """

    power: int
    rises: bool | None = None

    def __str__(self) -> str:
        if self.power == 0:
            return "-" if self.rises is None else "rises to a limit" if self.rises else "falls to a limit"
        words = {1: "linear", 2: "quadratic", 3: "cubic", -1: "inverse"}
        return words.get(self.power, f"power {self.power}")


def order(expression: Any, name: str) -> Order:
    """The power with which a quantity grows in one symbol while the others are constant.

    Rounding to whole tiles does not change an order, so ceilings and floors are replaced by their arguments.
    """
    x, smooth = symbol("x_growing"), _smooth(expression)
    if symbol(name) not in smooth.free_symbols:
        return Order(0)
    grown = _eventual(_saturated(smooth.xreplace({symbol(name): x}), x), x)
    parts = sympy.fraction(grown)
    if not all(part.is_polynomial(x) for part in parts):
        parts = sympy.fraction(sympy.together(sympy.expand(grown)))
    top, bottom = (_highest(part, x) for part in parts)
    return Order(top - bottom, _rises(smooth, name))


@lru_cache(maxsize=64, typed=True)  # the order of an expression is asked for in each of its symbols
def _smooth(expression: Any) -> sympy.Expr:
    """The expression without roundings."""
    found = sympy.sympify(expression, strict=True)
    return found.replace(sympy.ceiling, lambda a: a).replace(sympy.floor, lambda a: a)


def _highest(expression: sympy.Expr, x: sympy.Symbol) -> int:
    """The highest power of a symbol in a polynomial."""
    return max(int(term.as_powers_dict().get(x, 0)) for term in sympy.Add.make_args(sympy.expand(expression)))


def _rises(expression: sympy.Expr, name: str) -> bool | None:
    """Whether the expression is larger at twice the typical size; None where it is equal."""
    typical = {s: SYMBOLS[s.name].typical if s.name in SYMBOLS else 2 for s in expression.free_symbols}
    own = SYMBOLS[name].typical if name in SYMBOLS else 2
    low, high = (value_at(expression, {**typical, symbol(name): size}) for size in (own, 2 * own))
    return None if low is None or high is None or low == high else high > low


def _saturated(expression: sympy.Expr, x: sympy.Symbol) -> sympy.Expr:
    """Fractions raised to a symbol's power, such as (1 - A/E)^N of idle experts, at a large x.

    A fraction to a growing power tends to 0. A fraction that tends to 1 is replaced by its first order. Any other
    reaches 0 at the edge of its domain, where every token uses all experts.
    """

    def at_large(base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr:
        tends_to_one = base.has(x) and not exponent.has(x) and sympy.limit(base, x, sympy.oo) == 1
        return 1 + exponent * (base - 1) if tends_to_one else sympy.Integer(0)

    return expression.replace(
        lambda e: e.is_Pow and e.has(x) and not e.exp.is_number, lambda e: at_large(e.base, e.exp)
    )


def limit(expression: Any, x: sympy.Symbol) -> sympy.Expr | None:
    """The limit of a ratio of polynomials as a symbol grows; None where it is infinite or not such a ratio."""
    parts = sympy.fraction(sympy.together(expression))
    if not all(part.is_polynomial(x) for part in parts):
        return None
    top, bottom = (sympy.Poly(sympy.expand(part), x) for part in parts)
    if top.degree() > bottom.degree():
        return None
    return sympy.cancel(top.coeff_monomial(x ** bottom.degree()) / bottom.LC())


def _eventual(expression: sympy.Expr, x: sympy.Symbol) -> sympy.Expr:
    """Maxima and minima decided for a large x, by the leading terms of their arguments."""

    def lead(a: sympy.Expr) -> tuple[int, bool]:
        a = sympy.expand(a)
        degree = int(sympy.degree(a, x)) if a.has(x) else 0
        coefficient = sympy.Poly(a, x).LC() if a.has(x) else a
        negative = bool(sympy.sympify(coefficient, strict=True).could_extract_minus_sign())
        return (-degree if negative else degree, not negative)

    decided = expression.replace(sympy.Max, lambda *arguments: max(arguments, key=lead))
    return decided.replace(sympy.Min, lambda *arguments: min(arguments, key=lead))


class Formulas(NamedTuple):
    """An operation's counts as formulas."""

    flops: sympy.Expr
    contraction_flops: sympy.Expr
    compulsory_byte: sympy.Expr
    traffic_byte: sympy.Expr
    unfused_byte: sympy.Expr | None
    intensity: sympy.Expr
    unfused_intensity: sympy.Expr | None


def formulas(op: Op) -> Formulas:
    """Total counts of an operation that was called with symbols."""
    parts = op.kernels()
    unfused = sum(kernel.traffic_byte() for _, kernel in parts) if parts else None
    flops, traffic = sympy.sympify(op.flops(), strict=True), sympy.sympify(op.traffic_byte(), strict=True)
    return Formulas(
        flops=tidy(flops),
        contraction_flops=tidy(op.contraction_flops()),
        compulsory_byte=tidy(op.compulsory_byte()),
        traffic_byte=tidy(traffic),
        unfused_byte=tidy(unfused) if unfused is not None else None,
        intensity=quotient(flops, traffic),
        unfused_intensity=quotient(sum(k.flops() for _, k in parts), unfused) if unfused is not None else None,
    )


def kernels_of(
    workload: Workload,
    phase: str | None,
    given: Mapping[str, Any],
    *,
    fused: bool,
    causal: bool,
    form: str | None = None,
) -> Iterable[block.Kernel]:
    """A workload's kernels with a symbol for every size that its file gives as a number."""
    phase = phase or workload.default_phase
    sizes = {**workload.sizes, **workload.phases[phase]}
    settable = workload.settable()
    free = {name: symbol(name) for name, value in sizes.items() if isinstance(value, int) and name in settable}
    items = {name: symbol(BYTES) for name in SHARED_ROLES if name in workload.items()}
    dims = workload.dims(phase, {**free, **items, **given}, checked=False)
    steps, train = workload.steps_in(phase, form), phase == "train"
    at = {"causal": int(causal), **dims}
    return block.kernels(steps, at, fused=fused, backward=train, optimizer=train, checked=admitted)


def admitted(operation: Operation, values: dict[str, Any], where: str) -> dict[str, Any]:
    """The sizes of an operation with its defaults: the checks of single sizes, for symbols. A size is refused if it is
    missing, or cannot be positive whatever its symbols are.
    """
    found = {**operation.defaults, **values}
    operation.require(found, where)
    admitted = {name: _admitted_size(name, value, f"{where}: {name}") for name, value in found.items()}
    operation.check_rules(admitted, where)
    return admitted


def _admitted_size(name: str, value: Any, where: str) -> Any:
    if not isinstance(value, sympy.Basic):
        return checked_value(name, value, where)
    if value.is_Integer:
        return checked_value(name, int(value), where)
    if value.is_nonpositive or value.is_integer is False or (value.is_number and not value.is_positive):
        raise InputError(where, f"{words(value)} is not a size for any values of its symbols", SIZES_ACCEPTED)
    return value


def words(expression: Any) -> str:
    """A formula in ASCII for JSON, which sympy can parse."""
    return re.sub(r"\s+", " ", str(sympy.sympify(expression, strict=True)))


def foreign(expression: Any, names: Mapping[Any, str]) -> Any:
    """An expression of another library's symbols and rounding functions, in the symbols of this module.

    A whole number becomes an ``int``.
    """
    turned = expression.xreplace({symbol_: symbol(name) for symbol_, name in names.items()})
    while unknown := [x for x in sympy.preorder_traversal(turned) if _is_foreign(x)]:
        inner = unknown[-1]  # it has no other inside
        turned = turned.xreplace({inner: _FOREIGN[type(inner).__name__](*inner.args)})
    if isinstance(turned, sympy.Expr):
        turned = sympy.expand(turned)
    return int(turned) if turned.is_Integer else turned


def _is_foreign(expression: Any) -> bool:
    return type(expression).__name__ in _FOREIGN and not type(expression).__module__.startswith("sympy.")
