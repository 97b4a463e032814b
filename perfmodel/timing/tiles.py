"""Matrix products: tiles over multiprocessors, in waves.

The result of an (m, k) by (k, n) product is cut into tiles. A multiprocessor computes one tile at a time, in steps
along k. A step takes the longer of two times: its multiplications, at the rate that the tile's shape allows (a small
tile re-reads its operands more often from shared memory), and the loading of its operands. Tiles run in waves, and the
last wave takes as long as a full one: 133 tiles on 132 multiprocessors take two waves. Splitting the sum along k
(split-k) gives more tiles of fewer steps; a second kernel adds the partial sums.

Every tile reads its strips of both operands through L2. Operands that do not stay in L2 are read from memory once for
each group of tiles in flight. The library is assumed to choose the tile and the split that this model finds fastest.

Alignment: rows that start at multiples of 16 bytes are loaded by wide copies. Rows aligned to 4 or 8 bytes need narrow
copies and run older kernels, whose matrix instruction does not reach the peak of the newest. Rows aligned to 2 bytes
pass through registers, element by element.

Long products are limited by the board's power: the clock falls until the board keeps to its limit.
"""

from functools import lru_cache
from math import inf, sqrt
from typing import NamedTuple

from perfmodel.runs import Gemm, number
from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import NOTHING_LEFT, kept, rate
from perfmodel.timing.terms import Body, Term, at_once_s, overlapped

TENSOR_TILES = (
    (256, 128), (128, 256), (128, 128), (192, 128), (128, 192), (64, 256), (256, 64), (64, 128), (128, 64), (64, 64),
    (64, 32), (32, 64), (64, 16),
)  # fmt: skip
# More tiles of cuBLAS 13 for 16-bit operands in wide copies, by the kernel names in profiles of an H100.
MORE_TILES = {
    "hopper": (
        (192, 192), (96, 128), (128, 96), (192, 96), (96, 192), (256, 96), (96, 256), (96, 64), (64, 96), (128, 160), (160, 128),
        (320, 128), (128, 320),
    ),
}  # fmt: skip
VECTOR_TILES = (
    (256, 128), (128, 128), (128, 64), (64, 128), (64, 64), (256, 64), (64, 32), (32, 64), (32, 32), (128, 32), (32, 128),
)  # fmt: skip
# Tiles that cuBLAS (CUDA 12.1) has for batches on the vector engine, by the kernel names in NeuSight's profiles. Their
# sums are not split.
BATCH_TILES = {
    "volta": ((64, 64), (128, 32), (32, 128)),
    "turing": ((128, 64), (64, 64), (128, 32), (32, 128)),
    "ampere": ((128, 128),),
    "ada": ((128, 128),),  # the same library
}
SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
# Rate where only the result's rows are misaligned, relative to misaligned operands: cuBLAS takes a kernel for Turing's
# instruction (products with 50257 columns on an H100, 2026-11, torch 2.11).
ODD = 0.7
STEP_BYTE = 128  # one L2 cache line of an operand's row
VECTOR_STEP = 16  # elements along k
FEWEST_STEPS = 2
SHARPNESS = 5.6
WIDE = 16
ALIGNMENTS = (WIDE, 4, 2, 1)  # bytes: wide copies, narrow copies (4, 2), through registers
OVERHANG = 64  # a side of at most this length is considered for any smaller size
ALONE, PAIRED = (
    24576,
    16384,
)  # elements of a tile that fills a multiprocessor, and of one that shares it with another tile
LEFT_IN_L2 = 0.65  # share of L2's effective capacity that still holds results when the kernel ends


