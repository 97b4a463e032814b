"""Matrix products: tiles over multiprocessors, in waves.

The result of an (m, k) by (k, n) product is cut into tiles. A multiprocessor computes one tile at a time, in steps
along k. A step takes the longer of two times: its multiplications, and the loading of its operands. The rate of
multiplications depends on the shape of the tile, because a small tile reads its operands from shared memory more often.
Tiles run in waves, and the last wave takes as long as a full one: 133 tiles on 132 multiprocessors take two waves.
Splitting the sum along k (split-k) gives more tiles of fewer steps; a second kernel adds the partial sums.

Every tile reads its strips of both operands through L2. Operands that do not stay in L2 are read from memory once for
each group of tiles in flight. The library is assumed to choose the tile and the split that this model finds fastest,
except where its own estimate is known (``picked_tiles``).

Alignment: rows that start at multiples of 16 bytes are loaded by wide copies. Rows aligned to 4 or 8 bytes need narrow
copies and run older kernels, whose matrix instruction does not reach the peak of the newest. Rows aligned to 2 bytes
pass through registers, element by element.

Quantised weights: a kernel that reads weights in a narrow type converts them in registers, once for every row of tiles. A
step takes at least as long as these instructions. Such kernels do not split the sum along k.

A library may have several kernels for a type, each with tiles of its own. On Hopper, tf32 runs by the instruction of a
group of warps or by that of one warp. The quickest is assumed, as for tiles. A multiprocessor holds several small tiles
at once, whose steps wait for their operands at the same time (``wait``).

Long products are limited by the board's power: the clock falls until the board keeps to its limit. A tile that reaches
beyond the result takes as much power as a full one.
"""

from math import ceil, inf
from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing import picked_tiles
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.products import Limits, Product, again_s, limits, reread_s
from perfmodel.timing.stack_tiles import of_product
from perfmodel.timing.terms import Body, Term, at_once_s, is_none, overlapped, quicker
from perfmodel.timing.tile_sizes import VECTOR_STEP, Choice, choices_of, kinds, step_of
from perfmodel.timing.weights import Mechanism

_data = Mechanism("tiles")
SPLITS = _data.sizes("splits")
FEWEST_STEPS, OVERHANG = _data.facts("fewest steps", "overhang")
# The kernels with these scales, of CUTLASS, DeepGEMM and cuBLAS, do not split the sum.
WHOLE = ("static", "token", "block", "torch token", "torch block")
CONVERSION_S, UNSPLIT_STEP_S = _data.weights("conversion s", "unsplit step s")
UNSPLIT = _data.words("unsplit kernels", "+")  # kernels that do not split the sum
# Multiply-adds below which a library does not split the sum, and the largest k.
UNSPLIT_ADA, UNSPLIT_K_ADA = _data.facts("unsplit ada", "unsplit k ada")
# A tile that is slower than the fastest by NEAR stays slower while the power limit's time changes by STEADY of the whole:
# the change of a stream changes the whole by at most as much, and streams that are too short to count by 0.02 %.
NEAR, STEADY = 1e-3, 1e-4
SHORTLISTS = 32  # kept of one product, each for another share found in L2


class Shortlist(NamedTuple):
    """The tiles that are nearly as fast as the fastest, the time of the fastest, and the time under the power limit."""

    choices: tuple[Choice, ...]
    least_s: float
    powered_s: float


class Fastest(NamedTuple):
    """A tile and the number of parts of k, with their times: multiplications under the power limit, edges of the waves,
    L2, the sum of the parts, and operands that are read again.
    """

    tile_m: int
    tile_n: int
    split: int
    work_s: float
    edges_s: float
    l2_s: float
    sum_s: float
    again_s: float


Tried = dict[tuple[str, float], Shortlist]  # by the kernel and the share found in L2


@by_paths
def body(card: Card, size: Product, dtype: str, found: Size = 0.0, tried: Tried | None = None) -> Body:
    """Returns the time of a batch of products with the fastest kernel, tile and split.

    ``tried``: the shortlists of this product, for callers that ask again under another power limit.
    """
    given = limits(card, size, dtype, found)
    if picked_tiles.picks(card, size, dtype, given.aligned):
        return picked_tiles.body(card, size, dtype, found, given)
    first, *more = kinds(card, dtype, size.scales, given.aligned, several=not (size.tiles or size.converts))
    best = _of_kind(card, size, dtype, first, given, found, tried)
    for kind in more:
        best = quicker(best, _of_kind(card, size, dtype, kind, given, found, tried))
    return best


