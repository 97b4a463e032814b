"""The heads of every kind of family against the instantiated model: parameters, and the products that torch dispatches.

The models are a few layers of small widths on the meta device: shapes without numbers. ``benchmarks/breadth.py`` asks
the same of every family.
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
    looks_at_numbers,
    parameters,
    products,
    strange,
    told,
)

from perfmodel.importers import FAMILIES

# One of each group of alike decoders and encoders, and every family with a file of its own.
ALIKE = ("llama", "gemma2", "gemma3_text", "gpt_neox", "gptj", "phi", "bloom", "mixtral", "qwen2", "olmo2", "openai-gpt", "gpt2", "nanochat",
         "llama4_text", "hunyuan_v1_dense", "bert", "roberta", "electra", "distilbert", "bert-generation", "deepseek_v3")  # fmt: skip
KINDS = [kind for kind, file in FAMILIES.items() if kind in ALIKE or file not in ("decoder", "bert", "deepseek")]
CASES = [pytest.param(kind, found, id=f"{kind}-{found.__name__}") for kind, found in classes(KINDS)]


@pytest.mark.parametrize(("kind", "found"), CASES)
def test_a_class_has_the_counts_of_its_instance(kind, found, tmp_path):
    config = configured(kind)
    config.architectures = [found.__name__]
    if found.__name__.endswith("QuestionAnswering"):
        config.num_labels = 2  # a start and an end
    config.save_pretrained(tmp_path)
    device = "cpu" if looks_at_numbers(kind, found.__name__) else "meta"
    model = instance(found, config, device)
    forward, _ = products(model, **inputs(model, device))
    found = told(str(tmp_path / "config.json"), kind, None if kind == "vit" else LENGTH, decode=False)
    assert found == (parameters(model), forward, None)
    assert not strange(str(tmp_path / "config.json"))
