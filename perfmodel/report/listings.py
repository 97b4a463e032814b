"""Lists of the GPU files, workloads, operations and symbols."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.block import parameters, wholes
from perfmodel.config_files import workload
from perfmodel.hardware import Gpu, all_gpus, short_names
from perfmodel.operation import Operation
from perfmodel.paths import files, report
from perfmodel.report.sheet import Column, Sheet
from perfmodel.symbols import TABLE
from perfmodel.systems import System, all_systems
from perfmodel.units import scaled, significant
from perfmodel.workload import Workload


def gpus() -> Sheet:
    """Returns the main figures of every GPU file."""
    names: dict[str, list[str]] = {}
    for short, name in short_names().items():
        names.setdefault(name, []).append(short)
    cards = all_gpus()
    for card in cards:
        report(card.name, card.file)
    columns = [
        Column("name", "name", lambda g: g.name, right=False),
        Column("short_names", "short", lambda g: ", ".join(names.get(g.name, [])) or None, right=False, expendable=3),
        Column("multiprocessors", "SMs/CUs", lambda g: int(g.multiprocessors.value), expendable=4),
        Column("capacity_byte", "memory", lambda g: g.capacity_byte.value, lambda value: scaled(value, "B", 3)),
        Column(
            "bandwidth_byte_per_s", "bandwidth", lambda g: g.bandwidth_byte_per_s.value, lambda v: scaled(v, "B/s", 4)
        ),
        Column("tensor_16_flop_per_s", "16-bit tensor", _tensor, _flop_per_s),
        Column("vector_fp32_flop_per_s", "fp32", lambda g: _peak(g, "vector", "fp32"), _flop_per_s, expendable=2),
        Column("ridge_flop_per_byte", "ridge FLOP/B", _ridge, lambda value: significant(value, 4), expendable=1),
    ]
    note = "16-bit tensor: dense, fp32 accumulation. The source of every figure is in hardware/NAME.yaml."
    return Sheet(columns, cards, notes=[note])


def _flop_per_s(value: float) -> str:
    return scaled(value, "FLOP/s", 4)


def _peak(card: Gpu, table: str, dtype: str) -> float | None:
    figure = card.peaks[table].get(dtype)
    return figure.value if figure else None


def _tensor(card: Gpu) -> float | None:
    return _peak(card, "tensor", "bf16") or _peak(card, "tensor", "fp16")


def _ridge(card: Gpu) -> float | None:
    peak = _tensor(card)
    return peak / card.bandwidth_byte_per_s.value if peak else None


def systems() -> Sheet:
    """Returns the links of every system file."""
    found = all_systems()
    for system in found:
        report(system.name, system.file)

    def rate(value: float) -> str:
        return scaled(value, "B/s", 4)

    columns = [
        Column("name", "name", lambda s: s.name, right=False),
        Column("gpus", "GPUs", lambda s: ", ".join(s.gpus), right=False, expendable=4),
        Column("gpus_per_node", "per node", lambda s: int(s.gpus_per_node.value)),
        Column("domain", "domain", lambda s: s.scale_up.gpus),
        Column("link", "link", lambda s: s.scale_up.link, right=False),
        Column("one_way_byte_per_s", "one way", lambda s: s.scale_up.one_way_byte_per_s.value, rate),
        Column(
            "both_ways_byte_per_s", "both ways", lambda s: s.scale_up.both_ways_byte_per_s.value, rate, expendable=2
        ),
        Column("reduces", "switches add", lambda s: "yes" if s.scale_up.reduces else "no", right=False, expendable=3),
        Column("network", "network", lambda s: s.network.link if s.network else None, right=False),
        Column("network_one_way_byte_per_s", "one way", _network, rate),
    ]
    notes = [
        "Rates of one GPU. Domain: GPUs that NVLink or PCIe joins; further GPUs are reached over the network.",
        "The source of every figure is in hardware/systems/NAME.yaml.",
    ]
    return Sheet(columns, found, notes=notes)


def _network(system: System) -> float | None:
    return system.network.one_way_byte_per_s.value if system.network else None


def models() -> Sheet:
    """Returns every workload with its title and phases."""
    columns = [
        Column("name", "name", lambda w: w.name, right=False),
        Column("title", "description", lambda w: w.title.removeprefix(f"{w.name}: "), right=False),
        Column("parameters", "parameters", _parameters, lambda value: scaled(value, "", 4), expendable=1),
        Column("phases", "phases", lambda w: ", ".join(w.phases), right=False, expendable=2),
    ]
    return Sheet(columns, [workload(name) for name in files("configs")])


def _parameters(found: Workload) -> int | None:
    dims = found.dims(found.default_phase)
    return parameters(wholes(found.steps, {"causal": 0, **dims})).total or None


def ops(operations: Iterable[Operation]) -> Sheet:
    """Returns every operation with its title and sizes."""
    columns = [
        Column("name", "name", lambda o: o.name, right=False),
        Column("summary", "description", lambda o: o.summary, right=False),
        Column("arguments", "sizes", _sizes, right=False, expendable=1),
    ]
    return Sheet(columns, list(operations))


def _sizes(operation: Operation) -> str:
    return " ".join(operation.required)


def symbols() -> Sheet:
    """Returns the notation table."""
    columns: list[Column] = [
        Column("name", "symbol", lambda s: s.name, right=False),
        Column("meaning", "meaning", lambda s: s.meaning, right=False),
        Column("typical", "typical", _typical, right=True, expendable=1),
    ]
    return Sheet(columns, TABLE)


def _typical(symbol: Any) -> str:
    """Returns the typical value, or the sizes from which the default follows."""
    return f"{symbol.follows}, else {symbol.typical}" if symbol.follows else str(symbol.typical)
