"""gpt-oss: grouped heads with biases and learned sinks, every other layer through a window, experts with biases."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.heads import grouped, layer_types
from perfmodel.importers.model import Model
from perfmodel.importers.parts import attention, block, counted, decoder_phases, embed, experts, layers
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """intermediate_size is the width of one expert; a sink is one score per head that joins every softmax."""
    sizes, L, W = (
        grouped(c, width="", head_dim=64, kv_heads=8),
        c.size("num_hidden_layers"),
        c.size("sliding_window", 128),
    )
    bias = c.flag("attention_bias", True)
    windows = layer_types(c, L, tuple("sliding" if (i + 1) % 2 else "full" for i in range(L)))
    moe = {"F_e": c.size("intermediate_size"), "E": c.size("num_local_experts"), "A": c.size("num_experts_per_tok")}
    c.must(moe["A"] <= moe["E"], f"{moe['A']} experts per token of {moe['E']}", "no more than there are is accepted")
    steps: list[Step] = []
    for kind, number in counted(windows):
        inner = attention(qkv_bias=bias, out_bias=bias, rotary="d", windowed=kind == "sliding", sinks=True)
        fed = experts("clamped_swiglu", bias=True, router_bias=True)
        steps += layers(f"layers.{kind}", number, block(inner, fed, kind="rmsnorm"))
    return Model(
        title=f"gpt-oss of {L} layers and width {sizes['D']}",
        sizes={**sizes, **moe, "W": W},
        phases=decoder_phases(2048, window=True),
        steps=(*embed(), *steps, *head(c, "rmsnorm", tied=False)),
    )
