"""The notation table: every symbol that an operation may have as an argument, its meaning and a typical value.

All arguments of operations are in this table. ``perfmodel symbols`` and the README print it.
"""

from typing import NamedTuple


class Symbol(NamedTuple):
    """One symbol.

    ``kind`` is a size, an item size in bytes, an optional size (None by default), a flag (0 or 1) or a
    routing. ``follows`` is the
    default as an expression of other sizes, used if the operation has them. ``card`` is the property of a card that is
    the default on that card.
    """

    name: str
    meaning: str
    typical: int
    latex: str = ""
    kind: str = "size"
    follows: str = ""
    card: str = ""


TABLE = (
    Symbol("B", "batch size: sequences processed together", 1),
    Symbol("H", "query heads", 32),
    Symbol(
        "H_kv", "key and value heads (H: multi-head, fewer: grouped-query, 1: multi-query)", 32, "H_{kv}", follows="H"
    ),
    Symbol("N", "query tokens: the prompt length, or 1 when decoding", 2048),
    Symbol(
        "S",
        "key and value tokens; in the decode phase of a model, the cached tokens without the new one",
        2048,
        follows="N",
    ),
    Symbol("T", "keys of a layer: the prompt, or when decoding the cached and new tokens", 2048),
    Symbol("T_w", "keys of a layer with a sliding window", 2048),
    Symbol("N_e", "encoder positions", 1500),
    Symbol("N_c", "output positions of a padded convolution", 2051),
    Symbol("D", "model width", 4096),
    Symbol("d", "head size", 128),
    Symbol("F", "feed-forward width", 16384, follows="4*D"),
    Symbol("K", "filter taps of a convolution", 3),
    Symbol("V", "vocabulary size", 50257),
    Symbol("L", "layers", 12),
    Symbol("stride", "input positions between two outputs of a convolution", 1, "s"),
    Symbol("D_in", "input width of a linear layer", 4096, "D_{in}"),
    Symbol("D_out", "output width of a linear layer", 4096, "D_{out}"),
    Symbol("E", "routed experts per layer", 8),
    Symbol("A", "experts per token", 2),
    Symbol(
        "routing",
        "how tokens choose experts: the exponent of a Zipf law (0: uniform), or a count for each expert, as 40:30:20:10",
        0,
        r"\rho",
        "routing",
    ),
    Symbol("F_e", "feed-forward width of one expert", 14336, "F_e"),
    Symbol("r", "rank of the key-value latent (MLA)", 512),
    Symbol("d_r", "rotary dimensions of a head (MLA)", 64, "d_r"),
    Symbol("d_v", "size of a value head (MLA)", 128, "d_v"),
    Symbol("X", "state size per channel (state-space model)", 16),
    Symbol("params", "trained parameters", 124439808, "P"),
    Symbol("m", "rows of the left matrix", 4096),
    Symbol("k", "columns of the left matrix, rows of the right", 4096),
    Symbol("n", "columns of the right matrix", 4096),
    Symbol("batch", "independent matrix products", 1, r"n_{\mathrm{batch}}"),
    Symbol("rows", "independent rows (of a softmax or a normalisation)", 8192, "R"),
    Symbol("cols", "elements per row", 8192, "C"),
    Symbol("numel", "elements of an elementwise operation", 1 << 20, "n"),
    Symbol(
        "distinct", "elements in the memory of a copy's source (fewer if it is broadcast)", 1 << 20, follows="numel"
    ),
    Symbol("run", "elements that are contiguous in the source and in the result of a copy", 1 << 20, follows="numel"),
    Symbol("inner", "elements between two neighbours along the reduced axis", 1, follows="1"),
    Symbol("chosen", "elements chosen per row", 50),
    Symbol("tensors", "parameter tensors of a multi-tensor kernel", 148),
    Symbol("reads", "lists of tensors that a multi-tensor kernel reads", 2),
    Symbol("C", "channels of an image", 64, "C_{in}"),
    Symbol("C_out", "output channels of a convolution", 64, "C_{out}"),
    Symbol("h", "image height", 56),
    Symbol("w", "image width", 56, follows="h"),
    Symbol("h_out", "height of the result", 56, "h_{out}", follows="h"),
    Symbol("w_out", "width of the result", 56, "w_{out}", follows="h_out"),
    Symbol("K_h", "height of a filter or pooling window", 3),
    Symbol("K_w", "width of a filter or pooling window", 3, follows="K_h"),
    Symbol("groups", "groups of channels that are convolved or normalised separately", 1, "G", follows="1"),
    Symbol("pixels", "positions of a channel: height x width", 3136),
    Symbol("group", "elements along the input width that share a scale", 128, "g"),
    Symbol("taps", "pixels read per interpolated pixel (1: nearest, 4: bilinear, 16: bicubic)", 4),
    Symbol(
        "W",
        "sliding window: a query sees the last W keys, including its own position (default: all keys)",
        4096,
        "",
        "optional",
    ),
    Symbol("causal", "causal mask. 1: a query sees only keys up to its own position; 0: all keys", 0, "", "flag"),
    Symbol("byte", "bytes of the tensor that each rank gives to a collective", 1 << 20, "n"),
    Symbol("gpus", "ranks of a collective, one GPU each", 8, "p"),
    Symbol("M", "on-chip memory of one block, in bytes", 131072, card="shared_memory_per_block"),
    Symbol("tile_m", "rows of an output tile", 128, "t_m"),
    Symbol("tile_n", "columns of an output tile", 128, "t_n"),
    Symbol("tile_k", "depth (in k) of a tile in on-chip memory", 32, "t_k"),
    Symbol("act", "bytes per activation element", 2, "b_{act}", "item"),
    Symbol("weight", "bytes per weight element", 2, "b_w", "item"),
    Symbol("cache", "bytes per cached key or value element", 2, "b_{kv}", "item"),
    Symbol("acc", "bytes per element of statistics, losses and float32 gradients", 4, "b_{acc}", "item"),
    Symbol("out", "bytes per element of a result that may differ from the activations", 2, "b_{out}", "item"),
    Symbol("state", "bytes per element of an optimizer's moments", 4, "b_{state}", "item"),
    Symbol("mask", "bytes per mask element", 2, "b_{mask}", "item"),
    Symbol("packed", "bytes per element of a quantised tensor", 1, "b_{q}", "item"),
    Symbol("scale", "bytes per scale of quantised elements", 2, "b_{s}", "item"),
    Symbol("zero", "bytes per zero point of quantised weights (0.5: 4 bits)", 1, "b_{z}", "item"),
    Symbol("index", "bytes per token index", 8, "b_{idx}", "item"),
)

SYMBOLS = {symbol.name: symbol for symbol in TABLE}
ALIASES = {"H_KV": "H_kv"}
# Typical values of the sizes that depend on the card, for a card whose file does not give them.
BY_CARD = {symbol.name: symbol.typical for symbol in TABLE if symbol.card}
