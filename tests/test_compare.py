"""Comparison of workloads and cards, their memory, and speed-ups by Amdahl's law."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import analyse
from perfmodel.comparison import Amdahl, Part, compare, layers, names
from perfmodel.config_files import workload
from perfmodel.hardware import gpu

ROOT = Path(__file__).parent.parent
FASTER = ("--speedup", "softmax=6.5", "--speedup", "layernorm=15.8", "--speedup", "layernorm_backward=3.7")
DECODER = ("--config", "decoder-block", "--gpu", "t4", "--phase", "train", "--unfused")


def shown(*arguments):
    ran = perfmodel("compare", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def cases(*arguments):
    return json.loads(shown(*arguments, "--format", "json"))["cases"]


# --- comparison


def test_each_case_is_what_flops_answers():
    found = cases("--config", "llama-3-8b", "--config", "gemma-2-9b", "--gpu", "h100", "--gpu", "t4", "--set", "B=2")
    assert [(case["config"], case["gpu"]["name"]) for case in found] == [
        ("llama-3-8b", "h100-sxm5-80gb"), ("llama-3-8b", "t4"), ("gemma-2-9b", "h100-sxm5-80gb"), ("gemma-2-9b", "t4"),
    ]  # fmt: skip
    for case in found:
        arguments = ("--config", case["config"], "--gpu", case["gpu"]["name"], "--set", "B=2", "--format", "json")
        whole = json.loads(perfmodel("flops", *arguments).out)
        for key in ("phase", "dims", "dtypes", "parameters", "kv_cache_byte_per_token", "total", "rates"):
            assert case[key] == whole[key]


def test_a_size_reaches_every_workload_that_has_it():
    arguments = ("--config", "llama-2-7b", "--config", "mamba-130m", "--phase", "decode", "--set", "H_kv=8")
    first, second = cases(*arguments)
    assert first["dims"]["H_kv"] == 8
    assert "H_kv" not in second["dims"]
    assert "H_kv is not a size of mamba-130m; it is set only for the other workloads." in shown(*arguments)


def test_one_name_twice_is_one_case():
    assert len(cases("--config", "gpt2", "--config", "gpt2", "--gpu", "a100", "--gpu", "a100-sxm4-80gb")) == 1


def test_one_file_by_two_names_is_one_case_and_two_files_of_one_name_are_told_apart(tmp_path):
    ours = str(Path(__file__).parent.parent / "configs" / "mlp-4096.yaml")
    assert len(cases("--config", "mlp-4096", "--config", ours)) == 1
    other = tmp_path / "mlp-4096.yaml"
    other.write_text(Path(ours).read_text(encoding="utf-8").replace("N: 2048", "N: 1024"))
    found = cases("--config", ours, "--config", str(other))
    assert [case["config"] for case in found] == ["configs/mlp-4096.yaml", str(other)]
    assert "N = 2048" in (out := shown("--config", ours, "--config", str(other), "--format", "markdown"))
    assert "N = 1024" in out


def test_figures_have_the_digits_of_their_neighbours():
    """Counts, bytes and times have 4 digits, shares of a peak 3. GPT-2 has 124,439,808 parameters."""
    lines = shown("--config", "gpt2", "--config", "conv1d-8192", "--gpu", "t4").splitlines()
    cells = {line[:24].strip(): line[24:].split() for line in lines}
    assert cells["parameters"] == ["124.4", "M", "32.77", "k"]
    measured = ("parameters", "FLOP", "FLOP of matrix products", "traffic", "FLOP/B", "at least", "expected", "weights")
    figures = [word for name in measured for word in cells[name] if word[0].isdigit()]
    assert len(figures) == 2 * len(measured)
    assert {len(word.replace(".", "")) for word in figures} == {4}


def test_without_a_card_there_are_counts_alone():
    out = shown("--config", "gpt2", "--config", "bert-base-uncased")
    assert "parameters" in out
    assert "at least" not in out


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    configs = [word for name in ("llama-3-8b", "deepseek-v3", "gemma-2-9b") for word in ("--config", name)]
    out = shown(*configs, "--gpu", "h100", "--gpu", "h200", "--phase", "decode")
    assert max(map(len, out.splitlines())) <= width
    assert out.count("tokens/s at most") == {80: 2, 120: 1}[width]
    assert max(map(len, shown(*DECODER, "--gpu", "a100", *FASTER).splitlines())) <= width


def test_csv_has_a_line_for_each_case_and_raw_values():
    out = shown("--config", "gpt2", "--gpu", "t4", "--gpu", "a100", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["gpu"] for row in rows] == ["t4", "a100-sxm4-80gb"]
    assert {row["parameters"] for row in rows} == {"124439808"}
    assert float(rows[0]["lower_s"]) == analyse("gpt2", gpu="t4").total.lower_s


def test_markdown_has_a_column_for_each_case():
    out = shown("--config", "gpt2", "--config", "opt-125m", "--gpu", "t4", "--format", "markdown")
    title, table = out.split("\n\n")[:2]
    assert title == "**gpt2 and opt-125m on NVIDIA T4: fused**"
    assert table.startswith("|  | gpt2 | opt-125m |\n| --- | ---: | ---: |\n| card | t4 | t4 |\n")


# --- memory


def by_kind(case):
    return {key: case["memory"][f"{key}_byte"] for key in ("weights", "training", "cache", "activations")}


@pytest.mark.parametrize(
    ("config", "gpu", "options"),
    [
        ("gpt2-xl", "v100-32gb", ("--phase", "train", "--set", "B=32")),
        ("llama-3-8b", "h100", ("--phase", "decode", "--set", "B=16", "--set", "S=8191")),
        ("mistral-7b-v0.1", "a10g", ("--set", "N=32768", "--unfused")),
        ("deepseek-v2-lite", "t4", ("--phase", "decode", "--reserve", "20%")),
        ("whisper-base", "t4", ("--dtype", "fp32")),
        ("attention-16x16384", "t4", ("--unfused",)),
    ],
)
def test_memory_is_what_the_memory_command_answers(config, gpu, options):
    """Totals, verdict and reserve equal those of ``perfmodel memory`` to the byte."""
    (case,) = cases("--config", config, "--gpu", gpu, *options)
    whole = json.loads(perfmodel("memory", "--config", config, "--gpu", gpu, *options, "--format", "json").out)
    assert case["memory"]["total_byte"] == whole["total_byte"] == sum(by_kind(case).values())
    for key in ("fits", "capacity_byte", "reserve_byte", "spare_byte"):
        assert case["memory"][key] == whole["verdict"][key]
    for kind, byte in by_kind(case).items():
        assert byte == sum(line["byte"] for line in whole["lines"] if line["kind"] == kind)


def test_weights_and_cache_of_a_served_model():
    (case,) = cases("--config", "llama-3-8b", "--phase", "decode", "--set", "B=16", "--set", "S=8191")
    # 2 bytes a weight; 16 sequences of 8192 tokens, 2 x 8 heads of 128 in 32 layers, 2 bytes each: 131,072 a token.
    found = by_kind(case)
    assert (found["weights"], found["training"], found["cache"]) == (2 * 8_030_261_248, 0, 16 * 8192 * 131_072)
    assert "fits" not in case["memory"]  # without a card


def test_training_keeps_gradients_and_the_optimizers_state():
    """2 + 2 + 12 bytes per parameter (Rajbhandari et al. 2020, section 3.1): 24.9 GB for GPT-2 with 1.56 billion."""
    (case,) = cases("--config", "gpt2-xl", "--phase", "train")
    found = by_kind(case)
    assert (found["weights"], found["training"], found["cache"]) == (2 * 1_557_611_200, (2 + 12) * 1_557_611_200, 0)
    assert found["weights"] + found["training"] == 24_921_779_200


def test_whether_it_fits():
    """Activations are counted: 112 GB at B = 32 (80.7 GB of activations, 24.9 GB of states, 6.6 GB of logits and their
    gradient).
    """
    arguments = ("--config", "gpt2-xl", "--gpu", "v100-32gb", "--gpu", "h200", "--phase", "train", "--set", "B=32")
    small, large = cases(*arguments)
    assert (small["memory"]["fits"], large["memory"]["fits"]) == (False, True)
    total = 24_921_779_200 + 80_713_089_024 + 210_247_680 + 6_587_285_504
    assert small["memory"]["total_byte"] == large["memory"]["total_byte"] == total
    rows = list(csv.DictReader(shown(*arguments, "--format", "csv").splitlines()))
    assert [row["fits"] for row in rows] == ["no", "yes"]
    assert int(rows[0]["spare_byte"]) == 34_100_000_000 - int(rows[0]["reserve_byte"]) - total
    out = " ".join(shown(*arguments).split())
    assert (
        "gpt2-xl: It does not fit on one NVIDIA V100 SXM2 32 GB: it needs 112.4 GB, and 30.60 GB are available" in out
    )
    assert "does not fit on one NVIDIA H200" not in out


def test_a_training_without_an_agreed_recipe_has_no_memory():
    arguments = ("--config", "gpt2", "--gpu", "t4", "--phase", "train", "--dtype", "fp8")
    assert cases(*arguments)[0]["memory"] is None
    assert "gpt2 has no memory estimate: training with weights of less than 2 bytes has no common recipe." in " ".join(
        shown(*arguments).split()
    )


# --- Amdahl


def test_the_law():
    # A tenth at 10x leaves 0.9 + 0.01; together with a fifth at 2x, 0.7 + 0.01 + 0.1.
    tenth, fifth = Part("a", 10.0, 1, 0.1), Part("b", 2.0, 1, 0.2)
    assert Amdahl(1.0, (tenth,)).speedup == pytest.approx(1 / 0.91)
    both = Amdahl(1.0, (tenth, fifth))
    assert both.share == pytest.approx(0.3)
    assert both.after_s == pytest.approx(0.81)
    assert both.speedup == pytest.approx(1 / (1 - 0.1 - 0.2 + 0.1 / 10 + 0.2 / 2))


def test_faster_softmax_and_layernorm_make_a_training_layer_about_a_tenth_faster():
    """A decoder block of 32 sequences of 512 tokens, 512 wide, 8 heads, kernel by kernel on a T4: 65 TFLOP/s, 320 GB/s.

    Softmax is 6.5 times as fast forward, LayerNorm 15.8 times forward and 3.7 times backward.
    """
    comparison = compare(
        [workload("decoder-block")], [gpu("t4")], phase="train", fused=False,
        speedups={"softmax": 6.5, "layernorm": 15.8, "layernorm_backward": 3.7},
    )  # fmt: skip
    (case,) = comparison.cases
    product = 2 * 16_384 * 512 * 512 / 65e12  # 16,384 tokens times 512 x 512
    square = 32 * 8 * 512 * 512 * 2 / 320e9  # scores, read or written once
    stream = 16_384 * 512 * 2 / 320e9  # the stream, read or written once
    softmax = 2 * 2 * square  # self- and cross-attention, read and written
    statistics = 16_384 * 2 * 4 / 320e9  # a mean and a deviation of 4 bytes a token
    norm = 3 * (2 * stream + 2 * 512 * 2 / 320e9 + statistics)  # three, read and written, with gain and bias
    # dx reads x, dy, gain and the statistics, and writes dx; gain and bias read x, dy and the statistics.
    norm_back = 3 * (3 * stream + 512 * 2 / 320e9 + statistics) + 3 * (2 * stream + statistics + 512 * 8 / 320e9)
    rest = (
        24 * product  # 8 projections, twice again backward
        + 6 * 4 * product  # two of the network, four times as wide, twice again backward
        + 12 * (square + 2 * stream)  # products of the attentions, held up by their scores: 4 forward, 8 backward
        + 2 * 3 * square  # gradients of both softmaxes
        + 6 * 3 * stream  # residuals, forward and backward
        + (2 + 3) * 4 * stream  # the activation of the network and its gradient
        + (stream + 4 * stream)  # gradients of the network's biases
        + 28 * 4_199_936 / 320e9  # the optimizer
    )
    whole = softmax + norm + norm_back + rest
    assert [part.lower_s for part in case.step.parts] == pytest.approx([softmax, norm, norm_back], rel=1e-3)
    assert case.step.lower_s == pytest.approx(whole, rel=1e-4)
    assert case.step.lower_s == pytest.approx(20.556e-3, abs=5e-7)
    faster = whole / (rest + softmax / 6.5 + norm / 15.8 + norm_back / 3.7)
    assert case.step.speedup == pytest.approx(faster, rel=1e-4)
    assert f"{case.step.speedup:.1f}" == f"{case.layers.speedup:.1f}" == "1.1"


def test_the_formula_stands_below_with_its_numbers():
    out = " ".join(shown(*DECODER, *FASTER).split())
    assert "1 / (1 - 0.0816 - 0.0154 - 0.0384 + 0.0816/6.5 + 0.0154/15.8 + 0.0384/3.7) = 1.125 times as fast." in out


def test_the_layers_are_a_part_of_the_step():
    """Embedding and logits are outside the layers, so the whole step gains less."""
    found = cases("--config", "gpt2", "--gpu", "t4", "--unfused", "--speedup", "softmax=2")[0]["speedup"]
    layer, step = found["layers"], found["step"]
    assert layer["parts"][0]["lower_s"] == step["parts"][0]["lower_s"]
    assert layer["lower_s"] < step["lower_s"]
    assert layer["speedup"] > step["speedup"] > 1
    assert step["parts"][0]["kernels"] == 12
    for whole in (layer, step):
        share = whole["parts"][0]["share"]
        assert whole["speedup"] == pytest.approx(1 / (1 - share + share / 2))


def test_a_workload_without_groups_is_a_layer_but_for_the_optimizer():
    rows = analyse("encoder-block", phase="train").rows
    assert [row.name for row in rows if row not in layers(rows)] == ["optimizer"]


def kernels(key, phase="train", config="decoder-block", fused=False):
    return [row.name for row in analyse(config, phase=phase, fused=fused).rows if key in names(row)]


def test_a_forward_name_covers_the_forward_pass_alone():
    assert kernels("softmax") == ["self.attention.softmax", "cross.attention.softmax"]
    assert kernels("softmax_backward") == [
        "cross.attention.backward.softmax gradient",
        "self.attention.backward.softmax gradient",
    ]
    assert kernels("residual") == ["self.residual", "cross.residual", "mlp.residual"]
    assert kernels("residual_backward") == [
        "mlp.residual.backward",
        "cross.residual.backward",
        "self.residual.backward",
    ]
    assert kernels("layernorm_backward")[:2] == ["mlp.norm.backward.dx", "mlp.norm.backward.dgamma_dbeta"]


def test_a_step_and_a_kernel_are_parts_too():
    assert kernels("self.attention") == ["self.attention.scores", "self.attention.softmax", "self.attention.output"]
    assert kernels("self.attention.output") == ["self.attention.output"]
    assert kernels("mlp.up.backward") == [
        "mlp.up.backward.linear_input_gradient", "mlp.up.backward.linear_weight_gradient", "mlp.up.backward.bias_gradient",
    ]  # fmt: skip
    assert kernels("optimizer") == kernels("adam") == ["optimizer"]


def test_a_part_that_one_workload_lacks_is_told():
    out = shown("--config", "gpt2", "--config", "llama-2-7b-layer", "--gpu", "t4", "--speedup", "layernorm=2")
    assert "llama-2-7b-layer has no part layernorm." in out


# --- errors


@for_each(("arguments", "code", "message"), [
        ((), 2, "perfmodel compare: no workload is named; --config NAME or FILE is required and may be repeated."),
        (("--config", "gpt2", "--speedup", "softmax=2"), 2, "perfmodel compare: --speedup is given without --gpu; shares"),
        (("--config", "gpt2", "--set", "W=3"), 1, "--set W: it is not a symbol of any workload here; their symbols are "),
        (("--config", "bert-base-uncased", "--phase", "decode"), 1, "configs/bert-base-uncased.json: this workload has no phase 'decode'; prefill, train are accepted."),
        ((*DECODER, "--speedup", "softmax"), 1, "--speedup 'softmax': it is not of the form KEY=FACTOR; a part and a num"),
        ((*DECODER, "--speedup", "softmax=0"), 1, "--speedup 'softmax=0': it is not of the form KEY=FACTOR; "),
        ((*DECODER, "--speedup", "softmax=-2"), 1, "--speedup 'softmax=-2': it is not of the form KEY=FACTOR; "),
        ((*DECODER, "--speedup", "softmax=nan"), 1, "--speedup 'softmax=nan': it is not of the form KEY=FACTOR; "),
        ((*DECODER, "--speedup", "softmax=inf"), 1, "--speedup 'softmax=inf': it is not of the form KEY=FACTOR; "),
        ((*DECODER, "--speedup", "=2"), 1, "--speedup '=2': it is not of the form KEY=FACTOR; "),
        ((*DECODER, "--speedup", "sofmax=2"), 1, "--speedup 'sofmax': it is not a part of the workloads here; a step or a kern"),
        (
            (*DECODER, "--speedup", "softmax=2", "--speedup", "softmax=4"), 2,
            "--speedup softmax: it is set twice; each name has one value. Remove one of them.",
        ),
        (
            (*DECODER, "--speedup", "softmax=2", "--speedup", "self.attention=3"), 1,
            "--speedup self.attention: self.attention.softmax is also a part of softmax; parts that do not overlap",
        ),
    ])  # fmt: skip
def test_a_comparison_that_makes_no_sense_is_refused(arguments, code, message):
    ran = perfmodel("compare", *arguments)
    check_refused(ran, code)
    assert ran.err.removeprefix(f"{ROOT}{os.sep}").startswith(message)


def test_a_stage_inside_a_fused_kernel_is_told_from_one_that_is_nowhere():
    fused = ("--config", "gpt2", "--gpu", "t4", "--speedup")
    assert perfmodel("compare", *fused, "softmax=2").err.endswith(
        "It is inside a fused kernel: add --unfused to run it separately.\n"
    )
    assert perfmodel("compare", *fused, "sofmax=2").err.endswith(".\n")
    assert perfmodel("compare", *fused, "layernrm=2").err.endswith("Did you mean 'layernorm'?\n")
