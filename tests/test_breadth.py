"""Every family that has a causal language model, small, against the instantiated model."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the models are instantiated with torch")
pytest.importorskip("transformers", reason="the models are those of transformers")

from instantiated import causal, causal_kinds, configured, counted, looks_at_numbers, strange, told

from perfmodel.importers import FAMILIES

# The whole model's parameters beside its text part, and a decoder whose class is not imported.
ELSEWHERE = {"gemma3", "llama4", "whisper"}
KINDS = [kind for kind in FAMILIES if kind in causal_kinds() and kind not in ELSEWHERE]


@pytest.mark.parametrize("kind", KINDS)
def test_a_family_has_the_counts_of_its_instance(kind, tmp_path):
    """The window is shorter than the sequence, so that a decoding step shows which layers have one."""
    config = configured(kind)
    model = causal(config, "cpu" if looks_at_numbers(kind, "") else "meta")
    config.architectures = [type(model).__name__]
    config.save_pretrained(tmp_path)
    found = counted(model)
    assert told(str(tmp_path / "config.json"), kind, decode=found.decode is not None) == found
    assert not strange(str(tmp_path / "config.json"))
