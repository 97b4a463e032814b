"""Phi 1 to 2: one LayerNorm read by attention and network at once, rotary positions, biases, head with a bias."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.heads import grouped
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """partial_rotary_factor of each head is turned."""
    sizes, L = grouped(c), c.size("num_hidden_layers")
    turned = int(int(sizes["d"]) * c.rotary_share(0.5))
    layer = block(
        attention(
            qkv_bias=True,
            out_bias=True,
            rotary=str(turned) if turned else "",
            qk_norm="layernorm" if c.flag("qk_layernorm", False) else "",
        ),
        mlp(c.choice(ACTIVATIONS, "hidden_act", default="gelu_new"), bias=True),
        kind="layernorm",
        second_norm=False,
        parallel=True,
    )
    return Model(
        title=f"Phi of {L} layers and width {sizes['D']}",
        sizes=sizes,
        phases=decoder_phases(2048),
        steps=(
            *embed(),
            *layers("layers", L, layer),
            *head(c, "layernorm", tied=False, bias=True),
        ),
    )
