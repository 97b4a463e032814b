"""The rates of a card: factors of its generation times figures of its data sheet, or its own readings.

Power: the sustained rate is the board's limit, minus the power of the board itself, divided by the energy of one
operation. It may be below the data-sheet peak. The energy depends on the generation's process and the data type.
"""

import os.path
from collections.abc import Mapping
from math import inf

from perfmodel import measured
from perfmodel.errors import InputError
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.families import ANY, Family
from perfmodel.timing.stream import L2_FILL, THROUGH
from perfmodel.timing.tile_sizes import SHARPNESS
from perfmodel.timing.weights import Mechanism

# Kinds of calls without a time of their own on a measured host.
UNSCALED = ("wrapped", "product")
_data = Mechanism("factors")
USUAL_CLOCK_HZ, FIRST_CALL = _data.weights("usual clock hz", "first call")
# Share of the bandwidth that remains for data where the codes of ECC are kept in the same memory. GDDR6X and GDDR7 boards
# come without it, HBM has room for its codes.
IN_BAND_ECC = {"GDDR6": _data.weight("in band ecc")}
WIDER = _data.group("wider")
DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4")
TENSOR_DTYPES = ("tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4", "fp64")


def from_family(gpu: Gpu, knowledge: str, known: Family) -> Card:
    """Rates as the family's factors of the data sheet."""
    stream, cache_, launch = known.sections["stream"], known.sections["l2"], known.sections["launch"]
    host, clocks = known.sections["host"], known.sections["clock"]
    power = known.sections["power"]
    bandwidth = gpu.bandwidth_byte_per_s.value * IN_BAND_ECC.get(gpu.memory_type, 1.0)
    count = int(gpu.multiprocessors.value)
    clock = gpu.clocks.get("boost") or gpu.clocks.get("tensor") or gpu.clocks.get("base")
    clock_hz = clock.value if clock else USUAL_CLOCK_HZ
    l2_byte = gpu.caches["l2"].value if "l2" in gpu.caches else 0.0
    peaks = _peaks(gpu, clock_hz)
    l2_byte_per_s = max(gpu.bandwidth_byte_per_s.value, cache_["byte_per_clock"] * count * clock_hz)
    return Card(
        gpu=gpu,
        knowledge=knowledge,
        generation=known.name,
        basis=basis(gpu, knowledge, known),
        multiprocessors=count,
        clock_hz=clock_hz,
        read_byte_per_s=bandwidth * stream["read"],
        copy_byte_per_s=bandwidth * stream["copy"],
        add_byte_per_s=bandwidth * stream["add"],
        write_byte_per_s=min(bandwidth * stream["write"], L2_FILL * l2_byte_per_s),
        l2_byte=max(1.0, l2_byte * cache_["capacity"]),
        l2_byte_per_s=l2_byte_per_s,
        through_byte_per_s=THROUGH.get(known.name, 0.0) * l2_byte_per_s,
        lane_per_s=_lanes_flop_per_s(gpu) / 2.0 * clocks["lanes"],
        cold_s=launch["cold"] * 1e-6,
        warm_s=launch["warm"] * 1e-6,
        graph_s=launch["graph"] * 1e-6,
        node_s=launch["node"] * 1e-6,
        host_s={kind: value * 1e-6 for kind, value in host.items() if kind != "hidden"},
        host_hidden_s=host["hidden"] * 1e-6,
        serving_share=known.value("attention", "serving"),
        dram_latency_s=known.value("latency", "dram") * 1e-9,
        l2_latency_s=known.value("latency", "l2") * 1e-9,
        peak_flop_per_s=peaks,
        held_flop_per_s=_held(gpu, known, peaks),
        surge=power.get("surge", 1.0),
        patience_s=power["patience"] * 1e-3 if "surge" in power else inf,
        tilings=_tilings(gpu, known),
        near_byte=cache_["near"] * 1024,
        idle_share=_idle_share(gpu, clock_hz) if "settle" in clocks else 1.0,
        settle_s=clocks.get("settle", 0.0) * 1e-6,
        spread={name: half * WIDER[knowledge] for name, half in known.sections["spread"].items()},
    )


def _idle_share(gpu: Gpu, clock_hz: float) -> float:
    """Base clock divided by boost clock."""
    base = gpu.clocks.get("base")
    return min(1.0, base.value / clock_hz) if base else 1.0


def _lanes_flop_per_s(gpu: Gpu) -> float:
    """The rate of the fp32 lanes. NB: on a card without that figure, the rate of the widest known vector type."""
    known = (gpu.peak(Engine.VECTOR, dtype) for dtype in ("fp32", "fp64", "tf32", "fp16", "bf16", *DTYPES))
    found = next(filter(None, known), None)
    if found is None:
        raise InputError(gpu.file, "no rate of the vector engine", "a card needs a vector rate", "Add it to the file.")
    return found[0]


def _peaks(gpu: Gpu, clock_hz: float) -> dict[str, float]:
    """The peak of products by data type at the highest clock, at which short kernels run."""
    found = {}
    for dtype in DTYPES:
        peak = gpu.peak(Engine.TENSOR, dtype)
        if peak is not None:
            table = gpu.peaks["tensor"] if peak[1].startswith("tensor") else gpu.peaks["vector"]
            figure = table[peak[1].partition(" ")[2]]
            at = gpu.clocks.get(figure.clock)
            found[dtype] = peak[0] * (clock_hz / at.value if at and figure.per_sm_clock else 1.0)
    return found


