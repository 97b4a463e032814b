"""Products whose tile cuBLAS picks by an estimate of its own: 16-bit operands in wide copies on Hopper.

cuBLAS picks the tile with the least time of the tensor engine: waves of tiles, times steps along k, times the work of a
step. Small tiles lose more work at their edges. Memory and L2 do not enter, so the pick may be far from the fastest
tile. The kernel names of 665 products on an H100 show this rule (``benchmarks/tiles.py``). The library has more than 200
tiles; a quarter of them gives the same times. The sum along k is split only if the parts of all tiles fit in one wave,
and never that of a batch.

The time of the picked tile has three parts, which overlap: the multiplications, memory and L2. Multiplications and
memory are as in ``tiles``. The operands of a step come through L2, and the tiles of a thread-block cluster share its
reads. Clusters are wide where the tiles leave a tenth of the card free. Otherwise they are pairs, or a single tile where
a matrix has odd numbers of tiles both ways. A batch reads and writes memory somewhat slower than a stream. Rows that do
not start at multiples of 128 bytes need more sectors. Rows of the result that start within a sector or a line are
completed by reads of memory. Most results leave a multiprocessor while the next tile is computed.
"""

from functools import lru_cache
from math import ceil, inf
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum, where
from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.products import Limits, Product, again_s, reread_s
from perfmodel.timing.terms import Body, Term, later, overlapped
from perfmodel.timing.tile_sizes import WIDE, wave
from perfmodel.timing.weights import Mechanism

_data = Mechanism("picked_tiles")
GENERATIONS = _data.words("generations")
ROWS, COLUMNS, SPLITS = _data.sizes("rows"), _data.sizes("columns"), _data.sizes("splits")
LARGEST, STEP, ITEM = _data.facts("largest", "step", "item")
ASSUMED_EDGE, SPLIT, PART = _data.weights("assumed edge", "split", "part")
DRAW, DRAIN, LATER, SPLIT_S, SHARPNESS = _data.weights("draw", "drain", "later", "split s", "sharpness")
ALONE, PAIR, CLUSTER, ROOM, BATCH = _data.weights("alone", "pair", "cluster", "room", "batch")
SECTORS, LINES = _data.weights("sectors", "lines")
COMPLETED = _data.weights("completed 16", "completed 32", "completed 64")


class Pick(NamedTuple):
    """A tile's sides, and the parts of the sum along k."""

    tile_m: Size
    tile_n: Size
    split: Size = 1


@lru_cache(maxsize=1)
def tiles() -> tuple[tuple[int, int, float], ...]:
    """The tiles, each with the work that the library assumes for a step."""
    sides = ((m, n) for m in ROWS for n in COLUMNS if m * n <= LARGEST)
    return tuple((m, n, m * n * (1.0 + ASSUMED_EDGE * (1 / m + 1 / n))) for m, n in sides)


def picks(card: Card, size: Product, dtype: str, aligned: int) -> bool:
    """Whether the library picks the tile of these products by its estimate."""
    return (
        card.generation in GENERATIONS
        and dtype in card.tilings
        and aligned == WIDE
        and not (size.odd or size.scales or size.tiles or size.converts)
        and bool(size.left == ITEM)
        and bool(size.right == ITEM)
        and bool(minimum(size.m, size.n) > 1)
    )


def split_work(work: Size, steps: Size, parts: Size, results: Size, count: int) -> Size:
    """The work that the library assumes for tiles of one wave whose sum is split, and for adding the parts."""
    return ceil(steps / parts) * work + SPLIT + PART * results * parts / count


