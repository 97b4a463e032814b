"""How attention's work is split: the keys that a tile reads, the parts into which libraries split them, and the waves
of blocks.

The splitting rules are the libraries' own (published sources of FlashAttention 2 and 3). They decide how many blocks a
decoding step has, and so whether it fills the card.
"""

from functools import lru_cache
from math import ceil
from typing import NamedTuple

from perfmodel.arithmetic import Size, highest, maximum, minimum, where
from perfmodel.runs import Heads
from perfmodel.timing.branches import by_points
from perfmodel.timing.weights import Mechanism

_data = Mechanism("walks")
ENOUGH, GOOD, MARGIN = _data.weights("enough", "good", "margin")
MOST_PARTS, FEWEST_STEPS, COUNTED = _data.facts("most parts", "fewest steps", "counted")


class Tile(NamedTuple):
    """Queries of a block, keys of a step, and resident blocks per multiprocessor."""

    queries: int
    keys: int
    resident: int


class Attended(NamedTuple):
    """The sizes of an attention as numbers: ``heads`` query heads in all sequences, ``kv_heads`` key heads.

    ``window`` is 0 where there is none; ``item`` are the bytes per element of queries and outputs, ``cached`` of keys and
    values. ``masked``: a tensor is added to the scores. ``dropout``: random probabilities are dropped.
    ``shared``: the values are the first elements of the keys.
    """

    heads: Size
    kv_heads: Size
    queries: Size
    keys: Size
    width: Size
    value_width: Size
    causal: bool
    window: Size = 0
    item: float = 2
    cached: float = 2
    masked: bool = False
    dropout: bool = False
    shared: bool = False

    @classmethod
    def of(cls, fact: Heads) -> "Attended":
        """Reads the fact that the operation states. A single query is the last one, so a causal mask hides nothing from
        it.
        """
        causal = bool(fact.causal) and bool(fact.N > 1)
        window = fact.W if causal and fact.W is not None and fact.W < fact.S else 0
        keys = fact.S if not fact.causal or fact.W is None or fact.N > 1 else minimum(fact.S, fact.W)
        return cls(
            fact.B * fact.H, fact.B * fact.H_kv, fact.N, keys, fact.d, fact.d_v, causal, window,
            float(fact.item), float(fact.cache), fact.masked, fact.dropout, fact.shared,
        )  # fmt: skip

    @property
    def stored_width(self) -> Size:
        """Elements of a key and its value in memory."""
        return self.width if self.shared else self.width + self.value_width

    @property
    def visible(self) -> Size:
        """Keys that at least one query sees."""
        return minimum(self.keys, self.queries + self.window - 1) if self.window else self.keys


def tile_of(tiles: tuple[tuple[int, Tile], ...], width: Size) -> Tile:
    """The tile that a library uses for this head size."""
    return next((tile for most, tile in tiles if width <= most), tiles[-1][1])


def shared_out(size: Attended, blocks: Size, steps: Size, count: int) -> Size:
    """FlashAttention-3's rule: a block gets a multiprocessor's share of all steps plus a tenth, in decoding and in
    prompts too short to fill the card.
    """
    few = size.causal and blocks < ENOUGH * count
    if steps < FEWEST_STEPS or not (size.queries == 1 or few):
        return 1
    return minimum(MOST_PARTS, ceil(steps / ceil(MARGIN * blocks * steps / count)))


