"""``match`` statements: patterns as conditions that assign what they capture."""

from __future__ import annotations

import ast

from perfmodel.explorer.compiler.expressions import Expressions
from perfmodel.explorer.compiler.scope import identifier


class Patterns(Expressions):
    """Translates ``match``."""

    def block(self, body: list[ast.stmt]) -> str:
        raise NotImplementedError

    def _do_match(self, node: ast.Match) -> str:
        subject = self.temporary()
        cases = []
        for case in node.cases:
            tests = [self._pattern(case.pattern, subject)]
            tests += [self.condition(case.guard)] if case.guard else []
            cases.append(f"if ({' && '.join(filter(None, tests)) or 'true'}) {{ {self.block(case.body)} }}")
        return f"{subject} = {self.expression(node.subject)}; {' else '.join(cases)}"

    def _pattern(self, node: ast.pattern, value: str) -> str:
        """The condition under which a value fits a pattern; empty for one that always does."""
        match node:
            case ast.MatchAs(pattern=None, name=None):
                return ""
            case ast.MatchAs(pattern=inner, name=name):
                tests = [self._pattern(inner, value)] if inner else []
                if name:
                    tests.append(f"(({identifier(name)} = {value}), true)")
                return " && ".join(filter(None, tests))
            case ast.MatchValue(value=expected):
                return f"$equal({value}, {self.expression(expected)})"
            case ast.MatchOr(patterns=patterns):
                return f"({' || '.join(self._pattern(one, value) or 'true' for one in patterns)})"
            case ast.MatchSequence(patterns=patterns):
                tests = [f"Array.isArray({value})", f"{value}.length === {len(patterns)}"]
                tests += [self._pattern(one, f"{value}[{at}]") for at, one in enumerate(patterns)]
                return " && ".join(filter(None, tests))
            case ast.MatchClass(cls=kind, patterns=[], kwd_attrs=names, kwd_patterns=patterns):
                tests = [f"$isinstance({value}, {self.expression(kind)})"]
                for name, one in zip(names, patterns, strict=True):
                    self.program.uses(name)
                    tests.append(self._pattern(one, f"{value}.{name}"))
                return " && ".join(filter(None, tests))
        raise self.refuse(node, f"the pattern '{ast.unparse(node)}'")
