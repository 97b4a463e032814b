"""The table of on-chip memory against context."""

from __future__ import annotations

from perfmodel.context_tables import Contexts
from perfmodel.report.sheet import Column, Sheet
from perfmodel.units import scaled


def sheet(found: Contexts) -> Sheet:
    """Returns one line for each context; the last column needs a card."""
    columns = [
        Column("tokens", "N = S", lambda context: context.tokens, "{:,}".format),
        Column("score_byte", "scores", lambda context: context.score_byte, lambda value: scaled(value, "B", 4)),
        Column("level", "smallest memory that holds them", lambda context: context.level or "none", right=False),
    ]
    return Sheet(columns if found.levels else columns[:-1], found.contexts)


def note(found: Contexts) -> str:
    """Returns the formula, and the longest context of each on-chip memory."""
    longest = [
        f"{level.longest:,} in {level.name.replace('shared', 'the shared')} ({level.byte:,} B)"
        for level in found.levels
        if level.name != "device memory"
    ]
    most = f" Longest context: {', '.join(longest)}." if longest else " Add --gpu GPU for the memory that holds them."
    return f"One head of one sequence: {found.item_byte} N² bytes.{most}"
