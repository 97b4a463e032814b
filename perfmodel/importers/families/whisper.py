"""Whisper: two convolutions halve 3000 mel frames to 1500 positions for an encoder; a decoder attends to them.

Queries and values have biases, keys none. A decoding step runs the decoder alone over kept cross keys and values. A
class without a decoder runs the encoder over N positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import encoder_of, encoder_phases, phases
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    attention,
    attention_core,
    block,
    layers,
    linear,
    mlp,
    norm,
    residual,
    step,
)
from perfmodel.importers.tasks import Heads, task, words


def build(c: Config) -> Model:
    """Encoder and decoder share the width; their heads and networks are given apart and must agree."""
    D, H = c.size("d_model"), c.size("encoder_attention_heads")
    F, P = c.size("encoder_ffn_dim"), c.size("max_target_positions")
    c.must(c.size("decoder_attention_heads") == H, "encoder and decoder differ in heads", "equal heads are accepted")
    c.must(c.size("decoder_ffn_dim") == F, "encoder and decoder differ in network width", "equal widths are accepted")
    d = c.divides(D, H, "the heads share the width evenly")
    positions = c.size("max_source_positions", 1500)
    act = c.choice(ACTIVATIONS, "activation_function", default="gelu")
    mel = c.size("num_mel_bins", 80)
    L, M = c.size("encoder_layers"), c.size("decoder_layers")
    inner = block(_attention(), mlp(act, bias=True), kind="layernorm")
    encoder = [
        step("conv1", "conv", "x:mel y:conv1", data=("x",), N="2*N", D_in=mel, D_out="D", K=3),
        step("conv1.gelu", "gelu", "x:conv1 y:conv1_active", numel="2*B*N*D"),
        step("conv2", "conv", "x:conv1_active y:conv2", D_in="D", D_out="D", K=3, stride=2),
        step("conv2.gelu", "gelu", "x:conv2 y:conv2_active", numel="B*N*D"),
        step("positions", "positions", "y:positions", V=positions),
        step("add_positions", "add", "a:conv2_active b:positions y:stream", numel="B*N*D"),
        *layers("layers", L, inner),
        norm("norm", "layernorm", "x:stream y:encoded"),
    ]
    sizes: dict[str, int | str] = {"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": F, "V": c.size("vocab_size")}
    alone, heads = _encoder_heads(c), _heads(c)
    head = task(c, (*heads, *alone), "ForConditionalGeneration")
    if head in alone:
        steps = (*encoder_of(encoder, "N"), *alone[head]())
        return Model(f"Whisper{head} of {L} layers and width {D}", sizes, encoder_phases(positions), steps)
    prompt, decode = (_decoder(M, P, act, prompt=prompt, ends=heads[head]()) for prompt in (True, False))
    return Model(
        title=f"Whisper of {L} and {M} layers and width {D}",
        sizes=sizes,
        phases=phases(P, positions, P),
        steps=(*encoder_of(encoder), *prompt),
        decode={"cross-attention cached": decode},
    )


def _heads(c: Config) -> Heads:
    return {"ForConditionalGeneration": lambda: words(c, "normed", tied=True), "Model": list}


def _encoder_heads(c: Config) -> Heads:
    return {"ForAudioClassification": lambda: _audio_classes(c)}


def _audio_classes(c: Config) -> list[Step]:
    """Every position is projected to a narrower width, and the mean of the projections is classified."""
    width = c.size("classifier_proj_size", 256)
    return [
        linear("projector", "D", width, "x:encoder.encoded y:projected", bias=True),
        step("pool", "mean", "x:projected y:pooled", D=width),
        linear("classes", width, c.labels(), "x:pooled y:logits", bias=True, N=1),
    ]


def _attention() -> list[Step]:
    """Keys without bias, everything else with one."""
    plain, biased = attention(), attention(qkv_bias=True, out_bias=True)
    return [without if without.name == "attention.k" else having for without, having in zip(plain, biased, strict=True)]


def _decoder(L: int, P: int, act: str, *, prompt: bool, ends: Sequence[Step]) -> tuple[Step, ...]:
    projections = [
        linear("cross.k", "D", "H*d", "x:encoder.encoded y:cross_k", N="N_e"),
        linear("cross.v", "D", "H*d", "x:encoder.encoded y:cross_v", bias=True, N="N_e"),
    ]
    layer = [
        norm("attention.norm", "layernorm"),
        *_attention(),
        residual("attention.residual", "attended"),
        norm("cross.norm", "layernorm"),
        linear("cross.q", "D", "H*d", "x:normed y:cross_q", bias=True),
        *(projections if prompt else []),
        attention_core("cross", keys="N_e", cached=False, flow="q:cross_q k:cross_k v:cross_v out:heads")._replace(
            unmasked=True, crosses=True
        ),
        linear("cross.project", "H*d", "D", "x:heads y:attended", bias=True),
        residual("cross.residual", "attended"),
        norm("mlp.norm", "layernorm"),
        *mlp(act, bias=True),
        residual("mlp.residual", "fed"),
    ]
    return (
        step("decoder.embed.tokens", "embedding", "y:tokens"),
        step("decoder.embed.positions", "positions", "y:positions", V=P),
        step("decoder.embed.add_positions", "add", "a:tokens b:positions y:stream", numel="B*N*D"),
        *layers("decoder.layers", L, layer),
        norm("decoder.norm", "layernorm"),
        *ends,
    )
