"""A short, seeded run of random inputs over all commands and kinds of files. ``benchmarks/fuzz.py`` runs more."""

from __future__ import annotations

from itertools import islice

import fuzzing
import pytest

COMMANDS = ("flops", "memory", "predict", "validate", "check", "compare", "roofline", "sweep", "solve", "explain")


@pytest.mark.parametrize("part", range(4))
def test_no_input_causes_a_fault(tmp_path, part):
    """150 inputs of one seed: no traceback, no hang, no NaN, no control character, no impossible count."""
    faults = {
        (fault, one.arguments): [contents for _, contents in one.files]
        for one in islice(fuzzing.inputs(part), 150)
        for fault in fuzzing.trial(one, tmp_path)
    }
    assert faults == {}


def test_every_command_and_kind_of_file_is_drawn():
    drawn = list(islice(fuzzing.inputs(0), 600))
    assert {one.arguments[0] for one in drawn} == set(COMMANDS)
    names = {name for one in drawn for name, _ in one.files}
    assert names >= {
        "model.json",
        "model.yaml",
        "card.yaml",
        "cases.jsonl",
        "run.jsonl",
        "h200-sxm-141gb.measured.yaml",
    }


def test_a_fault_is_found(tmp_path, monkeypatch):
    """A traceback, NaN and a control character in a command are reported as such."""
    one = fuzzing.Input(("models", "--format=json"))
    assert fuzzing.trial(one, tmp_path) == []
    for out, kind in (
        ('{"x": NaN}', "NaN"),
        ('{"flops": -1}', "figure"),
        ('"\x1b"', "control character"),
        ("{", "not JSON"),
    ):
        monkeypatch.setattr(fuzzing, "perfmodel", lambda *_, out=out, **__: fuzzing.Ran(0, out, ""))
        assert fuzzing.trial(one, tmp_path)[0].kind == kind

    def broken(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr(fuzzing, "perfmodel", broken)
    assert fuzzing.trial(one, tmp_path)[0].kind == "traceback"
