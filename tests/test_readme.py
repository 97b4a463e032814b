"""The README shows what is printed today."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command import perfmodel

README = (Path(__file__).parent.parent / "README.md").read_text()
SHOWN = re.findall(r"```console\n\$ (.*)\n((?:(?!```).*\n)+)```", README)
# What measures this machine has tests of its own, which take less of its time.
MEASURES = ("perfmodel validate --suite", "perfmodel calibrate")
NAMED = sorted(c for c in set(re.findall(r"`(perfmodel [^`]*--[^`]*)`", README)) if not c.startswith(MEASURES))


@pytest.mark.parametrize(("line", "output"), SHOWN, ids=[line[-40:] for line, _ in SHOWN])
def test_what_it_shows_is_what_is_printed(line, output, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    ran = perfmodel(*shlex.split(line.rpartition("perfmodel ")[2]))
    assert (ran.code, ran.out) == (0, output)


@pytest.mark.parametrize("line", NAMED)
def test_every_command_that_it_names_runs(line, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    config = tmp_path / "config.json"
    config.write_text((Path(__file__).parent.parent / "configs" / "llama-3-8b.json").read_text())
    cases = tmp_path / "cases.jsonl"
    cases.write_text('{"op": "softmax", "shape": {"rows": 8192, "cols": 8192}}\n')
    line = line.replace("path/to/config.json", str(config)).replace("cases.jsonl", str(cases))
    ran = perfmodel(*shlex.split(line)[1:], *(["-o", str(tmp_path / "out.png")] if line.endswith("plot") else []))
    assert ran.code == 0, ran.err
    assert ran.out


def test_it_shows_something():
    assert len(SHOWN) >= 2
    assert len(NAMED) >= 8
