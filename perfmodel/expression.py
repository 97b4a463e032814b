"""Size expressions such as ``B*N``, ``D/H`` or ``N <= S``: parsed from text, safe to evaluate, exact.

One expression works on integers, arrays and symbols. ``/`` is exact division: integers that do not divide are an error
and are never rounded. ``//`` rounds down.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from re import sub
from typing import Any

from perfmodel.arithmetic import exact_div, floor_div, maximum, minimum, remainder
from perfmodel.errors import InputError, near_or_known, shown

_BINARY = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_COMPARE = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
ACCEPTED = "an expression of sizes is accepted: whole numbers and symbols joined by + - * / // %, min(a, b), max(a, b) and parentheses"
_LONGEST = 200
_CALLS = {"min": minimum, "max": maximum}


class Expression:
    """Parsed text, the names it uses, and how to evaluate it. Only a ``condition`` may compare: a size is a number."""

    def __init__(self, text: str, where: str, *, condition: bool = False) -> None:
        self.text = text
        self._where = where
        self._tree = _parse(text, where, condition)

    def at(self, where: str) -> Expression:
        """The same expression with another place for its messages."""
        other = Expression.__new__(Expression)
        other.__dict__ = {**self.__dict__, "_where": where}
        return other

    def fixed(self, name: str, value: int) -> Expression:
        """The same expression with a number in the place of a symbol."""
        return Expression(sub(rf"\b{name}\b", str(value), self.text), self._where)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)) - _CALLS.keys()

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self._value(self._tree, values)

    def quotients(self, values: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        """Both sides of every exact division, for callers that must know where arrays do not divide."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                yield self._value(node.left, values), self._value(node.right, values)

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                if name not in values:
                    raise InputError(
                        self._where,
                        f"'{name}' in {shown(self.text)} has no value",
                        "a size may use the other sizes of its place",
                        near_or_known(name, values) or "Give it a value.",
                    )
                return values[name]
            case ast.BinOp(left=left, op=operator, right=right):
                return self._binary(operator, self._value(left, values), self._value(right, values))
            case ast.Call(func=ast.Name(id=name), args=[left, right]):
                return _CALLS[name](self._value(left, values), self._value(right, values))
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return _compared(operator, self._value(left, values), self._value(right, values))
        raise AssertionError(ast.dump(node))

    def _binary(self, operator: ast.operator, a: Any, b: Any) -> Any:
        match operator:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
        if isinstance(b, int) and b == 0:
            raise InputError(self._where, f"{shown(self.text)} divides by zero", ACCEPTED)
        match operator:
            case ast.Mod():
                return remainder(a, b)
            case ast.FloorDiv():
                return floor_div(a, b)
        if not (isinstance(a, int) and isinstance(b, int)):
            return exact_div(a, b)
        if a % b:
            raise InputError(
                self._where,
                f"{shown(self.text)} is {shown(a)} / {shown(b)}, which does not divide",
                "'/' between sizes must come out whole",
                "Choose sizes that divide, or write // to round down.",
            )
        return a // b


class Constant(Expression):
    """A value that is not a number, such as the shares of experts, in place of an expression."""

    def __init__(self, value: Any, where: str) -> None:
        super().__init__("0", where)
        self._constant = value

    def __call__(self, values: Mapping[str, Any]) -> Any:
        return self._constant


def _compared(operator: ast.cmpop, a: Any, b: Any) -> Any:
    match operator:
        case ast.Lt():
            return a < b
        case ast.LtE():
            return a <= b
        case ast.Gt():
            return a > b
        case ast.GtE():
            return a >= b
        case ast.Eq():
            return a == b
    return a != b


_KNOWN: dict[str, Expression] = {}


def expression(text: str, where: str) -> Expression:
    """Parses an expression of the program itself, once."""
    if text not in _KNOWN:
        _KNOWN[text] = Expression(text, where)
    return _KNOWN[text].at(where)


@lru_cache(maxsize=4096)
def _parse(text: str, where: str, condition: bool) -> ast.expr:
    refused = InputError(where, f"{shown(text)} is not an expression of sizes", ACCEPTED)
    if len(text) > _LONGEST or "\n" in text:
        raise refused
    try:
        with warnings.catch_warnings():
            # Python warns of digits that run into a word, which no expression of sizes may hold.
            warnings.simplefilter("error", SyntaxWarning)
            warnings.simplefilter("error", DeprecationWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused from None
    for node in ast.walk(tree):
        match node:
            case ast.BinOp() | ast.Name() | ast.Load() | ast.operator() | ast.cmpop():
                allowed = not isinstance(node, ast.operator) or isinstance(node, _BINARY)
                allowed = allowed and (not isinstance(node, ast.cmpop) or isinstance(node, _COMPARE))
            case ast.Compare(ops=ops):
                allowed = condition and len(ops) == 1
            case ast.Call(func=ast.Name(id=name), args=[_, _], keywords=[]):
                allowed = name in _CALLS
            case ast.Constant(value=value):
                allowed = type(value) is int and 0 <= value <= 10**15
            case _:
                allowed = False
        if not allowed:
            raise refused
    return tree
