"""Every family with a causal language model, in small, against the instantiated model."""

from __future__ import annotations

import pytest
from many import for_each

pytest.importorskip("torch", reason="the models are instantiated with torch")
pytest.importorskip("transformers", reason="the models are those of transformers")

from instantiated import causal, causal_kinds, configured, counted, strange, told
from transformers import CONFIG_MAPPING

from perfmodel.importers import FAMILIES
from perfmodel.importers.decoders import DECODERS

# The whole model's parameters beside its text part, and a decoder whose class is not imported.
ELSEWHERE = {"gemma3", "llama4", "whisper"}
KINDS = [kind for kind in FAMILIES if kind in causal_kinds() and kind not in ELSEWHERE]


@pytest.mark.parametrize("kind", KINDS)
def test_a_family_has_the_counts_of_its_instance(kind, tmp_path):
    """The window is shorter than the sequence, so a decoding step shows which layers have one."""
    config = configured(kind)
    model = causal(config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(tmp_path)
    found = counted(model)
    assert told(str(tmp_path / "config.json"), kind, decode=found.decode is not None) == found
    assert not strange(str(tmp_path / "config.json"))


def named(of):
    """Keys whose absence has a documented default, with that default."""
    e, w = of.experts, of.windows
    keys = {"num_key_value_heads", "head_dim", *(key for key in (of.turned_size,) if key)}
    if w is not None:
        keys |= {w.size, *(key for key in (w.after, w.before) if key)}
    if e is not None:
        chosen = (e.number, e.chosen, e.first, e.shared, e.shared_width)
        keys |= {key for key in chosen if isinstance(key, str) and key}
    flags = (of.qkv_bias, of.out_bias, of.mlp_bias, of.parallel, of.qk_normed, of.after, of.head_bias)
    return {
        **{of.keys.get(key, key): of.own.get(key) for key in keys},
        **{flag: of.own.get(flag, False) for flag in flags if isinstance(flag, str)},
        "tie_word_embeddings": of.tied,
    }


@for_each("kind", [kind for kind in DECODERS if kind in KINDS])
def test_a_description_holds_the_defaults_of_its_config_class(kind):
    """Only optional keys. If the class has no default, the size is derived or required."""
    made = CONFIG_MAPPING[kind]
    defaults = {key: (getattr(made, key, None), own) for key, own in named(DECODERS[kind]).items()}
    differ = {key: pair for key, pair in defaults.items() if pair[0] is not None and (pair[0] or pair[1])}
    assert {key: pair[1] for key, pair in differ.items()} == {key: pair[0] for key, pair in differ.items()}
