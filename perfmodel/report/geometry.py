"""Boxes and lines on a page, in points (1/72 inch): overlaps, crossings and distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot
from typing import NamedTuple

from perfmodel.chart import Limits

Spot = tuple[float, float]
Segment = tuple[float, float, float, float]


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.bottom < other.top + gap
            and other.bottom < self.top + gap
        )

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.bottom <= other.bottom
            and other.right <= self.right
            and other.top <= self.top
        )

    def grown(self, by: float) -> Box:
        return Box(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def meets(self, line: Segment) -> bool:
        """Returns whether a line passes through the box (Liang and Barsky 1984)."""
        x0, y0, x1, y1 = line
        if (x0 < self.left and x1 < self.left) or (x0 > self.right and x1 > self.right):
            return False
        if (y0 < self.bottom and y1 < self.bottom) or (y0 > self.top and y1 > self.top):
            return False
        enters, leaves = 0.0, 1.0
        for step, room in (
            (x0 - x1, x0 - self.left),
            (x1 - x0, self.right - x0),
            (y0 - y1, y0 - self.bottom),
            (y1 - y0, self.top - y0),
        ):
            if step == 0:
                if room < 0:
                    return False
            elif step < 0:
                enters = max(enters, room / step)
            else:
                leaves = min(leaves, room / step)
        return enters <= leaves


def spot(frame: Box, span: Limits, x: float, y: float) -> Spot:
    """Converts a position on the axes of a frame to a position on the page."""
    across, up = span.parts(x, y)
    return frame.left + across * (frame.right - frame.left), frame.bottom + up * (frame.top - frame.bottom)


def square(middle: Spot, half: float) -> Box:
    """Returns the box that extends ``half`` from its middle to each side."""
    return Box(middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)


def touching(some: Sequence[Box], others: Sequence[Box], gap: float) -> bool:
    """Returns whether a box of the one list overlaps, or nearly overlaps, a box of the other."""
    for left, bottom, right, top in others:
        near = (left - gap, bottom - gap, right + gap, top + gap)
        for box in some:
            if box.left < near[2] and near[0] < box.right and box.bottom < near[3] and near[1] < box.top:
                return True
    return False


def hull(boxes: Iterable[Box], lines: Iterable[Segment]) -> Box:
    """Returns the smallest box around all boxes and lines."""
    corners = [*boxes, *(Box(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in lines)]
    return Box(
        min(box.left for box in corners),
        min(box.bottom for box in corners),
        max(box.right for box in corners),
        max(box.top for box in corners),
    )


def length(line: Segment) -> float:
    """Returns the length of a line."""
    return hypot(line[2] - line[0], line[3] - line[1])


def beyond(line: Segment, start: float) -> Segment:
    """Returns the rest of a line after the distance ``start`` from its beginning."""
    x0, y0, x1, y1 = line
    part = min(1.0, start / (length(line) or 1.0))
    return x0 + part * (x1 - x0), y0 + part * (y1 - y0), x1, y1


def crosses(one: Segment, other: Segment) -> bool:
    """Returns whether two lines cross."""
    a, b, c, d = one[:2], one[2:], other[:2], other[2:]
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def along(one: Segment, other: Segment, apart: float) -> bool:
    """Returns whether the first line runs so close to the second that they look like one."""
    whole = length(other)
    ends = (one[:2], one[2:])
    return whole > 0 and all(abs(_side(other[:2], other[2:], end)) < apart * whole for end in ends)


def _side(a: Spot, b: Spot, c: Spot) -> float:
    """Returns a value that is positive if the third point is left of the line from the first to the second."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def spread(wanted: Iterable[float], apart: float, low: float, high: float) -> list[float]:
    """Returns positions near the wanted ones, in the same order, with a distance of at least ``apart``, between the ends if they
    fit.
    """
    order = sorted(enumerate(wanted), key=lambda item: item[1])
    bundles: list[
        tuple[float, list[int]]
    ] = []  # adjacent positions that touch: the mean of their wanted positions, and their indices
    for index, place in order:
        bundles.append((place, [index]))
        while len(bundles) > 1 and _first(bundles[-1], apart) < _last(bundles[-2], apart) + apart:
            (upper, above), (lower, below) = bundles.pop(), bundles.pop()
            count = len(above) + len(below)
            bundles.append(((upper * len(above) + lower * len(below)) / count, below + above))
    found = [0.0] * len(order)
    for bundle in bundles:
        for i, index in enumerate(bundle[1]):
            found[index] = _first(bundle, apart) + i * apart
    return _inside(found, [index for index, _ in order], apart, low, high)


def _first(bundle: tuple[float, list[int]], apart: float) -> float:
    return bundle[0] - apart * (len(bundle[1]) - 1) / 2


def _last(bundle: tuple[float, list[int]], apart: float) -> float:
    return bundle[0] + apart * (len(bundle[1]) - 1) / 2


def _inside(places: list[float], order: list[int], apart: float, low: float, high: float) -> list[float]:
    """Moves positions up from the lower end, then down from the upper end."""
    for i in order:
        places[i] = max(places[i], low)
        low = places[i] + apart
    for i in reversed(order):
        places[i] = min(places[i], high)
        high = places[i] - apart
    return places
