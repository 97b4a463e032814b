"""Classes of Python as those of JavaScript: named tuples, errors and plain classes."""

from __future__ import annotations

import ast
import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from perfmodel.explorer.compiler.calls import Parameters
from perfmodel.explorer.compiler.errors import UntranslatableError
from perfmodel.explorer.compiler.functions import Statements
from perfmodel.explorer.compiler.library import CLASSES, METHODS
from perfmodel.explorer.compiler.scope import Scope, outer
from perfmodel.explorer.compiler.source import file_of, of_class
from perfmodel.strictjson import dumped

if TYPE_CHECKING:
    from perfmodel.explorer.compiler.program import Program

ALWAYS = ("__init__", "__call__", "__iter__", "__len__", "__bool__")


class Class:
    """A class of which only the methods that the program names are translated."""

    def __init__(self, program: Program, kind: type, name: str) -> None:
        self.program, self.kind, self.name = program, kind, name
        self.file = file_of(kind.__module__)
        self.members: dict[str, str] = {}
        self.signatures: list[str] = []
        self._nodes = {node.name: node for node in of_class(kind).body if isinstance(node, ast.FunctionDef)}
        self._own = vars(kind)
        self.parent = self._parent()

    @property
    def is_tuple(self) -> bool:
        return issubclass(self.kind, tuple)

    def _parent(self) -> str:
        (base, *others) = self.kind.__bases__
        if others:
            raise UntranslatableError(self.file, of_class(self.kind), f"several base classes of '{self.kind.__name__}'")
        if base is tuple:
            return "$Tuple"
        if base is object:
            return "$Callable" if "__call__" in self._nodes else "$Object"
        if base is float:
            return "$Float"
        return CLASSES[base] if base in CLASSES else self.program.reference(base, self.file, None)

    def translate(self, names: set[str]) -> bool:
        """Translates the methods of these names that are not translated yet; tells whether there were any."""
        found = False
        for name, node in self._nodes.items():
            if name in self.members or not (name in names or name in ALWAYS):
                continue
            if name == "__repr__" or self.program.omits(self.kind, name):
                continue
            self.members[name] = ""
            self.members[name] = self._member(name, node)
            found = True
        return found

    def _member(self, name: str, node: ast.FunctionDef) -> str:
        value = self._own[name]
        if isinstance(value, property):
            return self._method(node, f"get {name}", value.fget)
        if isinstance(value, functools.cached_property):
            return (
                f"get {name}() {{ const $found = this.$make_{name}(); "
                f"Object.defineProperty(this, {dumped(name)}, {{value: $found}}); return $found; }} "
                + self._method(node, f"$make_{name}", value.func)
            )
        written = f"${name}" if name in METHODS else name
        if isinstance(value, classmethod):
            return self._method(node, f"static {written}", value.__func__)
        if isinstance(value, staticmethod):
            return self._method(node, f"static {written}", value.__func__, first=False)
        if not isinstance(value, FunctionType):
            raise UntranslatableError(self.file, node, f"the method '{name}'")
        own = Parameters.of_node(node.args, method=True)
        self.signatures.append(f"$signed({self.name}.prototype.{written}, {dumped(own.signature)});")
        return self._method(node, written, value)

    def _method(self, node: ast.FunctionDef, head: str, function: Any, *, first: bool = True) -> str:
        scope = Scope({"self"} if first else set(), None, outer(inspect.unwrap(function)))
        scope.bound["cls"] = self.kind
        translator = Statements(self.program, self.file, scope, self.kind)
        defaults = {
            one.name: one.default for one in inspect.signature(function).parameters.values()
            if one.default is not inspect.Parameter.empty
        }  # fmt: skip
        text = translator.function(node, head, method=first, prefix="", defaults=defaults)
        if text.startswith("*get"):
            raise UntranslatableError(self.file, node, "a property that yields")
        return text

    @property
    def text(self) -> str:
        """The declaration."""
        members = [*self._constructor(), *self.members.values()]
        constants = [
            f"{name}: {self.program.literal(value, self.file, None)}"
            for name, value in self._own.items()
            if not name.startswith("_") and isinstance(value, (str, int, float)) and not hasattr(self.kind, "_fields")
        ]
        lines = [f"class {self.name} extends {self.parent} {{ {' '.join(members)} }}"]
        if constants:
            lines.append(f"$constants({self.name}, {{{', '.join(constants)}}});")
        if self._is_direct_tuple:
            lines.append(f"$fields({self.name}, {dumped(list(self.kind._fields))});")  # type: ignore[attr-defined]
        return "\n".join([*lines, *self.signatures])

    @property
    def _is_direct_tuple(self) -> bool:
        return self.kind.__bases__ == (tuple,)

    def _constructor(self) -> list[str]:
        if not self._is_direct_tuple:
            return []
        fields: tuple[str, ...] = self.kind._fields  # type: ignore[attr-defined]
        defaults: dict[str, Any] = self.kind._field_defaults  # type: ignore[attr-defined]
        written = [
            f"$_{name} = {self.program.literal(defaults[name], self.file, None)}" if name in defaults else f"$_{name}"
            for name in fields
        ]
        changed = ", ".join(f"'{name}' in $c ? $c.{name} : this.{name}" for name in fields)
        return [
            f"constructor({', '.join(written)}) {{ super(); {' '.join(f'this.{f} = $_{f};' for f in fields)} "
            "this[$KEY] = undefined; }",
            f"$replaced($c) {{ return new this.constructor({changed}); }}",
        ]
