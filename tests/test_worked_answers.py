"""Answers that were computed by hand or published, each with its arithmetic.

Figures are compared at their printed precision: ``206.158`` means that the figure of the model rounds to it.
"""

from __future__ import annotations

import json

import pytest
from command import perfmodel as perfmodel_command
from many import for_each

import perfmodel
from perfmodel import InputError, analyse, ops
from perfmodel.op import Engine
from perfmodel.roofline import rates

LAYER = "llama-2-7b-layer"
A100 = "a100-sxm4-80gb"  # 312 TFLOP/s dense fp16, 2039 GB/s, 78 TFLOP/s fp16 vector


def prints(value, text):
    """Whether a figure rounds to the printed one."""
    places = len(text.partition(".")[2])
    return f"{value:.{places}f}" == text


def rows(answer):
    return {row.name: row for row in answer.rows}


def check_row(row, gigaflop, megabyte, intensity, bound, microseconds):
    assert prints(row.flops / 1e9, gigaflop)
    assert prints(row.traffic_byte / 1e6, megabyte)
    assert prints(row.intensity_flop_per_byte, intensity)
    assert row.bounds.bound == bound
    assert prints(row.bounds.lower_s * 1e6, microseconds)


# --- one Llama-2-7B layer: 4096 wide, 32 heads of 128, gated network of 11008, a prompt of 2048, fp16

PREFILL = [
    # Two sums and two products of an element; 2 x 2048 x 4096 x 2 bytes = 33.55 MB, and the weights.
    ("attention.norm", "0.034", "33.56", "1.0", "memory", "16.5"),
    # 6 B N D^2 = 6 x 2048 x 4096^2; 2 x (4 x 2048 x 4096 + 3 x 4096^2).
    ("attention.qkv", "206.158", "167.77", "1229", "tensor", "660.8"),
    # 3 FLOPs for each of 2 x 2048 x 4096 elements, each read and written.
    ("attention.rope", "0.050", "67.11", "0.75", "memory", "32.9"),
    # 4 x 4096 FLOPs for each of 2048 x 2049 / 2 = 2,098,176 pairs; q, k, v and the output, 16.78 MB each.
    ("attention", "34.377", "67.11", "512", "tensor", "110.2"),
    ("attention.project", "68.719", "67.11", "1024", "tensor", "220.3"),
    ("attention.residual", "0.008", "50.33", "0.17", "memory", "24.7"),
    ("mlp.norm", "0.034", "33.56", "1.0", "memory", "16.5"),
    # 2 x 2048 x 4096 x 22016; 2 x (2048 x 4096 + 4096 x 22016 + 2048 x 22016).
    ("mlp.gate_up", "369.367", "287.31", "1286", "tensor", "1183.9"),
    ("mlp.gate", "0.113", "135.27", "0.83", "memory", "66.3"),
    ("mlp.down", "184.684", "152.04", "1215", "tensor", "591.9"),
    ("mlp.residual", "0.008", "50.33", "0.17", "memory", "24.7"),
]


@for_each("row", PREFILL)
def test_llama_layer_prefill(row):
    check_row(rows(analyse(LAYER, gpu=A100, causal=True))[row[0]], *row[1:])


def test_llama_layer_attention_over_the_full_square():
    # 4 x 4096 x 2048^2 = 68.72 G.
    check_row(rows(analyse(LAYER, gpu=A100))["attention"], "68.719", "67.11", "1024", "tensor", "220.3")


UNFUSED = [
    # 2 x 4096 x 2048^2; q, k of 16.78 MB and 32 squares of 2048^2, 268.4 MB.
    ("attention.scores", "34.36", "301.99", "114", "memory", "148.1"),
    # 5 FLOPs and 2 x 2 bytes for each of 134,217,728 scores.
    ("attention.softmax", "0.671", "536.87", "1.25", "memory", "263.3"),
    ("attention.output", "34.36", "301.99", "114", "memory", "148.1"),
]


