"""Draws a roofline chart: takes cards with ceilings and points, returns a figure.

Positions, also of labels, are in points on the page, so what does not overlap here does not overlap in any format.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, degrees, pi, sqrt
from typing import Any, NamedTuple

from perfmodel.chart import MEASURED, Card, Point, Slope, brief, limits, tags, unplaced
from perfmodel.report.canvas import EDGE_PT, LINE_PT, MARK_PT, Canvas, Entry, Ruler, canvas
from perfmodel.report.families import Family, families, touch
from perfmodel.report.geometry import Box, Segment, Spot, beyond, length, spread, square
from perfmodel.report.picture import COLOURS, DASHES, FAINT, INK, INKS, SHAPES, WIDTH_PT, settings
from perfmodel.report.placement import BESIDE_PT, Candidate, around, beside, settled

HEIGHT_PT = 300.0
ROOF_GAP_PT, ROOF_NAME_PT = 14.0, 170.0
AXES_PT = 0.65 * WIDTH_PT  # approximate width without the margins
RIDGE_PT, NEST_PT, HALO_PT = 2.5, 3.0, 6.0
RIDGES_AT_MOST = 1  # with more cards, ridges are written beside the roofs: leaders would cross other slopes
WHOLE_PT, LEAST_PT = 17.0, 3.2  # diameters of a kernel with the whole time, and of one with almost none
CORNER = 1.3  # from the middle of a square to its edge, in halves of its side, on average over the directions
OVERLAID = 0.65  # factor of the diameters if there are several cards
SAMPLES, OVERLAID_SAMPLES = (0.01, 0.1, 0.3), (0.1, 0.3, 1.0)  # shares of the time in the legend
LINES_AT_MOST = 32  # maximum lines of names beside points
NAMES_WIDE = 18
CACHE_DASH, MEASURED_DASH, HAIR_DASH = (0, (2, 2)), (0, (1, 2)), (0, (1, 2))
# Attempts: (numbers instead of names, height, omit labels that do not fit).
ATTEMPTS = ((False, 1.0, False), (False, 1.25, False), (True, 1.0, False), (True, 1.6, True))


class Style(NamedTuple):
    """Colours and shapes. Colours distinguish cards if there are several, else workloads; shapes distinguish the other."""

    cards: Sequence[Card]
    groups: Sequence[str]

    def colour(self, card: int, point: Point | None = None) -> str:
        if len(self.cards) > 1:
            return COLOURS[card % len(COLOURS)]
        return COLOURS[self.groups.index(point.group) % len(COLOURS)] if point else INK

    def ink(self, card: int) -> str:
        """Returns the colour for text, which needs more contrast than a line."""
        return INKS[card % len(INKS)] if len(self.cards) > 1 else INK

    def shape(self, card: int, point: Point) -> str:
        return SHAPES[(self.groups.index(point.group) if len(self.groups) > 1 else card) % len(SHAPES)]

    def diameter(self, share: float) -> float:
        """Returns the diameter of a mark whose area is a share of the time."""
        return max(LEAST_PT, WHOLE_PT * sqrt(share) * (OVERLAID if len(self.cards) > 1 else 1.0))

    def whose(self) -> list[str]:
        """Returns the prefix of the names of each card's ceilings."""
        return [f"{tag} " for tag in tags(self.cards)] if len(self.cards) > 1 else [""]


class Label(NamedTuple):
    """A text, its candidate positions and its style."""

    text: str
    candidates: list[Candidate]
    style: dict[str, Any]


def figure(cards: Sequence[Card], title: str, notes: Sequence[str] = ()) -> Any:
    """Returns the chart, with names beside the points; if they do not fit, with numbers and a list below."""
    with settings():
        for numbered, taller, at_worst in ATTEMPTS:
            height = taller * HEIGHT_PT * (1.2 if len(cards) > 1 else 1.0)
            found = _drawn(cards, title, notes, numbered, height, at_worst)
            if found is not None:
                break
    return found


