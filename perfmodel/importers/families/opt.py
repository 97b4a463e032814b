"""OPT: LayerNorm before or after each part, learned positions (2 rows more than positions), biases, tied head."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    attention,
    block,
    decoder_phases,
    layers,
    linear,
    mlp,
    norm,
    step,
)
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """Builds OPT. The 350M model has a narrower embedding with projections in and out, and no last norm."""
    D, H, L = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    P, narrow = c.size("max_position_embeddings"), c.size("word_embed_proj_dim", D, derived=True)
    d, bias = c.divides(D, H, "the heads share the width evenly"), c.flag("enable_bias", True)
    c.must(c.flag("layer_norm_elementwise_affine", True), "layer_norm_elementwise_affine is false", "true is accepted")
    before = c.flag("do_layer_norm_before", True)
    layer = block(
        attention(qkv_bias=bias, out_bias=bias),
        mlp(c.choice(ACTIVATIONS, "activation_function", default="relu"), bias=bias),
        kind="layernorm",
    )
    removed = c.flag("_remove_final_layer_norm", False)
    last = before and not removed
    return Model(
        title=f"OPT of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": c.size("ffn_dim"), "V": c.size("vocab_size")},
        phases=decoder_phases(min(P, 2048), positions=P),
        steps=(
            step("embed.tokens", "embedding", "y:tokens", D=narrow),
            *([] if narrow == D else [linear("project_in", narrow, "D", "x:tokens y:tokens")]),
            step("embed.positions", "positions", "y:positions", T="S + 2", V=P + 2),
            step("embed.add_positions", "add", "a:tokens b:positions y:stream", numel="B*N*D"),
            *layers("layers", L, layer),
            *([norm("norm", "layernorm", "x:stream y:stream")] if last else []),
            *([] if narrow == D else [linear("project_out", "D", narrow, "x:stream y:stream")]),
            *head(c, "", tied=True, width=str(narrow)),
        ),
    )