@pytest.mark.parametrize("row", UNFUSED, ids=[row[0] for row in UNFUSED])
def test_llama_layer_unfused_stages(row):
    check_row(rows(analyse(LAYER, gpu=A100, fused=False))[row[0]], *row[1:])


LAYER_TOTALS = [
    # Form, GFLOP, of that matrix products, MB, FLOP/byte, sum of the least times in microseconds. The published table
    # prints 2948.6 for the first; its own entries, unrounded, add up to 2948.546.
    ({"causal": True}, "863.55", "863.31", "1111.5", "777", 2948.55),
    ({"causal": False}, "897.90", "897.65", "1111.5", "808", 3058.6),
    ({"fused": False}, "898.57", "897.65", "2185.2", "411", 3397.9),
]


@pytest.mark.parametrize(("form", "gigaflop", "products", "megabyte", "intensity", "microseconds"), LAYER_TOTALS)
def test_llama_layer_totals(form, gigaflop, products, megabyte, intensity, microseconds):
    total = analyse(LAYER, gpu=A100, **form).total
    assert prints(total.flops / 1e9, gigaflop)
    assert prints(total.contraction_flops / 1e9, products)
    assert prints(total.traffic_byte / 1e6, megabyte)
    assert prints(total.intensity_flop_per_byte, intensity)
    assert total.lower_s * 1e6 == pytest.approx(microseconds, abs=0.06)


def test_llama_layer_products_alone():
    # 863.31 GFLOP / 312 TFLOP/s.
    answer = analyse(LAYER, gpu=A100, causal=True)
    assert prints(answer.total.contraction_flops / 312e12 * 1e6, "2767.0")
    products = [row for row in answer.rows if row.contraction_flops]
    assert {row.bounds.bound for row in products} == {"tensor"}
    assert sum(row.bounds.lower_s for row in products) * 1e6 == pytest.approx(2767.0, abs=0.06)


def test_llama_layer_unfused_has_rows_of_both_bounds():
    assert {row.bounds.bound for row in analyse(LAYER, gpu=A100, fused=False).rows} == {"memory", "tensor"}


def test_llama_layer_compulsory_bytes():
    # Weights 202,383,360, x in and out 2 x 8,388,608, keys and values written 2 x 8,388,608; 2 bytes each: 471.87 MB.
    total = analyse(LAYER, gpu=A100, causal=True).total
    assert total.compulsory_byte == 2 * (202_383_360 + 4 * 8_388_608)
    assert prints(total.compulsory_byte / 1e6, "471.9")
    assert prints(total.flops / total.compulsory_byte, "1830")


def test_llama_layer_parameters():
    # 4 x 4096^2 + 3 x 4096 x 11008 + 2 x 4096.
    answer = analyse(LAYER)
    assert 4 * 16_777_216 + 3 * 45_088_768 + 8_192 == 202_383_360
    assert answer.parameters.total == answer.parameters.active == 202_383_360
    assert answer.parameters.embedding == 0
    # A key and a value of 32 heads of 128, 2 bytes each.
    assert answer.kv_cache_byte_per_token == 2 * 4096 * 2


def test_llama_layer_decode():
    total = analyse(LAYER, gpu=A100, phase="decode").total
    assert prints(total.flops / 1e9, "0.4384")
    assert prints(total.traffic_byte / 1e6, "438.65")
    assert prints(total.intensity_flop_per_byte, "0.999")
    assert total.bound == "memory"
    assert prints(total.lower_s * 1e6, "215.1")


@pytest.mark.parametrize(
    ("name", "mega"),
    [
        # 2 FLOPs and, in fp16, 2 bytes for each weight or cached number.
        ("attention.qkv", "100.7"),  # 3 x 4096^2 weights
        ("attention", "33.6"),  # 2 x 2048 x 4096 cached numbers
        ("attention.project", "33.6"),  # 4096^2
        ("mlp.gate_up", "180.4"),  # 4096 x 22016
        ("mlp.down", "90.2"),  # 11008 x 4096
    ],
)
def test_llama_layer_decode_does_a_flop_for_a_byte(name, mega):
    row = rows(analyse(LAYER, gpu=A100, phase="decode"))[name]
    assert prints(row.flops / 1e6, mega)
    assert prints(row.traffic_byte / 1e6, mega)
    assert row.bounds.bound == "memory"


