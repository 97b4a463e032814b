"""Attention in one kernel: tiles of queries, each walking over its keys.

A block holds a tile of queries of one head and goes over the keys that they see in steps. Each pair of a query and a key
costs two products on the tensor engine and, between them, an exponential of the special-function unit and a few
instructions (scale, maximum, sum, conversion). A multiprocessor does the two kinds of work partly at once, since it holds
two blocks or two groups of warps that take turns: a pair takes (tensor² + softmax²)^½. A tile is worked on whole, be its
rows real or not: a decoding step with one query costs as much as a tile full of them.

Blocks are dealt out in rounds, some at once on each multiprocessor. In the last round a block that is alone there gets
more than its part. Under a causal mask the steps beyond the diagonal are left out and those that it crosses cost the
comparisons besides; blocks are unequally long, and the last of the longest runs on when the others have ended.

Decoding has few blocks and many keys: where they do not fill the card a library cuts the keys into parts by its rule, and
a second kernel joins the results. Query heads that share a key head may lie in one tile. A kernel that is made for
decoding (cuDNN's) streams the cache and pays no tile.

A serving stack first plans the work and stores the new keys and values in its cache.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, Term, overlapped
from perfmodel.timing.walks import Attended, Tile, rounds, seen, shared_out, split, tile_of, unequal, walked

SHARPNESS = 4.0
EXPONENTIALS = 16.0  # of a multiprocessor's special-function units in a clock: Volta to Blackwell
SLOTS = 2  # blocks of a multiprocessor that FlashAttention-2 counts on when it splits
STREAM_PARTS = 640  # keys from which cuDNN's decoding cuts them (its times on an H200 step there)


class BackEnd(NamedTuple):
    """How a library's kernel goes about it.

    ``tiles``: its tiles by the width of a head up to which they are used; ``narrow``: those where the keys are cut.
    ``share``: of the engine's peak that its products reach. ``slots``: lane instructions per pair beside the exponential.
    ``start``: of a block, its first loads and last stores, in latencies of the memory. ``mask``: lane instructions per
    pair of a step that the mask's edge crosses. ``fill``: how soon few blocks fill a multiprocessor. ``tail``: how often
    the longest block's excess over the mean shows at the end. ``cuts``: the rule by which keys are cut. ``packs``: whether
    the heads of a group lie in one tile: for one query, for all, or not. ``join`` and ``part``: the second kernel and each
    part in it, in latencies. ``stream``: of the read rate that a kernel for decoding reaches, ``decode`` its start in
    latencies. ``plan``: thousand clocks before each call. ``back``, ``back_share``, ``back_start``: the gradients' kernel.
    """

    title: str
    tiles: tuple[tuple[int, Tile], ...]
    narrow: tuple[tuple[int, Tile], ...]
    share: float
    slots: float
    start: float
    mask: float
    fill: float
    tail: float
    back: tuple[tuple[int, Tile], ...]
    back_share: float
    back_start: float
    back_slots: float
    cuts: str = ""
    packs: str = ""
    join: float = 0.0
    part: float = 0.0
    stream: float = 0.0
    decode: float = 0.0
    plan: float = 0.0
    cold: float = 0.0
    power: float = 1.0
    widths: int = 32


def forward(card: Card, how: BackEnd, size: Attended, dtype: str, found: float) -> Body:
    """The time of one forward pass."""
    head_byte = size.cached * (size.width + size.value_width)
    stream = moved(
        card, size.item * size.heads * size.queries * size.width + size.kv_heads * size.visible * head_byte,
        size.item * size.heads * size.queries * size.value_width, found,
    )  # fmt: skip
    if how.stream and size.queries == 1:
        return _streamed(card, how, size, stream.dram_s, stream.l2_s)
    latency_s = card.dram_latency_s
    group = size.heads // size.kv_heads if how.packs == "all" or (how.packs == "one" and size.queries == 1) else 1
    rows, heads = size.queries * group, size.heads // group
    tile, parts = _cut(how, size, rows, heads, group, card.multiprocessors)
    busy_s, passed = _busy(card, how, size, dtype, tile, parts, rows, heads)
    passed_s = passed * head_byte / (card.l2_byte_per_s * _sharing(card, dtype))
    seconds, terms = overlapped(
        (("products and softmax", busy_s), ("memory", stream.dram_s), ("L2", max(stream.l2_s, passed_s))), SHARPNESS
    )
    choice = f"{how.title}: tiles of {tile.queries} queries x {tile.keys} keys"
    if parts > 1:
        joined = Term("joining the parts", (how.join + parts * how.part) * latency_s)
        seconds, terms, choice = seconds + joined.seconds, (*terms, joined), f"{choice}, keys in {parts} parts"
    seconds, terms = _around(card, how, size, found, seconds, terms)
    return Body(seconds, terms, "stack" if how.plan else "attention", choice)


def _busy(
    card: Card, how: BackEnd, size: Attended, dtype: str, tile: Tile, parts: int, rows: int, heads: int
) -> tuple[float, float]:
    """Seconds of all blocks on their multiprocessors, and the keys that they go over together."""
    count = card.multiprocessors
    each, longest, edges = walked(size, rows, tile, rows // size.queries)
    blocks = heads * ceil(rows / tile.queries) * parts
    width = padded(how, size.width) + padded(how, size.value_width)
    area_s = tile.queries * pair_s(card, dtype, 2.0 * width, how.share, how.slots)
    mask_s = tile.queries * how.mask * count / card.lane_per_s
    start_s = how.start * card.dram_latency_s
    # Equal parts are whole steps; under a causal mask some of them are empty, and the mean is what counts.
    own = each / parts if size.causal or parts == 1 else ceil(each / tile.keys / parts) * tile.keys
    work_s = start_s + own * area_s + edges / parts * mask_s
    if size.causal:
        longest = ceil(longest / tile.keys / parts) * tile.keys
        last_s = start_s + longest * area_s + min(longest, tile.queries + tile.keys) * mask_s
        busy_s = unequal(blocks, count, tile.resident, (how.fill, how.tail), work_s, last_s)
    else:
        busy_s = rounds(blocks, count, tile.resident, how.fill) * work_s
    flops = 2.0 * heads * rows * each * (size.width + size.value_width)
    return _powered(card, how, dtype, busy_s, flops), blocks * own


def _around(
    card: Card, how: BackEnd, size: Attended, found: float, seconds: float, terms: tuple[Term, ...]
) -> tuple[float, tuple[Term, ...]]:
    """With what a kernel's code costs that comes from memory, and what a stack does before it."""
    added = []
    if found <= 0.0 and how.cold:
        added.append(Term("code from memory", how.cold * card.dram_latency_s))
    if how.plan:
        byte = size.cached * size.kv_heads * size.queries * (size.width + size.value_width)
        stored_s = moved(card, byte, byte, found)
        added.append(Term("plan and cache", how.plan * 1e3 / card.clock_hz + max(stored_s)))
    return seconds + sum(term.seconds for term in added), (*terms, *added)


