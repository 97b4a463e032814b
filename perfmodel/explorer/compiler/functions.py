"""Statements and functions of Python as those of JavaScript."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from perfmodel.explorer.compiler.calls import Calls, Parameters
from perfmodel.explorer.compiler.patterns import Patterns
from perfmodel.explorer.compiler.scope import Scope, assigned, identifier
from perfmodel.strictjson import dumped


class Statements(Patterns, Calls):
    """Translates statements and functions of one file."""

    def block(self, body: Sequence[ast.stmt]) -> str:
        return " ".join(filter(None, map(self.statement, body)))

    def statement(self, node: ast.stmt) -> str:
        translate = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if translate is None:
            raise self.refuse(node, f"the statement '{ast.unparse(node).splitlines()[0][:60]}'")
        found: str = translate(node)
        return found

    # --- functions

    def function(
        self, node: ast.FunctionDef, name: str, *, method: bool = False, prefix: str = "function", defaults: Any = None
    ) -> str:
        """A function declaration. ``defaults`` are the values of its defaults where they are known."""
        arguments = node.args
        own = Parameters.of_node(arguments, method=method)
        names = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {one.arg for one in (arguments.vararg, arguments.kwarg) if one}
        names -= {"cls"} if method else set()  # a class method's class is known
        written = self._parameters(node, own, defaults)
        around, self.scope = self.scope, Scope(names, self.scope)
        kept, self.temporaries = self.temporaries, []
        local = set(assigned(node.body)) - names
        self.scope.names |= local
        body = self.block(node.body)
        inner = set(self.scope.functions)
        declared = [*sorted(identifier(one) for one in local - inner - self.scope.bound.keys()), *self.temporaries]
        self.scope, self.temporaries = around, kept
        start = f"let {', '.join(declared)}; " if declared else ""
        star = "*" if any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in _own_nodes(node)) else ""
        head = f"{star}{name}" if not prefix else f"{prefix}{star} {name}"
        return f"{head}({written}) {{ {start}{body} }}"

    def _parameters(self, node: ast.FunctionDef, own: Parameters, defaults: dict[str, Any] | None) -> str:
        """The parameters in the order of ``Parameters``, with their defaults."""
        arguments = node.args
        positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        nodes = dict(zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True))
        nodes |= {
            one.arg: default
            for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default
        }
        written = []
        for name in own.fixed:
            if name not in nodes:
                written.append(identifier(name))
            elif defaults is not None and name in defaults:
                written.append(f"{identifier(name)} = {self.program.literal(defaults[name], self.file, node)}")
            elif isinstance(nodes[name], ast.Constant) or isinstance(self.static(nodes[name]), (int, float, str)):
                written.append(f"{identifier(name)} = {self.expression(nodes[name])}")
            else:
                raise self.refuse(nodes[name], f"the default of '{name}' of an inner function")
        if arguments.kwarg:
            written.append(f"{identifier(arguments.kwarg.arg)} = $dict()")
        if arguments.vararg:
            written.append(f"...{identifier(arguments.vararg.arg)}")
        return ", ".join(written)

    def _do_functiondef(self, node: ast.FunctionDef) -> str:
        if node.decorator_list:
            raise self.refuse(node, f"the decorator of the inner function '{node.name}'")
        self.scope.functions[node.name] = node
        # An arrow function keeps ``this``, as an inner function of Python keeps ``self``.
        text = self.function(node, "$", prefix="function")
        generator = text.startswith("function*")
        name = identifier(node.name)
        own = Parameters.of_node(node.args)
        if generator:
            made = f"(function* {text[len('function* $') :]}).bind(this)"
        else:
            head, _, body = text[len("function $") :].partition(") {")
            made = f"{head}) => {{{body}"
        if own.rest or own.others or len(own.fixed) > own.positional:
            made = f"$signed({made}, {dumped(own.signature)})"
        return f"const {name} = {made};"

    # --- statements

    def _do_return(self, node: ast.Return) -> str:
        return f"return {self.expression(node.value) if node.value else 'null'};"

    def _do_expr(self, node: ast.Expr) -> str:
        value = node.value
        if isinstance(value, ast.Constant):
            return ""  # a docstring
        if isinstance(value, ast.Yield):
            return f"yield {self.expression(value.value) if value.value else 'null'};"
        if isinstance(value, ast.YieldFrom):
            return f"yield* {self.expression(value.value)};"
        return f"{self.expression(value)};"

    def _do_assign(self, node: ast.Assign) -> str:
        value = self.expression(node.value)
        if len(node.targets) == 1:
            return self._stored(node.targets[0], value)
        name = self.temporary()
        return f"{name} = {value}; {' '.join(self._stored(target, name) for target in node.targets)}"

    def _stored(self, target: ast.expr, value: str) -> str:
        if isinstance(target, ast.Subscript):
            if isinstance(target.slice, ast.Slice):
                raise self.refuse(target)
            return f"$put({self.expression(target.value)}, {self.expression(target.slice)}, {value});"
        if isinstance(target, (ast.Tuple, ast.List)) and any(isinstance(one, ast.Subscript) for one in target.elts):
            names = [self.temporary() for _ in target.elts]
            return " ".join([f"[{', '.join(names)}] = {value};", *map(self._stored, target.elts, names)])
        return f"{self.target(target)} = {value};"

    def _do_annassign(self, node: ast.AnnAssign) -> str:
        return self._stored(node.target, self.expression(node.value)) if node.value else ""

    def _do_augassign(self, node: ast.AugAssign) -> str:
        load = ast.parse(ast.unparse(node.target), mode="eval").body
        ast.copy_location(load, node)
        for one in ast.walk(load):
            one.lineno = node.lineno  # type: ignore[attr-defined]
        changed = ast.BinOp(load, node.op, node.value)
        ast.copy_location(changed, node)
        if isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name):
            # A list is extended in place.
            return f"{self.target(node.target)} = $extended({self.expression(load)}, {self.expression(node.value)});"
        return self._stored(node.target, self._binop(changed))

    def _do_if(self, node: ast.If) -> str:
        found = f"if ({self.condition(node.test)}) {{ {self.block(node.body)} }}"
        return f"{found} else {{ {self.block(node.orelse)} }}" if node.orelse else found

    def _do_for(self, node: ast.For) -> str:
        over = self.expression(node.iter)
        return self._loop(node, f"for ({self.target(node.target)} of {over})")

    def _do_while(self, node: ast.While) -> str:
        return self._loop(node, f"while ({self.condition(node.test)})")

    def _loop(self, node: ast.For | ast.While, head: str) -> str:
        if not node.orelse:
            return f"{head} {{ {self.block(node.body)} }}"
        inner = (one for one in ast.walk(node) if isinstance(one, (ast.For, ast.While)) and one is not node)
        if any(isinstance(one, ast.Break) for loop in inner for one in ast.walk(loop)):
            raise self.refuse(node, "'else' of a loop around a loop with 'break'")
        label = f"$loop{self.program.count()}"
        return f"{label}: {{ {head} {{ {self.block(node.body)} }} {self.block(node.orelse)} }}".replace(
            "break;", f"break {label};"
        )

    def _do_break(self, node: ast.Break) -> str:
        return "break;"

    def _do_continue(self, node: ast.Continue) -> str:
        return "continue;"

    def _do_pass(self, node: ast.Pass) -> str:
        return ""

    def _do_assert(self, node: ast.Assert) -> str:
        return ""  # for type checkers

    def _do_raise(self, node: ast.Raise) -> str:
        return f"throw {self.expression(node.exc)};" if node.exc else "throw $error;"

    def _do_try(self, node: ast.Try) -> str:
        if node.orelse:
            raise self.refuse(node, "'else' of 'try'")
        found = f"try {{ {self.block(node.body)} }}"
        if node.handlers:
            handlers = " else ".join(map(self._handler, node.handlers))
            found += f" catch ($error) {{ {handlers} else throw $error; }}"
        return f"{found} finally {{ {self.block(node.finalbody)} }}" if node.finalbody else found

    def _handler(self, node: ast.ExceptHandler) -> str:
        if node.type is None:
            raise self.refuse(node, "an exception handler without a type")
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        tests = " || ".join(f"$error instanceof {self.expression(kind)}" for kind in kinds)
        named = f"{identifier(node.name)} = $error; " if node.name else ""
        return f"if ({tests}) {{ {named}{self.block(node.body)} }}"

    def _do_import(self, node: ast.Import | ast.ImportFrom) -> str:
        self.scope.bind(node)
        return ""

    _do_importfrom = _do_import

    def _do_delete(self, node: ast.Delete) -> str:
        found = []
        for target in node.targets:
            if not isinstance(target, ast.Subscript) or isinstance(target.slice, ast.Slice):
                raise self.refuse(node)
            found.append(f"$delete({self.expression(target.value)}, {self.expression(target.slice)});")
        return " ".join(found)


def _own_nodes(node: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        one = waiting.pop()
        found.append(one)
        if not isinstance(one, (ast.FunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(one)
    return found
