"""ViT: patches of an image through one projection, a class token, learned positions, a pre-norm encoder."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import encoder_phases
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, both_ways, layers, linear, mlp, norm, step
from perfmodel.importers.tasks import Heads, classes, task


def build(c: Config) -> Model:
    """N counts the patches and the class token; the classifier reads the class token alone."""
    D, H, L = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    d = c.divides(D, H, "the heads share the width evenly")
    side = c.divides(c.size("image_size", 224), c.size("patch_size", 16), "patches cover the image evenly")
    N = side * side + 1
    inner = both_ways(attention(qkv_bias=c.flag("qkv_bias", True), out_bias=True))
    layer = block(inner, mlp(c.choice(ACTIVATIONS, "hidden_act", default="gelu"), bias=True), kind="layernorm")
    channels = c.size("num_channels", 3)
    heads = _heads(c, channels)
    head = task(c, heads, "Model")
    pixels = channels * c.size("patch_size", 16) ** 2
    return Model(
        title=f"ViT{head} of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": c.size("intermediate_size")},
        phases=encoder_phases(N),
        steps=(
            linear("embed.patches", pixels, "D", "x:pixels y:patches", bias=True, data=("x",), N="N - 1"),
            step("embed.class_token", "learned", "y:class_token", rows=1, cols="D"),
            step("embed.positions", "learned", "y:positions", rows=N, cols="D"),
            step("embed.add_positions", "add", "a:patches b:positions y:stream", numel="B*N*D"),
            *layers("layers", L, layer),
            norm("norm", "layernorm"),
            *heads[head](),
        ),
    )


def _heads(c: Config, channels: int) -> Heads:
    return {
        "Model": lambda: _pooler(c),
        "ForImageClassification": lambda: [classes(c.labels(), "normed", tokens=1)],
        "ForMaskedImageModeling": lambda: _painter(c, channels),
    }


def _pooler(c: Config) -> list[Step]:
    """The class token through one layer."""
    width = c.size("pooler_output_size", c.size("hidden_size"), derived=True)
    return [
        linear("pooler", "D", width, "x:normed y:pooled", bias=True, N=1),
        step(
            "pooler.activation",
            c.choice(ACTIVATIONS, "pooler_act", default="tanh"),
            "x:pooled y:pooled",
            numel=f"B*{width}",
        ),
    ]


def _painter(c: Config, channels: int) -> list[Step]:
    """encoder_stride squared pixels from every patch; a learned vector stands for a patch that is hidden."""
    pixels = c.size("encoder_stride", 16) ** 2 * channels
    return [
        step("mask_token", "learned", rows=1, cols="D"),
        linear("decoder", "D", pixels, "x:normed y:painted", bias=True, N="N - 1"),
    ]