# --- the table of operations, at B = 2, N = 3, D = 8, two heads of 4, 2 bytes: B N D = 48 and D^2 = 64

SMALL = {"B": 2, "N": 3, "D": 8}
HEADS = {"B": 2, "H": 2, "H_kv": 2, "N": 3, "S": 5, "d": 4}  # B H N S = 60, B H N d = 48, B H S d = 80

TABLE = [
    ("qkv", {**SMALL, "H": 2, "H_kv": 2, "d": 4}, 6 * 6 * 64, 2 * (4 * 48 + 3 * 64), 3 * 2 * (2 * 48 + 64)),
    ("scores", HEADS, 2 * 60 * 4 + 60, 2 * (48 + 80 + 60), None),
    ("causal_mask", {"B": 2, "H": 2, "N": 3, "S": 5}, 60, 2 * (60 + 60 + 3 * 5), None),
    ("full_mask", {"B": 2, "H": 2, "N": 3, "S": 5}, 60, 2 * (60 + 60 + 60), None),
    ("softmax", {"rows": 2 * 2 * 3, "cols": 5}, 5 * 60, 2 * (60 + 60), None),
    ("weighted_values", HEADS, 2 * 60 * 4, 2 * (60 + 80 + 48), None),
    ("attention", HEADS, 4 * 60 * 4 + 6 * 60, 2 * (2 * 48 + 2 * 80), 2 * (2 * 48 + 2 * 80 + 4 * 60)),
    ("output_projection", {**SMALL, "H": 2, "d": 4}, 2 * 6 * 64, 2 * (2 * 48 + 64), None),
    # D -> 4 D -> D: 16 B N D^2, and a GELU of 5 for each of 4 B N D.
    ("mlp", {**SMALL, "F": 32}, 16 * 6 * 64 + 5 * 4 * 48, 2 * (2 * 48 + 2 * 256), 2 * (2 * 48 + 2 * 256 + 4 * 4 * 48)),
    ("matmul", {"m": 3, "k": 5, "n": 7}, 2 * 3 * 5 * 7, 2 * (15 + 35 + 21), None),
    # K multiplications, K - 1 additions and the bias for each of B L D outputs.
    ("conv1d", {**SMALL, "K": 3}, 48 * (3 + 2 + 1), 2 * (48 + 48 + 24 + 8), 2 * (48 + 48 + 24 + 8 + 2 * 2 * 7 * 8)),
]


@for_each(("name", "sizes", "flops", "one", "several"), TABLE)
def test_table_of_operations(name, sizes, flops, one, several):
    op = ops.find(name)(**sizes)
    assert op.flops() == flops
    assert op.traffic_byte() == one
    assert (sum(kernel.traffic_byte() for _, kernel in op.kernels()) or None) == several


def test_softmax_counts_read_as_three_or_as_five():
    # 12 scores: five primitives of one each; without the pass for the maximum (max, subtract) three remain.
    work = ops.find("softmax")(rows=3, cols=4).primitives()
    assert work == {"max": 12, "subtract": 12, "exp": 12, "add": 12, "divide": 12}
    assert work["exp"] + work["add"] + work["divide"] == 3 * 12


@pytest.mark.parametrize(("config", "products"), [("encoder-block", 8), ("decoder-block", 14)])
def test_blocks_have_as_many_products_as_the_textbook_counts(config, products):
    # Encoder: q, k, v, scores, values, output, up, down. Decoder: another six of cross-attention.
    answer = analyse(config, fused=False)
    assert sum(row.contraction_flops > 0 for row in answer.rows) == products


