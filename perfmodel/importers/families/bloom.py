"""BLOOM: a norm on the embedding, biases everywhere, positions as a slope added to the scores (ALiBi), tied head."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import attention, block, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """The slope rides along with the scores and is not counted."""
    D, H = c.size("hidden_size", also="n_embed"), c.size("n_head", also="num_attention_heads")
    L = c.size("n_layer", also="num_hidden_layers")
    d = c.divides(D, H, "the heads share the width evenly")
    layer = block(attention(qkv_bias=True, out_bias=True), mlp("gelu_tanh", bias=True), kind="layernorm")
    return Model(
        title=f"BLOOM of {L} layers and width {D}",
        sizes={
            "B": 1,
            "D": D,
            "H": H,
            "H_kv": H,
            "d": d,
            "F": c.size("n_inner", 4 * D, derived=True),
            "V": c.size("vocab_size"),
        },
        phases=decoder_phases(2048),
        steps=(
            *embed(kind="layernorm"),
            *layers("layers", L, layer),
            *head(c, "layernorm", tied=True),
        ),
        not_counted=("the position slopes (ALiBi) that are added to the scores, one addition per score",),
    )
