"""Finds the syntax tree of functions and classes, and the names that classes give. Each file is parsed once."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from perfmodel.explorer.compiler.errors import UntranslatableError

FunctionNode = ast.FunctionDef | ast.Lambda


@cache
def _tree(file: str) -> ast.Module:
    with open(file, encoding="utf-8") as text:
        return ast.parse(text.read())


@cache
def _functions(file: str) -> dict[int, list[FunctionNode]]:
    """The functions of a file by their first line, that of the first decorator included."""
    found: dict[int, list[FunctionNode]] = {}
    for node in ast.walk(_tree(file)):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            line = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            found.setdefault(line, []).append(node)
    return found


def file_of(module: str) -> str:
    """The file of a loaded module."""
    return str(sys.modules[module].__file__)


def of_function(function: Callable[..., Any]) -> FunctionNode:
    """The syntax tree of a function or a lambda."""
    code = function.__code__
    lambdas = code.co_name == "<lambda>"
    found = [
        node for node in _functions(code.co_filename).get(code.co_firstlineno, [])
        if isinstance(node, ast.Lambda) == lambdas and (lambdas or getattr(node, "name", "") == code.co_name)
    ]  # fmt: skip
    if len(found) != 1:
        raise UntranslatableError(code.co_filename, None, f"the function {function.__qualname__}")
    return found[0]


def of_class(kind: type) -> ast.ClassDef:
    """The syntax tree of a class at the top level of its module."""
    file = file_of(kind.__module__)
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return node
    raise UntranslatableError(file, None, f"the class {kind.__qualname__}")


def _kinds() -> list[type]:
    """The classes of all modules of this package that are loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("perfmodel")]
    return list({id(one): one for module in modules for one in vars(module).values() if isinstance(one, type)}.values())


def fields() -> frozenset[str]:
    """The fields of all named tuples."""
    return frozenset(name for kind in _kinds() for name in getattr(kind, "_fields", ()))


def method_names() -> frozenset[str]:
    """The names of all methods."""
    return frozenset(name for kind in _kinds() for name, one in vars(kind).items() if isinstance(one, FunctionType))
