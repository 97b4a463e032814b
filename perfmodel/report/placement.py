"""Places labels on a chart: near their marks, without overlaps, joined to the mark by a leader line if they are far.

Each label has candidate positions. They are chosen one by one, improved until nothing changes, and then improved in
pairs. The order is fixed, so the same chart always looks the same. Lengths are in points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import atan2, cos, pi, sin
from typing import NamedTuple

from perfmodel.report.geometry import Box, Segment, Spot, along, beyond, crosses, hull, length, square, touching

# Costs of a candidate, in units of one point of distance from its mark.
CONFLICT = 10_000.0
TEXT_OVER_LINE = 150.0
TEXT_NEAR_MARK = 12.0
LEADER = 4.0
LEADER_OVER_LINE = 12.0
LEADER_ALONG_LINE = 200.0
LEADER_OVER_MARK = 60.0
LEADER_OVER_LEADER = 80.0
WRONG_SIDE = 60.0

CLEAR_PT, GAP_PT, ALONG_PT = 1.2, 1.0, 8.0  # around a text, between two, and between two along the same line
NEAR_PT = 5.0  # a text this close to another mark looks like its label
BESIDE_PT = 7.0  # a text farther away needs a leader
MARK_PT = 3.0
APART_PT = 5.0
SHORT_PT = 25.0  # a shorter line, such as one from a mark to its bound, does not look like a leader
DISTANCES_PT = (4.5, 9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0, 120.0, 145.0, 175.0, 210.0)
DIRECTIONS = 16
CHOICES, ROUNDS = 200, 8
EQUAL = 1e-6


class Candidate(NamedTuple):
    """A position for a label: its middle, its boxes, the position of its mark, the leader line, and its cost.

    ``reach`` is the bounding box of all of it, for a quick check of what it can touch.
    """

    middle: Spot
    boxes: tuple[Box, ...]
    anchor: Spot
    leader: Segment | None
    cost: float
    reach: Box


def around(anchor: Spot, width: float, height: float, favour: float = 0.0) -> list[Candidate]:
    """Returns positions on rings around a mark; ``favour`` is the direction, in radians, with the lowest cost."""
    width, height = width + 2 * CLEAR_PT, height + 2 * CLEAR_PT
    x, y = anchor
    found = []
    for distance in DISTANCES_PT:
        for turn in range(DIRECTIONS):
            angle = 2 * pi * turn / DIRECTIONS
            across, up = round(cos(angle), 9), round(sin(angle), 9)
            middle = x + across * distance + _part(across) * width / 2, y + up * distance + _part(up) * height / 2
            box = Box(middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)
            leader = (x, y, min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
            cost = length(leader) + 2 * (1 - cos(angle - favour))
            found.append(Candidate(middle, (box,), anchor, leader, cost, hull([box], [leader])))
    return found


def _part(direction: float) -> float:
    """Returns the offset of a box from its mark, from -1 (one side) to 1 (the other side); near the axes it is in
    between.
    """
    return max(-1.0, min(1.0, direction * 1.5))


def beside(line: Segment, width: float, height: float, below: bool = False) -> list[Candidate]:
    """Returns positions for a text along a rising line, preferably above its middle, or below it with ``below``."""
    x0, y0, x1, y1 = line
    angle = atan2(y1 - y0, x1 - x0)
    found = []
    for step in range(2, 39):
        part = step / 40
        for off in (height / 2 + 1.5, height / 2 + 5, -height / 2 - 1.5, -height / 2 - 5):
            middle = x0 + part * (x1 - x0) - off * sin(angle), y0 + part * (y1 - y0) + off * cos(angle)
            boxes = _tilted(middle, angle, width, height)
            cost = 60 * abs(part - 0.5) + abs(off) + (WRONG_SIDE if (off < 0) != below else 0)
            found.append(Candidate(middle, boxes, middle, None, cost, hull(boxes, [])))
    return found


def _tilted(middle: Spot, angle: float, width: float, height: float) -> tuple[Box, ...]:
    """Returns a tilted text as two rows of small boxes."""
    side = height / 2
    count = int(width / side) + 1
    x, y = middle
    return tuple(
        square((x + s * cos(angle) - row * sin(angle), y + s * sin(angle) + row * cos(angle)), side / 2)
        for s in ((k / count - 0.5) * (width - side) for k in range(count + 1))
        for row in (-side / 2, side / 2)
    )


def settled(
    labels: Sequence[Sequence[Candidate]],
    frame: Box,
    marks: Sequence[Box],
    lines: Sequence[Segment],
    at_worst: bool = False,
    beside_pt: float = BESIDE_PT,
) -> list[Candidate | None] | None:
    """Returns one candidate per label, inside the frame and without overlaps; None if that is impossible.

    With ``at_worst``, labels without a free position get None instead. A text farther than ``beside_pt`` from its mark
    has a leader.
    """
    choices = [_standing(label, frame, marks, lines, beside_pt) for label in labels]
    if not at_worst and not all(choices):
        return None
    costs = Costs()
    trials = [_trial(choices, order, costs) for order in _orders(choices)]
    chosen = _swapped(choices, min(trials, key=costs.total), costs)
    kept: dict[int, Candidate] = {}
    for i, candidate in chosen.items():
        if all(costs.between(candidate, other) < CONFLICT for other in kept.values()):
            kept[i] = candidate
        elif not at_worst:
            return None
    return [kept.get(i) for i in range(len(labels))]


# --- what a candidate costs


def _standing(
    label: Sequence[Candidate], frame: Box, marks: Sequence[Box], lines: Sequence[Segment], beside_pt: float
) -> list[Candidate]:
    """Returns the candidates that fit, with the cost of fixed marks and lines added; the cheapest first."""
    fitting = [
        candidate
        for candidate in label
        if all(frame.holds(box) for box in candidate.boxes)
        and not any(box.overlaps(mark) for mark in marks if mark.overlaps(candidate.reach) for box in candidate.boxes)
    ]
    judged = [_judged(candidate, marks, lines, beside_pt) for candidate in fitting]
    return sorted(judged, key=lambda candidate: candidate.cost)[:CHOICES]


def _judged(candidate: Candidate, marks: Sequence[Box], lines: Sequence[Segment], beside_pt: float) -> Candidate:
    """Returns the candidate with the cost of lines and marks that it touches, and without a leader if it is near its
    mark.
    """
    own, cost = square(candidate.anchor, 0), candidate.cost
    near = [line for line in lines if candidate.reach.meets(line)]
    cost += TEXT_OVER_LINE * sum(any(box.meets(line) for box in candidate.boxes) for line in near)
    others = [mark for mark in marks if mark.overlaps(candidate.reach, NEAR_PT) and not mark.overlaps(own)]
    cost += TEXT_NEAR_MARK * sum(any(box.overlaps(mark, NEAR_PT) for box in candidate.boxes) for mark in others)
    leader = candidate.leader
    if leader is None:
        return candidate._replace(cost=cost)
    crossed = sum(crosses(beyond(leader, MARK_PT), line) for line in near)
    if length(leader) <= beside_pt and not crossed:
        return candidate._replace(cost=cost, leader=None)
    cost += LEADER + LEADER_OVER_LINE * crossed
    cost += LEADER_ALONG_LINE * sum(along(leader, line, APART_PT) for line in near if length(line) > SHORT_PT)
    cost += LEADER_OVER_MARK * sum(mark.meets(leader) for mark in others)
    return candidate._replace(cost=cost)


class Costs:
    """The cost of each pair of candidates. The search asks for the same pairs many times."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], float] = {}

    def between(self, one: Candidate, other: Candidate) -> float:
        """Returns the cost of two labels together. The candidates are known by their identity, and must stay alive."""
        if not one.reach.overlaps(other.reach, ALONG_PT):
            return 0.0
        pair = (id(one), id(other))
        if pair not in self._known:
            self._known[pair] = self._known[pair[::-1]] = _between(one, other)
        return self._known[pair]

    def among(self, candidate: Candidate, others: Sequence[Candidate]) -> float:
        return candidate.cost + sum(self.between(candidate, other) for other in others)

    def total(self, chosen: dict[int, Candidate]) -> float:
        placed = list(chosen.values())
        return sum(self.among(candidate, placed[:i]) for i, candidate in enumerate(placed))


