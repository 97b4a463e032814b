"""Systems: GPUs per node, their links and the network between nodes, each figure with its source.

A file of ``hardware/systems`` describes one. ``scale_up`` are the links inside a domain (NVLink or PCIe), ``network`` the
ports that leave it. Rates are those of one GPU in one direction, with the sum of both directions beside them. An absent
figure is unknown, never zero. How fast a library uses a link is another file, ``hardware/links``.
"""

import os
from functools import lru_cache
from typing import NamedTuple

from perfmodel.errors import InputError, did_you_mean, printable, shown
from perfmodel.hardware import Figure, Gpu, figure, source
from perfmodel.paths import folders, is_name, report, stem
from perfmodel.specfile import Mapping, parse, read_text

FOLDER = "systems"
MEMORY, XGMI = "memory", "xgmi"
AGREES = 0.005  # largest relative difference between a total and its parts


class Level(NamedTuple):
    """Links that join a number of GPUs.

    ``link`` names the figures of ``hardware/links``. Rates belong to one GPU; ``shared_by`` GPUs divide the links among
    them. ``oversubscription`` divides the rate when all GPUs use the level at once. ``reduces``: the switches can add.
    """

    name: str
    link: str
    gpus: int
    one_way_byte_per_s: Figure
    both_ways_byte_per_s: Figure
    links: Figure | None = None
    per_link_byte_per_s: Figure | None = None
    shared_by: Figure | None = None
    oversubscription: Figure | None = None
    reduces: bool = False

    @property
    def rate_byte_per_s(self) -> float:
        """Bytes per second that one GPU sends when all GPUs of the level send."""
        return self.one_way_byte_per_s.value / (self.oversubscription.value if self.oversubscription else 1.0)


class System(NamedTuple):
    """A system as its data sheets describe it. ``gpus`` are the GPU files that it fits."""

    name: str
    file: str
    title: str
    gpus: tuple[str, ...]
    gpus_per_node: Figure
    scale_up: Level
    network: Level | None
    sources: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> int | None:
        """The number of GPUs if there is no network, else None: any number of nodes."""
        return None if self.network else self.scale_up.gpus

    def local_ranks(self, ranks: int, ranks_per_node: int | None = None) -> int:
        """Returns how many ranks of a group share one scale-up domain, by default as many as fit.

        ``ranks_per_node`` counts the ranks of the group in one domain: a group of 16 ranks, one on each of 16 nodes,
        has 1.
        """
        where = f"system {self.name}"
        fit = min(ranks, self.scale_up.gpus)
        local = fit if ranks_per_node is None else min(ranks_per_node, ranks)
        if not 1 <= local <= self.scale_up.gpus:
            raise InputError(
                where, f"{local} ranks per node were asked for", f"1 to {self.scale_up.gpus} are accepted", "Change it."
            )
        if ranks > local and self.network is None:
            raise InputError(
                where, f"{ranks} ranks do not fit, because it has no network",
                f"at most {self.scale_up.gpus} ranks are accepted",
                "Choose a system of 'perfmodel systems' that has a network.",
            )  # fmt: skip
        return local


def system(name: str) -> System:
    """Returns the system of that name or path."""
    path = _find(name)
    return _parsed(read_text(path), path)


def names() -> dict[str, str]:
    """Returns the path of every system by its name."""
    found: dict[str, str] = {}
    for folder in folders("hardware"):
        inside = os.path.join(folder, FOLDER)
        for name in sorted(os.listdir(inside)) if os.path.isdir(inside) else ():
            if name.endswith(".yaml"):
                found.setdefault(stem(name), os.path.join(inside, name))
    return dict(sorted(found.items()))


def all_systems() -> list[System]:
    """Returns every system that has a file."""
    return [_parsed(read_text(path), path) for path in names().values()]


def _find(name: str) -> str:
    if not is_name(name):
        return name
    known = names()
    path = known.get(name) or known.get(name.lower())
    if path is None:
        raise InputError(
            f"system {shown(name)}", "no file has this name", "a path, or a name that 'perfmodel systems' lists, is accepted",
            did_you_mean(name, known),
        )  # fmt: skip
    report(name, path)
    return path


