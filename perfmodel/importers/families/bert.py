"""BERT: an encoder normed after each part, learned positions and token types, biases, and the head of its task."""

from __future__ import annotations

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, embed, layers, linear, mlp, norm, residual, step


def build(c: Config) -> Model:
    """The first of ``architectures`` names the head; none means the bare model with its pooler."""
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
    head = architecture(c, "BertModel")
    return Model(
        title=f"{head} of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": c.size("intermediate_size"), "V": c.size("vocab_size")},
        phases={"prefill": prefill, "train": dict(prefill)},
        steps=(
            *embed(P, types=c.size("type_vocab_size", 2), kind="layernorm"),
            *layers("layers", L, layer),
            *_head(c, head, act),
        ),
    )


def architecture(c: Config, default: str) -> str:
    """The class that the checkpoint was saved from."""
    names = c.document.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    c.notes.append(f"architectures is not in the config: taken as {default}.")
    return default


def _head(c: Config, head: str, act: str) -> list[Step]:
    pooler = [
        linear("pooler", "D", "D", "x:stream y:pooled", bias=True, N=1),
        step("pooler.tanh", "tanh", "x:pooled y:pooled", numel="B*D"),
    ]
    words = [
        linear("words.transform", "D", "D", "x:stream y:transformed", bias=True),
        step("words.activation", act, "x:transformed y:transformed", numel="B*N*D"),
        norm("words.norm", "layernorm", "x:transformed y:transformed"),
        linear("words", "D", "V", "x:transformed y:logits", tied=c.flag("tie_word_embeddings", True)),
        step("words.bias", "add_bias", "x:logits y:logits", D="V"),
    ]

    def classes(number: int, source: str, tokens: int | str = "N") -> Step:
        return linear("classes", "D", number, f"x:{source} y:logits", bias=True, N=tokens)

    heads = {
        "BertModel": lambda: pooler,
        "BertForMaskedLM": lambda: words,
        "BertLMHeadModel": lambda: words,
        "BertForPreTraining": lambda: [*pooler, *words, classes(2, "pooled", 1)],
        "BertForNextSentencePrediction": lambda: [*pooler, classes(2, "pooled", 1)],
        "BertForSequenceClassification": lambda: [*pooler, classes(c.labels(), "pooled", 1)],
        "BertForMultipleChoice": lambda: [*pooler, classes(1, "pooled", 1)],
        "BertForTokenClassification": lambda: [classes(c.labels(), "stream")],
        "BertForQuestionAnswering": lambda: [classes(c.labels(), "stream")],
    }
    c.must(
        head in heads, f"architecture '{head}' has a head that is not known", f"one of {', '.join(heads)} is accepted"
    )
    return heads[head]()
