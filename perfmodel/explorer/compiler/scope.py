"""Names inside a function: local variables, names bound by imports, and what the module around it defines."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

MISSING: Any = object()
_RESERVED_TEXT = """
arguments await break case catch class const continue debugger default delete do else enum eval export extends
false finally for function if implements import in instanceof interface let new null package private protected
public return static super switch this throw true try typeof var void while with yield undefined NaN Infinity
Map Set Math Object Array Number String Symbol
"""
RESERVED = frozenset(_RESERVED_TEXT.split())


def identifier(name: str) -> str:
    """The JavaScript name of a local variable."""
    return f"{name}_" if name in RESERVED else name


def assigned(body: list[ast.stmt]) -> Iterator[str]:
    """The variables that statements assign, without those of functions and comprehensions inside them."""
    for statement in body:
        yield from _assigned(statement)


def _assigned(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        yield node.name
        return
    if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        yield from (one.target.id for one in ast.walk(node) if isinstance(one, ast.NamedExpr))
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    for child in ast.iter_child_nodes(node):
        yield from _assigned(child)


class Scope:
    """The names of one function. ``around`` is the function that contains it."""

    def __init__(self, names: set[str], around: Scope | None = None, outer: Mapping[str, Any] | None = None) -> None:
        self.names, self.around, self._outer = names, around, outer
        self.bound: dict[str, Any] = {}  # names that an import inside the function binds
        self.functions: dict[str, ast.FunctionDef] = {}

    def is_local(self, name: str) -> bool:
        if name in self.bound:
            return False
        return name in self.names or (self.around is not None and self.around.is_local(name))

    def function(self, name: str) -> ast.FunctionDef | None:
        """The definition of a function inside the function."""
        if name in self.functions or self.around is None:
            return self.functions.get(name)
        return self.around.function(name)

    def value(self, name: str) -> Any:
        """The object that a name outside the function means; MISSING for a local or an unknown one."""
        if name in self.bound:
            return self.bound[name]
        if name in self.names:
            return MISSING
        if self.around is not None:
            return self.around.value(name)
        if self._outer is not None and name in self._outer:
            return self._outer[name]
        return getattr(builtins, name, MISSING)

    def bind(self, node: ast.Import | ast.ImportFrom) -> None:
        """Binds the names of an import statement to the objects that it loads."""
        for alias in node.names:
            if isinstance(node, ast.Import):
                self.bound[alias.asname or alias.name] = import_module(alias.name)
                continue
            module = import_module(str(node.module))
            found = getattr(module, alias.name, MISSING)
            if found is MISSING:
                found = import_module(f"{node.module}.{alias.name}")
            self.bound[alias.asname or alias.name] = found


def outer(function: Callable[..., Any]) -> dict[str, Any]:
    """The globals of a function and the variables that it captured."""
    found = dict(function.__globals__)
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a variable without a value yet, such as __class__ of a class under construction
            continue
    return found
