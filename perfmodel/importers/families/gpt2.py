"""GPT-2: pre-norm LayerNorm, learned positions, biases everywhere, tied head."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, decoder_phases, embed, layers, linear, mlp, step
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """n_inner is four times the width unless it is given."""
    D, H = c.size("n_embd", also="hidden_size"), c.size("n_head", also="num_attention_heads")
    P = c.size("n_positions", also="max_position_embeddings")
    c.must(not c.flag("add_cross_attention", False), "cross-attention is asked for", "a decoder alone is accepted")
    layer = block(
        attention(qkv_bias=True, out_bias=True),
        mlp(c.choice(ACTIVATIONS, "activation_function", default="gelu_new"), bias=True),
        kind="layernorm",
    )
    d = c.divides(D, H, "the heads share the width evenly")
    return Model(
        title=f"GPT-2 of {c.size('n_layer', also='num_hidden_layers')} layers and width {D}",
        sizes={
            "B": 1,
            "D": D,
            "H": H,
            "H_kv": H,
            "d": d,
            "F": c.size("n_inner", 4 * D, derived=True),
            "V": c.size("vocab_size"),
        },
        phases=decoder_phases(min(P, 1024), positions=P),
        steps=(
            *embed(P),
            *layers("layers", c.size("n_layer", also="num_hidden_layers"), layer),
            *head(c, "layernorm", tied=True, more={"DoubleHeadsModel": lambda: _choices(c)}),
        ),
    )


def _choices(c: Config) -> list[Step]:
    """A score for each choice of an answer, from the token that ends it; B counts the choices of all questions."""
    word = c.text("summary_activation", "")
    width = 1 if c.flag("summary_proj_to_labels", True) else "D"
    score = linear("choices", "D", width, "x:normed y:choice", bias=True, N=1)
    act = [step("choices.activation", ACTIVATIONS[word], "x:choice y:choice", numel=f"B*{width}")] if word else []
    return [*([score] if c.flag("summary_use_proj", True) else []), *act]