@lru_cache(maxsize=4096)
def pick(m: int, n: int, batch: int, steps: int, count: int) -> Pick:
    """Returns the tile that the library picks for a product of so many steps along k on so many multiprocessors."""
    least, best, few = inf, Pick(0, 0), []
    for tile_m, tile_n, work in tiles():
        number = -(-m // tile_m) * -(-n // tile_n) * batch
        waves_work = -(-number // count) * work
        if waves_work < least:
            least, best = waves_work, Pick(tile_m, tile_n)
        if 2 * number <= count:
            few.append((number, tile_m, tile_n, work))
    least *= steps
    if batch > 1 or least <= SPLIT:
        return best
    for number, tile_m, tile_n, work in few:
        for parts in SPLITS:
            if number * parts > count or steps < 2 * parts:
                break
            needed = split_work(work, steps, parts, m * n * batch, count)
            if needed < least:
                least, best = needed, Pick(tile_m, tile_n, parts)
    return best


def picked(card: Card, size: Product, steps: Size) -> Pick:
    """The pick for a product, or for each of many."""
    arguments = (size.m, size.n, size.batch, steps)
    if all(isinstance(one, int) for one in arguments):
        return pick(size.m, size.n, size.batch, steps, card.multiprocessors)
    from perfmodel.timing import tile_arrays

    return tile_arrays.picked(*arguments, card.multiprocessors)


def sectors(row_byte: Size) -> Size:
    """Bytes that L2 delivers per byte of rows of this length: rows that start within a sector or a line need more."""
    return where(row_byte % 32 != 0, SECTORS, where(row_byte % 128 != 0, LINES, 1.0))


def completed(row_byte: Size) -> Size:
    """Bytes read from memory to complete sectors and lines, per byte of a result whose rows have this length."""
    by_16, by_32, by_64 = COMPLETED
    return where(row_byte % 32 != 0, by_16, where(row_byte % 64 != 0, by_32, where(row_byte % 128 != 0, by_64, 0.0)))


def unpaired(size: Product, tile_m: Size, tile_n: Size) -> Size:
    """Whether the tiles of a matrix form no pairs: their numbers of rows and of columns are odd."""
    return (ceil(size.m / tile_m) % 2 == 1) & (ceil(size.n / tile_n) % 2 == 1)


def body(card: Card, size: Product, dtype: str, found: Size, given: Limits) -> Body:
    """Returns the time of products with the tile that the library picks, of whose bytes L2 holds the share ``found``."""
    count, how = card.multiprocessors, card.tilings[dtype]
    all_steps = ceil(size.k / STEP)
    tile_m, tile_n, split = picked(card, size, all_steps)
    units = ceil(size.m / tile_m) * ceil(size.n / tile_n) * size.batch * split
    steps, waves = ceil(all_steps / split), ceil(units / count)
    fetch_byte = ITEM * STEP * (tile_m * sectors(size.k * ITEM) + tile_n * sectors(size.n * ITEM))
    area = tile_m * tile_n
    peak = card.peak_flop_per_s[dtype] * how.issue / count
    step_s = maximum(
        2.0 * area * STEP * (1.0 + how.edge * (1.0 / tile_m + 1.0 / tile_n)) / peak,
        fetch_byte / (DRAW * card.clock_hz),
    )
    flops = 2.0 * size.batch * size.m * size.n * size.k
    work_s = maximum(waves * steps * step_s, flops / powered_rate(card, dtype, flops))
    edges_s = (1.0 + (waves - 1) * LATER) * area / (DRAIN * card.clock_hz)
    shared = where(units <= ROOM * count, CLUSTER, where(unpaired(size, tile_m, tile_n), ALONE, PAIR))
    result_byte = size.batch * size.result_byte * size.writes
    # Every operand is read from L2 at least once, however many tiles share it.
    least_byte = size.batch * size.operands_byte * size.reads + result_byte
    l2_s = maximum(units * steps * fetch_byte / shared, least_byte) / card.l2_byte_per_s
    more_byte = completed(size.n * size.result) * result_byte
    once_s = given.compulsory_s * where(size.batch > 1, BATCH, 1.0)
    memory_s = once_s + (1.0 - found) * more_byte / given.bandwidth_byte_per_s
    memory_s = memory_s + again_s(reread_s(card, size, given), (size.m, size.n), wave(count, tile_m, tile_n))
    streams = (("memory", memory_s), ("matrix product", work_s + edges_s), ("L2", l2_s))
    seconds, terms = overlapped(streams, SHARPNESS)
    late_s = later(streams, SHARPNESS, seconds, given.left_s)
    adding = split > 1
    part_s = 8.0 * size.m * size.n * size.batch / card.l2_byte_per_s
    sum_s = where(adding, SPLIT_S + part_s * split, 0.0)
    whole_s = seconds + how.lead_s + sum_s
    if not isinstance(whole_s, float):
        return Body(whole_s, (), "tiles", late_s=late_s)
    terms = (*terms, Term("pipeline fill and drain", how.lead_s))
    words = f"tensor tiles of {tile_m} x {tile_n}"
    if adding:
        terms, words = (*terms, Term("split-k sum", sum_s)), f"{words}, k in {split} parts"
    return Body(whole_s, terms, "tiles", words, late_s)
