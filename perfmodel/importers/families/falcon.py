"""Falcon: attention and network in parallel or not, one, few or all key-value heads, no biases by default, tied head."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """num_kv_heads counts in the new decoder architecture alone; multi_query means one head in the old one.

    NB an implementation that broadcasts the few heads before it caches them stores num_attention_heads of them; the
    cache here holds the key-value heads of the architecture.
    """
    D, H = c.size("hidden_size"), c.size("num_attention_heads", also="n_head")
    L = c.size("num_hidden_layers", also="n_layer")
    new, bias = c.flag("new_decoder_architecture", False), c.flag("bias", False)
    H_kv = c.size("num_kv_heads", H, derived=True) if new else 1 if c.flag("multi_query", True) else H
    d = c.divides(D, H, "the heads share the width evenly")
    c.divides(H, H_kv, "each group of query heads shares one key-value head")
    parallel = new or c.flag("parallel_attn", True)
    alibi = c.flag("alibi", False)
    layer = block(
        attention(qkv_bias=bias, out_bias=bias, rotary="" if alibi else "d"),
        mlp(c.choice(ACTIVATIONS, "activation", default="gelu"), bias=bias),
        kind="layernorm",
        parallel=parallel,
        second_norm=c.size("num_ln_in_parallel_attn", 2 if new else 1, derived=True) == 2 if parallel else True,
    )
    F = c.size("ffn_hidden_size", 4 * D, derived=True)
    return Model(
        title=f"Falcon of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H_kv, "d": d, "F": F, "V": c.size("vocab_size")},
        phases=decoder_phases(2048),
        steps=(
            *embed(),
            *layers("layers", L, layer),
            *head(c, "layernorm", tied=True),
        ),
        not_counted=("the position slopes (ALiBi) that are added to the scores",) if alibi else (),
    )