def of(gpu: Gpu, name: str | None = None) -> System:
    """Returns the system of that name, checked against the GPU; without a name, the default of the GPU."""
    if name is None:
        return default(gpu)
    found = system(name)
    if found.gpus and gpu.name not in found.gpus:
        raise InputError(
            f"system {found.name}", f"{gpu.name} is not a GPU of this system", f"{', '.join(found.gpus)} is accepted",
            "Change --gpu or --system.",
        )  # fmt: skip
    return found


def default(gpu: Gpu) -> System:
    """Returns the first system whose file names the GPU; without one, a node of 8 GPUs on the links of its data sheet."""
    return next((one for one in all_systems() if gpu.name in one.gpus), None) or single_node(gpu)


def single_node(gpu: Gpu, gpus: int = 8) -> System:
    """Returns a node with the links of the GPU's data sheet and no network. NVLink bridges, which join two cards, are
    not used.
    """
    kinds = ("pcie",) if "PCIe" in gpu.form else ("nvlink", "scale_up", "pcie")
    kind = next((kind for kind in kinds if kind in gpu.links), None)
    # Processes of one processor, or cards without a known link, exchange data through memory.
    known = gpu.links[kind] if kind else gpu.bandwidth_byte_per_s
    both = Figure(known.value, known.source, known.note)
    level = Level(
        name="scale_up",
        link=link_name(gpu, kind) if kind else MEMORY,
        gpus=gpus,
        one_way_byte_per_s=both._replace(
            value=both.value / 2, note="half of both directions" if kind else "each byte is written and read once"
        ),
        both_ways_byte_per_s=both,
    )
    count = Figure(float(gpus), both.source, "assumed")
    return System(
        f"{gpus} x {gpu.name}", gpu.file, f"{gpus} x {gpu.title}", (gpu.name,), count, level, None, gpu.sources
    )


def link_name(gpu: Gpu, kind: str) -> str:
    """Returns the name of the link's figures: its kind and generation."""
    generation = gpu.links[kind].generation
    return f"{kind}{generation}" if generation else XGMI


@lru_cache(maxsize=64)
def _parsed(contents: str, path: str) -> System:
    page = parse(contents, path)
    sources = {key: source(page.mapping("sources").mapping(key)) for key in page.mapping("sources")}
    node = figure(page, "gpus_per_node", "count", sources)
    found = System(
        name=printable(stem(path)),
        file=path,
        title=page.text("title"),
        gpus=page.texts("gpus"),
        gpus_per_node=node,
        scale_up=_level(page, "scale_up", sources, int(node.value)),
        network=_level(page, "network", sources, 0) if "network" in page else None,
        sources=sources,
        notes=page.texts("notes"),
    )
    page.finish()
    return found


def _level(page: Mapping, key: str, sources: dict[str, str], node: int) -> Level:
    level = page.mapping(key)

    def optional(name: str, unit: str) -> Figure | None:
        return figure(level, name, unit, sources) if name in level else None

    domain = optional("gpus", "count")
    found = Level(
        name=key,
        link=level.text("link"),
        gpus=int(domain.value) if domain else node,
        one_way_byte_per_s=figure(level, "one_way", "B/s", sources),
        both_ways_byte_per_s=figure(level, "both_ways", "B/s", sources),
        links=optional("links", "count"),
        per_link_byte_per_s=optional("per_link", "B/s"),
        shared_by=optional("shared_by", "count"),
        oversubscription=optional("oversubscription", "count"),
        reduces=level.choice("reduces", ("yes", "no"), "no") == "yes",
    )
    level.finish()
    _check(found, level)
    return found


def _check(found: Level, level: Mapping) -> None:
    """Checks that links add up to the rate of one direction, and both directions to twice that."""
    both = 2 * found.one_way_byte_per_s.value
    if abs(found.both_ways_byte_per_s.value / both - 1) > AGREES:
        raise InputError(
            level.place_of("both_ways"), f"it is not twice one_way = {both / 1e9:g} GB/s",
            "a difference of at most 0.5 % is accepted", "Correct one of the figures.",
        )  # fmt: skip
    if found.links is None or found.per_link_byte_per_s is None:
        return
    total = found.links.value * found.per_link_byte_per_s.value / (found.shared_by.value if found.shared_by else 1.0)
    if abs(total / found.one_way_byte_per_s.value - 1) > AGREES:
        raise InputError(
            level.place_of("one_way"), f"it is not {found.links.value:g} links x per_link = {total / 1e9:g} GB/s",
            "a difference of at most 0.5 % is accepted", "Correct one of the figures.",
        )  # fmt: skip
