"""Qwen 2 and 2.5, dense or with experts: Llama's layer with biases on queries, keys and values.

The window is used only where use_sliding_window says so, and then from layer max_window_layers on; with experts, by every
other layer before that one. With experts, a shared network stands beside the routed ones, weighted by a gate of one number
per token.
"""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.heads import grouped, layer_types
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
    linear,
    step,
)
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """A layer's kind is its window and whether it has experts."""
    moe, L = c.text("model_type") == "qwen2_moe", c.size("num_hidden_layers")
    sizes = grouped(c)
    window = c.size_or_none("sliding_window", 4096) if c.flag("use_sliding_window", False) else None
    gate = GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")]
    windows = _windows(c, L, window)
    sparse = sparse_layers(c, L) if moe else (False,) * L
    if any(sparse):
        sizes |= {
            "F_e": c.size("moe_intermediate_size"),
            "E": c.size("num_experts", also="num_local_experts"),
            "A": c.size("num_experts_per_tok"),
        }
    steps: list[Step] = []
    for kind, number in counted([f"{w}{'.experts' if s else ''}" for w, s in zip(windows, sparse, strict=True)]):
        fed = experts(gate, shared=_shared(c, gate)) if kind.endswith("experts") else gated_mlp(gate)
        bias = c.flag("qkv_bias", True) if moe else True
        inner = block(attention(qkv_bias=bias, rotary="d", windowed=kind.startswith("sliding")), fed, kind="rmsnorm")
        steps += layers(
            "layers" if len(set(windows)) == 1 and len(set(sparse)) == 1 else f"layers.{kind}", number, inner
        )
    return Model(
        title=f"Qwen 2{' with experts' if moe else ''} of {L} layers and width {sizes['D']}",
        sizes={**sizes, **({"W": window} if window else {})},
        phases=decoder_phases(2048, window=window is not None),
        steps=(*embed(), *steps, *head(c, "rmsnorm", tied=False)),
    )


def _windows(c: Config, L: int, window: int | None) -> tuple[str, ...]:
    """As layer_types lists them; without a window all see everything."""
    first = L if window is None else min(L, c.count("max_window_layers", 28))
    if c.text("model_type") == "qwen2_moe":
        own = ["sliding" if i % 2 == 0 and i < first else "full" for i in range(L)]
    else:
        own = ["full" if i < first else "sliding" for i in range(L)]
    found = layer_types(c, L, tuple(own))
    return ("full",) * L if window is None else found


def sparse_layers(c: Config, L: int) -> tuple[bool, ...]:
    """Every decoder_sparse_step-th layer has experts, but for those that mlp_only_layers names."""
    every, dense = c.size("decoder_sparse_step", 1, derived=True), c.numbers("mlp_only_layers")
    return tuple((i + 1) % every == 0 and i not in dense for i in range(L))


def _shared(c: Config, gate: str) -> list[Step]:
    width = str(c.size("shared_expert_intermediate_size"))
    return [
        *gated_mlp(gate, name="moe.shared", width=width, target="shared_plain"),
        linear("moe.shared_gate", "D", 1, "x:normed y:shared_score"),
        step("moe.shared_sigmoid", "sigmoid", "x:shared_score y:shared_weight", numel="B*N"),
        step("moe.shared_scale", "scale", "x:shared_plain y:shared", numel="B*N*D"),
    ]
