"""The heads of every kind of family against the instantiated model: parameters, and products that torch dispatches.

Models have a few layers of small widths. ``benchmarks/breadth.py`` tests every family.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the models are instantiated with torch")
pytest.importorskip("transformers", reason="the models are those of transformers")

from instantiated import (
    LENGTH,
    classes,
    configured,
    inputs,
    instance,
    parameters,
    products,
    strange,
    told,
)

from perfmodel.importers import FAMILIES

# One of each group of similar decoders and encoders, and every family with a separate file.
ALIKE = ("llama", "gemma2", "gemma3_text", "gpt_neox", "gptj", "phi", "bloom", "mixtral", "qwen2", "olmo2", "openai-gpt", "gpt2", "nanochat",
         "llama4_text", "hunyuan_v1_dense", "bert", "roberta", "electra", "distilbert", "bert-generation", "deepseek_v3")  # fmt: skip
KINDS = [kind for kind, file in FAMILIES.items() if kind in ALIKE or file not in ("decoder", "bert", "deepseek")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_has_the_counts_of_its_instance(kind, tmp_path):
    """The modules of a family are loaded in its test, not at collection. A failure names the classes that differ."""
    told_of, counted_of = {}, {}
    for _, found in classes([kind]):
        name = found.__name__
        config = configured(kind)
        config.architectures = [name]
        if name.endswith("QuestionAnswering"):
            config.num_labels = 2  # a start and an end
        config.save_pretrained(tmp_path / name)
        path = str(tmp_path / name / "config.json")
        model = instance(found, config)
        forward, _ = products(model, **inputs(model))
        told_of[name] = told(path, kind, None if kind == "vit" else LENGTH, decode=False), strange(path)
        counted_of[name] = (parameters(model), forward, None), []
    assert counted_of
    assert told_of == counted_of
