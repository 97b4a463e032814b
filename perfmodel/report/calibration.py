"""Measured ceilings compared with the data sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.hardware import Gpu
from perfmodel.measured import SECTIONS, Reading
from perfmodel.op import Engine
from perfmodel.paths import label
from perfmodel.report.sheet import Column, Sheet
from perfmodel.units import scaled


class Line(NamedTuple):
    """A measured value, its unit, and the data sheet's value."""

    section: str
    name: str
    unit: str
    reading: Reading
    sheet: float | None

    @property
    def spread(self) -> float:
        return (self.reading.high - self.reading.low) / self.reading.value

    @property
    def of_sheet(self) -> float | None:
        return self.reading.value / self.sheet if self.sheet else None


def lines(readings: Sequence[tuple[str, str, Reading]], gpu: Gpu) -> list[Line]:
    """Returns every measured value with the data sheet's value."""
    return [
        Line(section, name, SECTIONS[section][0], reading, sheet_value(gpu, section, name))
        for section, name, reading in readings
    ]


def sheet_value(gpu: Gpu, section: str, name: str) -> float | None:
    """Returns the data sheet's value for a measurement; None if it gives none."""
    if section == "stream":
        return gpu.bandwidth_byte_per_s.value
    if section == "special":
        return gpu.special.value if gpu.special else None
    if section == "l2":
        found = gpu.caches.get("l2_bandwidth")
        return found.value if found else None
    dtype = name.partition(" ")[0]
    engine = {"matmul": Engine.TENSOR, "fma": Engine.VECTOR}.get(section)
    peak = gpu.peak(engine, dtype) if engine else None
    return peak[0] if peak else None


def sheet(readings: Sequence[tuple[str, str, Reading]], gpu: Gpu) -> Sheet:
    """Returns the table of ``calibrate``."""
    columns = [
        Column("section", "measurement", lambda line: line.section, right=False),
        Column("name", "variant", lambda line: line.name, right=False),
        Column("value", "measured", lambda line: scaled(line.reading.value, line.unit, 4)),
        Column("spread", "quartile spread", lambda line: line.spread, lambda value: f"{value:.1%}", expendable=2),
        Column(
            "sheet", "data sheet", lambda line: scaled(line.sheet, line.unit, 4) if line.sheet else None, expendable=1
        ),
        Column("of_sheet", "share of sheet", lambda line: line.of_sheet, lambda value: f"{value:.0%}"),
        Column("note", "method", lambda line: line.reading.note or None, right=False, expendable=3),
    ]
    return Sheet(
        columns, lines(readings, gpu), title=f"{gpu.title}, measured against its data sheet ({label(gpu.file)})"
    )
