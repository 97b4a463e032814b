"""Formulas of a workload's kernels as trees that the page renders, fills with numbers and evaluates.

A tree is a number, a symbol, or a list of an operator and its operands: ``["*", 2, "B", "N", ["+", "D", "F"]]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import sympy

from perfmodel import block, symbolic
from perfmodel.symbols import SYMBOLS
from perfmodel.workload import Workload

Tree = Any
# A mask and a result are stored like activations.
ROLES = {"weight": "weight", "act": "act", "cache": "cache", "mask": "act", "out": "act"}


class Formulas(NamedTuple):
    """The distinct trees, and for each kernel of each case the places of its FLOPs and of its bytes among them."""

    trees: list[Tree]
    cases: dict[str, dict[str, tuple[int, int]]]


def case_of(workload: str, phase: str, form: str, fused: bool, causal: bool) -> str:
    """The key of a case: ``llama-3-8b decode  fused causal``."""
    return " ".join((workload, phase, form, "fused" if fused else "unfused", "causal" if causal else "full"))


class Collector:
    """Collects the formulas of workloads; each distinct one is kept once."""

    def __init__(self) -> None:
        self.found = Formulas([], {})
        self._places: dict[sympy.Expr, int] = {}

    def add(self, workload: Workload) -> None:
        """Adds every phase and form of a workload, fused and not, causal and not."""
        for phase in workload.phases:
            for form in (workload.decode if phase == "decode" else {}) or ("",):
                for fused in (True, False):
                    for causal in (True, False):
                        key = case_of(workload.name, phase, form, fused, causal)
                        self.found.cases[key] = self._case(workload, phase, form, fused=fused, causal=causal)

    def _case(
        self, workload: Workload, phase: str, form: str, *, fused: bool, causal: bool
    ) -> dict[str, tuple[int, int]]:
        given = {role: symbolic.symbol(own) for role, own in ROLES.items() if role in workload.items()}
        running = symbolic.kernels_of(workload, phase, given, fused=fused, causal=causal, form=form or None)
        return {kernel.name: self._counts(kernel) for kernel in running}

    def _counts(self, kernel: block.Kernel) -> tuple[int, int]:
        return self._place(kernel.op.flops()), self._place(kernel.op.traffic_byte())

    def _place(self, expression: Any) -> int:
        found = symbolic.tidy(expression)
        if found not in self._places:
            self._places[found] = len(self.found.trees)
            self.found.trees.append(tree(found))
        return self._places[found]


def tree(expression: Any) -> Tree:
    """An expression of sympy as a tree."""
    found = sympy.sympify(expression, strict=True)
    if found.is_Symbol:
        return found.name
    if found.is_Integer:
        return int(found)
    if found.is_Rational:
        return ["/", int(found.p), int(found.q)]
    if found.is_Number:
        return float(found)
    if found.is_Add:
        return ["+", *map(tree, symbolic.terms_of(found))]
    if found.is_Mul:
        return _product(found)
    if found.is_Pow:
        return _power(found)
    return [_FUNCTIONS[type(found)], *map(tree, found.args)]


_FUNCTIONS = {sympy.ceiling: "ceil", sympy.floor: "floor", sympy.Max: "max", sympy.Min: "min"}


def _product(product: sympy.Expr) -> Tree:
    above, below = sympy.fraction(product, exact=True)
    if below != 1:
        return ["/", tree(above), tree(below)]
    factors = symbolic.factors_of(product)
    if factors[0].is_number and factors[0].is_negative:
        return ["-", tree(-product)]
    return ["*", *map(tree, factors)]


def _power(power: sympy.Expr) -> Tree:
    base, exponent = power.as_base_exp()
    if exponent.is_number and exponent.is_negative:
        return ["/", 1, tree(base**-exponent)]
    return ["^", tree(base), tree(exponent)]


def letters() -> dict[str, str]:
    """Every symbol with its meaning, for the reader."""
    return {symbol.name: symbol.meaning for symbol in SYMBOLS.values()}