class Product(NamedTuple):
    """A batch of products (m, k) by (k, n), and bytes per element of both operands and the result.

    ``reads`` and ``writes`` are the bytes that the operation moves divided by those of the operands and the result: less
    than 1 for a convolution, whose inputs overlap, more where a bias or an accumulator is read too. ``aligned``, ``odd`` and
    ``whole`` are as in ``Gemm``.
    """

    m: int
    k: int
    n: int
    batch: int = 1
    left: float = 2
    right: float = 2
    result: float = 2
    reads: float = 1.0
    writes: float = 1.0
    aligned: int = 0
    odd: bool = False
    whole: bool = False

    @classmethod
    def of(cls, fact: Gemm) -> "Product":
        """Returns the product that a fact describes, as numbers."""
        sizes = (number(size) for size in fact[:4])
        items = (item if isinstance(item, int) else float(item) for item in fact.items)
        m, k, n, batch = sizes
        left, right, result = items
        return cls(m, k, n, batch, left, right, result, aligned=fact.aligned, odd=fact.odd, whole=fact.whole)

    @property
    def operands_byte(self) -> float:
        """Bytes of both operands of one product of the batch."""
        return self.m * self.k * self.left + self.k * self.n * self.right

    @property
    def result_byte(self) -> float:
        """Bytes of one result of the batch."""
        return self.m * self.n * self.result


class Choice(NamedTuple):
    """A tile on a card: its sides, the time of a step along k, the L2 time of a step's operands, the time at the edges
    of a wave, and how many tiles run at once.
    """

    tile_m: int
    tile_n: int
    step_s: float
    fetch_s: float
    edge_s: float
    slots: int


def alignment(size: Product) -> int:
    """Bytes to which the rows of all matrices are aligned."""
    sizes = (size.k * size.left, size.n * size.right)
    return size.aligned or next((byte for byte in ALIGNMENTS if not any(one % byte for one in sizes)), 1)


def body(card: Card, size: Product, dtype: str, *, found: float = 0.0) -> Body:
    """Returns the time of a batch of products with the tile and the split that make it least."""
    m, k, n, batch, *_ = size
    on_tensor = dtype in card.tilings
    how = card.tilings[dtype if on_tensor else "vector"]
    operand_byte = batch * size.operands_byte * size.reads
    result_byte = batch * size.result_byte * size.writes
    bandwidth = rate(card, operand_byte, result_byte)
    compulsory_s = (
        (operand_byte + result_byte - min(result_byte, LEFT_IN_L2 * card.l2_byte)) * (1.0 - found) / bandwidth
    )
    flops = 2.0 * batch * m * n * k
    powered_s = flops / powered_rate(card, dtype, flops)
    aligned = 16
    if on_tensor:
        aligned = alignment(size)
    best = _fastest(card, size, dtype, aligned, powered_s, compulsory_s, bandwidth)
    tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s = best
    again_s = _again_byte(card, size, tile_m, tile_n) / bandwidth
    seconds, terms = overlapped(
        (
            ("matrix product", max(work_s, powered_s) + edges_s),
            ("memory", compulsory_s + again_s),
            ("L2", l2_s),
        ),
        SHARPNESS,
    )
    terms = (*terms, Term("pipeline fill and drain", how.lead_s))
    if split > 1:
        terms = (*terms, Term("split-k sum", sum_s))
    engine = "tensor" if on_tensor else "vector"
    words = f"{engine} tiles of {tile_m} x {tile_n}" + (f", k in {split} parts" if split > 1 else "")
    return Body(seconds + how.lead_s + sum_s, terms, "tiles", words)


