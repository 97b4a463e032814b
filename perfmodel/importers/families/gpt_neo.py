"""GPT-Neo: like GPT-2, without biases of queries, keys and values; every other layer has a window.

NB the window is only a mask. A layer caches all keys, and a decoding step multiplies all of them. --causal counts the
masked pairs of the window.
"""

from __future__ import annotations

from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, counted, decoder_phases, embed, layers, mlp
from perfmodel.importers.tasks import head


def build(c: Config) -> Model:
    """attention_types is a list of patterns, each with its number of repeats."""
    D, H, L = c.size("hidden_size"), c.size("num_heads"), c.size("num_layers")
    P = c.size("max_position_embeddings")
    act = c.choice(ACTIVATIONS, "activation_function", default="gelu_new")
    steps = []
    for kind, number in counted(_pattern(c, L)):
        inner = attention(out_bias=True)
        if kind == "local":
            inner = [s._replace(windowed=True, forgets=False) if s.name == "attention" else s for s in inner]
        steps += layers(f"layers.{kind}", number, block(inner, mlp(act, bias=True), kind="layernorm"))
    sizes = {"B": 1, "D": D, "H": H, "H_kv": H, "d": c.divides(D, H, "the heads share the width evenly")}
    return Model(
        title=f"GPT-Neo of {L} layers and width {D}",
        sizes={
            **sizes,
            "F": c.size("intermediate_size", 4 * D, derived=True),
            "V": c.size("vocab_size"),
            "W": c.size("window_size", 256),
        },
        phases=decoder_phases(min(P, 2048), positions=P),
        steps=(*embed(P), *steps, *head(c, "layernorm", tied=True)),
    )


def _pattern(c: Config, L: int) -> tuple[str, ...]:
    found = c.words("attention_layers", L, ("global", "local"))
    if found:
        return found
    types = c.document.get("attention_types", [[["global", "local"], L // 2]])
    try:
        pattern = tuple(word for kinds, times in types for _ in range(min(times, L + 1)) for word in kinds)
    except (TypeError, ValueError):
        pattern = ()
    known = len(pattern) == L and all(word in ("global", "local") for word in pattern)
    c.must(known, f"attention_types describes {len(pattern)} layers of {L}", "a pattern for every layer is accepted")
    return pattern
