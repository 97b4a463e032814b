"""Attention in one kernel: tiles of queries, each walking over its keys.

A block holds a tile of queries of one head and goes over the keys tile by tile: two products, and between them the
exponentials of a softmax. A back end that does one after the other pays both; one that lets two groups of warps take
turns hides the shorter behind the longer. A tile is filled up with zeros where a head has fewer queries: a decoding step
with one query pays for the whole tile. Under a causal mask a block ends at its last query's key, so blocks are unequally
long and the longest, dealt out late, end alone.

Decoding has few blocks and many keys: where they do not fill the card the keys of a head are split over several blocks,
and a second kernel puts their results together. Query heads that share a key head lie in one tile.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, Term, overlapped

SHARPNESS = 5.0
SLOTS = 2  # blocks of a multiprocessor that the library counts on when it splits
ENOUGH = 0.8  # of the slots filled: no split
GOOD = 0.85  # of the best filling of the last round
MOST_PARTS = 128


class BackEnd(NamedTuple):
    """How a library's kernel goes about it.

    ``queries`` and ``keys``: its tile. ``share``: of the engine's peak that its products reach. ``score_slots``: lane
    instructions per score between the products. ``overlap``: 1 where products and softmax take turns, more where they
    run at once. ``together``: blocks that a multiprocessor holds. ``start_s``: a block's first loads and last stores.
    ``tail``: the share of the longest block's time that runs on when the others are done. ``splits``: whether the keys
    may be split, ``always``, ``decoding`` or ``never``; ``split_queries``: the tile of queries where they are. ``merge_s``: the kernel that joins the parts.
    ``fill``: blocks that it takes to fill a multiprocessor. ``mask_slots``: lane instructions per score of a tile that
    the causal mask's edge crosses. ``back_share`` and ``back_slots``: the same of the backward pass.
    """

    queries: int
    keys: int
    share: float
    score_slots: float
    overlap: float
    together: int
    start_s: float
    tail: float
    splits: str
    split_queries: int
    split_keys: int
    merge_s: float
    fill: float
    mask_slots: float
    back_share: float
    back_slots: float


class Heads(NamedTuple):
    """The sizes of an attention: of ``heads`` query heads in all sequences, ``kv_heads`` key heads."""

    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    causal: bool


def forward(card: Card, how: BackEnd, size: Heads, item: int, dtype: str, found: float) -> Body:
    """The time of one forward pass."""
    group = size.heads // size.kv_heads
    rows, blocks_of = size.queries, size.heads
    if group > 1 and how.splits != "never" and (size.queries == 1 or size.queries * 2 <= how.queries):
        rows, blocks_of = group * size.queries, size.kv_heads  # the heads that share keys lie in one tile
    read_byte = item * (
        size.heads * size.queries * size.width + size.kv_heads * size.keys * (size.width + size.value_width)
    )
    write_byte = item * size.heads * size.queries * size.value_width
    stream = moved(card, read_byte, write_byte, found)
    count = card.multiprocessors
    split = 1
    tile = how.queries
    if how.splits == "always" or (how.splits == "decoding" and size.queries == 1):
        blocks = blocks_of * ceil(rows / how.split_queries)
        split = _split(blocks, count * SLOTS, ceil(size.keys / how.split_keys))
        tile = how.split_queries if split > 1 else tile
    per_score_s = score_s(card, how, dtype, 2.0 * (size.width + size.value_width), how.share, how.score_slots)
    edge_s = 0.0
    if size.causal and size.queries > 1:
        edge_s = how.mask_slots * tile * max(tile, how.keys) * count / card.lane_per_s
    walked, longest = _walked(size, rows if blocks_of == size.heads else 1, tile, how.keys)
    walked *= ceil(rows / tile) if blocks_of != size.heads else 1
    scores = blocks_of * walked * tile
    units = blocks_of * ceil(rows / tile) * split
    rounds = units / count
    mean_s = scores / units * per_score_s + how.start_s + edge_s
    if size.causal and size.queries > 1:
        longest_s = longest / split * tile * per_score_s + how.start_s + edge_s
        work_s = max(rounds, 1.0) * mean_s + how.tail * (longest_s - mean_s)
    else:
        work_s = _rounds(units, count, how) * mean_s
    flops = 2.0 * scores * (size.width + size.value_width)
    work_s = max(work_s, flops / powered_rate(card, dtype, flops)) if dtype in card.held_flop_per_s else work_s
    seconds, terms = overlapped(
        (("products and softmax", work_s), ("memory", stream.dram_s), ("L2", stream.l2_s)), SHARPNESS
    )
    choice = f"tiles of {tile} queries x {how.keys} keys" + (f", keys in {split} parts" if split > 1 else "")
    if split > 1:
        joined_s = how.merge_s + split * size.heads * size.queries * size.value_width * 8.0 / card.l2_byte_per_s
        terms = (*terms, Term("joining the parts", joined_s))
        seconds += joined_s
    return Body(seconds, terms, "attention", choice)


def score_s(card: Card, how: BackEnd, dtype: str, flops: float, share: float, slots: float) -> float:
    """Seconds of a multiprocessor for one score: its products, its exponential and what goes with it."""
    count = card.multiprocessors
    product_s = flops * count / (card.peak_flop_per_s[dtype] * share)
    softmax_s = slots * count / card.lane_per_s
    return float((product_s**how.overlap + softmax_s**how.overlap) ** (1.0 / how.overlap))


def backward(card: Card, how: BackEnd, size: Heads, item: int, dtype: str) -> Body:
    """The time of the gradients: a kernel over tiles of keys with five products per score, and streams around it.

    The row sums of dout and out come first; dq is added up in fp32 and converted at the end; where heads share keys,
    every query head's dk and dv are written and added.
    """
    tile, count = how.queries, card.multiprocessors
    blocks = size.heads * ceil(size.keys / tile)
    walked, longest = _walked(size._replace(queries=max(2, size.queries)), size.queries, tile, how.keys)
    scores = size.heads * walked * tile
    per_score_s = score_s(card, how, dtype, 6.0 * size.width + 4.0 * size.value_width, how.back_share, how.back_slots)
    mean_s = scores / blocks * per_score_s + 2.0 * how.start_s
    if size.causal:
        mean_s += how.mask_slots * tile * max(tile, how.keys) * count / card.lane_per_s
        longest_s = longest * tile * per_score_s + 2.0 * how.start_s
        work_s = max(blocks / count, 1.0) * mean_s + how.tail * (longest_s - mean_s)
    else:
        work_s = _rounds(blocks, count, how) * mean_s
    rows = size.heads * size.queries * size.width
    keys = size.kv_heads * size.keys * (size.width + size.value_width)
    shared = size.heads > size.kv_heads
    own = moved(card, item * (3 * rows + keys), 4 * rows + item * keys)
    around = (
        moved(card, 2 * item * rows, 0),
        moved(card, 0, 4 * rows),
        moved(card, 4 * rows, item * rows),
        *((moved(card, item * size.heads * size.keys * 2 * size.width, item * keys),) if shared else ()),
    )
    seconds, terms = overlapped((("products and softmax", work_s), ("memory", own.dram_s), ("L2", own.l2_s)), SHARPNESS)
    around_s = sum(stream.dram_s for stream in around) + len(around) * card.node_s
    return Body(
        seconds + around_s, (*terms, Term("row sums, dq in fp32", around_s)), "attention", f"tiles of {tile} keys"
    )


def _split(blocks: int, slots: int, tiles: int) -> int:
    """Parts of the keys: none where the blocks nearly fill the card, else the fewest that fill the last round well."""
    if blocks >= ENOUGH * slots:
        return 1
    most = min(MOST_PARTS, slots, tiles)
    filled = []
    for parts in range(1, most + 1):
        rounds = blocks * parts / slots
        filled.append(rounds / ceil(rounds) if parts == 1 or -(-tiles // parts) != -(-tiles // (parts - 1)) else 0.0)
    best = max(filled)
    return next(parts for parts, share in enumerate(filled, 1) if share >= GOOD * best)


def _rounds(units: int, count: int, how: BackEnd) -> float:
    """Full rounds of all multiprocessors, and the last: a block alone on one does not fill it."""
    slots = count * how.together
    full, rest = divmod(units, slots)
    if rest == 0:
        return float(full * how.together)
    last = ceil(rest / count)
    return full * how.together + max(float(last), min(how.fill, float(how.together)))


def _walked(size: Heads, rows: int, tile: int, keys: int) -> tuple[float, float]:
    """Keys that the tiles of one head go over in all, in whole tiles, and those of the longest tile."""
    tiles = ceil(rows / tile)
    whole = ceil(size.keys / keys) * keys
    if not size.causal or size.queries == 1:
        return float(tiles * whole), float(whole)
    offset = size.keys - size.queries
    walked = 0.0
    if tiles <= 64:
        for i in range(tiles):
            walked += min(whole, ceil((min((i + 1) * tile, rows) + offset) / keys) * keys)
        return walked, float(whole)
    mean = offset + (size.queries + tile + keys) / 2.0
    return tiles * min(float(whole), mean), float(whole)
