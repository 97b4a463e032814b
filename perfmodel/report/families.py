"""Groups of points that share a label on a chart: kernels at the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.chart import Card, Limits, Point, brief
from perfmodel.report.geometry import Box, Spot, spot

SAME_PT = 3.0


class Family(NamedTuple):
    """Kernels at the same positions, one position per card and kind, which share a label.

    ``places`` are those of the first kernel, ``alike`` those of the others, which differ by less than a mark.
    """

    names: list[str]
    places: list[Spot]
    alike: list[Spot]


def families(cards: Sequence[Card], frame: Box, span: Limits) -> list[Family]:
    """Returns groups of kernels that are within a few points of each other on every card, from left to right."""
    kernels: dict[tuple[str, str, float], list[Spot]] = {}
    for card in cards:
        for point in card.points:
            if point.flop_per_s and point.named:
                key = (point.group, _text(point), point.intensity)
                kernels.setdefault(key, []).append((point.intensity, point.height))
    found: list[tuple[list[Spot], Family]] = []
    for (_, name, _), places in kernels.items():
        spots = [spot(frame, span, *place) for place in places]
        near = next((family for others, family in found if _same(spots, others)), None)
        if near is None:
            found.append((spots, Family([name], places, [])))
            continue
        near.alike.extend(places)
        if name not in near.names:
            near.names.append(name)
    return [family for _, family in sorted(found, key=lambda item: min(item[0]))]


def _text(point: Point) -> str:
    """Returns the name of a point, of a measured one with its FLOP/s and their share of the bound."""
    if point.of_bound is None or point.reached is None:
        return point.name
    return f"{point.name}\n{brief(point.reached, 'FLOP/s', 3)}, {100 * point.of_bound:.0f} %"


def _same(some: Sequence[Spot], others: Sequence[Spot]) -> bool:
    return len(some) == len(others) and all(map(touch, some, others))


def touch(one: Spot, other: Spot) -> bool:
    """Returns whether two marks overlap."""
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) < SAME_PT