def _held(gpu: Gpu, known: Family, peaks: Mapping[str, float]) -> dict[str, float]:
    """The rate that the power limit sustains, where the board's limit and energies are known; never above the data-sheet
    peak.
    """
    power = known.sections["power"]
    watts = gpu.power.value * (1.0 - power["board"]) if gpu.power and "board" in power else inf
    found = {}
    for dtype, peak in peaks.items():
        joule = power.get(_served(gpu, dtype) or "vector", power.get("fp16", 0.0)) * 1e-12
        found[dtype] = min(peak * power.get("ceiling", 1.0), watts / joule if joule else inf)
    return found


def _tilings(gpu: Gpu, known: Family) -> dict[str, Tiling]:
    """The tiling of the vector engine and of every data type with a tensor rate."""
    found = {"vector": _tiling(known, "vector")}
    for dtype in TENSOR_DTYPES:
        served = _served(gpu, dtype)
        if served:
            found[dtype] = _tiling(known, served if served in known.sections else "tensor")
    for section in known.sections:  # further kernels, such as "fp8 block" or "tf32 warp"
        if section.partition(" ")[0] in found and " " in section:
            found[section] = _tiling(known, section)
    return found


def _served(gpu: Gpu, dtype: str) -> str:
    """The type by which the tensor engine runs products of a data type; empty where the vector engine does."""
    peak = gpu.peak(Engine.TENSOR, dtype)
    return peak[1].partition(" ")[2] if peak is not None and peak[1].startswith("tensor") else ""


# Figures of a tiling that the vector engine does not need.
UNLIMITED = {**dict.fromkeys(("small_draw", "misaligned", "misaligned_draw"), 1.0), "draw": inf}


def _tiling(known: Family, section: str) -> Tiling:
    if section == "vector":  # alignment and loads of a multiprocessor never limit it
        values = {**UNLIMITED, **known.sections["vector"]}
    else:
        general = known.sections.get(section.partition(" ")[0], {})
        values = {**known.sections["tensor"], **general, **known.sections[section]}
    return Tiling(
        edge=values["edge"],
        draw_byte_per_clock=values["draw"],
        sharing=values.get("sharing", 1.0),
        lead_s=values["lead"] * 1e-6,
        start_s=values.get("start", 0.0) * 1e-6,
        drain_per_clock=values["drain"],
        split_s=values["split"] * 1e-6,
        small=values.get("small", 1.0),
        small_draw=values["small_draw"],
        misaligned=values["misaligned"],
        misaligned_draw=values["misaligned_draw"],
        issue=values.get("issue", 1.0),
        wait=values.get("wait", 0.0),
        overlap=values.get("overlap", SHARPNESS),
    )


def with_readings(found: Card, own: measured.Measured) -> Card:
    """Replaces factors of the data sheet by the card's own measured ceilings."""

    def reading(section: str, name: str, otherwise: float) -> float:
        value = own.value(section, name)
        return otherwise if value is None else value

    held = {dtype: reading("matmul", f"{dtype} sustained", value) for dtype, value in found.held_flop_per_s.items()}
    l2_byte_per_s = reading("l2", "read", found.l2_byte_per_s)
    fma, host_s = own.value("fma", "fp32"), own.value("launch", "stream")
    return found._replace(
        read_byte_per_s=reading("stream", "read", found.read_byte_per_s),
        copy_byte_per_s=reading("stream", "copy", found.copy_byte_per_s),
        add_byte_per_s=reading("stream", "add", found.add_byte_per_s),
        write_byte_per_s=reading("stream", "write", found.write_byte_per_s),
        l2_byte_per_s=l2_byte_per_s,
        through_byte_per_s=found.through_byte_per_s * l2_byte_per_s / found.l2_byte_per_s,
        lane_per_s=fma / 2.0 if fma else found.lane_per_s,
        cold_s=reading("launch", "replay cold", found.cold_s),
        warm_s=reading("launch", "replay warm", found.warm_s),
        graph_s=reading("launch", "graph node", found.graph_s),
        node_s=reading("launch", "graph node", found.node_s),
        host_s=_host(found, host_s) if host_s else found.host_s,
        host_hidden_s=0.0 if host_s else found.host_hidden_s,
        dram_latency_s=reading("latency", "dram", found.dram_latency_s),
        l2_latency_s=reading("latency", "l2", found.l2_latency_s),
        held_flop_per_s=held,
        basis=f"readings of {own.made.get('date', 'an unknown day')} ({os.path.basename(own.file)})",
    )


def _host(found: Card, period_s: float) -> dict[str, float]:
    """Launch times of this host: the period between launches is measured, the first launch is a fixed fraction of it,
    scaled by kind of call.
    """
    usual = found.host_s["wrapped"]  # softmax and the norms are called through modules too
    return {
        kind: FIRST_CALL * period_s * max(1.0, value / usual)
        for kind, value in found.host_s.items()
        if kind not in UNSCALED
    } | {"between": period_s}


def basis(gpu: Gpu, knowledge: str, known: Family) -> str:
    """Returns a short description of the sources of the figures."""
    if knowledge == "datasheet":
        return "the data sheet and rounded factors that hold for most cards"
    if known.name == ANY:
        return f"the data sheet; there is no family file for {gpu.architecture.split()[0]}"
    return f"factors fitted on {known.name.capitalize()} cards"