def _in_line(one: Candidate, other: Candidate) -> bool:
    """Returns whether two tilted texts follow each other on one line, where they would read as one text."""
    if min(len(one.boxes), len(other.boxes)) == 1:
        return False
    start, end = one.boxes[0], one.boxes[-2]  # of the lower row
    angle = atan2(end.bottom - start.bottom, end.left - start.left)
    across, up = other.middle[0] - one.middle[0], other.middle[1] - one.middle[1]
    return abs(up * cos(angle) - across * sin(angle)) < ALONG_PT


def _between(one: Candidate, other: Candidate) -> float:
    """Returns the cost of two labels together, if they can touch."""
    gap = ALONG_PT if _in_line(one, other) else GAP_PT
    ours = [box for box in one.boxes if box.overlaps(other.reach, gap)]
    theirs = [box for box in other.boxes if box.overlaps(one.reach, gap)]
    cost = CONFLICT if touching(ours, theirs, gap) else 0.0
    if one.leader and any(box.grown(GAP_PT).meets(one.leader) for box in theirs):
        cost += CONFLICT
    if other.leader and any(box.grown(GAP_PT).meets(other.leader) for box in ours):
        cost += CONFLICT
    if one.leader and other.leader and one.anchor != other.anchor and crosses(one.leader, other.leader):
        cost += LEADER_OVER_LEADER
    return cost


