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
from perfmodel.figures import AGREES, CLOCKS, Figure, LinkFigure, derived, figure, links, source, table
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
MULTIPROCESSOR_BYTES = ("registers", "shared_memory", "shared_memory_per_block", "l1_and_shared", "tensor_memory")
MULTIPROCESSOR_COUNTS = ("threads", "warps", "blocks", "threads_per_block", "warp")


class Gpu(NamedTuple):
    """A card as its data sheet describes it.

    ``capacity_byte`` is the memory that a program can allocate, as the driver reports it. If that is unknown, it is the
    capacity of the data sheet. Its source states which. ``memory`` may have the capacity of the data sheet as
    ``sheet_capacity``.
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
        name = next((one for one in (name, known) if named("hardware", one)), short_names().get(known, name))
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
    count, clocks = figure(page, "multiprocessors", "count", sources), table(page, "clocks", "Hz", CLOCKS, sources)
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
            **table(page, "multiprocessor", "B", MULTIPROCESSOR_BYTES, sources, others=MULTIPROCESSOR_COUNTS),
            **table(page, "multiprocessor", "count", MULTIPROCESSOR_COUNTS, sources, others=MULTIPROCESSOR_BYTES),
        },
        peaks={kind: table(page, kind, "OP/s", PEAK_DTYPES, sources) for kind in PEAK_TABLES},
        special=derived(page.mapping("special"), sources, count, clocks) if "special" in page else None,
        links=links(page, sources),
        power=figure(page, "power", "W", sources) if "power" in page else None,
        notes=page.texts("notes"),
    )
    memory.finish()
    page.finish()
    _check(found, page)
    return found


AGREES_WITH_NOTE = 0.05  # largest relative difference of a peak with a note from its operations per clock
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
    for kind, figures in card.peaks.items():
        for dtype, peak in figures.items():
            width = card.derived_peak(peak)
            share = AGREES_WITH_NOTE if peak.note else AGREES
            if width is not None and abs(width / peak.value - 1) > share:
                raise InputError(
                    page.mapping(kind).place_of(dtype),
                    f"{scaled(peak.value, 'FLOP/s')} is not {card.multiprocessors.value:g} multiprocessors x "
                    f"{peak.per_sm_clock} x the {peak.clock} clock = {scaled(width, 'FLOP/s')}",
                    f"a difference of at most {share:.1%} is accepted", "Correct one of the figures.",
                )  # fmt: skip
    if "l2" in card.caches and card.caches["l2"].value > card.capacity_byte.value:
        raise InputError(
            page.mapping("caches").place_of("l2"),
            "the L2 cache is larger than the memory",
            "a smaller cache is accepted",
        )


def _caches(page: Mapping, sources: dict[str, str]) -> dict[str, Figure]:
    return {
        **table(page, "caches", "B", ("l2", "infinity_cache"), sources, others=("l2_bandwidth", "infinity_bandwidth")),
        **table(
            page, "caches", "B/s", ("l2_bandwidth", "infinity_bandwidth"), sources, others=("l2", "infinity_cache")
        ),
    }
