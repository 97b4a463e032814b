"""GPU files: the data sheet of a card, each figure with its source.

An absent figure is unknown, never zero. Dense and structured-sparse peaks are separate tables. A figure with
``per_sm_clock`` can be checked: the peak is multiprocessors x operations per multiprocessor and clock x clock.
"""

import os.path
import re
from collections.abc import Mapping as Dict
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from perfmodel.errors import InputError, printable, shown
from perfmodel.op import Engine
from perfmodel.paths import SHORT_NAMES, files, find, folders, is_name, label, named, stem
from perfmodel.specfile import Mapping, parse, read_text
from perfmodel.symbols import SYMBOLS
from perfmodel.units import ITEM_BYTES, scaled

# Next wider data type, whose vector rate is used for a type without its own rate.
_VECTOR_WIDER = {
    "fp4": "fp8",
    "int4": "int8",
    "fp8": "fp16",
    "int8": "fp16",
    "fp16": "fp32",
    "bf16": "fp32",
    "tf32": "fp32",
    "fp32": "fp64",
}
# Next wider data type for tensor rates. It represents every value exactly, so a kernel can convert what it loads and
# multiply without loss. fp16 represents fp8 and int8. bf16 needs tf32, because its exponent range exceeds that of fp16.

_TENSOR_WIDER = {
    "fp4": "fp8",
    "int4": "int8",
    "fp8": "fp16",
    "int8": "fp16",
    "fp16": "tf32",
    "bf16": "tf32",
    "tf32": "fp32",
}

PEAK_TABLES = ("tensor", "tensor_sparse", "tensor_fp16_accumulate", "tensor_fp16_accumulate_sparse", "vector")
PEAK_DTYPES = (*ITEM_BYTES, "fp6", "fp4", "int4")
CLOCKS = ("base", "boost", "tensor")
MULTIPROCESSOR_BYTES = ("registers", "shared_memory", "shared_memory_per_block", "l1_and_shared", "tensor_memory")
MULTIPROCESSOR_COUNTS = ("threads", "warps", "blocks", "threads_per_block", "warp")


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


class Gpu(NamedTuple):
    """A card as its data sheet describes it.

    ``capacity_byte`` is the memory that a program can allocate, as the driver reports it, or the capacity of the data
    sheet if the driver's value is unknown. Its source states which. ``memory`` may have the capacity of the data sheet
    as ``sheet_capacity``.
    """

    name: str
    file: str
    title: str
    vendor: str
    architecture: str
    form: str
    multiprocessors: Figure
    capacity_byte: Figure
    bandwidth_byte_per_s: Figure
    memory_type: str
    compute_capability: str
    matches: tuple[str, ...]
    sources: dict[str, str]
    clocks: dict[str, Figure]
    memory: dict[str, Figure]
    caches: dict[str, Figure]
    multiprocessor: dict[str, Figure]
    peaks: dict[str, dict[str, Figure]]
    special: Figure | None
    links: dict[str, LinkFigure]
    power: Figure | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Gpu {self.name}: {self.title}, {label(self.file)}>"

    @property
    def knowledge(self) -> str:
        """ "datasheet", or "calibrated" if all figures were measured."""
        return "calibrated" if set(self.sources) == {"measured"} else "datasheet"

    def sizes(self) -> dict[str, int]:
        """Returns the sizes of operations that depend on the card."""
        known = {symbol.name: self.multiprocessor.get(symbol.card) for symbol in SYMBOLS.values() if symbol.card}
        return {name: int(figure.value) for name, figure in known.items() if figure is not None}

    def derived_peak(self, figure: Figure) -> float | None:
        """Returns multiprocessors x operations per clock x clock, or None if one of them is missing."""
        clock = self.clocks.get(figure.clock)
        if figure.per_sm_clock is None or clock is None:
            return None
        return self.multiprocessors.value * figure.per_sm_clock * clock.value

    def peak(self, engine: Engine, dtype: str) -> tuple[float, str] | None:
        """Returns operations per second for a data type and the name of the peak, or None if unknown.

        A data type without its own rate uses the rate of the next wider type. A matrix product may also use a wider
        type where that is faster. It runs on the vector engine where no tensor rate applies, or where the tensor rate
        of a wider type is below the vector rate.
        """
        if engine is Engine.SPECIAL:
            return (self.special.value, "special") if self.special else None
        vector = self._at("vector", dtype, _VECTOR_WIDER)
        if engine is Engine.VECTOR:
            return vector
        tensor = self._at("tensor", dtype, _TENSOR_WIDER)
        wider = self.peak(engine, _TENSOR_WIDER[dtype]) if tensor and dtype in _TENSOR_WIDER else None
        tensor = max(filter(None, (tensor, wider)), key=lambda rate: rate[0], default=None)
        own = dtype in self.peaks["tensor"]
        return tensor if tensor and (own or vector is None or tensor[0] > vector[0]) else vector

    def _at(self, table: str, dtype: str, wider: Dict[str, str]) -> tuple[float, str] | None:
        serving: str | None = dtype
        while serving is not None and serving not in self.peaks[table]:
            serving = wider.get(serving)
        return (self.peaks[table][serving].value, f"{table} {serving}") if serving else None


