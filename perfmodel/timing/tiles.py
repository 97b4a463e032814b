"""Matrix products: tiles over multiprocessors, in waves.

A product of m by k and k by n is cut into tiles of its result; a multiprocessor works one tile off at a time, in steps
along k. A step takes as long as its multiplications at the rate that the tile's shape allows (a small tile re-reads its
operands more often from shared memory), or as long as its operands take to come in, whichever is more. Tiles are dealt
out in rounds, and the last round takes as long as a full one: 133 tiles on 132 multiprocessors cost two rounds. A sum
that is split along k makes more tiles of fewer steps, and a second kernel adds the parts.

Every tile reads its strips of both operands through L2; what is not found there is read from memory, once for each
group of tiles in work at a time. Which tile and which split the library takes is taken to be the one that this model
finds fastest.

Long products meet the board's power: multiplications cost energy, and the clock falls until the board keeps to its watts.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import HELD_BACK, NOTHING_LEFT, kept, rate
from perfmodel.timing.terms import Body, Term, overlapped

TENSOR_TILES = (
    (256, 128), (128, 256), (128, 128), (192, 128), (128, 192), (64, 256), (256, 64), (64, 128), (128, 64), (64, 64),
    (64, 32), (32, 64), (64, 16),
)  # fmt: skip
VECTOR_TILES = (
    (256, 128), (128, 128), (128, 64), (64, 128), (64, 64), (256, 64), (64, 32), (32, 64), (32, 32), (128, 32), (32, 128),
)  # fmt: skip
# Batches on the vector engine: the few tiles that the library has for them (the names of the kernels in NeuSight's
# profiles, cuBLAS of CUDA 12.1).
BATCH_TILES = {
    "volta": ((64, 64), (128, 32), (32, 128)),
    "turing": ((128, 64), (64, 64), (128, 32), (32, 128)),
    "ampere": ((128, 128),),
}
SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
STEP_BYTE = 128  # of a row of an operand: one line of L2
VECTOR_STEP = 16  # of k
FEWEST_STEPS = 2
SHARPNESS = 5.6
ALIGNED_BYTE = 16
OVERHANG = 64  # a tile of this side is taken for anything smaller


def body(
    card: Card, m: int, k: int, n: int, batch: int, item: int, dtype: str, *, found: float = 0.0, extra_byte: int = 0
) -> Body:
    """The time of one product, or of a batch of them, with the tile and split that make it least."""
    on_tensor = dtype in card.tilings
    how = card.tilings[dtype if on_tensor else "vector"]
    peak = card.peak_flop_per_s[dtype] * how.issue / card.multiprocessors
    draw = how.draw_byte_per_clock * card.clock_hz
    if on_tensor and (k * item % ALIGNED_BYTE or n * item % ALIGNED_BYTE):
        peak, draw = peak * how.crooked, draw * how.crooked_draw
    step_k = max(1, STEP_BYTE // item) if on_tensor else VECTOR_STEP
    steps_all = -(-k // step_k)
    operand_byte = batch * item * (m * k + k * n)
    result_byte = batch * item * m * n + extra_byte
    held = min(result_byte, HELD_BACK * card.l2_byte * 1.3)
    bandwidth = rate(card, operand_byte, result_byte)
    compulsory_s = (operand_byte + result_byte - held) * (1.0 - found) / bandwidth
    l2_rate = card.l2_byte_per_s * how.sharing
    flops = 2.0 * batch * m * n * k
    powered_s = flops / powered_rate(card, dtype, flops)
    count = card.multiprocessors
    start = how.start_s
    best = None
    choices = tiles_of(card.generation, on_tensor, batch > 1)
    choosy = len(choices) > 4
    for tile_m, tile_n, area, rim, together in choices:
        if choosy and ((tile_m > OVERHANG and tile_m >= 2 * m) or (tile_n > OVERHANG and tile_n >= 2 * n)):
            continue
        multiply_s = 2.0 * area * step_k * (1.0 + how.edge * rim) / peak
        fetch_byte = (tile_m + tile_n) * step_k * item
        step_s = max(multiply_s, fetch_byte / draw)
        drain_s = area / (how.drain_per_clock * card.clock_hz)
        tiles = -(-m // tile_m) * -(-n // tile_n) * batch
        for split in SPLITS:
            if split > 1 and (steps_all < FEWEST_STEPS * split or tiles * split > 2 * count):
                break
            steps, units = -(-steps_all // split), tiles * split
            work_s = -(-units // count) * steps * step_s
            edges_s = -(-units // (count * together)) * (start + drain_s)
            l2_s = units * fetch_byte * steps / l2_rate
            sum_s = how.split_s + 8.0 * split * m * n * batch / l2_rate if split > 1 else 0.0
            rough = max(max(work_s, powered_s) + edges_s, l2_s, compulsory_s) + sum_s
            if best is None or rough < best[0]:
                best = (rough, tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s)
    assert best is not None
    _, tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s = best
    again_s = _again_byte(card, m, k, n, batch, item, tile_m, tile_n) / bandwidth
    seconds, terms = overlapped(
        (
            ("multiplications", max(work_s, powered_s) + edges_s),
            ("memory", compulsory_s + again_s),
            ("L2", l2_s),
        ),
        SHARPNESS,
    )
    terms = (*terms, Term("pipeline, first to last", how.lead_s))
    if split > 1:
        terms = (*terms, Term("sum of the parts", sum_s))
    engine = "tensor" if on_tensor else "vector"
    choice = f"{engine} tiles of {tile_m} x {tile_n}" + (f", k in {split} parts" if split > 1 else "")
    return Body(seconds + how.lead_s + sum_s, terms, "tiles", choice)


def _again_byte(card: Card, m: int, k: int, n: int, batch: int, item: int, tile_m: int, tile_n: int) -> float:
    """Bytes that are read from memory more than once: operands that outgrow L2, once for each group of tiles."""
    if item * (m * k + k * n) <= NOTHING_LEFT * card.l2_byte:
        return 0.0
    across = max(1.0, sqrt(card.multiprocessors * tile_n / tile_m))
    down = max(1.0, card.multiprocessors / across)
    left = max(1.0, n / (down * tile_n)) - 1.0
    right = max(1.0, m / (across * tile_m)) - 1.0
    return batch * item * (m * k * left + k * n * right) * (1.0 - kept(card, item * (m * k + k * n)))


@cache
def _prepared(tiles: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int, float, int], ...]:
    """Sides, area, rim 1/m + 1/n, and how many a multiprocessor holds at once."""
    return tuple((a, b, a * b, 1 / a + 1 / b, 1 if a * b >= 24576 else 2 if a * b >= 16384 else 4) for a, b in tiles)


@cache
def tiles_of(generation: str, on_tensor: bool, batched: bool) -> tuple[tuple[int, int, int, float, int], ...]:
    """The tiles that a library has for such a product."""
    if on_tensor:
        return _prepared(TENSOR_TILES)
    return _prepared(BATCH_TILES.get(generation, VECTOR_TILES) if batched else VECTOR_TILES)


def shape_of(tiling: Tiling) -> str:
    """A tiling's figures in one line."""
    return ", ".join(f"{name} {value:.3g}" for name, value in tiling._asdict().items())
