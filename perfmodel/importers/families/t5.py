"""T5: encoder and decoder with RMSNorm, learned biases of relative positions, plain or gated network, no other biases.

The prompt's phase runs the encoder over N_e tokens and the decoder over N; a decoding step runs the decoder alone, the
cross-attention's keys and values having been kept. A class without a decoder runs the encoder over N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import encoder_of, encoder_phases, phases
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    attention,
    attention_core,
    gated_mlp,
    layers,
    linear,
    mlp,
    norm,
    residual,
    step,
)
from perfmodel.importers.tasks import Heads, classes, task, words

NOT_COUNTED = ("the position biases that are added to the scores, one addition per score",)


def build(c: Config) -> Model:
    """Heads of d_kv, which need not add up to the width; the first layer of each side holds the position biases, or each layer its own."""
    c.ignore("dense_act_fn", "is_gated_act", "num_decoder_layers", "scale_decoder_outputs")
    D, H = c.size("d_model"), c.size("num_heads")
    L = c.size("num_layers")
    sizes: dict[str, int | str] = {
        "B": 1, "D": D, "H": H, "H_kv": H, "d": c.size("d_kv"), "F": c.size("d_ff"), "V": c.size("vocab_size"),
    }  # fmt: skip
    buckets = c.size("relative_attention_num_buckets", 32)
    fed = _network(c)
    bias = _bias("attention.positions", buckets, "T")
    own, shared = ([bias], []) if c.text("model_type") == "umt5" else ([], [bias])
    encoder = [norm("attention.norm", "rmsnorm"), *own, *attention(), residual("attention.residual", "attended"), *fed]
    around = [
        step("embed.tokens", "embedding", "y:stream"),
        *shared,
        *layers("layers", L, encoder),
        norm("norm", "rmsnorm", "x:stream y:encoded"),
    ]
    alone, heads = _encoder_heads(c), _heads(c)
    head = task(c, (*heads, *alone), "ForConditionalGeneration")
    if head in alone:
        steps, found = (*encoder_of(around, "N"), *alone[head]()), encoder_phases(512)
        return Model(f"T5{head} of {L} layers and width {D}", sizes, found, steps, not_counted=NOT_COUNTED)
    M = c.size("num_decoder_layers", L, derived=True)
    prompt, decode = (_decoder(M, own, shared, fed, prompt=prompt, ends=heads[head]()) for prompt in (True, False))
    return Model(
        title=f"T5 of {L} and {M} layers and width {D}",
        sizes=sizes,
        phases=phases(512, None),
        steps=(*encoder_of(around), *prompt),
        decode={"cross-attention cached": decode},
        not_counted=NOT_COUNTED,
    )


def _heads(c: Config) -> Heads:
    """The heads of a decoder's last state; a sequence is classified from the token that ends it."""

    def scores() -> list[Step]:
        tied = c.flag("tie_word_embeddings", True)
        scaled = [step("logits.scale", "scale", "x:normed y:normed", numel="B*N*D")]
        return [*(scaled if c.flag("scale_decoder_outputs", tied) else []), *words(c, "normed", tied=True)]

    return {
        "ForConditionalGeneration": scores,
        "WithLMHeadModel": scores,
        "Model": list,
        "ForSequenceClassification": lambda: [
            linear("classes.dense", "D", "D", "x:normed y:dense", bias=True, N=1),
            step("classes.tanh", "tanh", "x:dense y:dense", numel="B*D"),
            classes(c.labels(), "dense", tokens=1),
        ],
        "ForQuestionAnswering": lambda: [classes(c.labels(), "normed")],
    }


def _encoder_heads(c: Config) -> Heads:
    return {"EncoderModel": list, "ForTokenClassification": lambda: [classes(c.labels(), "encoder.encoded")]}


def _network(c: Config) -> list[Step]:
    kind = c.text("feed_forward_proj", "relu" if c.text("model_type") == "t5" else "gated-gelu")
    gated, word = kind.startswith("gated-"), kind.removeprefix("gated-")
    # The gated form of T5 means the tanh form of GELU by "gelu".
    word = "gelu_new" if kind == "gated-gelu" else word
    c.must(
        word in ACTIVATIONS,
        f"feed_forward_proj '{kind}' is not known",
        f"{', '.join(ACTIVATIONS)}, gated- or not, is accepted",
    )
    act = ACTIVATIONS[word]
    return [
        norm("mlp.norm", "rmsnorm"),
        *(gated_mlp(GATES[act]) if gated else mlp(act)),
        residual("mlp.residual", "fed"),
    ]


def _bias(name: str, buckets: int, keys: str) -> Step:
    """One learned number per head and bucket of distances, looked up for every pair of positions."""
    return step(name, "embedding", "y:position_bias", B="N", N=keys, V=buckets, D="H")


def _decoder(
    L: int, own: list[Step], shared: list[Step], fed: list[Step], *, prompt: bool, ends: Sequence[Step]
) -> tuple[Step, ...]:
    projections = [
        linear("cross.k", "D", "H*d", "x:encoder.encoded y:cross_k", N="N_e"),
        linear("cross.v", "D", "H*d", "x:encoder.encoded y:cross_v", N="N_e"),
    ]
    layer = [
        norm("attention.norm", "rmsnorm"),
        *own,
        *attention(),
        residual("attention.residual", "attended"),
        norm("cross.norm", "rmsnorm"),
        linear("cross.q", "D", "H*d", "x:normed y:cross_q"),
        *(projections if prompt else []),
        attention_core("cross", keys="N_e", cached=False, flow="q:cross_q k:cross_k v:cross_v out:heads")._replace(
            unmasked=True, crosses=True
        ),
        linear("cross.project", "H*d", "D", "x:heads y:attended"),
        residual("cross.residual", "attended"),
        *fed,
    ]
    return (
        step("decoder.embed.tokens", "embedding", "y:stream", tied=True),
        *(bias._replace(name=f"decoder.{bias.name}") for bias in shared),
        *layers("decoder.layers", L, layer),
        norm("decoder.norm", "rmsnorm"),
        *ends,
    )
