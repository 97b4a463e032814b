"""Phi 3 and 4: Llama's layer without biases, rotary on part of a head, a window on every layer where one is set."""

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
    """Queries, keys and values are one matrix in the checkpoint, gate and up another: the same counts."""
    sizes, L, window = grouped(c), c.size("num_hidden_layers"), c.size_or_none("sliding_window")
    turned = int(int(sizes["d"]) * c.rotary_share(1.0))
    layer = block(
        attention(rotary=str(turned), windowed=window is not None),
        gated_mlp(GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")]),
        kind="rmsnorm",
    )
    return Model(
        title=f"Phi 3 of {L} layers and width {sizes['D']}",
        sizes={**sizes, **({"W": window} if window else {})},
        phases=decoder_phases(2048, window=window is not None),
        steps=(*embed(), *layers("layers", L, layer), *head(c, "rmsnorm", tied=False)),
    )