def test_mlp_backward_is_twice_its_forward():
    forward, train = analyse("mlp-4096").total, analyse("mlp-4096", phase="train").total
    assert forward.contraction_flops == 16 * 2048 * 4096**2
    assert train.contraction_flops == 3 * forward.contraction_flops


# --- ridges and crossings


def test_square_product_turns_compute_bound_past_3328():
    # 2 n^3 FLOPs for 4 n^2 x 8 bytes: n / 16. 312 TFLOP/s / 1.5 TB/s = 208 FLOP/byte, and 16 x 208 = 3328.
    card = rates(perfmodel.gpu("textbook-a100"), "fp16")
    assert card.ridge() == 208.0
    bound = {n: perfmodel.bounds("gemm", "textbook-a100", m=n, k=n, n=n, act=8).bound for n in (3327, 3328, 3329)}
    assert bound == {3327: "memory", 3328: "memory", 3329: "tensor"}
    op = ops.find("gemm")(m=3328, k=3328, n=3328, act=8)
    assert op.flops() / op.traffic_byte() == 3328 / 16


@pytest.mark.parametrize(
    ("n", "intensity", "bound"),
    [
        # 2 x 8192^2 x 128 FLOPs; 2 x (8192^2 + 2 x 8192 x 128) bytes.
        (128, "124.1", "memory"),
        # 2 x 8192^3; 2 x 3 x 8192^2: 8192 / 3.
        (8192, "2730.7", "tensor"),
    ],
)
def test_products_on_the_pcie_card(n, intensity, bound):
    # 312 TFLOP/s / 1935 GB/s = 161.2 FLOP/byte.
    op = ops.find("matmul")(m=8192, k=8192, n=n)
    assert prints(rates(perfmodel.gpu("a100-pcie-80gb"), "fp16").ridge(), "161")
    assert prints(op.flops() / op.traffic_byte(), intensity)
    assert perfmodel.bounds("matmul", "a100-pcie-80gb", m=8192, k=8192, n=n).bound == bound


@pytest.mark.parametrize(
    ("intensity", "tera"),
    # 2039 GB/s x I up to 312 TFLOP/s, which it meets at 153.0.
    [(0.75, 1.52925), (100, 203.9), (153, 311.967), (154, 312), (10_000, 312)],
)
def test_attainable_flops_under_the_roof(intensity, tera):
    assert rates(perfmodel.gpu(A100), "fp16").attainable(intensity) == pytest.approx(tera * 1e12)


@for_each(
    ("name", "sizes", "intensity"),
    [
        ("saxpy", {"numel": 1000, "act": 8}, 1 / 12),  # 2 FLOPs, 3 x 8 bytes
        ("dot", {"numel": 1000, "act": 8}, 1 / 8),  # 2 FLOPs, 2 x 8 bytes
        ("stream_triad", {"numel": 1000, "act": 8}, 1 / 12),
        ("stream_add", {"numel": 1000, "act": 8}, 1 / 24),
        ("stream_copy", {"numel": 1000, "act": 8}, 0),
        ("gemm", {"m": 160, "k": 160, "n": 160, "act": 8}, 10),  # n / 16
        ("add", {"numel": 1000}, 1 / 6),  # 1 FLOP, 3 x 2 bytes
    ],
)
def test_classical_intensities(name, sizes, intensity):
    op = ops.find(name)(**sizes)
    assert op.flops() / op.traffic_byte() == pytest.approx(intensity, rel=1e-12)


def test_decode_projection_has_intensity_one_and_reaches_the_ridge_at_208():
    # One token: 2 FLOPs for a weight of 2 bytes, 2 D^2 / (2 D^2 + 4 D).
    one = ops.find("qkv")(B=1, N=1, D=4096, H=32, H_kv=32, d=128)
    assert one.flops() / one.traffic_byte() == pytest.approx(1, rel=1e-3)
    # Per byte of weights a batch of B does B FLOPs: 208 of them on 312 TFLOP/s and 1.5 TB/s.
    many = ops.find("linear")(B=208, N=1, D_in=4096, D_out=4096)
    assert many.flops() / many.tensor("w").read_byte == 208 == rates(perfmodel.gpu("textbook-a100"), "fp16").ridge()