def _fastest(
    card: Card, size: Product, dtype: str, aligned: int, powered_s: float, compulsory_s: float, bandwidth: float
) -> tuple[int, int, int, float, float, float, float]:
    """Returns the fastest tile and split: sides, number of parts of k, and the times of multiplications, wave edges, L2
    and the sum of the parts.
    """
    m, k, n, batch, left, right, *_ = size
    on_tensor, count = dtype in card.tilings, card.multiprocessors
    how = card.tilings[dtype if on_tensor else "vector"]
    step_k = _step(left, right) if on_tensor else VECTOR_STEP
    steps_all = -(-k // step_k)
    part_s = 8.0 * m * n * batch / card.l2_byte_per_s
    whole = size.whole or (
        batch > 1 and not on_tensor and min(m, n) > 1
    )  # a vector-matrix product has its own kernels, which split
    choices, choosy = _choices(card, dtype, left, right, 0 if size.odd else aligned, batch > 1)
    least, best = inf, None
    for tile_m, tile_n, step_s, fetch_s, edge_s, slots in choices:
        if choosy and ((tile_m > OVERHANG and tile_m >= 2 * m) or (tile_n > OVERHANG and tile_n >= 2 * n)):
            continue
        tiles = -(-m // tile_m) * -(-n // tile_n) * batch
        if tiles * steps_all * step_s > least * count:
            continue
        for split in SPLITS:
            if split > 1 and (whole or steps_all < FEWEST_STEPS * split or tiles * split > 2 * count):
                break
            steps, units = -(-steps_all // split), tiles * split
            work_s = -(-units // count) * steps * step_s
            edges_s = -(-units // slots) * edge_s
            l2_s = units * fetch_s * steps
            sum_s = how.split_s + part_s * split if split > 1 else 0.0
            busy_s = (work_s if work_s > powered_s else powered_s) + edges_s
            if max(busy_s, l2_s, compulsory_s) + sum_s >= least:  # overlap never makes the longest shorter
                continue
            memory_s = compulsory_s + _again_byte(card, size, tile_m, tile_n) / bandwidth
            whole_s = at_once_s((busy_s, memory_s, l2_s), SHARPNESS) + sum_s
            if whole_s < least:
                least, best = whole_s, (tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s)
    assert best is not None
    return best


def _step(left: float, right: float) -> int:
    """Elements along k of one step: one L2 cache line of the wider operand."""
    return max(1, int(STEP_BYTE // max(left, right)))


def _again_byte(card: Card, size: Product, tile_m: int, tile_n: int) -> float:
    """Bytes read from memory more than once: operands that do not fit in L2 are read again for each group of tiles."""
    m, k, n, batch, left_item, right_item, *_ = size
    if size.operands_byte <= NOTHING_LEFT * card.l2_byte:
        return 0.0
    across = max(1.0, sqrt(card.multiprocessors * tile_n / tile_m))
    down = max(1.0, card.multiprocessors / across)
    left = max(1.0, n / (down * tile_n)) - 1.0
    right = max(1.0, m / (across * tile_m)) - 1.0
    again = m * k * left_item * left + k * n * right_item * right
    return batch * again * size.reads * (1.0 - kept(card, size.operands_byte))


def _choices(
    card: Card, dtype: str, left: float, right: float, aligned: int, batched: bool
) -> tuple[tuple[Choice, ...], bool]:
    """The tiles that a library has for such a product on this card, and whether it chooses among many."""
    on_tensor = dtype in card.tilings
    how = card.tilings[dtype if on_tensor else "vector"]
    rates = (card.peak_flop_per_s[dtype], card.multiprocessors, card.clock_hz, card.l2_byte_per_s)
    more = MORE_TILES.get(card.generation, ()) if on_tensor and left == right == 2 and aligned == WIDE else ()
    return _made(how, on_tensor, card.generation if batched else "", rates, left, right, aligned, more)


@lru_cache(maxsize=1024)
def _made(
    how: Tiling,
    on_tensor: bool,
    batches_of: str,
    rates: tuple[float, int, float, float],
    left: float,
    right: float,
    aligned: int,
    more: tuple[tuple[int, int], ...],
) -> tuple[tuple[Choice, ...], bool]:
    """The table of tiles. ``batches_of`` names the generation whose batched kernels are used (empty: no batch).
    ``aligned`` is 0 for an odd result.
    """
    peak_flop_per_s, count, clock_hz, l2_byte_per_s = rates
    tiles: tuple[tuple[int, int], ...] = TENSOR_TILES + more if on_tensor else VECTOR_TILES
    if batches_of and not on_tensor:
        tiles = BATCH_TILES.get(batches_of, VECTOR_TILES)
    share, drawn = {16: (1.0, 1.0), 4: (how.small, how.small_draw)}.get(aligned, (how.crooked, how.crooked_draw))
    if not aligned:
        share, drawn = share * ODD, drawn * ODD
    peak = peak_flop_per_s * how.issue / count * share
    draw = how.draw_byte_per_clock * clock_hz * drawn
    step_k = _step(left, right) if on_tensor else VECTOR_STEP
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
            )
        )
    return tuple(found), len(tiles) > 4