# --- the search


def _orders(choices: Sequence[Sequence[Candidate]]) -> list[list[int]]:
    """Returns orders in which labels choose: those with few positions first, from the left, from the right."""
    everyone = [i for i, places in enumerate(choices) if places]
    keys: tuple[Callable[[int], float], ...] = (
        lambda i: len(choices[i]),
        lambda i: choices[i][0].anchor[0],
        lambda i: -choices[i][0].anchor[0],
    )
    return [sorted(everyone, key=key) for key in keys]


def _trial(choices: Sequence[Sequence[Candidate]], order: Sequence[int], costs: Costs) -> dict[int, Candidate]:
    """Chooses the best position for each label in turn, until no label changes."""
    chosen: dict[int, Candidate] = {}
    for _ in range(ROUNDS):
        before = dict(chosen)
        for i in order:
            chosen[i] = _best(choices[i], [candidate for j, candidate in chosen.items() if j != i], costs)
        if chosen == before:
            break
    return chosen


def _best(choices: Sequence[Candidate], others: Sequence[Candidate], costs: Costs) -> Candidate:
    best, least = choices[0], float("inf")
    for candidate in choices:
        if candidate.cost >= least:
            break
        cost = candidate.cost
        for other in others:
            cost += costs.between(candidate, other)
            if cost >= least:
                break
        if cost < least:
            best, least = candidate, cost
    return best


def _swapped(
    choices: Sequence[Sequence[Candidate]], chosen: dict[int, Candidate], costs: Costs
) -> dict[int, Candidate]:
    """Moves a label to a better position that another one occupies, if the other finds a new one at a lower total cost."""
    for _ in range(ROUNDS):
        before = chosen
        for i in before:
            here = costs.among(chosen[i], [other for j, other in chosen.items() if j != i])
            better = (candidate for candidate in choices[i] if candidate.cost < here)
            pushed = (_pushed(choices, chosen, i, candidate, costs) for candidate in better)
            chosen = {**chosen, **next(filter(None, pushed), {})}
        if chosen == before:
            break
    return chosen


def _pushed(
    choices: Sequence[Sequence[Candidate]], chosen: dict[int, Candidate], i: int, candidate: Candidate, costs: Costs
) -> dict[int, Candidate]:
    """Returns the label at this position and the blocking label elsewhere; empty if the total cost is not lower."""
    blocking = [j for j, other in chosen.items() if j != i and costs.between(candidate, other)]
    if len(blocking) > 1:
        return {}
    others = [other for k, other in chosen.items() if k != i and k not in blocking]
    moved = {i: candidate, **{j: _best(choices[j], [*others, candidate], costs) for j in blocking}}
    before = costs.total({j: chosen[j] for j in moved}) + sum(
        costs.between(chosen[j], other) for j in moved for other in others
    )
    after = costs.total(moved) + sum(costs.between(moved[j], other) for j in moved for other in others)
    return moved if after < before - EQUAL else {}
