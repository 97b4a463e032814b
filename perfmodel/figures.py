"""Figures of data sheets as files state them: a value with its unit, its source, and how its parts add up."""

from typing import NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.specfile import Mapping
from perfmodel.units import scaled

CLOCKS = ("base", "boost", "tensor")
AGREES = 0.005  # largest relative difference of a figure from what its parts give

# Values of fitted and measured figures by file and name: those that were read in this process, and those that
# ``timing.changes`` sets temporarily.
READ: dict[tuple[str, str], float] = {}
CHANGED: dict[tuple[str, str], float] = {}


def stated(file: str, name: str, value: float) -> float:
    """Returns a fitted or measured figure of a file, or its temporary value."""
    READ[file, name] = value
    return CHANGED.get((file, name), value)


def number(page: Mapping, key: str, default: float | None = None) -> float:
    """Returns a fitted figure, which is a plain number of at least 0."""
    if default is not None and key not in page:
        return default
    found = page.scalar(key)
    try:
        value = float(found.text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise InputError(str(found.place), f"{shown(found.text)} is not a figure", "a number of at least 0 is accepted")
    return stated(page.place.file, f"{page.place.path}.{key}", value)


class Figure(NamedTuple):
    """A figure of a data sheet: value in base units, key of its source, and notes."""

    value: float
    source: str
    note: str = ""
    per_sm_clock: int | None = None
    clock: str = "boost"


class LinkFigure(NamedTuple):
    """The rate of a card's links to other devices, both directions together, and its parts where they are known.

    ``one_way_byte_per_s`` is one direction; it is ``links`` (lanes of PCIe) x ``per_link_byte_per_s``.
    """

    value: float
    source: str
    note: str = ""
    generation: int | None = None
    links: int | None = None
    one_way_byte_per_s: float | None = None
    per_link_byte_per_s: float | None = None


def source(page: Mapping) -> str:
    """Formats title, page and date of a source in one line."""
    parts = [page.text("title"), page.text("page", ""), f"read {page.text('read')}"]
    page.finish()
    return ", ".join(part for part in parts if part)


def table(
    page: Mapping, key: str, unit: str, keys: tuple[str, ...], sources: dict[str, str], others: tuple[str, ...] = ()
) -> dict[str, Figure]:
    """Reads the figures of one unit; ``others`` are keys of the same table with another unit."""
    if key not in page:
        return {}
    inner = page.mapping(key)
    found = {name: figure(inner, name, unit, sources) for name in keys if name in inner}
    for name in others:
        name in inner  # noqa: B015 - marks the key as known; the table of the other unit reads it
    inner.finish()
    return found


LINKS = ("nvlink", "scale_up", "pcie", "c2c")


def links(page: Mapping, sources: dict[str, str]) -> dict[str, LinkFigure]:
    """Reads the links of a card to other devices."""
    if "links" not in page:
        return {}
    table = page.mapping("links")
    found = {name: _link(table.mapping(name), sources) for name in LINKS if name in table}
    table.finish()
    return found


def _link(leaf: Mapping, sources: dict[str, str]) -> LinkFigure:
    """Reads a link and checks that its parts add up."""
    found = LinkFigure(
        value=leaf.quantity("value", "B/s"),
        source=leaf.choice("from", tuple(sources)),
        note=leaf.text("note", ""),
        generation=leaf.size("generation") if "generation" in leaf else None,
        links=leaf.size("links") if "links" in leaf else None,
        one_way_byte_per_s=leaf.quantity("one_way", "B/s") if "one_way" in leaf else None,
        per_link_byte_per_s=leaf.quantity("per_link", "B/s") if "per_link" in leaf else None,
    )
    leaf.finish()
    one_way = found.one_way_byte_per_s or found.value / 2
    parts = (found.links or 0) * (found.per_link_byte_per_s or 0.0) or one_way
    for key, known in (("value", found.value / 2), ("per_link", parts)):
        if abs(known / one_way - 1) > AGREES:
            raise InputError(
                leaf.place_of(key), f"it gives {scaled(known, 'B/s')} in one direction, not {scaled(one_way, 'B/s')}",
                f"value = 2 x one_way and one_way = links x per_link, within {AGREES:.1%}, are accepted", "Correct one of the figures.",
            )  # fmt: skip
    return found


def figure(page: Mapping, key: str, unit: str, sources: dict[str, str]) -> Figure:
    """Reads ``{value: 312 TFLOP/s, from: whitepaper, per_sm_clock: 2048, note: …}``."""
    leaf = page.mapping(key)
    found = Figure(
        value=float(leaf.size("value")) if unit == "count" else _value(leaf, unit),
        source=leaf.choice("from", tuple(sources)),
        note=leaf.text("note", ""),
        per_sm_clock=leaf.size("per_sm_clock") if "per_sm_clock" in leaf else None,
        clock=leaf.choice("clock", CLOCKS, "boost"),
    )
    leaf.finish()
    return found


def _value(leaf: Mapping, unit: str) -> float:
    """Reads a value. A rate may be in OP/s (integer types) or FLOP/s (floating-point types)."""
    return leaf.quantity("value", "FLOP/s" if unit == "OP/s" and "FLOP" in leaf.text("value") else unit)


def derived(leaf: Mapping, sources: dict[str, str], count: Figure, clocks: dict[str, Figure]) -> Figure:
    """Reads a rate that vendors publish only per multiprocessor and clock."""
    clock = leaf.choice("clock", tuple(clocks), "boost" if "boost" in clocks else None)
    per_sm_clock = leaf.size("per_sm_clock")
    value = count.value * per_sm_clock * clocks[clock].value
    found = Figure(value, leaf.choice("from", tuple(sources)), leaf.text("note", ""), per_sm_clock, clock)
    leaf.finish()
    return found
