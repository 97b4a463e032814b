"""The head of a task, which follows the body of a model: one table for each kind of body.

``architectures`` in a config names a class: the family's name and then the task's, as in LlamaForCausalLM. A class
that ends in Model has no head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from perfmodel.block import Step
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.importers.config import Config
from perfmodel.importers.parts import ACTIVATIONS, linear, norm, step

Heads = Mapping[str, Callable[[], Sequence[Step]]]


def task(c: Config, known: Iterable[str], default: str) -> str:
    """The task of the class that the config names: one of the known ones, or the default where it names none."""
    known = tuple(known)
    names = c.whole.document.get("architectures")
    if not names:
        c.notes.append(f"architectures is not in the config: the head is taken as {default}.")
        return default
    c.must(isinstance(names, list) and isinstance(names[0], str), f"architectures is {shown(names)}",
           "a list with the name of a class is accepted")  # fmt: skip
    name: str = names[0]
    kind = c.whole.text("model_type")
    found = _after_family(name, kind)
    if found not in known:
        family = name.removesuffix(found) if found else ""
        raise InputError(
            f"{c.whole.where}: architectures", f"{shown(name)} is a class with a head that is not known",
            f"one of {', '.join(family + word for word in known)} is accepted",
            did_you_mean(name, [family + word for word in known]),
        )  # fmt: skip
    if not any(_is_family(name.removesuffix(found), family) for family in _families(kind)):
        c.notes.append(f"architectures names {shown(name)}, not a class of {kind}: its head is taken as {found}.")
    return found


def _after_family(name: str, kind: str) -> str:
    """What follows the family in a class name; of another family's class, from its For... on."""
    for family in _families(kind):
        for end in range(len(name), 0, -1):
            if _is_family(name[:end], family) and name[end : end + 1].isupper():
                return name[end:]
    foreign = re.search(r"For[A-Z]\w*$", name)
    return foreign[0] if foreign else ""


def _families(kind: str) -> tuple[str, ...]:
    """How the classes of a model_type begin: the text part of a larger model shares its name or has one of its own."""
    bare = kind.removesuffix("_text")
    return (f"{bare}_text", bare)


def _is_family(name: str, family: str) -> bool:
    """Whether the start of a class name is a model_type, whose parts may stand in another order."""
    plain, parts = _plain(name), [_plain(part) for part in re.split("[_-]", family)]
    return len(plain) == sum(map(len, parts)) and all(part in plain for part in parts)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def classes(number: int, source: str, *, tokens: int | str = "N", bias: bool = True) -> Step:
    """A score for each class: of every token, or of the one that stands for the sequence."""
    return linear("classes", "D", number, f"x:{source} y:logits", bias=bias, N=tokens)


def words(c: Config, source: str, *, tied: bool, width: str = "D", bias: bool = False, softcap: bool = False,
          scaled: bool = False) -> list[Step]:  # fmt: skip
    """A score for each word of the vocabulary; a tied table is the embedding's, and its bias is not."""
    tied = c.whole.flag("tie_word_embeddings", tied)
    target = "raw_logits" if softcap else "logits"
    steps = [linear("logits", width, "V", f"x:{source} y:{target}", tied=tied, bias=bias and not tied)]
    if bias and tied:
        steps.append(step("logits.bias", "add_bias", f"x:{target} y:{target}", D="V"))
    if scaled:
        steps.append(step("logits.scale", "scale", f"x:{target} y:{target}", numel="B*N*V"))
    if softcap:
        steps.append(step("logits.softcap", "softcap", "x:raw_logits y:logits", numel="B*N*V"))
    return steps


def head(
    c: Config,
    kind: str,
    *,
    tied: bool,
    bias: bool = False,
    width: str = "D",
    softcap: bool = False,
    scaled: bool = False,
    more: Heads | None = None,
) -> list[Step]:
    """The last norm of a decoder and the head that its class names, applied to every position.

    ``tied`` is the architecture's default of tie_word_embeddings; ``bias``, ``softcap`` and ``scaled`` (times a
    constant) are those of the words' scores; ``more`` are tasks of one family alone, whose steps follow the words' scores.
    """
    source = "normed" if kind else "stream"

    def scores() -> list[Step]:
        return words(c, source, tied=tied, width=width, bias=bias, softcap=softcap, scaled=scaled)

    def classify(number: int, bias: bool) -> list[Step]:
        return [linear("classes", width, number, f"x:{source} y:logits", bias=bias)]

    def followed(steps: Callable[[], Sequence[Step]]) -> Callable[[], list[Step]]:
        return lambda: [*scores(), *steps()]

    heads: Heads = {
        "ForCausalLM": scores,
        "LMHeadModel": scores,
        "ForConditionalGeneration": scores,
        "Model": list,
        "ForSequenceClassification": lambda: classify(c.whole.labels(), False),
        "ForTokenClassification": lambda: classify(c.whole.labels(), c.flag("token_classification_bias", True)),
        "ForQuestionAnswering": lambda: classify(2, True),
        **{name: followed(steps) for name, steps in (more or {}).items()},
    }
    return [*([norm("norm", kind)] if kind else []), *heads[task(c, heads, "ForCausalLM")]()]


def choices(c: Config, kind: str) -> list[Step]:
    """A score for each choice of an answer, from the token that ends it; B counts the choices of all questions."""
    word, width = c.text("summary_activation", ""), 1 if c.flag("summary_proj_to_labels", True) else "D"
    source = "normed" if kind else "stream"
    score = linear("choices", "D", width, f"x:{source} y:choice", bias=True, N=1)
    act = [step("choices.activation", ACTIVATIONS[word], "x:choice y:choice", numel=f"B*{width}")] if word else []
    return [*([score] if c.flag("summary_use_proj", True) else []), *act]