def _drawn(
    cards: Sequence[Card], title: str, notes: Sequence[str], numbered: bool, height: float, at_worst: bool
) -> Any | None:
    """Returns one attempt; None if the labels do not fit."""
    ruler, style = Ruler(), Style(cards, _groups(cards))
    kin = families(cards, Box(0, 0, AXES_PT, height), limits(cards))
    texts = ["\n".join(_lines(family.names)) for family in kin]
    if not numbered and sum(text.count("\n") + 1 for text in texts) > LINES_AT_MOST:
        return None
    key = [(str(i), ", ".join(_unbroken(f.names))) for i, f in enumerate(kin, 1) if numbered]
    zeros = unplaced(cards)
    below = [*key, *(("", f"No FLOPs, so not on the axes: {', '.join(_unbroken(zeros))}.") for _ in zeros[:1])]
    below += [("", note) for note in notes]
    roofs = roof_texts(ruler, style)
    margin = max(ruler.size(text)[0] for text, _, _ in roofs) + ROOF_GAP_PT + EDGE_PT
    page = canvas(ruler, title, _legend(style), below, limits(cards), margin, height)
    lines = ceilings(page, style) + _hairlines(page, kin, len(cards)) + _drops(page, style)
    roof_names(page, roofs)
    marks, radii = _points(page, style)
    labels = [*slope_labels(page, ruler, style), *_ridge_labels(page, ruler, style)]
    named = [number for number, _ in key] if numbered else texts
    labels += [_family_label(page, ruler, text, family) for text, family in zip(named, kin, strict=True)]
    places = settled(
        [label.candidates for label in labels], page.frame, marks, lines, at_worst, 0.0 if len(cards) > 1 else BESIDE_PT
    )
    for label, place in zip(labels, places or [], strict=False):
        if place is not None:
            write(page, label, place, radii.get(place.anchor, RIDGE_PT / 2))
    return page.figure if places is not None else None


def _groups(cards: Sequence[Card]) -> list[str]:
    """Returns the workloads of the points on the axes."""
    return list(dict.fromkeys(point.group for card in cards for point in card.points if point.flop_per_s))


def _legend(style: Style) -> list[list[Entry]]:
    """Returns the meaning of colours, dashes and shapes, cards first."""
    several = len(style.cards) > 1
    by_card = len(style.groups) < 2
    cards = [
        Entry(card.title, style.colour(i), SHAPES[i % len(SHAPES)] if by_card else "", DASHES[i % len(DASHES)])
        for i, card in enumerate(style.cards)
    ]
    groups = [
        Entry(group, FAINT if several else COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], face=_face(style, i))
        for i, group in enumerate(style.groups)
        if not by_card
    ]
    points = [point for card in style.cards for point in card.points if point.flop_per_s]
    ours = [point for point in points if point.kind != MEASURED]
    meanings = [Entry("expected" if any(point.reached for point in ours) else "predicted", INK, "o")] * bool(ours)
    if len(ours) < len(points):
        shares = any(point.of_bound and point.named for point in points)
        meanings.append(Entry("measured" + ", with its share of the bound" * shares, INK, "o", face=INK))
    if any(point.reached for point in points):
        meanings.append(Entry("bound, with a line to it", INK, "_"))
    meanings.append(Entry("ridge (FLOP/byte)", INK, "o", face=INK, size=RIDGE_PT))
    samples = OVERLAID_SAMPLES if len(style.cards) > 1 else SAMPLES
    if any(point.share for point in points):
        meanings += [
            Entry(f"{share:.0%}".replace("%", " %") + " of time" * (share == samples[-1]), FAINT, "o",
                  size=style.diameter(share))
            for share in samples
        ]  # fmt: skip
    return [cards if several else [], groups, meanings]


def _face(style: Style, group: int) -> str:
    """Returns the colour inside the marks of a workload in the legend: full if all were measured."""
    kinds = {point.kind for card in style.cards for point in card.points if point.group == style.groups[group]}
    return COLOURS[group % len(COLOURS)] if kinds == {MEASURED} else "white"


# --- ceilings


def ceilings(page: Canvas, style: Style) -> list[Segment]:
    """Draws slopes, roofs and ridges, and returns the lines that labels must avoid.

    Slopes have a white edge: the roofs of other cards pass below them, with a gap.
    """
    found = []
    many = len(style.cards) > 1
    for i, card in enumerate(style.cards):
        colour, dash = style.colour(i), DASHES[i % len(DASHES)]
        top = max(roof.flop_per_s for roof in card.roofs)
        for slope in card.slopes:
            ends = _ends(page, card, slope)
            if slope is card.slopes[0]:
                if many:
                    x0, y0, x1, y1 = beyond((*ends[0], *ends[1]), HALO_PT)  # not over the axis
                    page.line((x0, y0), (x1, y1), color="white", linewidth=HALO_PT, solid_capstyle="butt", zorder=1.7)
                found += page.line(*ends, color=colour, linestyle=_dash(slope.kind, dash), linewidth=1.4)
            else:
                faster = slope.byte_per_s > card.slopes[0].byte_per_s
                ends += [page.at(top / card.slopes[0].byte_per_s, top)] if faster else []
                found += page.line(*ends, color=colour, linestyle=_dash(slope.kind, CACHE_DASH), linewidth=0.8)
        for roof in card.roofs:
            x, y = page.at(card.ridge(roof), roof.flop_per_s)
            width = 0.8 if roof.kind == MEASURED or (many and roof.flop_per_s < top) else 1.4
            found += page.line(
                (x, y), (page.frame.right, y), color=colour, linestyle=_dash(roof.kind, dash), linewidth=width,
                zorder=1.5,
            )  # fmt: skip
            page.mark((x, y), "o", RIDGE_PT, colour, colour)
    return found