def short_names() -> dict[str, str]:
    """Returns file names by short name, such as t4 or a100."""
    names: dict[str, str] = {}
    for folder in reversed(folders("hardware")):
        path = os.path.join(folder, SHORT_NAMES)
        if os.path.isfile(path):
            names |= _names(read_text(path), path)
    return names


@lru_cache(maxsize=8)
def _names(contents: str, path: str) -> dict[str, str]:
    table = parse(contents, path)
    return {short: table.text(short) for short in table}


def gpu(name: str) -> Gpu:
    """Returns the card of that name, short name or path."""
    known = name.lower()
    if is_name(name):
        name = next((one for one in (name, known) if named("hardware", one)), short_names().get(known, known))
    return _read(find("hardware", name, short_names()))


def all_gpus() -> list[Gpu]:
    """Returns every card that has a file, the first by each name."""
    return [_read(path) for path in files("hardware").values()]


def _read(path: str) -> Gpu:
    return _parsed(read_text(path), path)


@lru_cache(maxsize=256)
def _parsed(contents: str, path: str) -> Gpu:
    """Cached by contents. The file at a path may change within a process, and a relative path depends on the current
    folder.
    """
    return described(parse(contents, path), path)


def described(page: Mapping, path: str) -> Gpu:
    """Returns the card that a parsed file describes."""
    sources = {key: source(page.mapping("sources").mapping(key)) for key in page.mapping("sources")}
    count, clocks = figure(page, "multiprocessors", "count", sources), _table(page, "clocks", "Hz", CLOCKS, sources)
    memory, caches = page.mapping("memory"), _caches(page, sources)
    found = Gpu(
        name=printable(stem(path)),
        file=path,
        title=page.text("title"),
        vendor=page.text("vendor"),
        architecture=page.text("architecture"),
        form=page.text("form"),
        compute_capability=page.text("compute_capability", ""),
        matches=page.texts("matches"),
        sources=sources,
        multiprocessors=count,
        clocks=clocks,
        memory_type=memory.text("type"),
        capacity_byte=figure(memory, "capacity", "B", sources),
        bandwidth_byte_per_s=figure(memory, "bandwidth", "B/s", sources),
        memory={
            key: figure(memory, key, unit, sources)
            for key, unit in (("sheet_capacity", "B"), ("bus", "bit"), ("pin_rate", "bit/s"), ("clock", "Hz"))
            if key in memory
        },
        caches=caches,
        multiprocessor={
            **_table(page, "multiprocessor", "B", MULTIPROCESSOR_BYTES, sources, others=MULTIPROCESSOR_COUNTS),
            **_table(page, "multiprocessor", "count", MULTIPROCESSOR_COUNTS, sources, others=MULTIPROCESSOR_BYTES),
        },
        peaks={kind: _table(page, kind, "OP/s", PEAK_DTYPES, sources) for kind in PEAK_TABLES},
        special=_derived(page.mapping("special"), sources, count, clocks) if "special" in page else None,
        links=_links(page, sources),
        power=figure(page, "power", "W", sources) if "power" in page else None,
        notes=page.texts("notes"),
    )
    memory.finish()
    page.finish()
    _check(found, page)
    return found


