"""DeepSeek V2, V3 and related models: latent attention, dense networks in the first layers, routed and shared experts
in the others.

A prompt expands the latent to keys and values of every head. A decoding step has three forms. Absorbed: queries are
multiplied into the latent space, and attention reads the cached latent itself. Re-expanded: the whole cached latent is
multiplied up again at every step. Expanded cache: keys and values are cached after the expansion, H (d + d_r + d_v)
numbers per token instead of r + d_r.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import (
    ACTIVATIONS,
    GATES,
    block,
    decoder_phases,
    embed,
    experts,
    gated_mlp,
    layers,
    linear,
    norm,
    step,
)
from perfmodel.importers.tasks import head

CORRECTION = "the routers' correction biases, E numbers per layer with experts, which are not trained by gradients"


class Latent(NamedTuple):
    """A decoder with latent attention. ``own`` are its values of keys that a config may omit.

    ``typed``: the config may list the kind of each layer in ``mlp_layer_types``. ``scaled``: embedding, residuals and
    logits are multiplied by constants. ``corrected``: routers add a correction bias.
    """

    name: str
    own: Mapping[str, int] = {}
    experts: bool = True
    typed: bool = False
    scaled: bool = False
    tied: bool = False
    biased: bool = False
    corrected: bool = True


FAMILY = {
    "deepseek_v2": Latent(
        "DeepSeek V2",
        {"first_k_dense_replace": 0, "n_shared_experts": 2, "q_lora_rank": 1536},
        biased=True,
        corrected=False,
    ),
    "deepseek_v3": Latent("DeepSeek V3", {"first_k_dense_replace": 3, "n_shared_experts": 1, "q_lora_rank": 1536}),
    "glm4_moe_lite": Latent(
        "GLM 4 lite", {"first_k_dense_replace": 1, "n_shared_experts": 1, "q_lora_rank": 768}, typed=True
    ),
    "minicpm3": Latent(
        "MiniCPM 3", {"q_lora_rank": 768}, experts=False, scaled=True, tied=True, biased=True, corrected=False
    ),
    "sarvam_mla": Latent("Sarvam", {"first_k_dense_replace": 1, "n_shared_experts": 1}),
    "youtu": Latent("Youtu", {"q_lora_rank": 1536}, experts=False, tied=True, biased=True, corrected=False),
}


def build(c: Config) -> Model:
    """The first layers have a plain network of intermediate_size; without experts, all layers have."""
    of = FAMILY[c.text("model_type")]
    c.ignore("num_key_value_heads", "head_dim")
    L, D, H = c.size("num_hidden_layers"), c.size("hidden_size"), c.size("num_attention_heads")
    sizes: dict[str, int | str] = {
        "B": 1, "D": D, "H": H, "d": c.size("qk_nope_head_dim"), "d_r": c.size("qk_rope_head_dim"),
        "d_v": c.size("v_head_dim"), "r": c.size("kv_lora_rank"), "F": c.size("intermediate_size"),
        "V": c.size("vocab_size"),
    }  # fmt: skip
    dense = _dense(c, of, L)
    if dense < L:
        names = {"F_e": "moe_intermediate_size", "E": "n_routed_experts", "A": "num_experts_per_tok"}
        sizes |= {symbol: c.size(key) for symbol, key in names.items()}
    if dense == 0:
        del sizes["F"]
    return Model(
        title=f"{of.name} of {L} layers and width {D}",
        sizes=sizes,
        phases=decoder_phases(2048),
        steps=_steps(c, of, L, dense, _expanded(c, of, cached="T")),
        decode={
            "absorbed": _steps(c, of, L, dense, _absorbed(c, of)),
            "re-expanded": _steps(c, of, L, dense, _expanded(c, of, cached="T")),
            "expanded cache": _steps(c, of, L, dense, _expanded(c, of, cached="N")),
        },
        notes=(
            "Latent attention: the cache holds the latent and the rotary key of every token, r + d_r numbers per layer. "
            "By default a decoding step is absorbed; the code of transformers re-expands the latent.",
        ),
        not_counted=(CORRECTION,) if of.corrected else (),
    )


def _dense(c: Config, of: Latent, L: int) -> int:
    """The number of first layers with a plain network."""
    if not of.experts:
        return L
    given = c.words("mlp_layer_types", L, ("dense", "sparse")) if of.typed else None
    if given:
        dense = given.count("dense")
        c.must(
            "dense" not in given[dense:],
            "mlp_layer_types mixes dense and sparse layers",
            "dense layers before sparse ones are accepted",
        )
        return dense
    return c.first_layers("first_k_dense_replace", of.own["first_k_dense_replace"], L)


def _steps(c: Config, of: Latent, L: int, dense: int, attended: list[Step]) -> tuple[Step, ...]:
    gate = GATES[c.choice(ACTIVATIONS, "hidden_act", default="silu")]
    bias = of.biased and c.flag("mlp_bias", False)
    plain = block(attended, gated_mlp(gate, bias=bias), kind="rmsnorm", scaled=of.scaled)
    scale = [step("embed.scale", "scale", "x:stream y:stream", numel="B*N*D")] if of.scaled else []
    if dense < L:
        width = c.count("n_shared_experts", of.own.get("n_shared_experts", 0)) * c.size("moe_intermediate_size")
        shared = gated_mlp(gate, bias=bias, name="moe.shared", width=str(width), target="shared") if width else []
        mixed = block(attended, experts(gate, shared=shared), kind="rmsnorm")
    return (
        *embed(),
        *scale,
        *(layers("layers.dense" if dense < L else "layers", dense, plain) if dense else []),
        *(layers("layers.experts", L - dense, mixed) if dense < L else []),
        *head(c, "rmsnorm", tied=of.tied, scaled=of.scaled),
    )


def _queries(c: Config, of: Latent) -> list[Step]:
    bias, rank = c.flag("attention_bias", False), c.size_or_none("q_lora_rank", of.own.get("q_lora_rank"))
    if rank is None:
        return [linear("attention.q", "D", "H*(d + d_r)", "x:normed y:q")]
    return [
        linear("attention.q_down", "D", rank, "x:normed y:q_latent", bias=bias),
        norm("attention.q_norm", "rmsnorm", "x:q_latent y:q_latent_normed", "B*N", str(rank)),
        linear("attention.q_up", rank, "H*(d + d_r)", "x:q_latent_normed y:q"),
    ]


def _latent(c: Config) -> list[Step]:
    return [
        linear("attention.kv_down", "D", "r + d_r", "x:normed y:kv_latent", bias=c.flag("attention_bias", False)),
        norm("attention.kv_norm", "rmsnorm", "x:kv_latent y:latent", "B*N", "r"),
    ]


def _project(c: Config) -> Step:
    return linear("attention.project", "H*d_v", "D", "x:heads y:attended", bias=c.flag("attention_bias", False))


def _expanded(c: Config, of: Latent, cached: str) -> list[Step]:
    """The latent of ``cached`` tokens multiplied up: all tokens attended to, or only the new ones, which are cached."""
    attention = "mla_attention" if cached == "T" else "mla_cached_attention"
    return [
        *_queries(c, of),
        *_latent(c),
        linear("attention.kv_up", "r", "H*(d + d_v)", "x:latent y:expanded", N=cached),
        step("attention.rope", "rope", "q:q q_turned:q", H_kv=1, d="d_r"),
        step("attention", attention, "q:q k:expanded v:expanded out:heads", S="T"),
        _project(c),
    ]


def _absorbed(c: Config, of: Latent) -> list[Step]:
    """Queries multiplied into the latent space, attention over the latent, and the result multiplied up."""
    return [
        *_queries(c, of),
        *_latent(c),
        step("attention.rope", "rope", "q:q q_turned:q", H_kv=1, d="d_r"),
        step("attention.absorb", "matmul", "a:q c:q_absorbed", batch="H", m="B*N", k="d", n="r"),
        step("attention", "mla_latent_attention", "q:q_absorbed out:latent_heads", S="T"),
        step("attention.value_up", "matmul", "a:latent_heads c:heads", batch="H", m="B*N", k="r", n="d_v"),
        _project(c),
    ]