def _streamed(card: Card, how: BackEnd, size: Attended, dram_s: float, l2_s: float) -> Body:
    """Decoding by a kernel made for it: it streams the cache, whatever the heads are; many keys are in parts."""
    seconds, terms = overlapped((("memory", dram_s / how.stream), ("L2", l2_s / how.stream)), SHARPNESS)
    added = [Term("start of a stream", how.decode * card.dram_latency_s)]
    if size.keys >= STREAM_PARTS:
        added.append(Term("joining the parts", how.join * card.dram_latency_s))
    seconds += sum(term.seconds for term in added)
    return Body(seconds, (*terms, *added), "attention", f"{how.title}: the cache as a stream")


def pair_s(card: Card, dtype: str, flops: float, share: float, slots: float) -> float:
    """Seconds of a multiprocessor for a pair of a query and a key: its products, and its softmax partly under them."""
    count = card.multiprocessors
    product_s = flops * count / (_peak(card, dtype) * share)
    softmax_s = 1.0 / (EXPONENTIALS * card.clock_hz) + slots * count / card.lane_per_s
    return float((product_s * product_s + softmax_s * softmax_s) ** 0.5)


def _peak(card: Card, dtype: str) -> float:
    """The sheet's peak; fp32 is put together from three products in tf32 where the card has them."""
    peaks = card.peak_flop_per_s
    return max(peaks[dtype], peaks.get("tf32", 0.0) / 3.0) if dtype == "fp32" else peaks[dtype]


