"""The error of the compiler: Python that it does not translate, with its file and line."""

from __future__ import annotations

import ast

from perfmodel.paths import label


class UntranslatableError(Exception):
    """Python code without a translation to JavaScript. The message names file and line."""

    def __init__(self, file: str, node: ast.AST | None, what: str) -> None:
        line = getattr(node, "lineno", None)
        self.file, self.line, self.what = file, line, what
        super().__init__(f"{label(file)}{f':{line}' if line else ''}: {what} has no translation to JavaScript")