def test_the_16_by_16384_attention_depends_on_its_form():
    # Fused: 4 B N^2 D FLOPs for 4 B N D x 2 bytes, N / 2 = 8192 FLOP/byte and more; unfused: softmax 1.25, scores
    # near the head size of 128, both left of the ridge of 153.
    unfused, fused = (analyse("attention-16x16384", gpu=A100, fused=form) for form in (False, True))
    assert unfused.total.bound == "memory"
    assert fused.total.bound == "tensor"
    assert {row.bounds.bound for row in unfused.rows} == {"memory"}
    assert fused.total.contraction_flops == 4 * 16 * 16384**2 * 4096
    assert fused.total.traffic_byte == 4 * 16 * 16384 * 4096 * 2


@pytest.mark.parametrize(("heads", "bound"), [(32, "memory"), (16, "tensor")])
def test_the_unfused_scores_turn_with_the_number_of_heads(heads, bound):
    # Intensity d / (1 + 2 d / N): 126 for heads of 128 and 248 for heads of 256, against 153.
    answer = analyse("attention-16x16384", gpu=A100, fused=False, settings={"H": heads})
    assert rows(answer)["attention.scores"].bounds.bound == bound


# --- convolution: u (1, 8192, 8192), 3 taps, fp16


def test_convolution_on_a_t4():
    two, one = (analyse("conv1d-8192", gpu="t4", fused=form).total for form in (False, True))
    # 2 x 3 FLOPs for each of 8192^2 outputs.
    assert two.flops == one.flops == 402_653_184
    # Input and output 134,217,728 bytes each, padded signal of 8196 rows 134,283,264 twice, filter 49,152, bias 16,384.
    assert two.traffic_byte == 2 * 134_217_728 + 2 * 134_283_264 + 49_152 + 16_384 == 537_067_520
    assert one.traffic_byte == 2 * 134_217_728 + 49_152 + 16_384 == 268_500_992
    assert prints(two.intensity_flop_per_byte, "0.75")
    assert two.bound == one.bound == "memory"


@pytest.mark.parametrize(("bandwidth_byte_per_s", "factor"), [(320e9, "271"), (300e9, "289")])
def test_convolution_is_memory_bound_by_a_factor_against_the_tensor_roof(bandwidth_byte_per_s, factor):
    """The text divides by the 65 TFLOP/s of the tensor cores: 65e12 / bandwidth / 0.7497 FLOP/byte."""
    card = perfmodel.gpu("t4")
    intensity = analyse("conv1d-8192", fused=False).total.intensity_flop_per_byte
    peak = card.peaks["tensor"]["fp16"].value
    assert peak == 65e12
    assert prints(peak / bandwidth_byte_per_s / intensity, factor)


def test_the_t4_file_says_both_bandwidths():
    figure = perfmodel.gpu("t4").bandwidth_byte_per_s
    assert figure.value == 320e9
    assert "300" in figure.note


# --- published totals


def test_gpt2_products():
    # 12 layers x (24 N D^2 + 4 N^2 D) + 2 N D V at N = 1024, D = 768, V = 50257.
    layers = 12 * (24 * 1024 * 768**2 + 4 * 1024**2 * 768)
    logits = 2 * 1024 * 768 * 50257
    assert layers + logits == 291_648_307_200
    assert analyse("gpt2-124m").total.contraction_flops == 291_648_307_200


def test_gpt2_parameters():
    # Tokens 50257 x 768, positions 1024 x 768, 12 x (12 x 768^2 + 13 x 768), the last norm 2 x 768.
    tables = 50257 * 768 + 1024 * 768
    assert tables + 12 * (12 * 768**2 + 13 * 768) + 2 * 768 == 124_439_808
    found = analyse("gpt2-124m").parameters
    assert (found.total, found.embedding) == (124_439_808, tables)