def _sharing(card: Card, dtype: str) -> float:
    """Multiprocessors that one read of L2 serves, as in a product."""
    return card.tilings[dtype if dtype in card.tilings else "vector"].sharing


def _powered(card: Card, how: BackEnd, dtype: str, seconds: float, flops: float) -> float:
    """No faster than the board's power allows: exponentials take a part of it."""
    if dtype not in card.held_flop_per_s or dtype == "fp32":
        return seconds
    return max(seconds, flops / (powered_rate(card, dtype, flops) * how.power))


def backward(card: Card, how: BackEnd, size: Attended, dtype: str) -> Body:
    """The time of the gradients: a kernel over tiles of keys with five products per pair, and streams around it.

    The row sums of dout and out come first; dq is added up in fp32 and converted at the end; where heads share keys,
    every query head's dk and dv are written and added.
    """
    tile, count = tile_of(how.back, size.width), card.multiprocessors
    turned = size._replace(queries=size.keys, keys=size.queries)  # from the last key back: it is seen by one query
    each, longest, edges = walked(turned, size.keys, tile, 1)
    blocks = size.heads * ceil(size.keys / tile.queries)
    flops = 6.0 * padded(how, size.width) + 4.0 * padded(how, size.value_width)
    area_s = tile.queries * pair_s(card, dtype, flops, how.back_share, how.back_slots)
    start_s = how.back_start * card.dram_latency_s
    work_s = start_s + each * area_s + edges * tile.queries * how.mask * count / card.lane_per_s
    if size.causal:
        busy_s = unequal(blocks, count, tile.resident, (how.fill, how.tail), work_s, start_s + longest * area_s)
    else:
        busy_s = rounds(blocks, count, tile.resident, how.fill) * work_s
    busy_s = _powered(card, how, dtype, busy_s, flops * blocks * tile.queries * each)
    item = size.item
    queries = size.heads * size.queries * size.width
    keys = size.kv_heads * size.visible * (size.width + size.value_width)
    own = moved(card, item * (3 * queries + keys), 4 * queries + item * keys)
    around = [moved(card, 2 * item * queries, 4 * queries), moved(card, 4 * queries, item * queries)]
    if size.heads > size.kv_heads:
        around.append(moved(card, item * keys * (size.heads // size.kv_heads), item * keys))
    seconds, terms = overlapped((("products and softmax", busy_s), ("memory", own.dram_s), ("L2", own.l2_s)), SHARPNESS)
    around_s = sum(stream.dram_s for stream in around) + len(around) * card.node_s
    terms = (*terms, Term("row sums, dq in fp32", around_s))
    return Body(seconds + around_s, terms, "attention", f"{how.title}: tiles of {tile.queries} keys")


def padded(how: BackEnd, width: int) -> int:
    """Widths that a library has kernels for: in between, the head is filled up with zeros."""
    step = how.widths if width <= 128 else 2 * how.widths
    return -(-width // step) * step


def _cut(how: BackEnd, size: Attended, rows: int, heads: int, group: int, count: int) -> tuple[Tile, int]:
    """The tile, and the parts of the keys."""
    tile = tile_of(how.tiles, size.width)
    if not how.cuts:
        return tile, 1
    narrow = tile_of(how.narrow, size.width)
    blocks, steps = heads * -(-rows // narrow.queries), -(-seen(size) // narrow.keys)
    if how.cuts == "shared out":
        parts = shared_out(size, blocks, steps, count)
        return (narrow if parts > 1 or rows <= narrow.queries < tile.queries else tile), parts
    if how.cuts == "groups" and group == 1:
        return tile, 1
    parts = split(blocks, SLOTS * count, steps)
    return (narrow if parts > 1 else tile), parts