def _of_kind(card: Card, size: Product, dtype: str, kind: str, given: Limits, found: Size, tried: Tried | None) -> Body:
    """The time with one of the kernels."""
    on_tensor = dtype in card.tilings
    lead_s = card.tilings[kind].lead_s + (CONVERSION_S if size.converts else 0.0)
    mechanism = _mechanism(size, dtype, on_tensor)
    if not isinstance(given.powered_s + given.compulsory_s, float):
        from perfmodel.timing import tile_arrays

        return Body(tile_arrays.least_s(card, size, dtype, kind, given) + lead_s, (), mechanism)
    powered_s, compulsory_s = given.powered_s, given.compulsory_s
    near = tried.get((kind, found)) if tried else None
    if near and abs(powered_s - near.powered_s) > STEADY * near.least_s:
        near = None
    best, shortlist = _fastest(card, size, dtype, kind, given, near)
    if tried is not None and near is None:
        if len(tried) >= SHORTLISTS:
            tried.clear()
        tried[kind, found] = shortlist
    seconds, terms = overlapped(
        (
            ("matrix product", best.work_s + best.edges_s),
            ("memory", compulsory_s + best.again_s),
            ("L2", best.l2_s),
        ),
        card.tilings[kind].overlap,
    )
    terms = (*terms, Term("pipeline fill and drain", lead_s))
    engine = "tensor" if on_tensor else "vector"
    words = f"{engine} tiles of {best.tile_m} x {best.tile_n}"
    if best.split > 1:
        terms, words = (*terms, Term("split-k sum", best.sum_s)), f"{words}, k in {best.split} parts"
    return Body(seconds + lead_s + best.sum_s, terms, mechanism, words)


def _mechanism(size: Product, dtype: str, on_tensor: bool) -> str:
    """The name whose range a product has. Libraries differ more in kernels with quantised weights than in plain products."""
    if size.converts:
        return "conversion"
    if size.scales:
        return f"tiles {dtype} {size.scales}"
    return "tiles" if on_tensor else "tiles vector"


