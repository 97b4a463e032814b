"""The JSON schemas and llms.txt: what a program reads that calls perfmodel."""

from __future__ import annotations

import json
import re

import pages
import pytest
import schemas
from command import perfmodel

from perfmodel.cli import COMMANDS

# Documents that no schema was derived from.
OTHERS = {
    "flops": "flops --config mixtral-8x7b --gpu h100 --phase decode --set B=3",
    "flops-symbolic": "flops --op linear --symbolic",
    "flops-products": "flops --config encoder-block --products --phase train",
    "flops-plan": "flops --config gpt2-xl --gpu h100 --dp 4 --zero 2 --phase train --set B=4",
    "compare": "compare --config llama-2-7b-layer --gpu h200",
    "memory": "memory --config mamba-130m --gpu a100 --phase train",
    "solve": "solve --op gemm --gpu t4 --for n",
    "predict": "predict --cases cases --gpu a100",
    "check": "check --from benchmarks/results/h100-quick.jsonl --gpu h100 --min 0.5",
    "validate": "validate --from benchmarks/results/h200-quick.jsonl",
    "trace": "trace benchmarks/results/traces/bert-inference.json.gz --gpu h200",
    "scale": "scale --config gpt2-xl --gpu h100 --over gpus=1:2:x2 --weak --phase train --set B=2",
    "plan": "plan --config gpt2-xl --gpu a100 --gpus 2 --phase train --set B=2 --price 2",
    "serve": "serve --config gpt2-xl --gpu a100 --rate 1",
    "occupancy": "occupancy --gpu t4 --threads 64 --registers 32",
    "gpus": "gpus", "systems": "systems", "models": "models", "ops": "ops", "symbols": "symbols",
}  # fmt: skip
CASE = '{"op": "matmul", "shape": {"m": 512, "k": 64, "n": 512}, "dtype": "fp16"}'


def schema(name):
    return json.loads(schemas.path(name).read_text(encoding="utf-8"))


def document(name, monkeypatch):
    monkeypatch.chdir(pages.ROOT)
    words = ["explain", "--time", CASE, "--gpu", "a100"] if name == "explain-time" else OTHERS[name].split()
    ran = perfmodel(*words, "--format", "json")
    assert ran.out, ran.err
    return json.loads(ran.out)


@pytest.mark.parametrize("name", schemas.COMMANDS)
def test_a_document_of_today_has_the_form_of_its_schema(name, monkeypatch):
    """If this fails after a change of a document: ``python tests/refresh_docs.py``."""
    assert list(schemas.errors(document(name, monkeypatch), schema(name))) == []


def test_a_document_of_another_form_breaks_its_schema(monkeypatch):
    good = document("flops", monkeypatch)
    del good["total"]["flops"]
    good["steps"][0]["lower_s"] = "fast"
    assert list(schemas.errors(good, schema("flops"))) == [
        "$.steps[0].lower_s: string in place of ['number']",
        "$.total.flops: missing",
    ]


@pytest.mark.parametrize("name", schemas.COMMANDS)
def test_a_full_validator_agrees(name, monkeypatch):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(schema(name))
    jsonschema.validate(document(name, monkeypatch), schema(name))


def test_the_schemas_state_meanings():
    flops = schema("flops")["properties"]
    assert "lower_s" in schema("flops")["properties"]["total"]["properties"]
    assert (
        flops["total"]["properties"]["lower_s"]["description"]
        == "time at data-sheet rates if memory and engines overlap"
    )
    assert {path.name for path in schemas.FOLDER.iterdir()} == {schemas.path(name).name for name in schemas.COMMANDS}


def test_llms_txt_names_every_command_and_schema_and_its_links_lead_somewhere():
    text = (pages.ROOT / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# perfmodel\n\n> ")
    assert set(COMMANDS) - set(re.findall(r"`perfmodel (\w+)", text)) == set()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert {f"docs/schema/{name}.schema.json" for name in schemas.COMMANDS} <= set(targets)
    assert [target for target in targets if not (pages.ROOT / target).exists()] == []
