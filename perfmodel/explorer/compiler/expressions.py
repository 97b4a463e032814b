"""Expressions of Python as expressions of JavaScript."""

from __future__ import annotations

import ast
from enum import Enum
from types import GenericAlias, ModuleType
from typing import TYPE_CHECKING, Any

from perfmodel.explorer.compiler.errors import UntranslatableError
from perfmodel.explorer.compiler.library import METHODS
from perfmodel.explorer.compiler.scope import MISSING, Scope, identifier
from perfmodel.strictjson import dumped

if TYPE_CHECKING:
    from perfmodel.explorer.compiler.program import Program

_ARITHMETIC: dict[type, str] = {ast.Add: "$add", ast.Sub: "$sub", ast.Mult: "$mul"}
_RUNTIME: dict[type, str] = {
    ast.FloorDiv: "$floordiv", ast.Mod: "$mod", ast.BitOr: "$or", ast.BitAnd: "$and", ast.LShift: "$lshift",
    ast.RShift: "$rshift",
}  # fmt: skip
_PLAIN: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_ORDER: dict[type, str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_TRUE_OR_FALSE = ("isinstance", "any", "all", "bool", "hasattr", "startswith", "endswith", "callable")


class Expressions:
    """Translates expressions of one file."""

    def __init__(self, program: Program, file: str, scope: Scope, owner: type | None) -> None:
        self.program, self.file, self.scope, self.owner = program, file, scope, owner
        self.temporaries: list[str] = []

    def refuse(self, node: ast.AST, what: str = "") -> UntranslatableError:
        return UntranslatableError(self.file, node, what or f"'{ast.unparse(node)[:60]}' ({type(node).__name__})")

    def temporary(self) -> str:
        """A new variable of the function."""
        self.temporaries.append(f"$v{self.program.count()}")
        return self.temporaries[-1]

    def static(self, node: ast.AST) -> Any:
        """The object that an expression means whatever the values of variables; MISSING if it depends on them."""
        if isinstance(node, ast.Name):
            return MISSING if self.scope.is_local(node.id) else self.scope.value(node.id)
        if isinstance(node, ast.Attribute):
            base = self.static(node.value)
            if isinstance(base, (ModuleType, type)) and not (isinstance(base, type) and node.attr.startswith("__")):
                return getattr(base, node.attr, MISSING)
        if isinstance(node, ast.Subscript) and isinstance(self.static(node.value), type):
            base = self.static(node.value)
            return base.__origin__ if isinstance(base, GenericAlias) else base
        return MISSING

    def expression(self, node: ast.expr) -> str:
        translate = getattr(self, f"_{type(node).__name__.lower()}", None)
        if translate is None:
            raise self.refuse(node)
        found: str = translate(node)
        return found

    # --- values

    def _constant(self, node: ast.Constant) -> str:
        if not isinstance(node.value, (str, int, float, bool, type(None))):
            raise self.refuse(node)
        return self.program.literal(node.value)

    def _name(self, node: ast.Name) -> str:
        if self.scope.is_local(node.id):
            return "this" if node.id == "self" and self.owner else identifier(node.id)
        value = self.scope.value(node.id)
        if value is MISSING:
            raise self.refuse(node, f"the name '{node.id}'")
        return self.program.reference(value, self.file, node)

    def _attribute(self, node: ast.Attribute) -> str:
        value = self.static(node)
        if value is not MISSING and not isinstance(value, property):
            return self.program.reference(value, self.file, node)
        self.program.uses(node.attr)
        base = self.expression(node.value)
        if node.attr in ("value", "name"):
            return f"${node.attr}({base})"  # an enumeration's member is its text
        if node.attr in METHODS and node.attr not in self.program.fields:
            return f"$bound({base}, {dumped(node.attr)})"
        return f"{base}.{node.attr}"

    def _tuple(self, node: ast.Tuple | ast.List) -> str:
        return f"[{', '.join(map(self._element, node.elts))}]"

    _list = _tuple

    def _element(self, node: ast.expr) -> str:
        return f"...{self.expression(node.value)}" if isinstance(node, ast.Starred) else self.expression(node)

    def _set(self, node: ast.Set) -> str:
        return f"$set([{', '.join(map(self._element, node.elts))}])"

    def _dict(self, node: ast.Dict) -> str:
        parts: list[str] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                parts.append(self.expression(value))
                continue
            pair = f"[{self.expression(key)}, {self.expression(value)}]"
            if parts and parts[-1].startswith("[["):
                parts[-1] = f"{parts[-1][:-1]}, {pair}]"
            else:
                parts.append(f"[{pair}]")
        if not parts:
            return "$dict()"
        return f"$dict({parts[0]})" if len(parts) == 1 and node.keys[0] is not None else f"$merged({', '.join(parts)})"

    def _joinedstr(self, node: ast.JoinedStr) -> str:
        parts = [self.expression(part) for part in node.values]
        return f"({' + '.join([dumped(''), *parts])})"

    def _formattedvalue(self, node: ast.FormattedValue) -> str:
        value = self.expression(node.value)
        if node.conversion == ord("r"):
            value = f"$repr({value})"
        spec = self.expression(node.format_spec) if node.format_spec else '""'
        return f"$format({value}, {spec})"

    def _lambda(self, node: ast.Lambda) -> str:
        arguments = node.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            raise self.refuse(node)
        names = [one.arg for one in arguments.args]
        given = [self.expression(one) for one in arguments.defaults]
        # A default has the value of the place where the function is made, not of the call.
        kept = [f"$d{self.program.count()}" for _ in given]
        around, self.scope = self.scope, Scope(set(names), self.scope)
        body = self.expression(node.body)
        self.scope = around
        body = f"({body})" if body.startswith("{") else body
        made = f"(({self.written(names, kept)}) => {body})"
        return f"(({', '.join(kept)}) => {made})({', '.join(given)})" if given else made

    @staticmethod
    def written(names: list[str], defaults: list[str]) -> str:
        """Parameters with their default values."""
        first = len(names) - len(defaults)
        return ", ".join(
            identifier(name) if at < first else f"{identifier(name)} = {defaults[at - first]}"
            for at, name in enumerate(names)
        )

    # --- operators

    def _binop(self, node: ast.BinOp) -> str:
        left, right = self.expression(node.left), self.expression(node.right)
        kind = type(node.op)
        if kind in _RUNTIME:
            return f"{_RUNTIME[kind]}({left}, {right})"
        numbers = [one for one in (node.left, node.right) if self._is_number(one)]
        if kind is ast.Mult:  # a whole number repeats a list
            numbers = [one for one in numbers if len(numbers) == 2 or not self._is_whole(one)]
        if kind in _ARITHMETIC and not numbers:
            return f"{_ARITHMETIC[kind]}({left}, {right})"
        if kind in _PLAIN:
            left = f"({left})" if kind is ast.Pow else left
            return f"({left} {_PLAIN[kind]} {right})"
        raise self.refuse(node)

    def _is_number(self, node: ast.expr) -> bool:
        """Whether an expression is certainly a number, so that an operator beside it is that of numbers."""
        if isinstance(node, ast.Constant):
            return isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.USub)
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, (ast.Div, ast.Pow, ast.FloorDiv)):
                return True
            return isinstance(node.op, (ast.Add, ast.Sub)) and (
                self._is_number(node.left) or self._is_number(node.right)
            )
        if isinstance(node, ast.Attribute):
            return node.attr.endswith(("_s", "_byte", "_per_s"))
        return isinstance(self.static(node), (int, float))

    def _is_whole(self, node: ast.expr) -> bool:
        value = node.value if isinstance(node, ast.Constant) else self.static(node)
        return not isinstance(value, float) and not isinstance(node, (ast.BinOp, ast.Attribute))

    def _unaryop(self, node: ast.UnaryOp) -> str:
        if isinstance(node.op, ast.Not):
            return f"!{self.condition(node.operand)}"
        if isinstance(node.op, ast.USub):
            return f"(-{self.expression(node.operand)})"
        raise self.refuse(node)

    def _boolop(self, node: ast.BoolOp) -> str:
        """``a or b`` is a value: the first that is true, else the last."""
        found = self.expression(node.values[-1])
        for value in reversed(node.values[:-1]):
            if self.is_condition(value):
                found = f"({self.expression(value)} {'&&' if isinstance(node.op, ast.And) else '||'} {found})"
                continue
            name = self.temporary()
            first, second = (found, name) if isinstance(node.op, ast.And) else (name, found)
            found = f"($true({name} = {self.expression(value)}) ? {first} : {second})"
        return found

    def is_condition(self, node: ast.expr) -> bool:
        """Whether an expression is certainly true or false."""
        if isinstance(node, ast.Compare):
            return True
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.Not)
        if isinstance(node, ast.Constant):
            return isinstance(node.value, bool)
        if isinstance(node, ast.BoolOp):
            return all(map(self.is_condition, node.values))
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
            return name in _TRUE_OR_FALSE
        return False

    def condition(self, node: ast.expr) -> str:
        """An expression whose truth matters, not its value."""
        if isinstance(node, ast.BoolOp):
            sign = " && " if isinstance(node.op, ast.And) else " || "
            return f"({sign.join(map(self.condition, node.values))})"
        found = self.expression(node)
        return found if self.is_condition(node) else f"$true({found})"

    def _ifexp(self, node: ast.IfExp) -> str:
        return f"({self.condition(node.test)} ? {self.expression(node.body)} : {self.expression(node.orelse)})"

    def _namedexpr(self, node: ast.NamedExpr) -> str:
        return f"({identifier(node.target.id)} = {self.expression(node.value)})"

    def _compare(self, node: ast.Compare) -> str:
        left, found = self.expression(node.left), []
        left_node = node.left
        for number, (operator, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self.expression(right_node)
            if number < len(node.ops) - 1 and not isinstance(right_node, (ast.Name, ast.Constant)):
                name = self.temporary()
                right, again = f"({name} = {right})", name
            else:
                again = right
            found.append(self._compared(operator, left, right, left_node, right_node))
            left, left_node = again, right_node
        return f"({' && '.join(found)})"

    def _compared(self, operator: ast.cmpop, left: str, right: str, first: ast.expr, second: ast.expr) -> str:
        if type(operator) in _ORDER:
            return f"{left} {_ORDER[type(operator)]} {right}"
        sign = "" if isinstance(operator, (ast.Is, ast.Eq, ast.In)) else "!"
        if isinstance(operator, (ast.In, ast.NotIn)):
            return f"{sign}$in({left}, {right})"
        texts = any(self._is_text(one) for one in (first, second))
        if isinstance(operator, (ast.Is, ast.IsNot)) or texts:
            return f"{left} {sign or '='}== {right}"
        return f"{sign}$equal({left}, {right})"

    def _is_text(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Constant):
            return isinstance(node.value, str)
        return isinstance(self.static(node), (str, Enum))

    # --- containers

    def _subscript(self, node: ast.Subscript) -> str:
        value = self.expression(node.value)
        if isinstance(node.slice, ast.Slice):
            ends = (node.slice.lower, node.slice.upper, node.slice.step)
            return f"$slice({value}, {', '.join('null' if end is None else self.expression(end) for end in ends)})"
        return f"$item({value}, {self.expression(node.slice)})"
