"""The table of traffic against tile size."""

from __future__ import annotations

from perfmodel.report.sheet import Column, Sheet
from perfmodel.tile_tables import Tiles
from perfmodel.units import scaled, significant


def sheet(found: Tiles) -> Sheet:
    """Returns one line for each tile; the columns of bounds need a card."""
    columns = [
        Column("size", found.name, lambda tile: tile.size, "{:,}".format),
        Column("chip_byte", "on chip", lambda tile: tile.chip_byte, lambda value: scaled(value, "B", 4)),
        Column("sum_byte", "sums", lambda tile: tile.sum_byte, lambda value: scaled(value, "B", 4)),
        Column("traffic", "traffic", lambda tile: tile.traffic_byte, lambda value: scaled(value, "B", 4)),
        Column("intensity", "FLOP/B", lambda tile: tile.intensity, lambda value: significant(value, 4)),
        Column("bound", "bottleneck", lambda tile: tile.bound, right=False),
        Column("lower_s", "at least", lambda tile: tile.lower_s, lambda value: scaled(value, "s", 4)),
    ]
    return Sheet([column for column in columns if any(map(column.value, found.tiles))], found.tiles)


def note(found: Tiles) -> str:
    """Returns the largest tile and what limits it."""
    return f"Largest tile that fits, {found.name} = {found.tiles[-1].size}: {found.limit}."
