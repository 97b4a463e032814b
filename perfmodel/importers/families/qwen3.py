"""Qwen 3, dense or with experts: Llama's layer with a norm on each head's queries and keys, head size of its own."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.families.qwen2 import _windows, sparse_layers
from perfmodel.importers.heads import grouped
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    block,
    counted,
    decoder_phases,
    embed,
    experts,
    gated_mlp,
    layers,
)
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """No biases unless attention_bias gives all four projections one."""
    moe, L = c.text("model_type") == "qwen3_moe", c.size("num_hidden_layers")
    sizes = grouped(c, head_dim=None, kv_heads=4) if moe else grouped(c, head_dim=128)
    window = c.size_or_none("sliding_window", 4096) if c.flag("use_sliding_window", False) else None
    gate, bias = GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")], c.flag("attention_bias", False)
    windows = ("sliding" if window else "full",) * L if moe else _windows(c, L, window)
    sparse = sparse_layers(c, L) if moe else (False,) * L
    if any(sparse):
        sizes |= {
            "F_e": c.size("moe_intermediate_size"),
            "E": c.size("num_experts", also="num_local_experts"),
            "A": c.size("num_experts_per_tok"),
        }
    steps: list[Step] = []
    for kind, number in counted([f"{w}{'.experts' if s else ''}" for w, s in zip(windows, sparse, strict=True)]):
        fed = experts(gate) if kind.endswith("experts") else gated_mlp(gate)
        windowed = kind.startswith("sliding")
        inner = attention(qkv_bias=bias, out_bias=bias, rotary="d", qk_norm="rmsnorm", windowed=windowed)
        one_kind = len(set(windows)) == 1 and len(set(sparse)) == 1
        steps += layers("layers" if one_kind else f"layers.{kind}", number, block(inner, fed, kind="rmsnorm"))
    return Model(
        title=f"Qwen 3{' with experts' if moe else ''} of {L} layers and width {sizes['D']}",
        sizes={**sizes, **({"W": window} if window else {})},
        phases=decoder_phases(2048, window=window is not None),
        steps=(*embed(), *steps, *head(c, "rmsnorm", tied=False)),
    )
