"""The efficiency of a collective library on a link: figures of ``hardware/links``, fitted per link generation.

Latencies are in µs; rates are shares of the link's data-sheet rate in one direction. ``LL``, ``LL128`` and ``Simple`` are
the protocols of NCCL: with LL, each 8 bytes carry their own flag (half of the rate, the lowest latency); with LL128, each
128 bytes (15/16 of the rate); Simple synchronizes once per chunk (the full rate, the highest latency).
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from perfmodel import measured
from perfmodel.errors import InputError, shown
from perfmodel.figures import number
from perfmodel.hardware import Gpu
from perfmodel.paths import folders, readings
from perfmodel.specfile import Mapping as Page
from perfmodel.specfile import load
from perfmodel.systems import Level

PROTOCOLS = ("LL", "LL128", "Simple")


class Protocol(NamedTuple):
    """One protocol on a link.

    ``start_s``: setup. ``hop_s``: time from one rank to the next. ``share``: of the link's rate. ``own``: rate of a
    rank's own part, which is copied or added on the rank itself, as a share of the link's rate; 0 means free.
    """

    name: str
    start_s: float
    hop_s: float
    share: float
    own: float = 0.0


class Link(NamedTuple):
    """The figures of a link generation.

    ``launch_s``: a collective's kernel that moves nothing. ``ring``: protocols of ring and tree. ``pair``: protocols of
    an all-to-all, with one hop per further peer. ``message``: one rank to another. ``switch``: reduction in the switches.
    ``contention``: the rate falls with (2 / ranks) to this power, where paths are shared. ``host_s``: host time of an
    eager call. ``spread``: half of the range, relative. ``lost``: share of their speed that other kernels lose while a
    collective runs beside them, because it takes multiprocessors and memory bandwidth.
    """

    name: str
    file: str
    sources: Mapping[str, str]
    launch_s: float
    host_s: float
    ring: tuple[Protocol, ...]
    pair: tuple[Protocol, ...]
    message: Protocol
    switch: Protocol | None
    contention: float
    spread: float
    spread_small: float
    lost: float = 0.0


@cache
def link(name: str) -> Link:
    """Returns the figures of a link by its name."""
    paths = (os.path.join(folder, "links", f"{name}.yaml") for folder in folders("hardware"))
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        raise InputError(f"link {shown(name)}", "no file of hardware/links has this name", "a known link is accepted")
    return _read(load(path), path, name)


def known(level: Level, gpu: Gpu) -> Link:
    """Returns the figures of the links of a system, with the GPU's own readings where ``calibrate`` measured them.

    A measured hop scales the hops of all protocols, and a measured rate the shares of all protocols.
    """
    found = link(level.link)
    own = measured.of(gpu) if readings(gpu.name, gpu.file) else None
    if own is None or not {"links", "link latency"} & own.sections.keys():
        return found
    launch_s, hop_s = own.value("link latency", "launch"), own.value("link latency", "hop")
    ring, message = own.value("links", "ring"), own.value("links", "message")
    rate = level.one_way_byte_per_s.value
    slower = hop_s / found.ring[0].hop_s if hop_s and found.ring[0].hop_s else 1.0
    wider = ring / (found.ring[-1].share * rate) if ring else 1.0
    return found._replace(
        launch_s=found.launch_s if launch_s is None else launch_s,
        ring=tuple(_scaled(one, slower, wider) for one in found.ring),
        pair=tuple(_scaled(one, slower, wider) for one in found.pair),
        message=found.message._replace(share=min(1.0, message / rate)) if message else found.message,
        switch=_scaled(found.switch, 1.0, wider) if found.switch else None,
    )


def _scaled(one: Protocol, slower: float, wider: float) -> Protocol:
    return one._replace(hop_s=one.hop_s * slower, share=min(1.0, one.share * wider))


def _read(page: Page, path: str, name: str) -> Link:
    sources = {key: page.mapping("sources").text(key) for key in page.mapping("sources")}
    common = page.mapping("common")
    common.choice("from", tuple(sources))
    found = Link(
        name=name,
        file=path,
        sources=sources,
        launch_s=number(common, "launch") * 1e-6,
        host_s=number(common, "host") * 1e-6,
        ring=_protocols(page, "ring", tuple(sources)),
        pair=_protocols(page, "pair", tuple(sources)),
        message=_protocol(page.mapping("message"), "Simple", tuple(sources)),
        switch=_protocol(page.mapping("switch"), "Simple", tuple(sources)) if "switch" in page else None,
        contention=number(common, "contention", 0.0),
        spread=number(common, "spread"),
        spread_small=number(common, "spread_small"),
        lost=_lost(page, tuple(sources)),
    )
    common.finish()
    page.finish()
    return found


def _lost(page: Page, sources: tuple[str, ...]) -> float:
    if "beside" not in page:
        return 0.0
    leaf = page.mapping("beside")
    leaf.choice("from", sources)
    found = number(leaf, "lost")
    leaf.finish()
    return found


def _protocols(page: Page, key: str, sources: tuple[str, ...]) -> tuple[Protocol, ...]:
    table = page.mapping(key)
    found = tuple(_protocol(table.mapping(name), name, sources) for name in PROTOCOLS if name in table)
    table.finish()
    return found


def _protocol(leaf: Page, name: str, sources: tuple[str, ...]) -> Protocol:
    leaf.choice("from", sources)
    start_s, hop_s = number(leaf, "start", 0.0) * 1e-6, number(leaf, "hop", 0.0) * 1e-6
    found = Protocol(name, start_s, hop_s, number(leaf, "share"), number(leaf, "own", 0.0))
    leaf.finish()
    return found
