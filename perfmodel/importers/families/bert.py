"""BERT and its relatives: encoders with learned positions, biases, and the head of their task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from perfmodel.block import Step
from perfmodel.importers.config import Config
from perfmodel.importers.encoder import encoder_phases
from perfmodel.importers.model import Model
from perfmodel.importers.parts import ACTIVATIONS, attention, block, both_ways, embed, layers, linear, mlp, norm, step
from perfmodel.importers.tasks import Heads, classes, task, words


class Encoder(NamedTuple):
    """An encoder's architecture; the defaults are BERT's.

    ``before``: norms stand before each part and a last one at the end, not after each residual. ``padded``: the
    positions of tokens follow the padding token's number. ``narrow`` is the default width of
    the embedding where a projection follows it, ``positions`` the default length of the table. ``dense`` is the activation of the layer that classifiers of
    a sequence have in the place of the pooler (``choices``: classifiers of choices too). ``bare``: words are scored
    without a transform.
    """

    name: str = "Bert"
    keys: Mapping[str, str] = {}
    before: bool = False
    embedding_norm: bool = True
    types: int = 2
    padded: bool = False
    narrow: int = 0
    positions: int = 512
    pooler: bool = True
    dense: str = ""
    choices: bool = False
    bare: bool = False


BERT = Encoder()
ROBERTA = Encoder("Roberta", padded=True, dense="tanh")
DISTILBERT = Encoder(
    "DistilBert", types=0, pooler=False, dense="relu", choices=True,
    keys={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
          "intermediate_size": "hidden_dim", "hidden_act": "activation"},
)  # fmt: skip
ENCODERS = {
    "bert": BERT,
    "bert-generation": Encoder("BertGeneration", types=0, pooler=False, bare=True),
    "camembert": ROBERTA._replace(name="Camembert"),
    "data2vec-text": ROBERTA._replace(name="Data2VecText"),
    "distilbert": DISTILBERT,
    "electra": Encoder("Electra", narrow=128, pooler=False, dense="gelu", choices=True),
    "ernie": Encoder("Ernie"),
    "megatron-bert": Encoder("MegatronBert", before=True, embedding_norm=False),
    "roberta": ROBERTA,
    "roberta-prelayernorm": ROBERTA._replace(name="RobertaPreLayerNorm", before=True),
    "xlm-roberta": ROBERTA._replace(name="XLMRoberta"),
    "xlm-roberta-xl": ROBERTA._replace(name="XLMRobertaXL", before=True, embedding_norm=False, types=1, positions=514),
}


def build(c: Config) -> Model:
    """The first of ``architectures`` names the head; without one it is the bare model."""
    of = ENCODERS[c.text("model_type")]
    c.ignore("task_type_vocab_size", "sinusoidal_pos_embds")
    D, H, L = (_size(c, of, key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    d = c.divides(D, H, "the heads share the width evenly")
    act = c.choice(ACTIVATIONS, of.keys.get("hidden_act", "hidden_act"), default="gelu")
    tokens, length = _embedding(c, of, D)
    heads = _heads(c, of, act, D)
    head = task(c, heads, "Encoder" if of.bare else "Model")
    c.must(not c.flag("use_task_id", False), "task embeddings are asked for", "use_task_id false is accepted")
    F, V = _size(c, of, "intermediate_size"), c.size("vocab_size")
    return Model(
        title=f"{of.name}{head} of {L} layers and width {D}",
        sizes={"B": 1, "D": D, "H": H, "H_kv": H, "d": d, "F": F, "V": V},
        phases=encoder_phases(min(length, 512)),
        steps=(
            *tokens,
            *layers("layers", L, _layer(of, act)),
            *([norm("norm", "layernorm", "x:stream y:stream")] if of.before else []),
            *heads[head](),
        ),
    )


def _size(c: Config, of: Encoder, key: str) -> int:
    return c.size(of.keys.get(key, key))


def _width(c: Config, of: Encoder, D: int) -> int:
    """The width of the embedding tables."""
    return c.size("embedding_size", of.narrow) if of.narrow else D


def _layer(of: Encoder, act: str) -> list[Step]:
    source = "normed" if of.before else "stream"
    inner = both_ways(attention(qkv_bias=True, out_bias=True, source=source))
    fed = mlp(act, bias=True, source=source)
    return block(inner, fed, kind="layernorm", before=of.before, outer=not of.before)


def _embedding(c: Config, of: Encoder, D: int) -> tuple[list[Step], int]:
    """Rows of tokens, positions and types, in a narrower width where the config says so; and how many positions there are."""
    P = c.size("max_position_embeddings", of.positions)
    offset = c.count("pad_token_id", 1) + 1 if of.padded else 0
    c.must(offset < P, f"max_position_embeddings is {P}", f"more than the {offset} rows before the first are accepted")
    narrow = _width(c, of, D)
    types = c.count("type_vocab_size", of.types) if of.types else 0
    steps = embed(
        P - offset, types=types or None, kind="layernorm" if of.embedding_norm else "", width=str(narrow), offset=offset
    )
    if narrow != D:
        steps.append(linear("embed.project", narrow, "D", "x:stream y:stream", bias=True))
    return steps, P - offset


def _heads(c: Config, of: Encoder, act: str, D: int) -> Heads:
    narrow = _width(c, of, D)

    def pooled(*steps: Step) -> list[Step]:
        return [*pooler, *steps]

    def scores() -> list[Step]:
        found = words(c, "stream" if of.bare else "transformed", tied=True, width=str(narrow), bias=True)
        return found if of.bare else [*transform, *found]

    def sequence(number: int) -> list[Step]:
        return [*_dense(of.dense), classes(number, "dense", tokens=1)]

    pooler = [
        linear("pooler", "D", "D", "x:stream y:pooled", bias=True, N=1),
        step("pooler.tanh", "tanh", "x:pooled y:pooled", numel="B*D"),
    ]
    transform = [
        linear("words.transform", "D", narrow, "x:stream y:transformed", bias=True),
        step("words.activation", act, "x:transformed y:transformed", numel=f"B*N*{narrow}"),
        norm("words.norm", "layernorm", "x:transformed y:transformed", cols=str(narrow)),
    ]
    if of.bare:
        return {"Encoder": list, "Decoder": scores}
    return {
        "Model": pooled if of.pooler else list,
        "ForMaskedLM": scores,
        **({} if of.name == "DistilBert" else {"LMHeadModel": scores, "ForCausalLM": scores}),
        **_pretraining(of, act, pooled, scores),
        "ForSequenceClassification": (
            (lambda: sequence(c.labels())) if of.dense else lambda: pooled(classes(c.labels(), "pooled", tokens=1))
        ),
        "ForMultipleChoice": (lambda: sequence(1)) if of.choices else lambda: pooled(classes(1, "pooled", tokens=1)),
        "ForTokenClassification": lambda: [classes(c.labels(), "stream")],
        "ForQuestionAnswering": lambda: [classes(c.labels(), "stream")],
    }


def _pretraining(of: Encoder, act: str, pooled: Callable[..., list[Step]], scores: Callable[[], list[Step]]) -> Heads:
    """Heads of the pretraining task: whether a sentence follows another, or whether a token was replaced."""
    if of.name == "Electra":
        return {"ForPreTraining": lambda: [*_dense(act, "N"), classes(1, "dense")]}
    if of.dense or not of.pooler:
        return {}
    return {
        "ForPreTraining": lambda: [*pooled(), *scores(), classes(2, "pooled", tokens=1)],
        "ForNextSentencePrediction": lambda: pooled(classes(2, "pooled", tokens=1)),
    }


def _dense(act: str, tokens: int | str = 1) -> list[Step]:
    """A layer before the classes, of the token that stands for the sequence or of every token."""
    return [
        linear("classes.dense", "D", "D", "x:stream y:dense", bias=True, N=tokens),
        step("classes.activation", act, "x:dense y:dense", numel=f"B*{tokens}*D"),
    ]
