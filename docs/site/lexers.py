"""Highlighting of JSON Lines, and of the cells, in which ``!perfmodel`` is a command."""

from __future__ import annotations

from typing import Any

from pygments.lexers.data import JsonLexer


def setup(app: Any) -> dict[str, bool]:
    """Registers the lexers."""
    app.add_lexer("jsonl", JsonLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
