"""The terms in which a decoder is described: what it does otherwise than Llama, as data.

A description holds facts of the architecture and names of the config's keys. ``own`` are the architecture's values of
keys that its configs may leave out; a value that is taken from there is told in a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Switch = bool | str
"""A fixed fact, or the key of the config that decides."""


class Windows(NamedTuple):
    """Which layers look through a sliding window, where the config has no ``layer_types``.

    Every ``every``-th layer sees all keys, the last of each group or the ``first``; 0: no layer does. ``key`` is the
    config's key of that number, ``switch`` the flag that turns windows on, ``after`` the key of how many first layers
    see all keys, ``before`` of the layer from which on they do. ``unturned``: the layers without rotary positions see all keys.
    """

    size: str = "sliding_window"
    every: int = 0
    first: bool = False
    key: str = ""
    switch: str = ""
    after: str = ""
    before: str = ""
    unturned: bool = False


class Experts(NamedTuple):
    """Names of the keys of a mixture of experts, and which layers have one.

    ``typed``: the config may list each layer's kind in ``mlp_layer_types``. Otherwise ``listed`` is the key of a list
    of the layers with experts, ``plain`` of those without, ``first`` (or its number) and ``last`` of the outermost ones,
    ``every`` of the distance between them. ``shared`` is how many shared experts there are, or the key that says so;
    ``shared_width`` the key of their width. ``correction``: the router's correction bias is a parameter.
    """

    number: str = "num_experts"
    chosen: str = "num_experts_per_tok"
    width: str = "moe_intermediate_size"
    typed: bool = False
    listed: str = ""
    plain: str = ""
    first: int | str = 0
    last: str = ""
    every: str = ""
    shared: int | str = 0
    shared_width: str = ""
    shared_gate: bool = False
    bias: bool = False
    router_bias: bool = False
    correction: bool = False


class Decoder(NamedTuple):
    """A decoder's architecture; the defaults are Llama's.

    ``before``, ``after``: a norm before each part, a norm of its result; ``outer``: the norm follows the residual.
    ``parallel``: both parts read the stream at once, through one norm (``one_norm``) or two. ``qk_norm`` is the norm
    of queries and keys, of each head or of the whole width (``qk_width``). ``positions``: rotary, learned, slopes or
    none; ``turned`` is the share of each head that is turned (``turned_key``: an older key of it, ``turned_size``: the key of a number of elements), ``unturned`` the key of the layers that turn none, or
    "full": those without a window. ``both_ways`` is the flag of a model for embeddings, whose tokens see all others.
    ``square``: heads must add up to the width; ``uneven``: the quotient of both is rounded down. ``choices``: a class scores choices of answers. ``refused`` are flags that no count covers.
    """

    name: str = "Llama"
    part: str = ""
    keys: Mapping[str, str] = {}
    own: Mapping[str, Any] = {}
    unread: str = ""
    norm: str = "rmsnorm"
    before: Switch = True
    after: Switch = False
    outer: bool = False
    parallel: Switch = False
    one_norm: bool = False
    qkv_bias: Switch = "attention_bias"
    out_bias: Switch = "attention_bias"
    single_head: str = ""
    qk_norm: str = "rmsnorm"
    qk_normed: Switch = False
    qk_width: bool = False
    qk_turned_only: bool = False
    sinks: bool = False
    square: bool = False
    uneven: bool = False
    positions: str = "rotary"
    offset: int = 0
    turned: float = 1.0
    turned_key: str = ""
    turned_size: str = ""
    unturned: str = ""
    windows: Windows | None = None
    gated: bool = True
    gate: str = ""
    activation: str = "silu"
    activations: Mapping[str, str] = {}
    widening: int = 0
    mlp_bias: Switch = False
    experts: Experts | None = None
    embedding_norm: bool = False
    embedding_scaled: Switch = False
    residual_factor: str = ""
    logit_factor: str = ""
    softcapped: bool = False
    both_ways: str = ""
    choices: bool = False
    refused: str = ""
    tied: bool = False
    head_bias: Switch = False
