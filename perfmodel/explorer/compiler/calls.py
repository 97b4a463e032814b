"""Calls: positional and keyword arguments, classes, and the functions that the runtime provides."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

from perfmodel.explorer.compiler.comprehensions import Comprehensions
from perfmodel.explorer.compiler.library import CLASSES, FUNCTIONS, METHOD_OWNERS, METHODS
from perfmodel.explorer.compiler.scope import MISSING
from perfmodel.strictjson import dumped


class Parameters:
    """The parameters of a function in the order of the translation: those by position, by keyword alone, ``**`` and ``*``."""

    def __init__(self, positional: list[str], keywords: list[str], others: bool, rest: bool) -> None:
        self.fixed = [*positional, *keywords]
        self.positional, self.others, self.rest = len(positional), others, rest

    @classmethod
    def of_node(cls, arguments: ast.arguments, *, method: bool = False) -> Parameters:
        positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][1 if method else 0 :]
        return cls(positional, [one.arg for one in arguments.kwonlyargs], bool(arguments.kwarg), bool(arguments.vararg))

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """The parameters of a function or a class."""
        if isinstance(function, type) and hasattr(function, "_fields"):
            return cls(list(function._fields), [], False, False)
        found = inspect.signature(function).parameters.values()
        kinds = inspect.Parameter
        return cls(
            [one.name for one in found if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)],
            [one.name for one in found if one.kind is kinds.KEYWORD_ONLY],
            any(one.kind is kinds.VAR_KEYWORD for one in found), any(one.kind is kinds.VAR_POSITIONAL for one in found),
        )  # fmt: skip

    @property
    def signature(self) -> str:
        """The description that the runtime reads."""
        marks = ("*" if self.rest else "") + ("^" if self.others else "")
        return f"{self.positional}{marks} {' '.join(self.fixed)}"


class Calls(Comprehensions):
    """Translates calls."""

    def _element(self, node: ast.expr) -> str:
        """An element of a call or a container. A method that is passed on keeps its object."""
        named = isinstance(node, ast.Attribute) and node.attr in self.program.method_names
        if isinstance(node, ast.Attribute) and named and self.static(node) is MISSING:
            self.program.uses(node.attr)
            return f"$bound({self.expression(node.value)}, {dumped(node.attr)})"
        return super()._element(node)

    def _call(self, node: ast.Call) -> str:
        if isinstance(node.func, ast.Attribute) and self._is_super(node.func.value):
            return self._parent(node, node.func.attr)
        called = self.static(node.func)
        if called is not MISSING:
            return self._known(node, called)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        if isinstance(node.func, ast.Name) and (inner := self.scope.function(node.func.id)):
            return self.arranged(node, self.expression(node.func), Parameters.of_node(inner.args))
        return self._unknown(node, self.expression(node.func))

    @staticmethod
    def _is_super(node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"

    def _parent(self, node: ast.Call, name: str) -> str:
        """``super().name(...)``."""
        assert self.owner is not None
        parent = next((getattr(base, name) for base in self.owner.__mro__[1:] if name in vars(base)), None)
        if parent is None or not inspect.isfunction(parent):
            return self._unknown(node, f"super.{name}")
        own = Parameters.of(parent)
        own.fixed, own.positional = own.fixed[1:], own.positional - 1
        return self.arranged(node, f"super.{name}", own)

    def _known(self, node: ast.Call, called: Any) -> str:
        """A call of a function or a class that is known while translating."""
        replaced = self.program.replacement(called)
        if replaced is not None:
            return self._runtime(node, replaced)
        special = getattr(self, f"_of_{getattr(called, '__name__', '')}", None)
        if special is not None and called in FUNCTIONS:
            found: str | None = special(node)
            if found is not None:
                return found
        if isinstance(called, (type, functools.partial)) or callable(called):
            if called in FUNCTIONS:
                return self._runtime(node, FUNCTIONS[called])
            if isinstance(called, type) and issubclass(called, Enum):
                return self.expression(node.args[0])  # a member is its text
            if isinstance(called, type) and called in CLASSES:
                return f"new {CLASSES[called]}({', '.join(map(self._element, node.args))})"
            if inspect.ismethod(called) and isinstance(called.__self__, type):  # a class method
                owner = self.program.reference(called.__self__, self.file, node)
                self.program.uses(called.__name__)
                return self.arranged(node, f"{owner}.{called.__name__}", Parameters.of(called))
            name = self.program.reference(called, self.file, node)
            if isinstance(called, type):
                return self.arranged(node, name, Parameters.of(called), new=True)
            if not inspect.isfunction(inspect.unwrap(called)):
                return self._unknown(node, name)
            return self.arranged(node, name, Parameters.of(called))
        raise self.refuse(node)

    def _runtime(self, node: ast.Call, name: str) -> str:
        """A function of the runtime: keywords go into an object at the end."""
        given = list(map(self._element, node.args))
        words = [word for word in node.keywords if word.arg != "strict"]
        if any(word.arg is None for word in words):
            raise self.refuse(node)
        if words:
            given.append(f"$words({{{', '.join(f'{word.arg}: {self.expression(word.value)}' for word in words)}}})")
        return f"{name}({', '.join(given)})"

    def _method(self, node: ast.Call, attribute: ast.Attribute) -> str:
        name = attribute.attr
        self.program.uses(name)
        if name not in METHODS | self.program.method_names | self.program.fields:
            owners = [kind.__name__ for kind in METHOD_OWNERS if hasattr(kind, name)]
            if owners:
                raise self.refuse(node, f"the method '{owners[0]}.{name}'")
        base = self.expression(attribute.value)
        if name == "_replace":
            if node.args or any(word.arg is None for word in node.keywords):
                return f"{base}.$replaced({self._spread(node)})"
            words = ", ".join(f"{word.arg}: {self.expression(word.value)}" for word in node.keywords)
            return f"{base}.$replaced({{{words}}})"
        if name in METHODS:
            name = f"${name}"
        if not node.keywords:
            return f"{base}.{name}({', '.join(map(self._element, node.args))})"
        if not node.args and len(node.keywords) == 1 and node.keywords[0].arg is None:
            owner = self.temporary()
            return f"$given(({owner} = {base}).{name}, {owner}, {self.expression(node.keywords[0].value)})"
        given = f"[{', '.join(map(self._element, node.args))}]"
        return f'$send({base}, "{name}", {given}, {self._spread(node)})'

    def _spread(self, node: ast.Call) -> str:
        """Keyword arguments as an object."""
        parts = [
            f"...$object({self.expression(word.value)})"
            if word.arg is None
            else f"{word.arg}: {self.expression(word.value)}"
            for word in node.keywords
        ]
        return f"{{{', '.join(parts)}}}"

    def _unknown(self, node: ast.Call, function: str) -> str:
        if not node.keywords and not function.startswith("super."):
            return f"$call({', '.join([function, *map(self._element, node.args)])})"
        if not node.keywords:
            return f"{function}({', '.join(map(self._element, node.args))})"
        return f"$apply({function}, [{', '.join(map(self._element, node.args))}], {self._spread(node)})"

    def arranged(self, node: ast.Call, function: str, own: Parameters, *, new: bool = False) -> str:
        """A call of a function with known parameters: keywords take their places."""
        start = "new " if new else ""
        given = list(map(self._element, node.args))
        starred = any(isinstance(one, ast.Starred) for one in node.args[: own.positional])
        if any(word.arg is None for word in node.keywords) or (starred and (node.keywords or own.rest or own.others)):
            what = "$applyNew" if new else "$apply"
            if function.startswith("super."):
                function = f"(...$given) => {function}(...$given)"
                return f"{what}($signed({function}, {own.signature!r}), [{', '.join(given)}], {self._spread(node)})"
            return f"{what}({function}, [{', '.join(given)}], {self._spread(node)})"
        if not node.keywords and not own.rest and not own.others:
            return f"{start}{function}({', '.join(given)})"
        extra = {word.arg: self.expression(word.value) for word in node.keywords if word.arg}
        places = [*given[: own.positional]]
        places += ["undefined"] * (len(own.fixed) - len(places))
        for name in [name for name in extra if name in own.fixed]:
            places[own.fixed.index(name)] = extra.pop(name)
        if extra and not own.others:
            raise self.refuse(node, f"the keyword '{next(iter(extra))}'")
        if own.others:
            pairs = ", ".join(f"[{dumped(name)}, {value}]" for name, value in extra.items())
            places.append(f"$dict([{pairs}])")
        rest = given[own.positional :]
        if rest and not own.rest:
            raise self.refuse(node)
        if not rest and not own.others:
            while places and places[-1] == "undefined":
                places.pop()
        return f"{start}{function}({', '.join([*places, *rest])})"

    # --- functions of Python with a form of their own

    def _of_any(self, node: ast.Call) -> str | None:
        return self._searched(node, "if ({}) return true;", "false")

    def _of_all(self, node: ast.Call) -> str | None:
        return self._searched(node, "if (!{}) return false;", "true")

    def _searched(self, node: ast.Call, test: str, otherwise: str) -> str | None:
        (given,) = node.args
        if not isinstance(given, ast.GeneratorExp):
            return None
        return self.comprehended(given.generators, lambda: test.format(self.condition(given.elt)), "", otherwise)

    def _of_next(self, node: ast.Call) -> str | None:
        given, *otherwise = node.args
        if not isinstance(given, ast.GeneratorExp):
            return None
        last = self.expression(otherwise[0]) if otherwise else "$stop()"
        return self.comprehended(given.generators, lambda: f"return {self.expression(given.elt)};", "", last)

    def _of_map(self, node: ast.Call) -> str | None:
        kind = self.static(node.args[0])
        if not isinstance(kind, type) or kind in CLASSES or issubclass(kind, Enum):
            return None
        made = f"((...$a) => new {self.program.reference(kind, self.file, node)}(...$a))"
        return f"$map({', '.join([made, *map(self._element, node.args[1:])])})"

    def _of_sum(self, node: ast.Call) -> str | None:
        given, *rest = node.args
        if not isinstance(given, ast.GeneratorExp) or rest or node.keywords:
            return None
        return self.comprehended(
            given.generators, lambda: f"$r += +({self.expression(given.elt)});", "let $r = 0;", "$r"
        )

    def _of_isinstance(self, node: ast.Call) -> str:
        value, kinds = node.args
        listed = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
        if self.static(kinds) is not MISSING and isinstance(self.static(kinds), tuple):
            names = [self.program.reference(kind, self.file, node) for kind in self.static(kinds)]
        else:
            names = [self.expression(kind) for kind in listed]
        return f"$isinstance({self.expression(value)}, {', '.join(names)})"
