"""Attention in one kernel: blocks that hold a tile of queries and loop over the keys.

A block holds a tile of queries of one head and loops over the visible keys in steps. Each query-key pair costs two
products on the tensor engine, one exponential on the special-function unit, and a few vector instructions (scale,
maximum, sum, conversion). A multiprocessor overlaps the two kinds of work partly, because it holds two blocks or two
groups of warps: a pair takes (tensor² + softmax²)^½. A tile is always computed in full: a decoding step with one query
costs as much as a full tile.

Blocks run in waves. In the last wave a block that is alone on a multiprocessor gets more than its share. Under a causal
mask the steps beyond the diagonal are skipped, and the steps that it crosses cost comparisons. Blocks then have unequal
lengths, and the longest ones end last.

Decoding has few blocks and many keys. Where they do not fill the card, a library splits the keys by its rule and a
second kernel joins the results. Query heads that share a key head may share a tile. cuDNN's decoding kernel streams the
cache and has no tile cost.

A mask that is added to the scores costs instructions per pair and lets no step be skipped. Dropout costs the instructions
of a counter-based random number per pair. A serving stack first plans the work and stores the new keys and values in its
cache.
"""

from math import ceil

from perfmodel.arithmetic import Size, maximum, minimum, where
from perfmodel.timing.backends import BackEnd
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stream import moved
from perfmodel.timing.terms import Body, Term, overlapped
from perfmodel.timing.walks import Attended, Tile, rounds, seen, shared_out, split, tile_of, unequal, walked
from perfmodel.timing.weights import Mechanism

_data = Mechanism("attention")
EXPONENTIALS, SHARPNESS, STREAM_PARTS = _data.weights("exponentials", "sharpness", "stream parts")
SLOTS, WIDE = _data.facts("slots", "wide")


def streams(how: BackEnd, size: Attended) -> bool:
    """Whether the library has a decoding kernel that streams the cache."""
    return bool(how.stream) and bool(size.queries == 1)


def masked_decode(how: BackEnd, size: Attended) -> bool:
    """Whether that kernel takes a mask."""
    return streams(how, size) and size.masked


@by_paths
def forward(card: Card, how: BackEnd, size: Attended, dtype: str, found: Size) -> Body:
    """Returns the time of one forward pass. NB masked decoding runs at memory's rate even where L2 holds the cache."""
    head_byte = size.cached * size.stored_width
    stream = moved(
        card, size.item * size.heads * size.queries * size.width + size.kv_heads * size.visible * head_byte,
        size.item * size.heads * size.queries * size.value_width, 0.0 if masked_decode(how, size) else found,
    )  # fmt: skip
    if streams(how, size):
        return _streamed(card, how, size, stream.dram_s, stream.l2_s)
    latency_s = card.dram_latency_s
    group = size.heads // size.kv_heads if how.packs == "all" or (how.packs == "one" and size.queries == 1) else 1
    rows, heads = size.queries * group, size.heads // group
    tile, parts = _cut(how, size, rows, heads, group, card.multiprocessors)
    busy_s, passed = _busy(card, how, size, dtype, tile, parts, rows, heads)
    passed_s = passed * head_byte / (card.l2_byte_per_s * _sharing(card, dtype))
    seconds, terms = overlapped(
        (("products and softmax", busy_s), ("memory", stream.dram_s), ("L2", maximum(stream.l2_s, passed_s))), SHARPNESS
    )
    if _short(how, size, rows):  # such a block walks one step: it loads, computes and stores one after another
        moved_s = maximum(stream.dram_s, maximum(stream.l2_s, passed_s))
        seconds, terms = busy_s + moved_s, (Term("products and softmax", busy_s), Term("loads and stores", moved_s))
    choice = f"{how.title}: tiles of {tile.queries} queries x {tile.keys} keys"
    if parts > 1:
        joined = Term("combine split keys", (how.join + parts * how.part) * latency_s)
        seconds, terms, choice = seconds + joined.seconds, (*terms, joined), f"{choice}, keys in {parts} parts"
    seconds, terms = _planned(card, how, size, found, seconds, terms)
    stack = f"stack decode{' latent' * size.shared}" if size.queries == 1 else "stack"
    return Body(seconds, terms, stack if how.plan else "attention", choice)


