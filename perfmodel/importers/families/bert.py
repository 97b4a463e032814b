"""BERT: an encoder normed after each part, learned positions and token types, biases, and the head of its task."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, embed, layers, linear, mlp, norm, residual, step
from perfmodel.importers.tasks import Heads, classes, task, words


def build(c: Config) -> Model:
    """The first of ``architectures`` names the head; without one it is the bare model with its pooler."""
    D, H, L = c.size("hidden_size"), c.size("num_attention_heads"), c.size("num_hidden_layers")
    d = c.divides(D, H, "the heads share the width evenly")
    P = c.size("max_position_embeddings", 512)
    act = c.choice(ACTIVATIONS, "hidden_act", default="gelu")
    inner = [s._replace(cached=False, unmasked=True) for s in attention(qkv_bias=True, out_bias=True, source="stream")]
    layer = [
        *inner,
        residual("attention.residual", "attended"),
        norm("attention.norm", "layernorm", "x:stream y:stream"),
        *mlp(act, bias=True, source="stream"),
        residual("mlp.residual", "fed"),
        norm("mlp.norm", "layernorm", "x:stream y:stream"),
    ]
    prefill: dict[str, int | str] = {"N": min(P, 512), "S": "N", "T": "S"}
    heads = _heads(c, act)
    head = task(c, heads, "Model")
    return Model(
        title=f"Bert{head} of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": c.size("intermediate_size"), "V": c.size("vocab_size")},
        phases={"prefill": prefill, "train": dict(prefill)},
        steps=(
            *embed(P, types=c.size("type_vocab_size", 2), kind="layernorm"),
            *layers("layers", L, layer),
            *heads[head](),
        ),
    )


def _heads(c: Config, act: str) -> Heads:
    def pooled(*steps: Step) -> list[Step]:
        return [*pooler, *steps]

    def scores() -> list[Step]:
        return [*transform, *words(c, "transformed", tied=True, bias=True)]

    pooler = [
        linear("pooler", "D", "D", "x:stream y:pooled", bias=True, N=1),
        step("pooler.tanh", "tanh", "x:pooled y:pooled", numel="B*D"),
    ]
    transform = [
        linear("words.transform", "D", "D", "x:stream y:transformed", bias=True),
        step("words.activation", act, "x:transformed y:transformed", numel="B*N*D"),
        norm("words.norm", "layernorm", "x:transformed y:transformed"),
    ]
    return {
        "Model": pooled,
        "ForMaskedLM": scores,
        "LMHeadModel": scores,
        "ForPreTraining": lambda: [*pooler, *scores(), classes(2, "pooled", tokens=1)],
        "ForNextSentencePrediction": lambda: pooled(classes(2, "pooled", tokens=1)),
        "ForSequenceClassification": lambda: pooled(classes(c.labels(), "pooled", tokens=1)),
        "ForMultipleChoice": lambda: pooled(classes(1, "pooled", tokens=1)),
        "ForTokenClassification": lambda: [classes(c.labels(), "stream")],
        "ForQuestionAnswering": lambda: [classes(c.labels(), "stream")],
    }