def test_gpt2_cache():
    # A key and a value of 768 in each of 12 layers, 2 bytes each.
    assert analyse("gpt2-124m").kv_cache_byte_per_token == 2 * 768 * 12 * 2


def test_gpt2_training_is_three_times_the_forward_products():
    # Attention recomputes when fused (7 products for 6): 12 x 7/3 x 4 N^2 D instead of 3 x.
    forward = analyse("gpt2-124m", phase="prefill").total.contraction_flops
    unfused, fused = (analyse("gpt2-124m", phase="train", fused=form).total for form in (False, True))
    assert unfused.contraction_flops == 3 * forward
    assert fused.contraction_flops == 3 * forward + 12 * 2 * 1024**2 * 768


def test_flash_attention_table_standard():
    """GPT-2 medium at batch 64, 1024 tokens, 16 heads of 64, forward and backward. The paper gives 40.3 GB."""
    total = analyse("flash-table-standard").total
    # 64 x 16 x 1024^2 scores are 2.147 GB in fp16, one for the dropout's kept bytes 1.074; q and its like 0.134 GB.
    # Forward: scores 1, mask 2, softmax 2, dropout 2.5, values 1; backward: 1, 1, 2.5, 3, 1, 1: 18 squares.
    square, row, mask = 64 * 16 * 1024**2 * 2, 64 * 16 * 1024 * 64 * 2, 1024**2 * 2
    assert total.traffic_byte == 18 * square + 12 * row + mask
    assert prints(total.traffic_byte / 1e9, "40.3")


def test_flash_attention_table_flash():
    """The paper gives 13 % more FLOPs and 4.4 GB. Seven products instead of six are 17 %, and reads of whole passes 5.4
    GB.
    """
    standard, flash = analyse("flash-table-standard").total, analyse("flash-table-flash").total
    assert 6 * flash.contraction_flops == 7 * standard.contraction_flops
    assert prints(flash.traffic_byte / 1e9, "5.4")
    assert standard.traffic_byte / flash.traffic_byte == pytest.approx(7.4, abs=0.1)


def test_gpt2_xl_training_states_and_activations():
    """1.5 billion parameters (ZeRO, section 3): 3 GB of weights, 24 GB of states, 60 GB of activations, 8 GB
    recomputed.
    """
    pytest.importorskip("perfmodel.memory")
    full, again = (memory_of("gpt2-xl", "--recompute", how) for how in ("none", "full"))
    # 48 x (12 x 1600^2 + 13 x 1600) + 50257 x 1600 + 1024 x 1600 + 2 x 1600.
    parameters = 48 * (12 * 1600**2 + 13 * 1600) + (50257 + 1024 + 2) * 1600
    assert parameters == 1_557_611_200
    assert full["weights"] == 2 * parameters
    assert prints(full["weights"] / 1e9, "3")
    assert full["weights"] + full["gradients"] + full["optimizer states"] == 16 * parameters
    # 12 numbers of 2 bytes for each of 48 x 32 x 1024 x 1600; recomputed, the input of each layer alone.
    assert prints(full["ZeRO's rule"] / 1e9, "60.4")
    assert again["activations: layers"] == 48 * 32 * 1024 * 1600 * 2
    assert 4 * again["activations: layers"] < full["activations: layers"]


def memory_of(config, *options):
    """Returns bytes by the name of each line of ``perfmodel memory``, and of its rules of thumb."""
    ran = perfmodel_command(
        "memory", "--config", config, "--phase", "train", "--set", "B=32", "--format", "json", *options
    )
    document = json.loads(ran.out)
    return {line["name"]: line["byte"] for key in ("lines", "estimates") for line in document[key]}


