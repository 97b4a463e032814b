"""Measured limits of a card, from ``NAME.measured.yaml``. The file is beside the GPU file, in the user's folder, or
packaged.

``perfmodel calibrate`` writes it. The GPU file with the data sheet is not changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.figures import stated
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.paths import readings
from perfmodel.specfile import Mapping as Page
from perfmodel.specfile import parse, read_text
from perfmodel.units import scaled

# Sections of the file, each with its unit and the names that it may have.
TYPES = ("fp16", "bf16", "tf32", "fp32", "fp8")
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "stream": ("B/s", ("read", "copy", "add", "write")),
    "matmul": ("FLOP/s", tuple(f"{dtype} {way}" for dtype in TYPES for way in ("burst", "sustained"))),
    "l2": ("B/s", ("read",)),
    "fma": ("FLOP/s", ("fp32", "fp16")),
    "special": ("OP/s", ("exp2",)),
    "launch": ("s", ("replay warm", "replay cold", "graph node", "stream")),
    "latency": ("s", ("dram", "l2")),
    "links": ("B/s", ("ring", "message")),
    "link latency": ("s", ("launch", "hop")),
}


class Reading(NamedTuple):
    """Median and quartiles of a measured figure in base units, and how it was measured."""

    value: float
    low: float
    high: float
    note: str = ""


class Measured(NamedTuple):
    """All readings of one card by section and name, and the environment of the measurement."""

    file: str
    gpu: str
    made: dict[str, str]
    sections: dict[str, dict[str, Reading]]

    def value(self, section: str, name: str) -> float | None:
        """Returns a median, or None if it was not measured."""
        found = self.sections.get(section, {}).get(name)
        return found.value if found else None


def of(card: Gpu) -> Measured | None:
    """Returns the readings of the card, or None. Readings of another card, or far above the data sheet, are an error."""
    path = readings(card.name, card.file)
    if path is None:
        return None
    found = read(path)
    if found.gpu != card.name:
        raise InputError(
            f"{path}: gpu", f"the readings are of {shown(found.gpu)}, the card is {shown(card.name)}",
            "the readings of this card are accepted", "Rename the file, or run 'perfmodel calibrate' again.",
        )  # fmt: skip
    for section, name, most in _sheet(card):
        value = found.value(section, name)
        if value is not None and value > ABOVE_SHEET * most:
            unit = SECTIONS[section][0]
            raise InputError(
                f"{path}: {section}.{name}", f"{scaled(value, unit)} is measured, the data sheet gives {scaled(most, unit)}",
                f"at most {ABOVE_SHEET:g} times the data sheet is accepted", "Run 'perfmodel calibrate' again.",
            )  # fmt: skip
    return found


ABOVE_SHEET = 1.5  # largest accepted ratio of a reading and the data sheet


def _sheet(card: Gpu) -> Iterator[tuple[str, str, float]]:
    """Yields the readings that the data sheet bounds, each with its figure."""
    for name in SECTIONS["stream"][1]:
        yield "stream", name, card.bandwidth_byte_per_s.value
    for name in SECTIONS["matmul"][1]:
        peak = card.peak(Engine.TENSOR, name.partition(" ")[0])
        if peak is not None:
            yield "matmul", name, peak[0]


def read(path: str) -> Measured:
    """Returns the readings of a file."""
    return _parsed(read_text(path), path)


@lru_cache(maxsize=64)
def _parsed(contents: str, path: str) -> Measured:
    """Cached by contents, because the file at a path may change within a process."""
    page = parse(contents, path)
    made = page.mapping("measured")
    sections = {}
    for section, (unit, names) in SECTIONS.items():
        if section in page:
            table = page.mapping(section)
            sections[section] = {name: _reading(table, name, unit) for name in names if name in table}
            table.finish()
    sections = {
        section: {n: one._replace(value=stated(path, f"{section}.{n}", one.value)) for n, one in table.items()}
        for section, table in sections.items()
    }
    found = Measured(path, page.text("gpu"), {key: made.text(key) for key in made}, sections)
    page.finish()
    return found


def _reading(table: Page, name: str, unit: str) -> Reading:
    leaf = table.mapping(name)
    value, low, high = (leaf.quantity(key, unit) for key in ("value", "low", "high"))
    found = Reading(value, low, high, leaf.text("note", ""))
    leaf.finish()
    if not found.low <= found.value <= found.high:
        raise InputError(
            leaf.place_of("value"),
            "the value is not between low and high",
            "a median between its quartiles is accepted",
            "Run 'perfmodel calibrate' again.",
        )
    return found


def text(gpu: str, made: Mapping[str, str], readings: Iterable[tuple[str, str, Reading]]) -> str:
    """Returns the contents of the file."""
    lines = [
        "# Measured on the card by 'perfmodel calibrate': medians, and quartiles as low and high. Not a data sheet.",
        f"gpu: {gpu}",
        "measured: {" + ", ".join(f'{key}: "{value}"' for key, value in made.items()) + "}",
    ]
    section = ""
    for own, name, reading in readings:
        if own != section:
            lines.append(f"\n{own}:")
            section = own
        unit = SECTIONS[own][0]
        triple = {"value": reading.value, "low": reading.low, "high": reading.high}
        values = ", ".join(f"{key}: {_quantity(value, unit)}" for key, value in triple.items())
        note = f', note: "{reading.note}"' if reading.note else ""
        lines.append(f"  {name}: {{{values}{note}}}")
    return "\n".join(lines) + "\n"


def _quantity(value: float, unit: str) -> str:
    """Formats a rate as ``4.402 TB/s`` and a time in seconds."""
    if unit == "s":
        return f"{value:.4g} s"
    return f"{value / 1e12:.5g} T{unit}"