AGREES, AGREES_WITH_NOTE = 0.005, 0.05  # largest relative difference of a peak from its operations per clock
SLOWEST_HZ = 1e7  # of a clock that multiplies operations per clock


def _check(card: Gpu, page: Mapping) -> None:
    """Checks a card against itself: every peak is multiprocessors x operations per clock x clock, clocks rise from
    base to boost, L2 is smaller than memory. Checks the form of the compute capability.
    """
    if card.compute_capability and not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,2}", card.compute_capability):
        raise InputError(
            page.place_of("compute_capability"), f"{shown(card.compute_capability)} is not a compute capability",
            'a version such as "9.0" is accepted',
        )  # fmt: skip
    known = [name for name in ("base", "tensor", "boost") if name in card.clocks]
    for name in known:
        if card.clocks[name].value < SLOWEST_HZ:
            raise InputError(
                page.mapping("clocks").place_of(name), f"{card.clocks[name].value:g} Hz is too slow for a clock",
                f"at least {scaled(SLOWEST_HZ, 'Hz')} is accepted",
            )  # fmt: skip
    for slow, fast in pairwise(known):
        if card.clocks[slow].value > card.clocks[fast].value:
            raise InputError(
                page.mapping("clocks").place_of(slow), f"the {slow} clock is above the {fast} clock",
                "base <= tensor <= boost is accepted",
            )  # fmt: skip
    for table, figures in card.peaks.items():
        for dtype, figure in figures.items():
            derived = card.derived_peak(figure)
            share = AGREES_WITH_NOTE if figure.note else AGREES
            if derived is not None and abs(derived / figure.value - 1) > share:
                raise InputError(
                    page.mapping(table).place_of(dtype),
                    f"{scaled(figure.value, 'FLOP/s')} is not {card.multiprocessors.value:g} multiprocessors x "
                    f"{figure.per_sm_clock} x the {figure.clock} clock = {scaled(derived, 'FLOP/s')}",
                    f"a difference of at most {share:.1%} is accepted", "Correct one of the figures.",
                )  # fmt: skip
    if "l2" in card.caches and card.caches["l2"].value > card.capacity_byte.value:
        raise InputError(
            page.mapping("caches").place_of("l2"),
            "the L2 cache is larger than the memory",
            "a smaller cache is accepted",
        )


def source(page: Mapping) -> str:
    """Formats title, page and date of a source in one line."""
    parts = [page.text("title"), page.text("page", ""), f"read {page.text('read')}"]
    page.finish()
    return ", ".join(part for part in parts if part)


def _caches(page: Mapping, sources: dict[str, str]) -> dict[str, Figure]:
    return {
        **_table(page, "caches", "B", ("l2", "infinity_cache"), sources, others=("l2_bandwidth", "infinity_bandwidth")),
        **_table(
            page, "caches", "B/s", ("l2_bandwidth", "infinity_bandwidth"), sources, others=("l2", "infinity_cache")
        ),
    }


def _table(
    page: Mapping, key: str, unit: str, keys: tuple[str, ...], sources: dict[str, str], others: tuple[str, ...] = ()
) -> dict[str, Figure]:
    if key not in page:
        return {}
    table = page.mapping(key)
    found = {name: figure(table, name, unit, sources) for name in keys if name in table}
    for name in others:
        name in table  # noqa: B015 - marks the key as known; the table of the other unit reads it
    table.finish()
    return found


LINKS = ("nvlink", "scale_up", "pcie", "c2c")


def _links(page: Mapping, sources: dict[str, str]) -> dict[str, LinkFigure]:
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


def _derived(leaf: Mapping, sources: dict[str, str], count: Figure, clocks: dict[str, Figure]) -> Figure:
    """Reads a rate that vendors publish only per multiprocessor and clock."""
    clock = leaf.choice("clock", tuple(clocks), "boost" if "boost" in clocks else None)
    per_sm_clock = leaf.size("per_sm_clock")
    value = count.value * per_sm_clock * clocks[clock].value
    found = Figure(value, leaf.choice("from", tuple(sources)), leaf.text("note", ""), per_sm_clock, clock)
    leaf.finish()
    return found
