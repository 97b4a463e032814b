"""A JavaScript program from Python functions: all functions that they use are found, translated and ordered.

The compiler starts from live objects. A name of a module means the object that Python finds there: a function or a class
is translated, a value becomes a literal. What cannot be translated raises an error that names file and line.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
from collections.abc import Mapping
from enum import Enum
from functools import cached_property, partial
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from perfmodel.explorer.compiler.calls import Parameters
from perfmodel.explorer.compiler.classes import Class
from perfmodel.explorer.compiler.errors import UntranslatableError
from perfmodel.explorer.compiler.functions import Statements
from perfmodel.explorer.compiler.library import CLASSES, FUNCTIONS, LEFT_OUT, REMEMBERED
from perfmodel.explorer.compiler.scope import Scope, outer
from perfmodel.explorer.compiler.source import fields, method_names, of_function
from perfmodel.paths import PACKAGED
from perfmodel.strictjson import dumped


class Program:
    """Collects the functions and classes that given functions use.

    ``replaced``: names in the runtime of functions that the page provides in another way. ``omitted``: methods that are
    left out. ``absent``: modules that the page never enters, such as those of arrays.
    """

    def __init__(
        self, replaced: Mapping[Any, str], omitted: frozenset[tuple[type, str]], absent: frozenset[str]
    ) -> None:
        self._replaced = {id(key): (key, name) for key, name in replaced.items()}
        self._omitted, self._absent = omitted, absent
        self._names: dict[int, tuple[Any, str]] = {}
        self._taken: set[str] = set()
        self._functions: dict[str, str] = {}
        self._classes: dict[str, Class] = {}
        self._constants: dict[str, str] = {}
        self._signatures: dict[str, str] = {}
        self._used: set[str] = set()
        self._waiting: list[tuple[FunctionType, str, str]] = []
        self._instances: list[tuple[str, Any]] = []
        self._number = 0
        self._shared: dict[int, Any] = {}

    def share(self, *values: Any) -> None:
        """Values that are written once and have names, because the program compares them."""
        self._shared |= {id(value): value for value in values}

    # --- what translators ask

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields of all named tuples."""
        return fields()

    @cached_property
    def method_names(self) -> frozenset[str]:
        """The names of all methods: an attribute of such a name may be a method that is passed on."""
        return method_names()

    def count(self) -> int:
        self._number += 1
        return self._number

    def uses(self, attribute: str) -> None:
        self._used.add(attribute)

    def omits(self, kind: type, name: str) -> bool:
        return (kind, name) in self._omitted

    def replacement(self, value: Any) -> str | None:
        found = self._replaced.get(id(value))
        return found[1] if found else None

    def reference(self, value: Any, file: str, node: ast.AST | None) -> str:
        """The expression that means an object."""
        replaced = self.replacement(value)
        if replaced is not None:
            return replaced
        if isinstance(value, ModuleType):
            if value.__name__ in self._absent:
                return f"$absent({dumped(value.__name__)})"
            raise UntranslatableError(file, node, f"the module '{value.__name__}' as a value")
        if isinstance(value, type):
            return self._class(value, file, node)
        try:
            if value in FUNCTIONS:
                return FUNCTIONS[value]
        except TypeError:
            pass
        if inspect.isfunction(inspect.unwrap(value)) if callable(value) else False:
            return self._function(value, file, node)
        return self.literal(value, file, node, shared=True)

    # --- functions and classes

    def _name_of(self, value: Any, module: str, name: str) -> str:
        """A name that no other object has."""
        if id(value) not in self._names:
            words = module.replace("perfmodel.", "").split(".")
            name = "lambda" if name == "<lambda>" else name
            written = f"{words[-1]}_{name}".replace("__", "_")
            while written in self._taken:
                written = f"{written}_{self.count()}"
            self._taken.add(written)
            self._names[id(value)] = value, written
        return self._names[id(value)][1]

    def _function(self, value: Any, file: str, node: ast.AST | None) -> str:
        function = inspect.unwrap(value)
        if not function.__module__.startswith("perfmodel"):
            raise UntranslatableError(file, node, f"the function '{function.__module__}.{function.__qualname__}'")
        if function.__module__ in self._absent:
            return f"$absent({dumped(function.__qualname__)})"
        remembered = hasattr(value, "cache_parameters")
        known = id(value) in self._names
        name = self._name_of(value, function.__module__, function.__name__)
        if not known:
            self._waiting.append((function, name, "$remembered" if remembered else ""))
        return name

    def _class(self, kind: type, file: str, node: ast.AST | None) -> str:
        if kind in CLASSES:
            return CLASSES[kind]
        if kind.__module__ in ("_ast", "ast"):
            return f"$ast.{kind.__name__}"
        if not kind.__module__.startswith("perfmodel"):
            raise UntranslatableError(file, node, f"the class '{kind.__module__}.{kind.__qualname__}'")
        if issubclass(kind, Enum):
            return self.literal(tuple(kind), file, node)
        name = self._name_of(kind, kind.__module__, kind.__name__)
        if name not in self._classes:
            self._classes[name] = Class(self, kind, name)
        return name

    def _translated(self, function: FunctionType, name: str, wrapper: str) -> str:
        node, file = of_function(function), function.__code__.co_filename
        translator = Statements(self, file, Scope(set(), None, outer(function)), None)
        if isinstance(node, ast.Lambda):
            return f"const {name} = {translator.expression(node)};"
        for decorator in node.decorator_list:
            word = decorator.func if isinstance(decorator, ast.Call) else decorator
            called = ast.unparse(word).split(".")[-1]
            if called not in (*LEFT_OUT, *REMEMBERED):
                raise UntranslatableError(file, decorator, f"the decorator '{ast.unparse(word)}'")
        defaults = {
            one.name: one.default for one in inspect.signature(function).parameters.values()
            if one.default is not inspect.Parameter.empty
        }  # fmt: skip
        own = Parameters.of_node(node.args)
        plain = f"{name}$" if wrapper else name
        text = translator.function(node, plain, defaults=defaults)
        if wrapper:
            text += f"\nconst {name} = {wrapper}({plain});"
        self._signatures[name] = f"$signed({name}, {dumped(own.signature)});"
        return text

    # --- values

    def literal(self, value: Any, file: str = "", node: ast.AST | None = None, *, shared: bool = False) -> str:
        """A value as an expression. A ``shared`` one is written once and has a name."""
        if value is None or isinstance(value, (bool, str, int, float)):
            return _scalar(value)
        if callable(value) and not isinstance(value, type) and inspect.isfunction(inspect.unwrap(value)):
            return self.reference(value, file, node)
        if isinstance(value, type):
            return self._class(value, file, node)
        if inspect.ismethod(value):
            self.uses(value.__name__)
            return f"$bound({self.literal(value.__self__, file, node, shared=True)}, {dumped(value.__name__)})"
        if inspect.isbuiltin(value):
            raise UntranslatableError(file, node, f"the function '{value.__module__}.{value.__qualname__}'")
        if isinstance(value, ast.AST):
            return self._tree(value)
        container = isinstance(value, (tuple, list, dict, MappingProxyType, set, frozenset))
        if container and not shared and id(value) not in self._shared:
            return self._container(value, file, node)
        if not container and not type(value).__module__.startswith("perfmodel") and not isinstance(value, partial):
            raise UntranslatableError(file, node, f"a value of type '{type(value).__qualname__}'")
        return self._constant(value, file, node)

    def _constant(self, value: Any, file: str, node: ast.AST | None) -> str:
        known = id(value) in self._names
        name = self._name_of(value, type(value).__module__, type(value).__name__)
        if not known:
            if isinstance(value, partial):
                given = ", ".join(self.literal(one, file, node) for one in (value.func, *value.args))
                self._constants[name] = f"$partial({given})"
            elif isinstance(value, (tuple, list, dict, MappingProxyType, set, frozenset)):
                self._constants[name] = self._container(value, file, node)
            else:
                self._class(type(value), file, node)
                self._instances.append((name, value))
                self._constants[name] = ""
        return name

    def _container(self, value: Any, file: str, node: ast.AST | None) -> str:
        def of(one: Any) -> str:
            return self.literal(one, file, node)

        if isinstance(value, (dict, MappingProxyType)):
            return f"$dict([{', '.join(f'[{of(key)}, {of(one)}]' for key, one in value.items())}])"
        if isinstance(value, (set, frozenset)):
            # Sorted, because the order of a set differs between processes.
            ordered = sorted(value, key=lambda one: getattr(one, "__qualname__", repr(one)))
            return f"$set([{', '.join(map(of, ordered))}])"
        if type(value) in (tuple, list):
            return f"[{', '.join(map(of, value))}]"
        return f"new {self._class(type(value), file, node)}({', '.join(map(of, value))})"

    def _tree(self, node: ast.AST) -> str:
        """A syntax tree of a size expression."""
        fields = [
            f"{name}: {'[' + ', '.join(map(self.literal, value)) + ']' if isinstance(value, list) else self.literal(value)}"
            for name, value in ast.iter_fields(node)
            if name not in ("ctx", "kind", "keywords", "type_comment")
        ]
        return f"$node({type(node).__name__!r}, {{{', '.join(fields)}}})"

    # --- the whole

    def text(self, entries: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
        """The program, whose last line is an object of the entries. The runtime reads the ``tables`` by their names."""
        names = {name: self.reference(value, "", None) for name, value in entries.items()}
        held = {name: self.literal(value) for name, value in tables.items()}
        while self._step():
            pass
        parts = [
            *(self._classes[name].text for name in self._ordered()), *self._functions.values(), *self._signatures.values(),
        ]  # fmt: skip
        parts += [f"const {name} = {text};" for name, text in self._constants.items()]
        parts += [f"const {name} = {text};" for name, text in held.items()]
        return "\n".join([*parts, f"return {{{', '.join(f'{name}: {one}' for name, one in names.items())}}};"])

    def _step(self) -> bool:
        """Translates what waits, then the methods that have come into use; tells whether anything was left."""
        changed = False
        while self._waiting:
            function, name, wrapper = self._waiting.pop()
            self._functions[name] = self._translated(function, name, wrapper)
            changed = True
        for one in list(self._classes.values()):
            changed = one.translate(self._used) or changed
            if changed:
                _ = one.text  # its literals may reach more
        for name, value in self._instances:
            text = self._instance(value)
            changed = changed or text != self._constants[name]
            self._constants[name] = text
        return changed

    def _instance(self, value: Any) -> str:
        """An object of a plain class, with the attributes that the program names."""
        kind = self._class(type(value), "", None)
        fields = {
            name: one
            for name, one in vars(value).items()
            if name in self._used and not isinstance(getattr(type(value), name, None), cached_property)
        }
        written = ", ".join(f"{name}: {self.literal(one)}" for name, one in fields.items())
        return f"$instance({kind}, {{{written}}})"

    def _ordered(self) -> list[str]:
        """Classes, each after its parent."""
        found: list[str] = []

        def add(name: str) -> None:
            if name in self._classes and name not in found:
                add(self._classes[name].parent)
                found.append(name)

        for name in self._classes:
            add(name)
        return found


def _scalar(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):  # a page must not show the folder of the installation
        return dumped(value.removeprefix(PACKAGED + os.sep))
    if value is None or isinstance(value, bool):
        return dumped(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(value)