@by_points
def split(blocks: int, slots: int, steps: int) -> int:
    """FlashAttention-2's rule: one part where blocks nearly fill the card, otherwise the fewest parts that fill the
    last wave well.
    """
    if blocks >= ENOUGH * slots:
        return 1
    best, filled = 0.0, []
    for parts in range(1, min(MOST_PARTS, slots, steps) + 1):
        if parts == 1 or -(-steps // parts) != -(-steps // (parts - 1)):
            turns = blocks * parts / slots
            filled.append((parts, turns / ceil(turns)))
            best = max(best, filled[-1][1])
    return next(parts for parts, share in filled if share >= GOOD * best)


def rounds(blocks: Size, count: int, resident: int, fill: float) -> Size:
    """Waves of equal blocks, in units of the time of one block among many."""
    full, rest = divmod(blocks, count * resident)
    last = ceil(rest / count)
    return full * resident + last / together(maximum(1, last), resident, fill)


def together(blocks: Size, resident: int, fill: float) -> Size:
    """Returns the share of its full rate that a multiprocessor reaches with few blocks."""
    return 1.0 - maximum(0.0, 1.0 - blocks / resident) ** fill


def unequal(
    blocks: Size, count: int, resident: int, ends: tuple[float, float, float], mean_s: Size, longest_s: Size,
    start_s: Size = 0.0,
) -> Size:  # fmt: skip
    """Time of blocks of unequal length. Where all are resident at once, the multiprocessor with the most of the longest
    blocks decides; otherwise all run at the full rate and the longest ends last. ``ends``: how soon few blocks fill a
    multiprocessor, and the weight of (longest - mean), or of the longest. ``start_s``: latencies of a block, which are no
    longer where few blocks run.

    Blocks that start in the order of their number as others end take a share of the longest more than their mean. NB a
    simulation of 160 launches adds 0.09 of the mean too, which is left out.
    """
    fill, tail, queue = ends
    late_s = queue * longest_s if queue else tail * (longest_s - mean_s)
    most = ceil(blocks / count)
    few_s = start_s + (most * longest_s - start_s) / together(most, resident, fill)
    many_s = maximum(longest_s * resident, blocks / count * mean_s + resident * late_s)
    return where(most <= resident, few_s, many_s)


def walked(size: Attended, rows: Size, tile: Tile, group: Size) -> tuple[Size, Size, Size]:
    """Returns the keys that a tile reads on average and at most, in whole steps, and those in steps on the edge of the
    mask.
    """
    if all(type(one) is int for one in (size.queries, size.keys, size.window, rows, group)):
        return _walked(size._replace(heads=1, kv_heads=1, width=1, value_width=1), rows, tile, group)
    return _walk(size, rows, tile, group)


def _walk(size: Attended, rows: Size, tile: Tile, group: Size) -> tuple[Size, Size, Size]:
    """Computes the same for ``walked``, without its choice of a path."""
    whole = ceil(size.keys / tile.keys) * tile.keys
    if not size.causal:
        return whole, whole, 0.0
    tiles, offset = ceil(rows / tile.queries), maximum(0, size.keys - size.queries)
    span = seen(size) + tile.queries / group - 1  # from the first key of the first row to the last key of the last
    far = ceil(span / tile.keys) * tile.keys if size.window else whole
    odd = maximum(rows % tile.queries, size.keys % tile.keys) > 0
    edges = (ceil(tile.queries / group / tile.keys) + odd + (1 if size.window else 0)) * tile.keys
    most = minimum(whole, far)
    if tiles <= COUNTED:
        total: Size = 0.0
        masked: Size = 0.0
        for i in range(highest(tiles)):
            passed = ceil((offset + minimum(rows, (i + 1) * tile.queries) / group) / tile.keys) * tile.keys
            steps = where(i < tiles, minimum(most, passed), 0)
            total += steps
            masked += minimum(steps, edges)
        return total / tiles, most, masked / tiles
    last = rows / group
    rising = minimum(last, maximum(0.0, most - offset))  # rows that see fewer keys than the last ones
    mean = (offset * rising + rising**2 / 2 + (last - rising) * most) / last
    mean = minimum(mean + rising / last * maximum(tile.queries / group, tile.keys) / 2, most)
    return mean, most, edges


_walked = lru_cache(maxsize=4096)(_walk)


def seen(size: Attended) -> Size:
    """Keys that one query sees at most."""
    return minimum(size.keys, size.window) if size.window else size.keys
