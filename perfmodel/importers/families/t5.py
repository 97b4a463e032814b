"""T5: encoder and decoder with RMSNorm, learned biases of relative positions, plain or gated network, no other biases.

The prompt's phase runs the encoder over N_e tokens and the decoder over N; a decoding step runs the decoder alone, the
cross-attention's keys and values having been kept.
"""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import phases, renamed
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


def build(c: Config) -> Model:
    """Heads of d_kv, which need not add up to the width; the first layer of each side holds the position biases."""
    D, H = c.size("d_model"), c.size("num_heads")
    L = c.size("num_layers")
    sizes: dict[str, int | str] = {
        "B": 1, "D": D, "H": H, "H_kv": H, "d": c.size("d_kv"), "F": c.size("d_ff"), "V": c.size("vocab_size"),
    }  # fmt: skip
    tied = c.flag("tie_word_embeddings", True)
    buckets = c.size("relative_attention_num_buckets", 32)
    fed = _network(c)
    encoder = [norm("attention.norm", "rmsnorm"), *attention(), residual("attention.residual", "attended"), *fed]
    around = [
        step("embed.tokens", "embedding", "y:stream"),
        _bias("attention.positions", buckets, "T"),
        *layers("layers", L, encoder),
        norm("norm", "rmsnorm", "x:stream y:encoded"),
    ]
    enc = renamed(around, {"N": "N_e", "T": "N_e"}, "encoder.")
    M = c.size("num_decoder_layers", L)
    return Model(
        title=f"T5 of {L} and {M} layers and width {D}",
        sizes=sizes,
        phases=phases(512, None),
        steps=(*enc, *_decoder(M, buckets, tied, fed, prompt=True)),
        decode={"cross-attention cached": _decoder(M, buckets, tied, fed, prompt=False)},
        not_counted=("the position biases that are added to the scores, one addition per score",),
    )


def _network(c: Config) -> list[Step]:
    kind = c.text("feed_forward_proj", "relu")
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


def _decoder(L: int, buckets: int, tied: bool, fed: list[Step], *, prompt: bool) -> tuple[Step, ...]:
    projections = [
        linear("cross.k", "D", "H*d", "x:encoder.encoded y:cross_k", N="N_e"),
        linear("cross.v", "D", "H*d", "x:encoder.encoded y:cross_v", N="N_e"),
    ]
    layer = [
        norm("attention.norm", "rmsnorm"),
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
        _bias("decoder.attention.positions", buckets, "T"),
        *layers("decoder.layers", L, layer),
        norm("decoder.norm", "rmsnorm"),
        linear("logits", "D", "V", "x:normed y:logits", tied=tied),
    )
