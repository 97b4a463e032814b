"""The data type that describes a decoder by its differences from Llama.

A description holds facts of the architecture and names of the config's keys. ``own`` are the architecture's values of
keys that its configs may omit. A note reports the values that were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Switch = bool | str
"""A constant of the architecture, or the config key that decides."""


class Windows(NamedTuple):
    """The layers with a sliding window, where the config has no ``layer_types``.

    - ``every``: every n-th layer has no window, the last of each group or, with ``first``, the first; 0: all have one.
      ``key`` is the config's key of this number.
    - ``switch``: the flag that enables windows.
    - ``after``: the key of the number of first layers without a window. ``before``: the key of the first layer of a
      last part without windows.
    - ``unturned``: the layers without rotary positions have no window.
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
    """The keys of a mixture of experts, and the layers that have one.

    - ``typed``: the config may list the kind of each layer in ``mlp_layer_types``.
    - ``listed``, ``plain``: otherwise, the key of a list of the layers with experts, or without.
    - ``first`` (or its number), ``last``: the keys of the first and the last layer with experts; ``every``: the key of
      their distance.
    - ``shared``: the number of shared experts or its key; ``shared_width``: the key of their width.
    - ``correction``: the router's correction bias is a parameter.
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
    """The architecture of a decoder. The defaults are Llama's.

    - ``before``, ``after``: a norm before each part, a norm of its result. ``outer``: the norm follows the residual.
    - ``parallel``: both parts read the stream at once, through one norm (``one_norm``) or two.
    - ``qk_norm``: the norm of queries and keys, per head or over the whole width (``qk_width``).
    - ``positions``: rotary, learned, slopes (ALiBi) or none.
    - ``turned``: the rotated fraction of each head. ``turned_key``: an older key of it. ``turned_size``: the key of a
      number of elements.
    - ``unturned``: the key of the layers without rotary positions, or "full" for the layers without a window.
    - ``both_ways``: the flag of an embedding model, in which every token attends to all others.
    - ``square``: the heads must add up to the width. ``uneven``: width / heads is rounded down.
    - ``choices``: one class scores answer choices. ``refused``: flags that are not supported.
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