def _dash(kind: str, dash: Any) -> Any:
    return MEASURED_DASH if kind == MEASURED else dash


def _ends(page: Canvas, card: Card, slope: Slope) -> list[Spot]:
    """Returns where a slope enters the axes, and where it meets the highest roof."""
    top = max(roof.flop_per_s for roof in card.roofs)
    start = max(page.span.left, page.span.bottom / slope.byte_per_s)
    return [page.at(x, x * slope.byte_per_s) for x in (start, top / slope.byte_per_s)]


def roof_texts(ruler: Ruler, style: Style) -> list[tuple[str, float, str]]:
    """Returns the text at the end of each roof, its height on the axes and its colour; with many cards, the ridge too."""
    found = []
    for i, (whose, card) in enumerate(zip(style.whose(), style.cards, strict=True)):
        same: dict[float, list[str]] = {}
        for roof in card.roofs:
            same.setdefault(roof.flop_per_s, []).append(roof.name)
        for peak, names in same.items():
            words = [whose + _joined(names), *_unbroken([brief(peak, "FLOP/s")])]
            ridge = brief(peak / card.slopes[0].byte_per_s)
            words += _unbroken([f"• {ridge}"]) if len(style.cards) > RIDGES_AT_MOST else []
            text = "\n".join(ruler.wrapped(" ".join(words), ROOF_NAME_PT))
            found.append((text, peak, style.ink(i)))
    return found


def _joined(names: Sequence[str]) -> str:
    """Returns names of one roof, the word that they share once: ``tensor bf16, fp16``."""
    first = names[0].partition(" ")[0] + " "
    return ", ".join([names[0], *(name.removeprefix(first) for name in names[1:])])


def roof_names(page: Canvas, texts: Sequence[tuple[str, float, str]]) -> None:
    """Writes the names of the roofs in the right margin, moved apart if roofs are close."""
    right = page.frame.right
    ends = [page.at(page.span.right, peak)[1] for _, peak, _ in texts]
    apart = LINE_PT * max(text.count("\n") + 1 for text, _, _ in texts)
    heights = spread(ends, apart, page.frame.bottom + apart / 2, page.frame.top - apart / 2)
    for (text, _, colour), end, height in zip(texts, ends, heights, strict=True):
        last = right + ROOF_GAP_PT
        page.line((right, end), (right + 3, end), (last - 5, height), (last - 2, height), color=colour, linewidth=0.6)
        page.write((last, height), text, ha="left", color=colour)


# --- points


def _points(page: Canvas, style: Style) -> tuple[list[Box], dict[Spot, float]]:
    """Draws the marks, their areas the shares of time; returns the boxes of marks and ridges, and the radii of the marks.

    Marks without a share are drawn one around another if workloads coincide.
    """
    marks: dict[tuple[str, str, str], list[Spot]] = {}
    sized = []
    for i, card in enumerate(style.cards):
        for point in card.points:
            if not point.flop_per_s:
                continue
            place, colour = page.at(point.intensity, point.height), style.colour(i, point)
            look = (style.shape(i, point), colour, colour if point.kind == MEASURED else "white")
            if point.share is not None:
                sized.append((style.diameter(point.share), place, look))
                continue
            under = sum(any(touch(place, other) for other in places) for key, places in marks.items() if key != look)
            if not any(touch(place, other) for other in marks.setdefault(look, [])):
                marks[look].append(place)
                sized.append((MARK_PT + NEST_PT * under, place, look))
    for size, place, (shape, colour, face) in sorted(sized, key=lambda mark: -mark[0]):
        page.mark(place, shape, size, colour, face, order=4)
    ridges = [page.at(card.ridge(roof), roof.flop_per_s) for card in style.cards for roof in card.roofs]
    boxes = [square(place, size / 2 + 0.6) for size, place, _ in sized] + [square(place, 2.0) for place in ridges]
    radii: dict[Spot, float] = {}
    for size, place, (shape, _, _) in sized:
        radii[place] = max(radii.get(place, 0.0), size / 2 * (CORNER if shape in "sD" else 1.0))
    return boxes, radii


