"""Expressions over the arguments of a function, such as ``x.shape[0]``: parsed once, without running any code of theirs.

``x.shape[i]``, ``x.numel()``, ``x.nbytes`` and ``x.itemsize`` are read from the argument ``x``; a plain name is an
argument that is a whole number, or another size. The rest is an expression of sizes (``perfmodel.expression``).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.arithmetic import product
from perfmodel.aten.calls import ITEMS
from perfmodel.errors import InputError, shown
from perfmodel.expression import Expression

ACCEPTED = (
    "x.shape[0], x.numel(), x.nbytes and x.itemsize of an argument x, arguments that are whole numbers, other sizes and "
    "numbers are accepted, joined by + - * / // %, min(a, b) and max(a, b)"
)
LONGEST = 200
# Data types of torch and NumPy by the names of this project; others have the same name in both.
TYPES = {
    "float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float8_e4m3fn": "fp8",
    "float8_e4m3fnuz": "fp8", "float8_e5m2": "fp8_e5m2", "float8_e5m2fnuz": "fp8_e5m2",
}  # fmt: skip


class Access(NamedTuple):
    """What is read of an argument: its ``shape`` at a place, ``numel``, ``nbytes`` or ``itemsize``."""

    argument: str
    what: str
    place: int = 0

    def of(self, tensor: Any, where: str) -> Any:
        """Returns the number; raises InputError where the argument has none."""
        if not is_tensor(tensor):
            raise InputError(where, f"{self.argument} is {shown(tensor)}", "a tensor is accepted", "Pass a tensor.")
        if self.what == "shape":
            rank = len(tensor.shape)
            if not -rank <= self.place < rank:
                raise InputError(
                    where, f"{self.argument} has {rank} dimensions", f"shape[{self.place}] needs more", "Correct it."
                )
            return tensor.shape[self.place]
        count = 1 if self.what == "itemsize" else product(tensor.shape)
        return count if self.what == "numel" else count * ITEMS[dtype_name(tensor, where)]


class Reading:
    """A parsed expression, the arguments that it reads, and how to evaluate it."""

    def __init__(self, text: str | int, where: str) -> None:
        self.text = str(text)
        self._where = where
        swap = _Swap()
        try:
            tree = swap.visit(_parsed(self.text, where))
            self._expression = Expression(ast.unparse(tree), where)
        except (InputError, RecursionError):
            raise _refused(self.text, where) from None
        self._expression.text = self.text
        self._accesses = swap.found

    @property
    def names(self) -> frozenset[str]:
        """The arguments and sizes that it uses."""
        plain = self._expression.names - self._accesses.keys()
        return plain | {access.argument for access in self._accesses.values()}

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Returns the value for arguments and sizes by name."""
        plain = {name: self._plain(name, values) for name in self._expression.names - self._accesses.keys()}
        read = {name: access.of(values.get(access.argument), self._where) for name, access in self._accesses.items()}
        return self._expression({**plain, **read})

    def _plain(self, name: str, values: Mapping[str, Any]) -> Any:
        value = values.get(name)
        if isinstance(value, bool):
            return int(value)
        if value is None or is_tensor(value) or not hasattr(value, "__index__"):
            raise InputError(
                self._where, f"{name} is {shown(value)}", "a whole number is accepted", "Read a size of a tensor."
            )
        return value if hasattr(value, "node") else value.__index__()  # torch's symbolic sizes stay symbols


class _Swap(ast.NodeTransformer):
    """Replaces what is read of an argument by a name of its own."""

    def __init__(self) -> None:
        self.found: dict[str, Access] = {}

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match node.value, _index(node.slice):
            case ast.Attribute(value=ast.Name(id=name), attr="shape"), int(index):
                return self._swapped(Access(name, "shape", index))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="numel"), args=[], keywords=[]):
                return self._swapped(Access(name, "numel"))
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=("nbytes" | "itemsize") as what):
                return self._swapped(Access(name, what))
        return node

    def _swapped(self, access: Access) -> ast.Name:
        name = f"_{len(self.found)}_{access.argument}"
        self.found[name] = access
        return ast.Name(name)


def _index(node: ast.expr) -> int | None:
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
    return None


def _parsed(text: str, where: str) -> ast.expr:
    if len(text) > LONGEST or "\n" in text:
        raise _refused(text, where)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(text, where) from None


def _refused(text: str, where: str) -> InputError:
    return InputError(where, f"{shown(text)} cannot be read from the arguments", ACCEPTED)


def is_tensor(value: Any) -> bool:
    """Whether a value has a shape and a data type, as arrays of torch, CuPy and NumPy have."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def dtype_name(tensor: Any, where: str) -> str:
    """Returns the data type of a tensor by the name of this project."""
    name = str(tensor.dtype).rpartition(".")[2]
    found = TYPES.get(name, name)
    if found not in ITEMS:
        raise InputError(where, f"the data type {shown(name)} is not known", f"{', '.join(ITEMS)} are accepted")
    return found
