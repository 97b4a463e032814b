"""A short, seeded run of random inputs over all commands and kinds of files. ``benchmarks/fuzz.py`` runs more."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import fuzzing
import pytest

COMMANDS = ("flops", "memory", "predict", "validate", "check", "compare", "serve", "roofline", "sweep", "solve",
            "explain", "occupancy")  # fmt: skip


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
    outputs = {(one.arguments[0], text.partition("=")[0]) for one in drawn for text in one.arguments if "{out}" in text}
    assert outputs >= {("sweep", "--output"), ("sweep", "--plot"), ("roofline", "--output"), ("validate", "--plot")}


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


@pytest.mark.parametrize(
    ("name", "contents", "code", "kind"),
    [
        ("r.csv", b"N,time\n1,nan\n", 0, "NaN"),
        ("r.jsonl", b'{"flops": -1}\n', 0, "figure"),
        ("r.csv", b"N\n\x1b\n", 0, "control character"),
        ("p.svg", b"<?xml <svg>", 0, "broken picture"),
        ("r.csv", b"N\n1\n", 1, "partial file"),
    ],
)
def test_a_fault_of_a_file_is_found(tmp_path, monkeypatch, name, contents, code, kind):
    def writing(*arguments, **_):
        Path(arguments[1].removeprefix("-o")).write_bytes(contents)
        return fuzzing.Ran(code, "", "said")

    monkeypatch.setattr(fuzzing, "perfmodel", writing)
    one = fuzzing.Input(("sweep", f"-o{{out}}/{name}"))
    assert [fault.kind for fault in fuzzing.trial(one, tmp_path)] == [kind]
    assert not list(tmp_path.glob("out/*"))