def _busy(
    card: Card, how: BackEnd, size: Attended, dtype: str, tile: Tile, parts: Size, rows: Size, heads: Size
) -> tuple[Size, Size]:
    """Returns the time until all blocks have finished, and the number of keys that they read in total."""
    count = card.multiprocessors
    each, longest, edges = walked(size, rows, tile, rows // size.queries)
    blocks = heads * ceil(rows / tile.queries) * parts
    width = padded(how, size.width) + padded(how, size.value_width)
    share = where(size.width > WIDE, how.share * how.wide, how.share)
    area_s = tile.queries * pair_s(card, dtype, 2.0 * width, share, how.slots + _more(how, size))
    crossed = how.mask
    if how.spilled:
        partial = maximum(maximum(rows % tile.queries, size.keys % tile.keys), width - size.width - size.value_width)
        crossed += where(partial > 0, how.spill * _spilled(how, size.width), 0.0)
    mask_s = tile.queries * crossed * count / card.lane_per_s
    start_s = how.start * card.dram_latency_s
    # Equal parts are whole steps; under a causal mask some are empty, so the mean counts.
    own = each / parts if size.causal else where(parts == 1, each, ceil(each / tile.keys / parts) * tile.keys)
    work_s = start_s + own * area_s + edges / parts * mask_s
    if size.causal:
        longest = ceil(longest / tile.keys / parts) * tile.keys
        last_s = start_s + longest * area_s + minimum(longest, tile.queries + tile.keys) * mask_s
        ends, late_s = (how.fill, how.tail, how.queue), start_s if how.queue else 0.0
        busy_s = unequal(blocks, count, tile.resident, ends, work_s, last_s, late_s)
    else:
        busy_s = rounds(blocks, count, tile.resident, how.fill) * work_s
    flops = 2.0 * heads * rows * each * (size.width + size.value_width)
    return _powered(card, how, dtype, busy_s, flops), blocks * own


def _spilled(how: BackEnd, width: Size) -> int:
    return next((byte for most, byte in how.spilled if width <= most), 0)


def _planned(
    card: Card, how: BackEnd, size: Attended, found: Size, seconds: Size, terms: tuple[Term, ...]
) -> tuple[Size, tuple[Term, ...]]:
    """Adds the kernels that a serving stack runs first: planning, and storing of new keys and values."""
    if not how.plan:
        return seconds, terms
    byte = size.cached * size.kv_heads * size.queries * size.stored_width
    appended = maximum(*moved(card, byte, byte, found))
    planned = Term("planning and cache append", how.plan * 1e3 / card.clock_hz + appended)
    return seconds + planned.seconds, (*terms, planned)


def _streamed(card: Card, how: BackEnd, size: Attended, dram_s: Size, l2_s: Size) -> Body:
    """Returns the time of a dedicated decoding kernel, which reads the cache once for any number of heads and splits
    long caches.
    """
    share, start = (how.masked_stream, how.masked_decode) if size.masked else (how.stream, how.decode)
    seconds, terms = overlapped((("memory", dram_s / share), ("L2", l2_s / share)), SHARPNESS)
    added = [Term("decode start-up", start * card.dram_latency_s)]
    if not size.masked and size.keys >= STREAM_PARTS:
        added.append(Term("combine split keys", how.join * card.dram_latency_s))
    seconds += sum(term.seconds for term in added)
    return Body(seconds, (*terms, *added), "attention", f"{how.title}: the cache as a stream")


def _more(how: BackEnd, size: Attended) -> float:
    """Returns the vector instructions per query-key pair for a mask and for dropout."""
    return how.added * size.masked + how.drop * size.dropout


def pair_s(card: Card, dtype: str, flops: Size, share: float, slots: float) -> Size:
    """Seconds of a multiprocessor per query-key pair: products, and a softmax that overlaps them partly."""
    count = card.multiprocessors
    product_s = flops * count / (_peak(card, dtype) * share)
    softmax_s = 1.0 / (EXPONENTIALS * card.clock_hz) + slots * count / card.lane_per_s
    return (product_s * product_s + softmax_s * softmax_s) ** 0.5


def _peak(card: Card, dtype: str) -> float:
    """The data-sheet peak; fp32 may be composed of three tf32 products."""
    peaks = card.peak_flop_per_s
    return max(peaks[dtype], peaks.get("tf32", 0.0) / 3) if dtype == "fp32" else peaks[dtype]


def _sharing(card: Card, dtype: str) -> float:
    """Multiprocessors that one L2 read serves, as in a matrix product."""
    return card.tilings[dtype if dtype in card.tilings else "vector"].sharing


def _powered(card: Card, how: BackEnd, dtype: str, seconds: Size, flops: Size) -> Size:
    """Returns the time, raised to that of the products under the power limit, of which exponentials use a part."""
    if dtype not in card.held_flop_per_s or dtype == "fp32":
        return seconds
    return maximum(seconds, flops / (powered_rate(card, dtype, flops) * how.power))


@by_paths
def backward(card: Card, how: BackEnd, size: Attended, dtype: str) -> Body:
    """Returns the time of the gradients' main kernel: tiles of keys with five products per pair."""
    tile, count = tile_of(how.back, size.width), card.multiprocessors
    turned = size._replace(queries=size.keys, keys=size.queries)  # mirrored: the last key is seen by one query
    each, longest, edges = walked(turned, size.keys, tile, 1)
    blocks = size.heads * ceil(size.keys / tile.queries)
    flops = 2.0 * (3 * padded(how, size.width) + 2 * padded(how, size.value_width))
    area_s = tile.queries * pair_s(card, dtype, flops, how.back_share, how.back_slots + _more(how, size))
    start_s = how.back_start * card.dram_latency_s
    work_s = start_s + each * area_s + edges * tile.queries * how.mask * count / card.lane_per_s
    if size.causal:
        ends = how.fill, how.tail, 0.0
        busy_s = unequal(blocks, count, tile.resident, ends, work_s, start_s + longest * area_s)
    else:
        busy_s = rounds(blocks, count, tile.resident, how.fill) * work_s
    busy_s = _powered(card, how, dtype, busy_s, flops * blocks * tile.queries * each)
    item = size.item
    queries = size.heads * size.queries * size.width
    keys = size.kv_heads * size.visible * (size.width + size.value_width)
    outputs = size.heads * size.queries * size.value_width
    own = moved(card, item * (queries + 2 * outputs) + size.cached * keys, 4 * queries + item * keys)
    seconds, terms = overlapped((("products and softmax", busy_s), ("memory", own.dram_s), ("L2", own.l2_s)), SHARPNESS)
    return Body(seconds, terms, "attention", f"{how.title}: tiles of {tile.queries} keys")


def padded(how: BackEnd, width: Size) -> Size:
    """The head size that a library computes: sizes without a kernel are padded with zeros."""
    step = where(width <= 128, how.widths, 2 * how.widths)
    return -(-width // step) * step


def _short(how: BackEnd, size: Attended, rows: Size) -> bool:
    """Returns whether the library has special tiles for prompts with so few queries."""
    return bool(how.short) and bool(size.queries > 1) and bool(rows <= tile_of(how.short, size.width).queries)


def _cut(how: BackEnd, size: Attended, rows: Size, heads: Size, group: Size, count: int) -> tuple[Tile, Size]:
    """Returns the tile, and the number of parts into which the keys are split."""
    tile = tile_of(how.tiles, size.width)
    if _short(how, size, rows):
        return tile_of(how.short, size.width), 1
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
