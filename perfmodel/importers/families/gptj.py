"""GPT-J: one LayerNorm read by attention and network at once, rotary positions, an untied head with a bias."""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """Projections of the attention have no bias, those of the network have."""
    D, H, L = c.size("n_embd", also="hidden_size"), c.size("n_head", also="num_attention_heads"), c.size("n_layer")
    d = c.divides(D, H, "the heads share the width evenly")
    layer = block(
        attention(rotary=str(c.size_or_none("rotary_dim", 64) or d)),
        mlp(c.choice(ACTIVATIONS, "activation_function", default="gelu_new"), bias=True),
        kind="layernorm",
        second_norm=False,
        parallel=True,
    )
    return Model(
        title=f"GPT-J of {L} layers and width {D}",
        sizes={
            "B": 1,
            "D": D,
            "H": H,
            "H_kv": H,
            "d": d,
            "F": c.size("n_inner", 4 * D, derived=True),
            "V": c.size("vocab_size"),
        },
        phases=decoder_phases(2048),
        steps=(
            *embed(),
            *layers("layers", L, layer),
            *head(c, "layernorm", tied=False, bias=True),
        ),
    )