def _fastest(
    card: Card, size: Product, dtype: str, kind: str, given: Limits, near: Shortlist | None
) -> tuple[Fastest, Shortlist]:
    """Returns the fastest tile and split, and the shortlist. A given shortlist limits the search."""
    grid = grid_of(card, size, dtype, kind, given)
    steps_all, count = grid.steps, card.multiprocessors
    powered_s, compulsory_s = given.powered_s, given.compulsory_s
    least, limit, best = inf, inf, None
    results = size.batch * size.m * size.n
    tried: list[tuple[float, Choice]] = []
    for choice in near.choices if near else grid.choices:
        tile_m, tile_n = choice[:2]
        if grid.choosy and too_large(choice, size.m, size.n):
            continue
        tiles = -(-size.m // tile_m) * -(-size.n // tile_n) * size.batch
        if tiles * steps_all * choice.step_s > limit * count:
            continue
        memory_s, held_s = None, powered_s * filled(choice, tiles, results)
        for split in SPLITS:
            if split > 1 and (grid.whole or steps_all < FEWEST_STEPS * split or tiles * split > 2 * count):
                break
            work_s, edges_s, l2_s = tiled_s(choice, tiles * split, ceil(steps_all / split), count, grid.wait_s)
            sum_s = grid.sum_s + grid.part_s * split if split > 1 else 0.0
            busy_s = (work_s if work_s > held_s else held_s) + edges_s
            # Overlap never makes the longest shorter.
            longest_s = busy_s if busy_s > l2_s else l2_s
            if longest_s + sum_s >= limit or compulsory_s + sum_s >= limit:
                continue
            if memory_s is None:
                again_s = grid.again_s(choice, size.m, size.n)
                memory_s = compulsory_s + again_s
            if memory_s + sum_s >= limit:
                continue
            whole_s = at_once_s((busy_s, memory_s, l2_s), grid.overlap) + sum_s
            tried.append((whole_s, choice))
            if whole_s < least:
                least, limit = whole_s, whole_s * (1.0 + NEAR)
                best = Fastest(tile_m, tile_n, split, max(work_s, held_s), edges_s, l2_s, sum_s, again_s)
    assert best is not None
    close = dict.fromkeys(choice for whole_s, choice in tried if whole_s <= limit)
    return best, Shortlist(tuple(close), least, powered_s)


class Grid(NamedTuple):
    """How a product is divided into tiles. ``choosy``: the library chooses among many tiles. ``whole``: k is never
    split.

    ``sum_s``, ``part_s``: time to add partial sums, fixed and per part. ``left_s``, ``right_s``: time to read an
    operand from memory again, 0 where it stays in L2. ``overlap``: exponent of the overlap. ``wait_s``: least time of a
    step of all tiles that a multiprocessor holds.
    """

    choices: tuple[Choice, ...]
    choosy: bool
    steps: Size
    whole: Size
    sum_s: float
    part_s: Size
    left_s: Size
    right_s: Size
    overlap: float
    wait_s: Size

    def again_s(self, choice: Choice, m: Size, n: Size) -> Size:
        """Time to read operands that do not fit in L2 again for each wave of tiles."""
        return again_s((self.left_s, self.right_s), (m, n), (choice.wave_m, choice.wave_n))


def grid_of(card: Card, size: Product, dtype: str, kind: str, given: Limits) -> Grid:
    """The tiles of a library for a product, and what they share."""
    on_tensor = dtype in card.tilings
    step_k = step_of(size.left, size.right) if on_tensor else VECTOR_STEP
    small = on_tensor and not (size.scales or size.tiles or size.converts) and _unsplit(card.generation, size)
    # Libraries do not split the sums of a batch. A vector-matrix product has its own kernels, which split.
    whole = (
        small
        or size.converts
        or size.scales in WHOLE
        or bool(size.tiles)
        or ((size.batch > 1) & (size.m > 1) & (size.n > 1))
    )
    whole = whole | (f"{card.generation} {kind}" in UNSPLIT)
    own = size.tiles or (of_product(card.generation, dtype, size.scales, size.m, size.n) if on_tensor else ())
    items, aligned = (size.left, size.right), 0 if size.odd else given.aligned
    batched = not on_tensor and bool(size.batch > 1)
    choices, choosy = choices_of(card, dtype, items, aligned, batched, kind, own, size.converts)
    if small:
        choices = tuple(choice._replace(step_s=max(choice.step_s, UNSPLIT_STEP_S)) for choice in choices)
    left_s, right_s = reread_s(card, size, given)
    how = card.tilings[kind]
    wait_s = how.wait * given.latency_s if how.wait else 0.0
    part_s = 8.0 * size.m * size.n * size.batch / card.l2_byte_per_s
    return Grid(
        choices, choosy, ceil(size.k / step_k), whole, how.split_s, part_s, left_s, right_s, how.overlap, wait_s
    )


def _unsplit(generation: str, size: Product) -> bool:
    """Returns whether a library leaves the sum of such a small product unsplit. Its few blocks wait for memory at every
    step.
    """
    if generation != "ada":
        return False
    sums = size.batch * size.m * size.n * size.k
    return bool(size.m > 1) and bool(size.k <= UNSPLIT_K_ADA) and bool(sums < UNSPLIT_ADA)


def filled(choice: Choice, tiles: Size, results: Size) -> Size:
    """Returns the elements of all tiles divided by those of the result. Elements beyond the result are computed too,
    and take power.
    """
    return tiles * (choice.tile_m * choice.tile_n) / results


def too_large(choice: Choice, m: Size, n: Size) -> Size:
    """Whether a tile of more than 64 rows or columns is at least twice as high or wide as the result."""
    return (choice.tile_m > OVERHANG) & (choice.tile_m >= 2 * m) | (choice.tile_n > OVERHANG) & (choice.tile_n >= 2 * n)


def tiled_s(choice: Choice, units: Size, steps: Size, count: int, wait_s: Size) -> tuple[Size, Size, Size]:
    """Seconds of the multiplications, of the edges of all waves, and of L2, for so many tiles of so many steps."""
    work_s = steps * step_s(choice, ceil(units / count), count, wait_s)
    return work_s, ceil(units / choice.slots) * choice.edge_s, units * choice.fetch_s * steps


def step_s(choice: Choice, tiles: Size, count: int, wait_s: Size) -> Size:
    """Seconds of a step of so many tiles on a multiprocessor, of which as many run at once as it holds."""
    if is_none(wait_s):
        return tiles * choice.step_s
    resident = choice.slots // count
    full = tiles // resident
    rest = tiles - full * resident
    together_s = maximum(wait_s, resident * choice.step_s)
    return full * together_s + (rest > 0) * maximum(wait_s, rest * choice.step_s)
