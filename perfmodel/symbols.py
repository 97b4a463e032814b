"""The notation table: each letter that an operation may take, what it means, and a typical value of it.

An operation's arguments are names of this table and nothing else; the table of ``perfmodel symbols`` and of the
README is printed from it.
"""

from typing import NamedTuple


class Symbol(NamedTuple):
    """One letter. ``kind``: a size, an item size in bytes, an optional size (none by default) or a yes/no flag.

    ``follows`` is what it is where nobody says otherwise and the sizes of that expression are there; ``card`` the figure
    of a card's multiprocessor that it is where there is a card.
    """

    name: str
    meaning: str
    typical: int
    latex: str = ""
    kind: str = "size"
    follows: str = ""
    card: str = ""


TABLE = (
    Symbol("B", "batch: sequences computed together", 1),
    Symbol("H", "query heads", 32),
    Symbol("H_kv", "key and value heads (H: multi-head, fewer: grouped, 1: multi-query)", 32, "H_{kv}", follows="H"),
    Symbol("N", "query tokens: the sequence length of a prompt, 1 when decoding", 2048),
    Symbol(
        "S",
        "key and value tokens attended to; in a real model's decoding step those cached, the new one comes on top",
        2048,
        follows="N",
    ),
    Symbol("T", "keys that a layer of a model attends to: those of the prompt, or cached and new", 2048),
    Symbol("T_w", "keys that a layer with a window attends to", 2048),
    Symbol("N_e", "positions of an encoder", 1500),
    Symbol("N_c", "positions that a padded convolution computes", 2051),
    Symbol("D", "model width", 4096),
    Symbol("d", "head size", 128),
    Symbol("F", "feed-forward width", 16384, follows="4*D"),
    Symbol("K", "filter taps of a convolution", 3),
    Symbol("V", "vocabulary size", 50257),
    Symbol("L", "layers", 12),
    Symbol("stride", "input positions from one output of a convolution to the next", 1, "s"),
    Symbol("D_in", "input width of a linear layer", 4096, "D_{in}"),
    Symbol("D_out", "output width of a linear layer", 4096, "D_{out}"),
    Symbol("E", "routed experts of a layer", 8),
    Symbol("A", "experts that each token is sent to", 2),
    Symbol("F_e", "feed-forward width of one expert", 14336, "F_e"),
    Symbol("r", "rank of the key-value latent (MLA)", 512),
    Symbol("d_r", "rotary part of a head (MLA)", 64, "d_r"),
    Symbol("d_v", "size of a value head (MLA)", 128, "d_v"),
    Symbol("X", "state size of a channel (state-space model)", 16),
    Symbol("params", "trained numbers", 124439808, "P"),
    Symbol("m", "rows of the left matrix", 4096),
    Symbol("k", "columns of the left matrix, rows of the right", 4096),
    Symbol("n", "columns of the right matrix", 4096),
    Symbol("batch", "independent matrix products", 1, r"n_{\mathrm{batch}}"),
    Symbol("rows", "rows that are normalised or soft-maxed on their own", 8192, "R"),
    Symbol("cols", "elements of such a row", 8192, "C"),
    Symbol("numel", "elements of an elementwise operation", 1 << 20, "n"),
    Symbol(
        "W", "sliding window: the last W keys, the query's own included, are seen (absent: all)", 4096, "", "optional"
    ),
    Symbol("causal", "1: a query sees the keys up to its own position; 0: all of them", 0, "", "flag"),
    Symbol("M", "on-chip memory of a multiprocessor, in bytes", 131072, card="shared_memory_per_block"),
    Symbol("tile_m", "rows of an output tile", 128, "t_m"),
    Symbol("tile_n", "columns of an output tile", 128, "t_n"),
    Symbol("tile_k", "depth of a tile held on chip", 32, "t_k"),
    Symbol("act", "bytes per activation element", 2, "b_{act}", "item"),
    Symbol("weight", "bytes per weight element", 2, "b_w", "item"),
    Symbol("cache", "bytes per cached key or value element", 2, "b_{kv}", "item"),
    Symbol("acc", "bytes per accumulated element: statistics, losses, float32 gradients", 4, "b_{acc}", "item"),
    Symbol("mask", "bytes per mask element", 2, "b_{mask}", "item"),
    Symbol("index", "bytes per token index", 8, "b_{idx}", "item"),
)

SYMBOLS = {symbol.name: symbol for symbol in TABLE}
ALIASES = {"H_KV": "H_kv"}
# Typical values of the sizes that a card decides, for a card that does not say.
BY_CARD = {symbol.name: symbol.typical for symbol in TABLE if symbol.card}
