"""ModernBERT: rotary positions, gated networks, norms before each part, no biases, windows in two of three layers.

NB in the encoder a window is a mask without a causal one: eager kernels execute the full square, which is counted.
"""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    block,
    counted,
    decoder_phases,
    embed,
    gated_mlp,
    layers,
    linear,
    norm,
    step,
)
from perfmodel.importers.tasks import Heads, classes, task, words

WINDOW = "NB the encoder's sliding window hides keys on both sides; the full square of scores is counted."


def build(c: Config) -> Model:
    """The first layer reads the normed embedding without a norm of its own."""
    D, H, L = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    d = c.divides(D, H, "the heads share the width evenly")
    c.ignore(
        "sliding_window",
        "classifier_activation",
        "classifier_bias",
        "decoder_bias",
        "sparse_prediction",
        "sparse_pred_ignore_index",
        "deterministic_flash_attn",
        "classifier_pooling",
    )
    decoder, kind = c.text("model_type") == "modernbert-decoder", _norm(c)
    windows, local = _windows(c, L), c.size_or_none("local_attention", 128)
    steps: list[Step] = []
    for (window, first), number in counted([(window, i == 0) for i, window in enumerate(windows)]):
        name = f"layers.{'first' if first else window}"
        steps += layers(name, number, _layer(c, kind, windowed=window == "sliding", first=first, decoder=decoder))
    heads = _heads(c, kind, decoder)
    windowed = decoder and "sliding" in windows
    phases = decoder_phases(2048, window=windowed)
    if not decoder:
        del phases["decode"]
    W = {"W": c.size("sliding_window", (local or 2) // 2, derived=True)} if windowed else {}
    return Model(
        title=f"ModernBERT{' decoder' if decoder else ''} of {L} layers and width {D}",
        sizes={
            "B": 1,
            "D": D,
            "H": H,
            "H_kv": H,
            "d": d,
            "F": c.size("intermediate_size"),
            "V": c.size("vocab_size"),
            **W,
        },
        phases=phases,
        steps=(
            *embed(kind=kind),
            *steps,
            norm("norm", kind, "x:stream y:stream"),
            *heads[task(c, heads, "ForCausalLM" if decoder else "Model")](),
        ),
        notes=() if decoder else (WINDOW,),
    )


def _norm(c: Config) -> str:
    return "layernorm" if c.flag("norm_bias", False) else "layernorm_unbiased"


def _windows(c: Config, L: int) -> tuple[str, ...]:
    words = {"sliding_attention": "sliding", "full_attention": "full"}
    given = c.words("layer_types", L, tuple(words))
    every = c.size("global_attn_every_n_layers", 3, derived=True)
    return (
        tuple(words[word] for word in given) if given else tuple("sliding" if i % every else "full" for i in range(L))
    )


def _layer(c: Config, kind: str, *, windowed: bool, first: bool, decoder: bool) -> list[Step]:
    bias = c.flag("attention_bias", False)
    source = "stream" if first else "normed"
    inner = attention(qkv_bias=bias, out_bias=bias, rotary="d", windowed=windowed and decoder, source=source)
    if not decoder:
        inner = [s._replace(cached=False, unmasked=True) for s in inner]
    gate = GATES[c.choice(ACTIVATIONS, "hidden_activation", default="gelu")]
    layer = block(inner, gated_mlp(gate, bias=c.flag("mlp_bias", False)), kind=kind)
    return [s for s in layer if not (first and s.name == "attention.norm")]


def _heads(c: Config, kind: str, decoder: bool) -> Heads:
    act = c.choice(ACTIVATIONS, "classifier_activation", default="gelu")

    def transformed(name: str, tokens: int | str = "N") -> list[Step]:
        cell = norm(f"{name}.norm", kind, "x:transformed y:transformed", f"B*{tokens}")
        return [
            linear(
                f"{name}.transform", "D", "D", "x:stream y:transformed", bias=c.flag("classifier_bias", False), N=tokens
            ),
            step(f"{name}.activation", act, "x:transformed y:transformed", numel=f"B*{tokens}*D"),
            cell,
        ]

    def scores() -> list[Step]:
        return [*transformed("words"), *words(c, "transformed", tied=True, bias=c.flag("decoder_bias", True))]

    def labels(tokens: int | str, number: int | None = None) -> list[Step]:
        bias = c.flag("classifier_bias", False) if decoder else True
        return [*transformed("classes", tokens), classes(number or c.labels(), "transformed", tokens=tokens, bias=bias)]

    pooled = "N" if decoder else 1
    heads: Heads = {"Model": list, "ForSequenceClassification": lambda: labels(pooled)}
    if decoder:
        return {**heads, "ForCausalLM": scores}
    return {
        **heads,
        "ForMaskedLM": scores,
        "ForTokenClassification": lambda: labels("N"),
        "ForQuestionAnswering": lambda: labels("N"),
        "ForMultipleChoice": lambda: labels(1, 1),
    }
