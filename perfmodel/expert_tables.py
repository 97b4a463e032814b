"""The distribution of a batch over the experts of a layer: distinct experts, rows of each, padding to tiles, and the
busiest rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import routing
from perfmodel.operation import Operation

TILES = (8, 16, 32, 64, 128)  # rows of a tile of a grouped product
RANKS = (2, 4, 8, 16, 32, 64)


class Padding(NamedTuple):
    """Rows of a tile, and expected rows of all experts when each expert's are rounded up to whole tiles."""

    tile: int
    rows: float
    share: float


class Busiest(NamedTuple):
    """Ranks with E / ranks experts each: the expected rows of the busiest relative to the mean, by the popularity of its
    experts alone, and with chance.
    """

    ranks: int
    load: float
    with_chance: float


class Spread(NamedTuple):
    """``rows`` choices of A of E experts by ``tokens`` tokens. ``distinct``: expected number of experts with rows.
    ``largest``: expected rows of the most popular expert.
    """

    tokens: int
    rows: int
    experts: int
    distinct: float
    largest: float
    padding: tuple[Padding, ...]
    ranks: tuple[Busiest, ...]


def spread(operation: Operation, dims: Mapping[str, Any]) -> Spread | None:
    """Returns the spread of an operation at these sizes; None for an operation without a choice of experts."""
    if "routing" not in operation.arguments:
        return None
    return of(dims["E"], dims["A"], dims["B"] * dims["N"], dims.get("routing", routing.UNIFORM))


def of(E: int, A: int, tokens: int, how: routing.Routing = routing.UNIFORM) -> Spread:
    """Returns how tokens that choose A of E experts spread over them."""
    rows, own = tokens * A, routing.shares(E, A, how)
    padded = [(tile, routing.padded_rows(E, A, tokens, tile, how)) for tile in TILES]
    ranks = [number for number in RANKS if number <= E and E % number == 0]
    return Spread(
        tokens,
        rows,
        E,
        routing.distinct(E, A, tokens, how),
        tokens * max(own),
        tuple(Padding(tile, found, found / rows - 1.0) for tile, found in padded),
        tuple(
            Busiest(
                number,
                routing.busiest(E, A, number, how).load,
                routing.fullest_rank_rows(E, A, tokens, number, how) * number / rows,
            )
            for number in ranks
        ),
    )
