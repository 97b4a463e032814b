"""Mixtral: Mistral's attention, and in the place of the network 2 of 8 gated experts for each token."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.heads import grouped
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, GATES, attention, block, decoder_phases, embed, experts, layers
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """intermediate_size is the width of one expert."""
    sizes, L, window = grouped(c, width="", kv_heads=8), c.size("num_hidden_layers"), c.size_or_none("sliding_window")
    gate = GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")]
    layer = block(attention(rotary="d", windowed=window is not None), experts(gate), kind="rmsnorm")
    moe = {"F_e": c.size("intermediate_size"), "E": c.size("num_local_experts"), "A": c.size("num_experts_per_tok")}
    c.must(moe["A"] <= moe["E"], f"{moe['A']} experts per token of {moe['E']}", "no more than there are is accepted")
    return Model(
        title=f"Mixtral of {L} layers and width {sizes['D']}",
        sizes={**sizes, **moe, **({"W": window} if window else {})},
        phases=decoder_phases(2048, window=window is not None),
        steps=(*embed(), *layers("layers", L, layer), *head(c, "rmsnorm", tied=False)),
    )
