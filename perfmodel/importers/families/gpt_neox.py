"""GPT-NeoX and Pythia: two LayerNorms read by attention and network at once, rotary positions, biases, untied head."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """rotary_pct of each head is turned."""
    D, H, L = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    d = c.divides(D, H, "the heads share the width evenly")
    bias = c.flag("attention_bias", True)
    turned = int(d * c.rotary_share(0.25, also="rotary_pct"))
    layer = block(
        attention(qkv_bias=bias, out_bias=bias, rotary=str(turned) if turned else ""),
        mlp(c.choice(ACTIVATIONS, "hidden_act", default="gelu"), bias=True),
        kind="layernorm",
        parallel=c.flag("use_parallel_residual", True),
    )
    return Model(
        title=f"GPT-NeoX of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": c.size("intermediate_size"), "V": c.size("vocab_size")},
        phases=decoder_phases(2048),
        steps=(*embed(), *layers("layers", L, layer), *head(c, "layernorm", tied=False)),
    )
