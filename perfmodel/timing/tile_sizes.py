"""The tiles that libraries have for matrix products, and what a step of each takes on a card."""

from functools import lru_cache
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.weights import Mechanism

_data = Mechanism("tiles")
TENSOR_TILES, VECTOR_TILES = _data.pairs("tensor tiles"), _data.pairs("vector tiles")
BATCH_TILES = {name: _data.pairs(f"batch tiles {name}") for name in ("volta", "turing", "ampere", "ada")}
STEP_BYTE, VECTOR_STEP = _data.facts("step byte", "vector step")
WIDE, ALONE, PAIRED = _data.facts("wide", "alone", "paired")
ODD = _data.weight("odd")


class Choice(NamedTuple):
    """A tile on a card: its sides, the time of a step along k, the L2 time of a step's operands, the time at the edges
    of a wave, how many tiles run at once, and the rows and columns of the result that one wave covers.
    """

    tile_m: int
    tile_n: int
    step_s: float
    fetch_s: float
    edge_s: float
    slots: int
    wave_m: float
    wave_n: float


def step_of(left: float, right: float) -> int:
    """Elements along k of one step: one L2 cache line of the wider operand."""
    return max(1, int(STEP_BYTE // max(left, right)))


def wave(count: int, tile_m: Size, tile_n: Size) -> tuple[Size, Size]:
    """Rows and columns of the result that one tile on each multiprocessor covers, as nearly square as possible."""
    across = maximum(1.0, (count * tile_n / tile_m) ** 0.5)
    down = maximum(1.0, count / across)
    return across * tile_m, down * tile_n


def choices_of(
    card: Card, dtype: str, left: float, right: float, aligned: int, batched: bool
) -> tuple[tuple[Choice, ...], bool]:
    """The tiles that a library has for such a product on this card, and whether it chooses among many."""
    on_tensor = dtype in card.tilings
    how = card.tilings[dtype if on_tensor else "vector"]
    rates = (card.peak_flop_per_s[dtype], card.multiprocessors, card.clock_hz, card.l2_byte_per_s)
    return _made(how, on_tensor, card.generation if batched else "", rates, left, right, aligned)


@lru_cache(maxsize=1024)
def _made(
    how: Tiling,
    on_tensor: bool,
    batches_of: str,
    rates: tuple[float, int, float, float],
    left: float,
    right: float,
    aligned: int,
) -> tuple[tuple[Choice, ...], bool]:
    """The table of tiles. ``batches_of`` names the generation whose batched kernels are used (empty: no batch).
    ``aligned`` is 0 for an odd result.
    """
    peak_flop_per_s, count, clock_hz, l2_byte_per_s = rates
    tiles: tuple[tuple[int, int], ...] = TENSOR_TILES if on_tensor else VECTOR_TILES
    if batches_of and not on_tensor:
        tiles = BATCH_TILES.get(batches_of, VECTOR_TILES)
    share, drawn = {16: (1.0, 1.0), 4: (how.small, how.small_draw)}.get(aligned, (how.crooked, how.crooked_draw))
    if not aligned:
        share, drawn = share * ODD, drawn * ODD
    peak = peak_flop_per_s * how.issue / count * share
    draw = how.draw_byte_per_clock * clock_hz * drawn
    step_k = step_of(left, right) if on_tensor else VECTOR_STEP
    found = []
    for tile_m, tile_n in tiles:
        area, fetch_byte = tile_m * tile_n, (tile_m * left + tile_n * right) * step_k
        multiply_s = 2.0 * area * step_k * (1.0 + how.edge * (1 / tile_m + 1 / tile_n)) / peak
        together = 1 if area >= ALONE else 2 if area >= PAIRED else 4
        found.append(
            Choice(
                tile_m,
                tile_n,
                max(multiply_s, fetch_byte / draw),
                fetch_byte / (l2_byte_per_s * how.sharing),
                how.start_s + area / (how.drain_per_clock * clock_hz),
                count * together,
                *wave(count, tile_m, tile_n),
            )
        )
    return tuple(found), len(tiles) > 4
