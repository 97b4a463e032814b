"""The tiles that libraries have for matrix products, and the time of a step of each tile on a card."""

from functools import lru_cache
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing.branches import uniform
from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.stack_tiles import Sides
from perfmodel.timing.weights import Mechanism

_data = Mechanism("tiles")
TENSOR_TILES, VECTOR_TILES = _data.pairs("tensor tiles"), _data.pairs("vector tiles")
BATCH_TILES = {name: _data.pairs(f"batch tiles {name}") for name in ("volta", "turing", "ampere", "ada")}
STEP_BYTE, VECTOR_STEP = _data.facts("step byte", "vector step")
WIDE, ALONE, PAIRED = _data.facts("wide", "alone", "paired")
ODD, CONVERTED, SHARPNESS = _data.weights("odd", "converted", "sharpness")
# The tiles of a generation's library, where its kernels are known: by the tiling's name.
KERNELS = {
    name: tuple(Sides(*map(int, tile.split("x"))) for tile in _data.words(f"kernels {name}"))
    for name in ("hopper tf32", "hopper tf32 warp", "hopper vector")
}


class Choice(NamedTuple):
    """A tile on a card: its sides, and the times of a step along k, of L2 for the operands of a step, and at the edges
    of a wave. ``slots``: tiles that run at once. ``wave_m``, ``wave_n``: rows and columns of the result that one wave
    covers.
    """

    tile_m: int
    tile_n: int
    step_s: float
    fetch_s: float
    edge_s: float
    slots: int
    wave_m: float
    wave_n: float


def step_of(left: Size, right: Size) -> int:
    """Elements along k of one step: one L2 cache line of the wider operand."""
    return max(1, uniform(STEP_BYTE // maximum(left, right)))


def wave(count: int, tile_m: Size, tile_n: Size) -> tuple[Size, Size]:
    """Rows and columns of the result that one tile on each multiprocessor covers, as nearly square as possible."""
    across = maximum(1.0, (count * tile_n / tile_m) ** 0.5)
    down = maximum(1.0, count / across)
    return across * tile_m, down * tile_n


def kinds(card: Card, dtype: str, scales: str, aligned: int, *, several: bool) -> tuple[str, ...]:
    """The kernels that may run products of this type, by their names among the card's tilings. A serving stack has one for
    each kind of scales. A library may have ``several``: one that needs wide copies, and one that does not.
    """
    name = f"{dtype} {scales}"
    first = name if name in card.tilings else dtype if dtype in card.tilings else "vector"
    second = f"{first} warp"
    if not several or second not in card.tilings:
        return (first,)
    return (first, second) if aligned == WIDE else (second,)


def choices_of(
    card: Card,
    dtype: str,
    items: tuple[float, float],
    aligned: int,
    batched: bool,
    kind: str,
    own: tuple[Sides, ...] = (),
    converts: bool = False,
) -> tuple[tuple[Choice, ...], bool]:
    """The tiles that a library has for such a product on this card, and whether it chooses among many. ``own``: those of a
    stack's kernel.
    """
    on_tensor, (left, right) = dtype in card.tilings, items
    rates = (card.peak_flop_per_s[dtype], card.multiprocessors, card.clock_hz, card.l2_byte_per_s)
    tiles = TENSOR_TILES if on_tensor else VECTOR_TILES
    if batched and not on_tensor:
        tiles = BATCH_TILES.get(card.generation, VECTOR_TILES)
    sides = own or KERNELS.get(f"{card.generation} {kind}") or tuple(Sides(*pair) for pair in tiles)
    step_k = step_of(left, right) if on_tensor else VECTOR_STEP
    weight_s = CONVERTED * card.multiprocessors / card.lane_per_s if converts else 0.0
    table = _kept if isinstance(left, (int, float)) else _made
    return table(card.tilings[kind], sides, rates, step_k, left, right, aligned, weight_s), len(sides) > 4


def _made(
    how: Tiling,
    tiles: tuple[Sides, ...],
    rates: tuple[float, int, float, float],
    step_k: int,
    left: float,
    right: float,
    aligned: int,
    weight_s: float,
) -> tuple[Choice, ...]:
    """The table of tiles. ``aligned`` is 0 for an odd result. ``weight_s``: time to convert one quantised weight."""
    peak_flop_per_s, count, clock_hz, l2_byte_per_s = rates
    share, drawn = {16: (1.0, 1.0), 4: (how.small, how.small_draw)}.get(aligned, (how.misaligned, how.misaligned_draw))
    if not aligned:
        share, drawn = share * ODD, drawn * ODD
    peak = peak_flop_per_s * how.issue / count * share
    draw = how.draw_byte_per_clock * clock_hz * drawn
    found = []
    for tile_m, tile_n, resident, down, across in tiles:
        area, fetch_byte = tile_m * tile_n, (tile_m * left + tile_n * right) * step_k
        convert_s = weight_s * tile_n * step_k
        multiply_s = 2.0 * area * step_k * (1.0 + how.edge * (1 / tile_m + 1 / tile_n)) / peak
        together = resident or (1 if area >= ALONE else 2 if area >= PAIRED else 4)
        found.append(
            Choice(
                tile_m,
                tile_n,
                maximum(maximum(multiply_s, fetch_byte / draw), convert_s),
                _shared_byte(fetch_byte, tile_m * left * step_k, down, across, how.sharing) / l2_byte_per_s,
                how.start_s + area / (how.drain_per_clock * clock_hz),
                count * together,
                *wave(count, tile_m, tile_n),
            )
        )
    return tuple(found)


_kept = lru_cache(maxsize=1024)(_made)


def _shared_byte(byte: float, left_byte: float, down: int, across: int, sharing: float) -> float:
    """Bytes of L2 for the operands of a step, where several multiprocessors take part of them from one read."""
    return left_byte / across + (byte - left_byte) / down if across else byte / sharing
