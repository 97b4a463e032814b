"""Llama 1 to 3.x: pre-norm RMSNorm, rotary positions, grouped heads, SwiGLU network, no biases by default."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.heads import grouped
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    block,
    decoder_phases,
    embed,
    gated_mlp,
    layers,
)
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """attention_bias gives all four projections a bias, mlp_bias all three matrices of the network."""
    sizes, L = grouped(c), c.size("num_hidden_layers")
    bias = c.flag("attention_bias", False)
    layer = block(
        attention(qkv_bias=bias, out_bias=bias, rotary="d"),
        gated_mlp(GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")], bias=c.flag("mlp_bias", False)),
        kind="rmsnorm",
    )
    return Model(
        title=f"Llama of {L} layers and width {sizes['D']}",
        sizes=sizes,
        phases=decoder_phases(2048),
        steps=(*embed(), *layers("layers", L, layer), *head(c, "rmsnorm", tied=False)),
    )