def _drops(page: Canvas, style: Style) -> list[Segment]:
    """Draws a line from each kernel up to its bound."""
    found = []
    for i, card in enumerate(style.cards):
        for point in card.points:
            if not point.flop_per_s or point.reached is None:
                continue
            low, high = page.at(point.intensity, point.height), page.at(point.intensity, point.flop_per_s)
            colour = style.colour(i, point)
            page.line(high, marker="_", markersize=5.0, markeredgewidth=0.9, color=colour, zorder=3.5)
            if high[1] - low[1] > style.diameter(point.share or 0) / 2:
                found += page.line(low, high, color=colour, linewidth=0.6, zorder=3)
    return found


def _hairlines(page: Canvas, families: Sequence[Family], cards: int) -> list[Segment]:
    """Draws lines that join a kernel's predicted and measured points."""
    found = []
    for family in families:
        if len(family.places) > 1 and cards == 1:
            spots = [page.at(*place) for place in sorted(family.places, key=lambda place: place[1])]
            found += page.line(*spots, color=FAINT, linewidth=0.4, linestyle=HAIR_DASH, zorder=1)
    return found


# --- labels


def _lines(names: Sequence[str]) -> list[str]:
    """Returns the names in lines, as many per line as fit."""
    found = [""]
    for i, name in enumerate(names):
        word = name + ("," if i < len(names) - 1 else "")
        if found[-1] and len(found[-1]) + 1 + len(word) > NAMES_WIDE:
            found.append(word)
        else:
            found[-1] += f" {word}" if found[-1] else word
    return found


def _unbroken(names: Sequence[str]) -> list[str]:
    return [name.replace("\n", ": ").replace(" ", "\N{NO-BREAK SPACE}") for name in names]


def _family_label(page: Canvas, ruler: Ruler, text: str, family: Family) -> Label:
    """Returns a label at the highest or the lowest of its points; the space between them is often occupied.

    If kernels share the label, it may be at the point of any of them.
    """
    ends = dict.fromkeys([f(family.places, key=lambda place: place[1]) for f in (max, min)])
    ends |= dict.fromkeys(family.alike if len(family.places) == 1 else [])
    size = ruler.size(text)
    return Label(text, [c for place in ends for c in around(page.at(*place), *size)], {"color": INK})


def _ridge_labels(page: Canvas, ruler: Ruler, style: Style) -> list[Label]:
    ridges = {
        (brief(card.ridge(roof)), page.at(card.ridge(roof), roof.flop_per_s), style.ink(i)): None
        for i, card in enumerate(style.cards if len(style.cards) <= RIDGES_AT_MOST else [])
        for roof in card.roofs
    }
    return [
        Label(text, around(place, *ruler.size(text), favour=pi * 0.75), {"color": ink}) for text, place, ink in ridges
    ]


def slope_labels(page: Canvas, ruler: Ruler, style: Style) -> list[Label]:
    """Returns the names of the slopes, written along them."""
    found = []
    for i, (whose, card) in enumerate(zip(style.whose(), style.cards, strict=True)):
        for slope in card.slopes:
            name = "" if whose and slope is card.slopes[0] else f"{slope.name} "
            text = f"{whose}{name}{brief(slope.byte_per_s, 'B/s')}"
            (x0, y0), (x1, y1) = _ends(page, card, slope)
            look = {"color": style.ink(i), "rotation_mode": "anchor", "rotation": degrees(atan2(y1 - y0, x1 - x0))}
            below = slope.byte_per_s < card.slopes[0].byte_per_s
            found.append(Label(text, beside((x0, y0, x1, y1), *ruler.size(text), below), look))
    return found


def write(page: Canvas, label: Label, place: Candidate, radius: float) -> None:
    """Writes a label, with a leader from the edge of its mark."""
    if place.leader and length(place.leader) > radius:
        leader = beyond(place.leader, radius)
        page.line(leader[:2], leader[2:], color=FAINT, linewidth=0.5, zorder=5)
    beside_it = place.middle[0] - place.anchor[0]
    side = "center" if abs(beside_it) < 1 else "left" if beside_it > 0 else "right"
    page.write(place.middle, label.text, multialignment=side, **label.style)
