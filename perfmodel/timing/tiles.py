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

from math import inf
from typing import NamedTuple

from perfmodel.runs import Gemm, number
from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import NOTHING_LEFT, rate
from perfmodel.timing.terms import Body, Term, at_once_s, overlapped
from perfmodel.timing.tile_sizes import VECTOR_STEP, WIDE, Choice, choices_of, step_of
from perfmodel.timing.weights import Mechanism

_data = Mechanism("tiles")
SPLITS = _data.sizes("splits")
FEWEST_STEPS, OVERHANG = _data.facts("fewest steps", "overhang")
ALIGNMENTS = (WIDE, 4, 2, 1)  # bytes: wide copies, narrow copies (4, 2), through registers
SHARPNESS, LEFT_IN_L2 = _data.weights("sharpness", "left in l2")
# A tile that is slower than the fastest by NEAR stays slower while the power limit's time changes by STEADY of the whole:
# the change of a stream changes the whole by at most as much, and streams that are too short to count by 0.02 %.
NEAR, STEADY = 1e-3, 1e-4
SHORTLISTS = 32  # kept of one product, each for another share found in L2


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


class Shortlist(NamedTuple):
    """The tiles that are nearly as fast as the fastest, the time of the fastest, and the time by the power limit."""

    choices: tuple[Choice, ...]
    least_s: float
    powered_s: float


def alignment(size: Product) -> int:
    """Bytes to which the rows of all matrices are aligned."""
    sizes = (size.k * size.left, size.n * size.right)
    return size.aligned or next((byte for byte in ALIGNMENTS if not any(one % byte for one in sizes)), 1)


def body(
    card: Card, size: Product, dtype: str, *, found: float = 0.0, tried: dict[float, Shortlist] | None = None
) -> Body:
    """Returns the time of a batch of products with the tile and the split that make it least.

    ``tried``: the shortlists of this product by ``found``, for callers that ask again under another power limit.
    """
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
    near = tried.get(found) if tried else None
    if near and abs(powered_s - near.powered_s) > STEADY * near.least_s:
        near = None
    best, shortlist = _fastest(card, size, dtype, aligned, powered_s, compulsory_s, bandwidth, near)
    if tried is not None and near is None:
        if len(tried) >= SHORTLISTS:
            tried.clear()
        tried[found] = shortlist
    tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s, again_s = best
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
    card: Card,
    size: Product,
    dtype: str,
    aligned: int,
    powered_s: float,
    compulsory_s: float,
    bandwidth: float,
    near: Shortlist | None,
) -> tuple[tuple[int, int, int, float, float, float, float, float], Shortlist]:
    """Returns the fastest tile and split: sides, number of parts of k, and the times of multiplications, wave edges, L2,
    the sum of the parts, and operands that are read from memory again; and the shortlist, the only tiles tried if given.
    """
    m, k, n, batch, left, right, *_ = size
    on_tensor, count = dtype in card.tilings, card.multiprocessors
    how = card.tilings[dtype if on_tensor else "vector"]
    step_k = step_of(left, right) if on_tensor else VECTOR_STEP
    steps_all = -(-k // step_k)
    part_s = 8.0 * m * n * batch / card.l2_byte_per_s
    # A vector-matrix product has its own kernels, which split.
    whole = size.whole or (batch > 1 and not on_tensor and min(m, n) > 1)
    choices, choosy = choices_of(card, dtype, left, right, 0 if size.odd else aligned, batch > 1)
    least, limit, best = inf, inf, None
    tried: list[tuple[float, Choice]] = []
    for choice in near.choices if near else choices:
        tile_m, tile_n, step_s, fetch_s, edge_s, slots, wave_m, wave_n = choice
        if choosy and ((tile_m > OVERHANG and tile_m >= 2 * m) or (tile_n > OVERHANG and tile_n >= 2 * n)):
            continue
        tiles = -(-m // tile_m) * -(-n // tile_n) * batch
        if tiles * steps_all * step_s > limit * count:
            continue
        again_s = None
        for split in SPLITS:
            if split > 1 and (whole or steps_all < FEWEST_STEPS * split or tiles * split > 2 * count):
                break
            steps, units = -(-steps_all // split), tiles * split
            work_s = -(-units // count) * steps * step_s
            edges_s = -(-units // slots) * edge_s
            l2_s = units * fetch_s * steps
            sum_s = how.split_s + part_s * split if split > 1 else 0.0
            busy_s = (work_s if work_s > powered_s else powered_s) + edges_s
            # Overlap never makes the longest shorter.
            longest_s = busy_s if busy_s > l2_s else l2_s
            if longest_s + sum_s >= limit or compulsory_s + sum_s >= limit:
                continue
            if again_s is None:
                again_s = _again_byte(card, size, wave_m, wave_n) / bandwidth
            memory_s = compulsory_s + again_s
            if memory_s + sum_s >= limit:
                continue
            whole_s = at_once_s((busy_s, memory_s, l2_s), SHARPNESS) + sum_s
            tried.append((whole_s, choice))
            if whole_s < least:
                least, limit = whole_s, whole_s * (1.0 + NEAR)
                best = (tile_m, tile_n, split, work_s, edges_s, l2_s, sum_s, again_s)
    assert best is not None
    close = dict.fromkeys(choice for whole_s, choice in tried if whole_s <= limit)
    return best, Shortlist(tuple(close), least, powered_s)


def _again_byte(card: Card, size: Product, wave_m: float, wave_n: float) -> float:
    """Bytes read from memory more than once: operands that do not fit in L2 are read again for each wave of tiles."""
    m, k, n, batch, left_item, right_item, *_ = size
    left_byte, right_byte = m * k * left_item, k * n * right_item
    if left_byte + right_byte <= NOTHING_LEFT * card.l2_byte:
        return 0.0
    again = left_byte * (max(1.0, n / wave_n) - 1.0) + right_byte * (max(1.0, m / wave_m) - 1.0)
    return batch * again * size.reads
