"""The efficiency of a collective library on a link: figures of ``hardware/links``, fitted per link generation.

Latencies are in µs; rates are shares of the link's data-sheet rate in one direction. ``LL``, ``LL128`` and ``Simple`` are
the protocols of NCCL. With LL, each 8 bytes carry their own flag: half of the rate, the lowest latency. With LL128, each
128 bytes do: 15/16 of the rate. Simple synchronizes once per chunk: the full rate, the highest latency.
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
    path = _path(name)
    return _read(load(path), path, name)


def _path(name: str) -> str:
    paths = (os.path.join(folder, "links", f"{name}.yaml") for folder in folders("hardware"))
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        raise InputError(f"link {shown(name)}", "no file of hardware/links has this name", "a known link is accepted")
    return path


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
    """The figures of a file. Those that it leaves out are those of the link that it is like."""
    sources = {key: page.mapping("sources").text(key) for key in page.mapping("sources")}
    like, among = _like(page), tuple(sources)
    common = page.mapping("common") if "common" in page or not like else Page(page.place)
    if list(common):
        common.choice("from", among)

    def figure(key: str, otherwise: float | None, unit: float = 1.0) -> float:
        return number(common, key) * unit if key in common or otherwise is None else otherwise

    found = Link(
        name=name,
        file=path,
        sources=sources,
        launch_s=figure("launch", like and like.launch_s, 1e-6),
        host_s=figure("host", like and like.host_s, 1e-6),
        ring=like.ring if like and "ring" not in page else _protocols(page, "ring", among),
        pair=like.pair if like and "pair" not in page else _protocols(page, "pair", among),
        message=like.message if like and "message" not in page else _protocol(page.mapping("message"), "Simple", among),
        switch=_protocol(page.mapping("switch"), "Simple", among) if "switch" in page else like and like.switch,
        contention=figure("contention", like.contention if like else 0.0),
        spread=figure("spread", like and like.spread),
        spread_small=figure("spread_small", like and like.spread_small),
        lost=like.lost if like and "beside" not in page else _lost(page, among),
    )
    common.finish()
    page.finish()
    return found


def _like(page: Page) -> Link | None:
    """The link that a file is like, which has all figures itself."""
    if "like" not in page:
        return None
    file = load(_path(page.text("like")))
    if "like" in file:
        raise InputError(
            page.place_of("like"), f"{page.text('like')} is like another link",
            "a link with figures of its own is accepted", f"Write 'like: {file.text('like')}'.",
        )  # fmt: skip
    return link(page.text("like"))


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
