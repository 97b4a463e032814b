"""How attention's work is split: the keys that a tile walks over, the parts that libraries split them into, and the
waves of blocks.

The splitting rules are the libraries' own (published sources of FlashAttention 2 and 3). They decide how many blocks a
decoding step has, and so whether it fills the card.
"""

from functools import lru_cache
from math import ceil
from typing import NamedTuple

from perfmodel.runs import Heads
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

    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    causal: bool
    window: int = 0
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
        causal = bool(fact.causal) and fact.N > 1
        window = fact.W if causal and fact.W is not None and fact.W < fact.S else 0
        keys = fact.S if not fact.causal or fact.W is None or fact.N > 1 else min(fact.S, fact.W)
        return cls(
            fact.B * fact.H, fact.B * fact.H_kv, fact.N, keys, fact.d, fact.d_v, causal, window,
            float(fact.item), float(fact.cache), fact.masked, fact.dropout, fact.shared,
        )  # fmt: skip

    @property
    def stored_width(self) -> int:
        """Elements of a key and its value in memory."""
        return self.width if self.shared else self.width + self.value_width

    @property
    def visible(self) -> int:
        """Keys that at least one query sees."""
        return min(self.keys, self.queries + self.window - 1) if self.window else self.keys


def tile_of(tiles: tuple[tuple[int, Tile], ...], width: int) -> Tile:
    """The tile that a library uses for this head size."""
    return next((tile for most, tile in tiles if width <= most), tiles[-1][1])


def shared_out(size: Attended, blocks: int, steps: int, count: int) -> int:
    """FlashAttention-3's rule: a block gets a multiprocessor's share of all steps plus a tenth, in decoding and in
    prompts too short to fill the card.
    """
    few = size.causal and blocks < ENOUGH * count
    if steps < FEWEST_STEPS or not (size.queries == 1 or few):
        return 1
    return min(MOST_PARTS, ceil(steps / ceil(MARGIN * blocks * steps / count)))


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


def rounds(blocks: int, count: int, resident: int, fill: float) -> float:
    """Waves of equal blocks, in units of the time of one block among many."""
    full, rest = divmod(blocks, count * resident)
    if not rest:
        return float(full * resident)
    last = -(-rest // count)
    return full * resident + last / together(last, resident, fill)


def together(blocks: float, resident: int, fill: float) -> float:
    """The share of its full rate that a multiprocessor reaches with few blocks."""
    return float(1.0 - max(0.0, 1.0 - blocks / resident) ** fill)


def unequal(
    blocks: int, count: int, resident: int, ends: tuple[float, float], mean_s: float, longest_s: float
) -> float:
    """Time of blocks of unequal length. Where all are resident at once, the multiprocessor with the most of the longest
    blocks decides; otherwise all run at the full rate and the longest ends last. ``ends``: how soon few blocks fill a
    multiprocessor, and the weight of (longest - mean).
    """
    fill, tail = ends
    most = -(-blocks // count)
    if most <= resident:
        return most * longest_s / together(most, resident, fill)
    return max(longest_s * resident, blocks / count * mean_s + tail * resident * (longest_s - mean_s))


@lru_cache(maxsize=4096)
def walked(size: Attended, rows: int, tile: Tile, group: int) -> tuple[float, float, float]:
    """Keys, in whole steps, that a tile walks over on average and at most, and how many of them the edge of the mask
    crosses.
    """
    whole = ceil(size.keys / tile.keys) * tile.keys
    if not size.causal:
        return float(whole), float(whole), 0.0
    tiles, offset = ceil(rows / tile.queries), max(0, size.keys - size.queries)
    span = seen(size) + tile.queries / group - 1  # from the first key of the first row to the last key of the last
    far = ceil(span / tile.keys) * tile.keys if size.window else whole
    odd = rows % tile.queries or size.keys % tile.keys
    edges = (ceil(tile.queries / group / tile.keys) + (1 if odd else 0) + (1 if size.window else 0)) * tile.keys
    if tiles <= COUNTED:
        total = masked = 0.0
        for i in range(tiles):
            steps = min(whole, far, ceil((offset + min(rows, (i + 1) * tile.queries) / group) / tile.keys) * tile.keys)
            total += steps
            masked += min(steps, edges)
        return total / tiles, float(min(whole, far)), masked / tiles
    last, most = rows / group, min(float(whole), float(far))
    rising = min(last, max(0.0, most - offset))  # rows that see fewer keys than the last ones
    mean = (offset * rising + rising**2 / 2 + (last - rising) * most) / last
    mean = min(mean + rising / last * max(tile.queries / group, tile.keys) / 2, most)
    return mean, most, float(edges)


def seen(size: Attended) -> int:
    """Keys that one query sees at most."""
    return min(size.keys, size.window) if size.window else size.keys
