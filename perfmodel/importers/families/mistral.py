"""Mistral: Llama's layer without biases, every layer through a sliding window where the config sets one."""

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
    """A null sliding_window means that every layer sees all keys."""
    sizes, L = grouped(c, kv_heads=8), c.size("num_hidden_layers")
    window = c.size_or_none("sliding_window", 4096)
    layer = block(
        attention(rotary="d", windowed=window is not None),
        gated_mlp(GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")]),
        kind="rmsnorm",
    )
    return Model(
        title=f"Mistral of {L} layers and width {sizes['D']}",
        sizes={**sizes, **({"W": window} if window else {})},
        phases=decoder_phases(2048, window=window is not None),
        steps=(*embed(), *layers("layers", L, layer), *head(c, "rmsnorm", tied=False)),
    )
