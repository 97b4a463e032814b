"""Gemma 1 to 3 (text): RMSNorm, GeGLU network, heads of their own size, tied head.

From Gemma 2 on each part is normed before and after, and layers look through a window: every other one in Gemma 2,
five of six in Gemma 3. Gemma 2 caps scores and logits; Gemma 3 norms each head's queries and keys. A model for embeddings
lets tokens see those after them (use_bidirectional_attention): it keeps no cache, and its window is a mask over all pairs.
"""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import encoder_phases
from perfmodel.importers.heads import layer_types
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    block,
    both_ways,
    counted,
    decoder_phases,
    embed,
    gated_mlp,
    layers,
    step,
)
from perfmodel.importers.tasks import head

# What a Gemma 3 config may leave to its architecture.
GEMMA3 = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 4096,
}  # fmt: skip

SOFTCAP = "the cap on attention scores, c tanh(s / c): two multiplications and a tanh per score"


def build(c: Config) -> Model:
    """The text part of a model that also sees is taken alone; what is left out is named."""
    kind = c.text("model_type")
    if kind == "gemma3" and c.has("text_config"):
        c = c.nested("text_config")
    generation = {"gemma": 1, "gemma2": 2}.get(kind, 3)
    own = GEMMA3 if generation == 3 else {"head_dim": 256}

    def size(key: str) -> int:
        return c.size(key, own[key]) if key in own else c.size(key)

    L, D, H, H_kv = (
        size(f"{k}") for k in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    c.divides(H, H_kv, "each group of query heads shares one key-value head")
    sizes = {
        "B": 1,
        "D": D,
        "H": H,
        "H_kv": H_kv,
        "d": size("head_dim"),
        "F": size("intermediate_size"),
        "V": size("vocab_size"),
    }
    act = c.choice(ACTIVATIONS, "hidden_activation", "hidden_act", default="gelu_pytorch_tanh")
    windows = _windows(c, generation, L)
    both = c.flag("use_bidirectional_attention", False)
    windowed = "sliding" in windows and not both
    if windowed:
        sizes["W"] = size("sliding_window") if generation == 3 else c.size("sliding_window", 4096)
    bias, cap = c.flag("attention_bias", False), _capped(c, "attn_logit_softcapping", generation, 50.0)
    steps: list[Step] = []
    for window, number in counted(windows):
        inner = attention(
            qkv_bias=bias,
            out_bias=bias,
            rotary="d",
            qk_norm="rmsnorm" if generation == 3 else "",
            windowed=windowed and window == "sliding",
        )
        fed = gated_mlp(GATES[act])
        steps += layers(
            "layers" if len(set(windows)) == 1 else f"layers.{window}",
            number,
            block(both_ways(inner) if both else inner, fed, kind="rmsnorm", after=generation > 1),
        )
    final = _capped(c, "final_logit_softcapping", generation, 30.0)
    tokens = [*embed(), step("embed.scale", "scale", "x:stream y:stream", numel="B*N*D")]
    return Model(
        title=f"Gemma {generation} of {L} layers and width {D}",
        sizes=sizes,
        phases=encoder_phases(2048) if both else decoder_phases(2048, window=windowed),
        steps=(*tokens, *steps, *head(c, "rmsnorm", tied=True, softcap=final)),
        not_counted=(SOFTCAP,) if cap else (),
    )


def _capped(c: Config, key: str, generation: int, default: float) -> bool:
    """Gemma 2 caps unless the key is null, Gemma 3 where it has a value."""
    if generation == 2 and key not in c.document:
        c.assume(key, default)
        return True
    return generation > 1 and c.has(key)


def _windows(c: Config, generation: int, L: int) -> tuple[str, ...]:
    if generation == 1:
        return ("full",) * L
    every = 2 if generation == 2 else c.size("sliding_window_pattern", 6, also="_sliding_window_pattern")
    return layer_types(c, L, tuple("full" if (i + 1) % every == 0 else "sliding" for i in range(L)))
