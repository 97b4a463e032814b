"""All parameters of the time model, with value, unit, meaning and source.

Four folders of ``hardware`` state parameters: ``kernels`` (weights and facts of the mechanisms), ``families``, ``links``
and ``hosts``. A card's ``.measured.yaml`` replaces some of them by readings. ``changes`` changes a parameter temporarily;
``influences`` is the sensitivity of an estimate to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from perfmodel.measured import SECTIONS
from perfmodel.paths import PACKAGED, label
from perfmodel.specfile import Mapping as Page
from perfmodel.specfile import load
from perfmodel.timing import factors
from perfmodel.timing.weights import FOLDER

_KINDS = {"families": "family", "links": "link", "hosts": "host"}
# Sources of single times of a host; the others are fitted to programs.
_HOST_SOURCES = {"times.stream": "stream", "times.unit": "fsdp", "times.shard": "fsdp"}


class Parameter(NamedTuple):
    """A parameter with its file and its source.

    ``kind``: ``weight`` and ``fact`` of a mechanism; ``family``, ``link``, ``host``, ``reading``, ``data sheet``. ``value``
    is text where a fact is a list. ``points``: number of points that it was fitted on, empty if unknown. ``spread``:
    relative uncertainty, half the distance of the quartiles of a reading, or the mean error of the fit.
    """

    file: str
    name: str
    kind: str
    value: float | str
    unit: str
    means: str
    source: str
    points: str = ""
    date: str = ""
    spread: float | None = None


def every() -> Iterator[Parameter]:
    """All parameters of the packaged files, other than readings of single cards."""
    yield from (one for name in _names("kernels") for one in mechanism(name).values())
    for folder in _KINDS:
        for name in _names(folder):
            path = os.path.join(PACKAGED, "hardware", folder, f"{name}.yaml")
            yield from (described(path, key, value) for key, value in _numbers(load(path)))


def _names(folder: str) -> list[str]:
    return sorted(name.removesuffix(".yaml") for name in os.listdir(os.path.join(PACKAGED, "hardware", folder)))


def _numbers(page: Page, path: str = "") -> Iterator[tuple[str, float]]:
    """The figures of a file of families, links or hosts, with their names."""
    for key in page:
        node = page.node(key)
        if isinstance(node, Page):
            if key != "sources":
                yield from _numbers(node, f"{path}{key}.")
        elif path and key not in ("from", "like"):
            yield f"{path}{key}", page.quantity(key, "s") if path == "times." else float(page.text(key))


@cache
def mechanism(name: str) -> dict[str, Parameter]:
    """Returns the facts and weights of a mechanism by name, with their units, meanings and sources."""
    path = os.path.join(FOLDER, f"{name}.yaml")
    page = load(path)
    sources = page.mapping("sources")
    found: dict[str, Parameter] = {}
    for section, kind in (("facts", "fact"), ("weights", "weight")):
        table = page.mapping(section) if section in page else Page(page.place)
        for key in table:
            entry = table.mapping(key)
            source = sources.mapping(entry.choice("from", tuple(sources)))
            text = entry.text("value")
            error = entry.text("spread", source.text("error", ""))
            found[key] = Parameter(
                path, key, kind, float(text) if _is_number(text) else text, entry.text("unit"), entry.text("means"),
                source.text("text"), source.text("points", ""), source.text("date", ""), float(error) if error else None,
            )  # fmt: skip
            entry.finish()
            source.finish()
        table.finish()
    page.finish()
    return found


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("e-", "", 1).isdecimal()


def described(path: str, name: str, value: float) -> Parameter:
    """Returns a figure of a family, a link, a host or a reading, with its unit, meaning and source."""
    kind = _KINDS.get(os.path.basename(os.path.dirname(path)), "reading")
    if kind == "reading":
        return _reading(path, name, value)
    page = load(path)
    unit, means = _meaning(kind, name)
    source, around = "", page
    for word in name.split(".")[:-1]:
        around = around.mapping(word)
        source = page.mapping("sources").text(around.text("from")) if "from" in around else source
    if kind == "host":
        source = page.mapping("sources").text(_HOST_SOURCES.get(name, "programs"))
    return Parameter(path, name, kind, value, unit, means, source)


def _meaning(kind: str, name: str) -> tuple[str, str]:
    """The unit and the meaning of a figure by its name."""
    section, _, key = name.rpartition(".")
    if kind == "family":
        if section == "spread":
            key = "half"
        elif section == "power" and key in (*factors.DTYPES, "vector"):
            key = "energy"
        elif section.partition(" ")[0] in ("tensor", "vector", *factors.DTYPES):
            section = "tiling"
    elif kind == "link" and section != "common":
        section = "protocol"
    entry = _meanings({"family": "families", "link": "links", "host": "hosts"}[kind]).mapping(section).mapping(key)
    return entry.text("unit"), entry.text("means")


@cache
def _meanings(name: str) -> Page:
    return load(os.path.join(PACKAGED, "hardware", "meanings", f"{name}.yaml"))


def _reading(path: str, name: str, value: float) -> Parameter:
    """A reading of a card, whose spread is half the distance of its quartiles."""
    page = load(path)
    section, _, key = name.partition(".")
    unit = SECTIONS[section][0]
    leaf, made = page.mapping(section).mapping(key), page.mapping("measured")
    half = (leaf.quantity("high", unit) - leaf.quantity("low", unit)) / 2.0
    source = "perfmodel calibrate"
    return Parameter(
        path, name, "reading", value, unit, leaf.text("note", ""), source, "", made.text("date", ""), half / value
    )


def place(parameter: Parameter) -> str:
    """The file of a parameter without ``hardware`` and ending, and its name: ``kernels/blocks: wait``."""
    return f"{label(parameter.file).removeprefix('hardware/').removesuffix('.yaml')}: {parameter.name}"
