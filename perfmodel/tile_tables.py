"""Traffic against tile size: the tiles of a product or of FlashAttention that fit on chip, and the bytes that each
moves.

A square tile of t x t results needs a slice of t x tile_k elements of each operand in on-chip memory. Its t² sums of 4
bytes are in registers. A tile of FlashAttention has r rows each of q, k, v and the output: 4 r d elements on chip. Larger tiles
reread less, so the largest that fits moves the fewest bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any, NamedTuple

from perfmodel.analysis import analyse
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.workload import Workload

SUM_BYTE = 4  # of a sum in registers
STEPS = (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Tile(NamedTuple):
    """A tile size, its bytes in on-chip memory and in registers, and what the operation moves with it."""

    size: int
    chip_byte: int
    sum_byte: int | None
    traffic_byte: int
    intensity: float
    bound: str | None
    lower_s: float | None


class Tiles(NamedTuple):
    """Tiles of rising size, the last one the largest that fits. ``limit`` says what limits it."""

    name: str
    tiles: tuple[Tile, ...]
    limit: str


def tiles(operation: Operation, workload: Workload, gpu: Gpu | None, dims: Mapping[str, Any], settings: Mapping[str, Any],
          knowledge: str | None = None) -> Tiles | None:  # fmt: skip
    """Returns the tiles of an operation at these sizes; None for an operation without tiles."""
    product = {"tile_m", "tile_n", "tile_k"} <= set(operation.arguments)
    if not product and not {"M", "d", "N"} <= set(operation.arguments):
        return None
    name, largest, limit = _product(dims, gpu) if product else _rows(dims)
    if largest < 1:
        return None

    def of(size: int) -> Tile:
        own = {"tile_m": size, "tile_n": size} if product else {"M": 4 * size * dims["d"] * dims["act"]}
        total = analyse(workload, gpu=gpu, settings={**settings, **own}, fused=True, knowledge=knowledge).total
        chip = 2 * size * dims["tile_k"] * dims["act"] if product else own["M"]
        return Tile(
            size, chip, SUM_BYTE * size**2 if product else None, total.traffic_byte,
            total.intensity_flop_per_byte, total.bound, total.lower_s,
        )  # fmt: skip

    return Tiles(name, tuple(map(of, _sizes(largest))), limit)


def _sizes(largest: int) -> Iterator[int]:
    yield from (step for step in STEPS if step < largest)
    yield largest


def _product(dims: Mapping[str, Any], gpu: Gpu | None) -> tuple[str, int, str]:
    """Returns the largest square tile of a product, and the limit: slices, sums, or the matrices themselves."""
    each = 2 * dims["tile_k"] * dims["act"]
    found = dims["M"] // each
    limit = f"two slices of {found} x tile_k = {dims['tile_k']} elements fill the on-chip memory of {dims['M']:,} B"
    registers = gpu.multiprocessor.get("registers") if gpu else None
    if registers is not None and isqrt(int(registers.value) // SUM_BYTE) < found:
        found = isqrt(int(registers.value) // SUM_BYTE)
        limit = f"its {found} x {found} sums of {SUM_BYTE} B fill the registers of a multiprocessor, {int(registers.value):,} B"
    if max(dims["m"], dims["n"]) <= found:
        found, limit = max(dims["m"], dims["n"]), "it covers the result"
    return "tile_m = tile_n", int(found), limit


def _rows(dims: Mapping[str, Any]) -> tuple[str, int, str]:
    """Returns the most rows of a tile of FlashAttention, and the limit."""
    each = 4 * dims["d"] * dims["act"]
    found = dims["M"] // each
    limit = f"four tiles of {found} x d = {dims['d']} elements need {int(found * each):,} of {dims['M']:,} B on chip"
    if dims["N"] <= found:
        found, limit = dims["N"], "it covers all N queries"
    return "rows r", int(found), limit
