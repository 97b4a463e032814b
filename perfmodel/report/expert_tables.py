"""The tables of a batch's spread over the experts of a layer."""

from __future__ import annotations

from perfmodel.expert_tables import Spread
from perfmodel.report.sheet import Column, Sheet
from perfmodel.units import significant


def padding(found: Spread) -> Sheet:
    """Returns one line for each height of a tile."""
    columns = [
        Column("tile", "rows of a tile", lambda line: line.tile, "{:,}".format),
        Column("rows", "rows with padding", lambda line: line.rows, lambda value: significant(value, 5)),
        Column("share", "padding", lambda line: line.share, "{:,.1%}".format),
    ]
    return Sheet(columns, found.padding)


def ranks(found: Spread) -> Sheet:
    """Returns one line for each number of ranks."""
    columns = [
        Column("ranks", "ranks", lambda line: line.ranks, "{:,}".format),
        Column("load", "busiest, by popularity", lambda line: line.load, "{:.3f}x".format),
        Column("with_chance", "with chance", lambda line: line.with_chance, "{:.3f}x".format),
    ]
    return Sheet(columns, found.ranks)


def summary(found: Spread) -> str:
    """Returns the expected numbers in sentences."""
    each, busy = significant(found.rows / found.experts, 4), significant(found.rows / found.distinct, 4)
    makes = "token makes" if found.tokens == 1 else "tokens make"
    return (
        f"{found.tokens:,} {makes} {found.rows:,} rows: {each} for an expert on average, {significant(found.largest, 4)} for "
        f"the most popular one. {significant(found.distinct, 5)} of {found.experts:,} experts have rows, {busy} each (expected "
        "numbers)."
    )
