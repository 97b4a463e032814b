"""The figures of a GPU generation, as ``hardware/families`` states them.

A section may be that of another generation (``like``), with figures of its own in the place of some of those.
"""

import os.path
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from perfmodel.errors import InputError
from perfmodel.figures import number
from perfmodel.hardware import Gpu
from perfmodel.paths import folders, report
from perfmodel.specfile import Mapping as Page
from perfmodel.specfile import load

# Generations with a family file, oldest first.
GENERATIONS = ("volta", "turing", "ampere", "ada", "hopper", "blackwell")
ANY = "generic"
# Blackwell's graphics chips use Ampere's matrix instructions at full rate and GDDR memory, as Ada's do.
SMALL_BLACKWELL = "gb20"


class Family(NamedTuple):
    """A generation's figures by section and name, and their sources."""

    name: str
    file: str
    sources: Mapping[str, str]
    sections: Mapping[str, Mapping[str, float]]

    def value(self, section: str, name: str) -> float:
        return self.sections[section][name]


def generation(gpu: Gpu) -> str:
    """The family of a card, by the first word of its architecture; ``generic`` where none is known."""
    first, *chip = gpu.architecture.lower().split()
    if chip and chip[0].startswith(SMALL_BLACKWELL):
        return "ada"
    return first if first in GENERATIONS else ANY


def family(name: str) -> Family:
    """Returns the parameters of a generation."""
    path = _path(name)
    report(f"family {name}", path)
    return _family(path)


def _path(name: str) -> str:
    paths = (os.path.join(folder, "families", f"{name}.yaml") for folder in folders("hardware"))
    return next(path for path in paths if os.path.isfile(path))


@cache
def _page(path: str) -> Page:
    return load(path)


@cache
def _family(path: str) -> Family:
    """Reads a generation's file."""
    page = _page(path)
    sources = {key: page.mapping("sources").text(key) for key in page.mapping("sources")}
    sections = {name: _section(path, name) for name in page if name not in ("sources", "generation")}
    found = Family(page.text("generation"), path, sources, sections)
    page.finish()
    return found


def _section(path: str, name: str, before: tuple[str, ...] = ()) -> dict[str, float]:
    """The figures of a section: those of the generation that it is like, and its own. ``before``: files that are like it."""
    page = _page(path)
    table, sources = page.mapping(name), tuple(page.mapping("sources"))
    own = [key for key in table if key not in ("from", "like")]
    found: dict[str, float] = {}
    if "like" in table:
        if path in before:
            raise InputError(
                table.place_of("like"), "the section is like that of a generation that is like this one",
                "a section with figures of its own is accepted", "State the figures in one of the two files.",
            )  # fmt: skip
        found = _section(_path(table.choice("like", (*GENERATIONS, ANY))), name, (*before, path))
    if own or not found:
        table.choice("from", sources)
    found.update((key, number(table, key)) for key in own)
    table.finish()
    return found