@pytest.mark.parametrize(("name", "threads"), [("t4", 40 * 1024), (A100, 108 * 2048), ("h100", 132 * 2048)])
def test_most_threads_that_can_be_active(name, threads):
    # Multiprocessors x threads of each, in blocks of any size that fills it.
    card = perfmodel.gpu(name)
    assert card.multiprocessors.value * card.multiprocessor["threads"].value == threads


def test_adam_keeps_sixteen_bytes_per_parameter():
    # 2 of weight, 2 of gradient, 12 of master weight and two moments: 24 GB for 1.5 billion.
    op = ops.find("adam")(params=1_500_000_000)
    assert sum(tensor.size_byte for tensor in op.tensors) == 24_000_000_000


# --- known errors of published tools


@pytest.mark.parametrize(
    ("N", "S", "pairs"),
    [
        (2048, 2048, 2048 * 2049 // 2),
        (512, 2048, 512 * 2048 - 512 * 511 // 2),  # a chunk of a prompt
        (1, 2048, 2048),  # one token sees all
    ],
)
def test_trap_1_a_mask_leaves_the_pairs_of_a_prompt(N, S, pairs):
    op = ops.find("attention")(B=1, H=32, H_kv=32, N=N, S=S, d=128, causal=1)
    assert op.contraction_flops() == 4 * 32 * 128 * pairs


def test_trap_2_the_fused_output_is_n_by_d_and_rereads_are_no_dram_traffic():
    op = ops.find("attention")(B=1, H=32, H_kv=32, N=2048, S=2048, d=128)
    assert op.write_byte() == op.tensor("out").size_byte == 2048 * 4096 * 2
    assert op.tensor("k").read_byte == 2048 * 4096 * 2
    tiled = ops.find("flash_attention")(B=1, H=32, H_kv=32, N=2048, S=2048, d=128, M=131072)
    assert tiled.write_byte() == 2048 * 4096 * 2
    # Tiles of 131072 / (4 x 128 x 2) = 128 rows: 16 passes over k and v, which the compulsory count leaves out.
    assert tiled.tensor("k").read_byte == 16 * 2048 * 4096 * 2
    assert tiled.compulsory_byte() == op.traffic_byte()


def test_trap_3_a_cache_has_key_value_heads_is_read_once_and_attended_to():
    grouped = ops.find("attention_decode")(B=1, H=32, H_kv=8, S=2048, d=128)
    full = ops.find("attention_decode")(B=1, H=32, H_kv=32, S=2048, d=128)
    assert full.tensor("k").read_byte == 4 * grouped.tensor("k").read_byte == 2048 * 4096 * 2
    assert {tensor.write_byte for tensor in grouped.tensors if tensor.name in {"k", "v"}} == {0}
    assert grouped.contraction_flops() == full.contraction_flops() == 4 * 2048 * 4096


def test_trap_4_a_depthwise_convolution_knows_its_groups_and_its_engine():
    forward = ops.find("conv1d")(B=1, N=1024, D=1024, K=3)
    backward = ops.find("conv1d_backward")(B=1, N=1024, D=1024, K=3)
    assert backward.contraction_flops() == 2 * forward.contraction_flops() == 4 * 1024**2 * 3
    assert forward.engine_flops() == {Engine.VECTOR: 2 * 1024**2 * 3}
    assert analyse("conv1d-8192", gpu=A100).rows[0].engines["tensor"] == 0


def test_trap_5_a_multiply_add_is_two():
    work = ops.find("matmul")(m=3, k=5, n=7).primitives()
    assert work == {"multiply": 105, "add": 105}


def test_trap_6_prefixes_are_decimal_and_peaks_dense():
    a100, h100 = perfmodel.gpu("a100"), perfmodel.gpu("h100")
    assert a100.bandwidth_byte_per_s.value == 2039 * 10**9
    assert h100.peak(Engine.TENSOR, "fp16")[0] == pytest.approx(989.4e12)  # 1979 is sparse
    assert h100.peaks["tensor_sparse"]["fp16"].value == pytest.approx(1978.9e12)
    assert a100.peak(Engine.TENSOR, "bf16")[0] == 312e12


def test_trap_7_a_lookup_is_no_product_and_logits_are_said():
    answer = analyse("gpt2-124m")
    lookup, logits = rows(answer)["embed.tokens"], rows(answer)["logits"]
    assert lookup.flops == 0
    assert lookup.traffic_byte == 1024 * 8 + 2 * 1024 * 768 * 2
    assert logits.flops == 2 * 1024 * 768 * 50257  # every position, as an eager model computes them
    assert "every position" in " ".join(answer.workload.notes)


def test_trap_8_experts_cost_what_is_chosen_and_move_what_is_distinct():
    one, four = (ops.find("expert_linear")(B=B, N=1, D_in=16, D_out=32, E=8, A=2) for B in (1, 4))
    assert one.flops() == 2 * 2 * 16 * 32
    assert four.flops() == 4 * one.flops()
    # 8 (1 - (1 - 2/8)^4) = 8 - 8 x 81/256 = 5.46875 experts of 512 weights; one token meets its 2.
    assert one.tensor("distinct experts").read_byte == 2 * 512 * 2
    assert four.tensor("distinct experts").read_byte == 2800 * 2


def test_trap_9_a_gated_network_has_three_matrices_of_its_own_width():
    op = ops.find("gated_mlp")(B=1, N=1, D=4096, F=11008)
    assert op.parameters() == 3 * 4096 * 11008
    assert op.contraction_flops() == 6 * 4096 * 11008


def test_trap_10_a_head_size_is_its_own_and_a_window_hides():
    # Gemma-7B: 3072 wide, 16 heads of 256.
    op = ops.find("qkv")(B=1, N=1, D=3072, H=16, H_kv=16, d=256)
    assert op.parameters() == 3 * 3072 * 4096
    windowed = ops.find("attention")(B=1, H=1, H_kv=1, N=8192, S=8192, d=64, causal=1, W=4096)
    # The first 4096 queries see 1 to 4096 keys, the others 4096 each.
    assert windowed.contraction_flops() == 4 * 64 * (4096 * 4097 // 2 + 4096 * 4096)


def test_trap_11_exponentials_are_not_the_tensor_cores():
    op = ops.find("attention")(B=1, H=1, H_kv=1, N=16, S=16, d=8)
    # 256 scores: a scale; max, subtract, add and a division by the row's shared sum; one exponential.
    assert op.engine_flops() == {Engine.TENSOR: 4 * 256 * 8, Engine.VECTOR: 5 * 256, Engine.SPECIAL: 256}
    # 108 multiprocessors x 16 per clock x 1.41 GHz.
    assert rates(perfmodel.gpu("a100"), "fp16").roofs[Engine.SPECIAL].flop_per_s == pytest.approx(2.436e12, rel=1e-3)


def test_trap_12_latent_attention_caches_the_latent():
    # 512 + 64 numbers per token for 128 heads, against 128 x (128 + 64 + 128) expanded.
    sizes = {"B": 1, "H": 128, "N": 1, "S": 1000, "d_r": 64}
    absorbed = ops.find("mla_latent_attention")(**sizes, r=512)
    expanded = ops.find("mla_attention")(**sizes, r=512, d=128, d_v=128)
    assert absorbed.tensor("latent").read_byte + absorbed.tensor("rotary keys").read_byte == 1000 * 576 * 2
    assert expanded.tensor("k").read_byte + expanded.tensor("v").read_byte == 1000 * 128 * 320 * 2
    # The choice is worth a factor of 3.4 in FLOPs the one way and of 71 in bytes the other.
    assert absorbed.contraction_flops() / expanded.contraction_flops() == pytest.approx((576 + 512) / (192 + 128))


def test_trap_13_what_has_no_formula_is_refused_by_name():
    with pytest.raises(InputError, match=r"there is no operation 'sotfmax'.*Did you mean 'softmax'"):
        ops.find("sotfmax")
