"""Comprehensions and generator expressions as loops, and the targets of loops and assignments."""

from __future__ import annotations

import ast
from typing import Any

from perfmodel.explorer.compiler.expressions import Expressions
from perfmodel.explorer.compiler.scope import Scope, identifier


class Comprehensions(Expressions):
    """Translates comprehensions."""

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> str:
        return self.comprehended(
            node.generators, lambda: f"$r.push({self.expression(node.elt)});", "const $r = [];", "$r"
        )

    _generatorexp = _listcomp

    def _setcomp(self, node: ast.SetComp) -> str:
        return f"$set({self._listcomp(ast.ListComp(node.elt, node.generators))})"

    def _dictcomp(self, node: ast.DictComp) -> str:
        def pair() -> str:
            return f"$r.put({self.expression(node.key)}, {self.expression(node.value)});"

        return self.comprehended(node.generators, pair, "const $r = $dict();", "$r")

    def comprehended(self, generators: list[ast.comprehension], inner: Any, start: str, result: str) -> str:
        """Loops in a function of their own. ``inner`` writes the statement of the innermost loop."""
        around, opened = self.scope, []
        for generator in generators:
            over = self.expression(generator.iter)
            names = {one.id for one in ast.walk(generator.target) if isinstance(one, ast.Name)}
            if any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(generator.iter)):
                if generator is not generators[0]:
                    raise self.refuse(generator.iter, "a loop over a variable of its own name")
                start, over = f"{start} const $o = {over};", "$o"
            self.scope = Scope(names, self.scope)
            opened.append(f"for (const {self.target(generator.target)} of {over})")
            opened += [f"if ({self.condition(test)})" for test in generator.ifs]
        body = inner()
        self.scope = around
        return f"(() => {{ {start} {' '.join(opened)} {{ {body} }} return {result}; }})()"

    def target(self, node: ast.expr) -> str:
        """What an assignment or a loop assigns to."""
        if isinstance(node, ast.Name):
            return identifier(node.id)
        if isinstance(node, (ast.Tuple, ast.List)):
            if any(isinstance(one, ast.Starred) for one in node.elts[:-1]):
                raise self.refuse(node, "a starred target that is not the last")
            return f"[{', '.join('' if _is_blank(one) else self.target(one) for one in node.elts)}]"
        if isinstance(node, ast.Starred):
            return f"...{self.target(node.value)}"
        if isinstance(node, ast.Attribute):
            return f"{self.expression(node.value)}.{node.attr}"
        raise self.refuse(node)


def _is_blank(node: ast.expr) -> bool:
    """Whether a target is the variable whose value nobody reads."""
    return _is_blank(node.value) if isinstance(node, ast.Starred) else isinstance(node, ast.Name) and node.id == "_"
