"""Two ranks measure collectives and steps through gloo; readings of links reach the expected times."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import ranks_that_check
from command import check_refused, perfmodel

from perfmodel import measured, paths, patterns, systems
from perfmodel.hardware import gpu
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.links import known, link

RANKS = (sys.executable, ranks_that_check.__file__)


def lines(kinds=patterns.KINDS, gpus=2):
    words = {"dtype": "fp32", "impl": "gloo", "protocol": "eager"}
    return "".join(json.dumps({"op": kind, "shape": {"byte": 4096, "gpus": gpus}, **words}) + "\n" for kind in kinds)


SMALL = {"D": 128, "H": 4, "H_kv": 2, "F": 256}
TINY = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "hidden_act": "silu", "vocab_size": 256,
    "tie_word_embeddings": False,
}  # fmt: skip


def steps(config):
    """Cases of steps on two ranks: tensor parallelism, pipelines, and replicas with and without sharded weights."""
    words = {"op": "step", "dtype": "fp32", "protocol": "eager"}
    own = {**words, "config": "llama-2-7b-layer", "impl": "layers"}
    stack, plan = {"B": 4, "N": 16, "L": 2, **SMALL}, {"pp": 2, "microbatch": 1}
    yield {**own, "phase": "prefill", "shape": {"B": 2, "N": 32, **SMALL}}
    yield {**own, "phase": "prefill", "shape": {"B": 2, "N": 32, **SMALL}, "plan": {"tp": 2}}
    yield {**own, "phase": "decode", "shape": {"B": 2, "S": 64, **SMALL}, "plan": {"tp": 2}}
    yield {**own, "phase": "train", "shape": stack, "plan": plan}
    yield {**own, "phase": "train", "shape": stack, "plan": {**plan, "schedule": "gpipe", "optimizer": "none"}}
    trained = {**words, "config": config, "impl": "transformers", "phase": "train", "shape": {"B": 4, "N": 16}}
    yield from ({**trained, "plan": plan} for plan in ({}, {"dp": 2}, {"dp": 2, "zero": 3}))


@pytest.mark.xdist_group("torchrun")
def test_two_processes_measure_collectives_and_steps(tmp_path):
    """Results are checked by the measurement itself: a wrong sum would be an error record."""
    pytest.importorskip("torch", reason="torch is not installed")
    cases, save, config = tmp_path / "cases.jsonl", tmp_path / "run.jsonl", tmp_path / "tiny.json"
    config.write_text(json.dumps(TINY))
    asked = [*map(json.loads, lines().splitlines())]
    asked += steps(str(config)) if find_spec("transformers") else list(steps(""))[:5]
    cases.write_text("".join(json.dumps(line) + "\n" for line in asked))
    ran = subprocess.run(
        [*RANKS, "validate", "--gpu", "cpu", "--suite", str(cases), "--save", str(save), "--format", "json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["cases"]) == len(asked), "one rank reports"
    first, *records = [json.loads(line) for line in save.read_text().splitlines()]
    assert first["environment"]["ranks"] == 2
    assert [record["op"] for record in records] == [line["op"] for line in asked]
    assert all("error" not in record and record["median_us"] > 0 and record["n"] >= 5 for record in records), records
    again = perfmodel("validate", "--from", str(save), "--format", "json")
    assert all(case["lower_s"] < case["measured_s"] for case in json.loads(again.out)["cases"])


def test_collectives_need_torchrun(tmp_path):
    check_refused(perfmodel("validate", "--suite", "collectives"), 2)
    path = tmp_path / "cases.jsonl"
    path.write_text(lines())
    told = check_refused(perfmodel("validate", "--gpu", "cpu", "--suite", str(path)), 1)
    assert "torchrun --nproc_per_node 2" in told["action"]


READINGS = """\
gpu: h100-sxm5-80gb
measured: {date: "2026-11-26"}
links:
  ring: {value: 0.3 TB/s, low: 0.29 TB/s, high: 0.31 TB/s, note: 2 ranks}
  message: {value: 0.4 TB/s, low: 0.4 TB/s, high: 0.4 TB/s}
link latency:
  launch: {value: 6e-06 s, low: 5e-06 s, high: 7e-06 s}
  hop: {value: 1.6e-06 s, low: 1e-06 s, high: 2e-06 s}
"""


def test_readings_of_links_replace_the_figures_of_their_generation(tmp_path):
    card, level = gpu("h100"), systems.system("dgx-h100").scale_up
    (tmp_path / f"{card.name}.measured.yaml").write_text(READINGS)
    plain, usual = link("nvlink4"), collective_s(systems.system("dgx-h100"), card, "send_recv", 1 << 30, 2)
    with paths.hardware_folder(str(tmp_path)):
        found = known(level, card)
        time = collective_s(systems.system("dgx-h100"), card, "send_recv", 1 << 30, 2)
        assert measured.of(card).value("links", "ring") == 0.3e12
    assert found.launch_s == 6e-6
    assert found.ring[0].hop_s == pytest.approx(1.6e-6)
    assert found.ring[-1].share * 450e9 == pytest.approx(0.3e12)
    assert found.ring[1].share == pytest.approx(plain.ring[1].share * 0.3e12 / (plain.ring[-1].share * 450e9))
    assert time.expected_s == pytest.approx(6e-6 + plain.message.start_s + 2**30 / 0.4e12)
    assert time.lower_s == usual.lower_s
    assert known(level, card) == plain
