"""Quantised weights: bytes against published checkpoints and packed shapes, formats of configs, and where they lead."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
from command import perfmodel
from many import for_each

from perfmodel import block, formats, hardware, quantisation
from perfmodel.analysis import analyse
from perfmodel.cases import case
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.importers import model
from perfmodel.importers.quantised import METHODS
from perfmodel.plans.asking import model as plans_of
from perfmodel.plans.plan import Plan
from perfmodel.serving import speed
from perfmodel.timing import parameters
from perfmodel.timing.tile_sizes import choices_of
from perfmodel.workload import stored

LLAMA = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip


def bytes_of(found):
    return block.stored_byte(block.wholes(found.steps, {"causal": 0, **found.dims("prefill")}))


# --- published sizes


@pytest.mark.parametrize(
    ("name", "total_size"),
    # total_size of model.safetensors.index.json in openai/gpt-oss-20b and openai/gpt-oss-120b.
    [("gpt-oss-20b", 13_761_264_768), ("gpt-oss-120b", 65_248_815_744)],
)
def test_a_published_checkpoint_has_the_bytes_that_are_counted(name, total_size):
    assert bytes_of(workload(name)) == total_size


def test_deepseek_v3_has_the_bytes_of_its_files(tmp_path):
    """All files of deepseek-ai/DeepSeek-V3 have 688,586,727,753 bytes. They hold one more layer with experts, which predicts
    a second token: with a product of 2 D x D, an embedding and an output matrix of its own, and three norms. The routers
    of 59 layers have 256 biases in float32. The rest, 12 MB, are headers: 130 bytes for each of 92,000 tensors.
    """
    page = json.loads(Path(workload("deepseek-v3").file).read_text(encoding="utf-8"))

    def of(layers):
        path = tmp_path / f"{layers}.json"
        path.write_text(json.dumps({**page, "num_hidden_layers": layers}))
        return bytes_of(workload(str(path)))

    D, V = 7168, 129280
    further = 2 * (2 * D * D + 2 * V * D + 3 * D) + 59 * 256 * 4
    headers = 688_586_727_753 - (of(62) + further)
    assert 120 < headers / 92_000 < 140


# --- packed shapes of checkpoints, as lists of tensors


def packed(method, D_in, D_out, G):
    """The tensors of one quantised matrix as (elements, bytes each), by the layouts of AutoAWQ and AutoGPTQ: 8 numbers of 4
    bits in one of 32.
    """
    words, scales = (D_in * D_out // 8, 4), (D_in // G * D_out, 2)
    zeros = (D_in // G * D_out // 8, 4)
    if method == "awq":
        return [words, zeros, scales]
    return [words, zeros, scales, (D_in, 4)]  # a group index for each input


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_model_has_the_bytes_of_its_packed_tensors(method):
    config = {**LLAMA, "quantization_config": {"quant_method": method, "bits": 4, "group_size": 64}}
    D, F, V, kv = 256, 640, 1000, 128
    matrices = [(D, D), (D, kv), (D, kv), (D, D), (D, F), (D, F), (F, D)]
    layer = sum(prod(tensor) for side in matrices for tensor in packed(method, *side, 64)) + 2 * 2 * D
    expected = 3 * layer + 2 * (2 * V * D + D)
    assert bytes_of(imported(config)) == expected


def imported(config):
    found = model(config, "config.json")
    plain = workload("llama-3-8b")._replace(
        steps=found.steps, decode={}, sizes=workload_sizes(found.sizes), notes=(), plain=None
    )
    return stored(plain, found.stored, "") if found.stored else plain


def workload_sizes(sizes):
    from perfmodel.expression import Expression

    return {name: Expression(value, "config") if isinstance(value, str) else value for name, value in sizes.items()}


def test_fp8_blocks_at_the_edges_have_scales_of_their_own():
    """640 = 5 x 128 columns, 256 = 2 x 128: gate and up have 2 x 5 scales each, and would share none."""
    config = {
        **LLAMA,
        "intermediate_size": 700,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    scales = 2 * 2 + 2 * (2 * 1) + 2 * 2 + 2 * (2 * 6) + 6 * 2  # 700 columns are 6 blocks
    weights = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 700
    expected = 3 * (weights + 4 * scales + 2 * 2 * 256) + 2 * (2 * 1000 * 256 + 256)
    assert bytes_of(imported(config)) == expected


def test_nvfp4_has_one_scale_of_four_bytes_for_each_stored_matrix():
    """Seven matrices of a layer: four projections, gate, up and down."""
    found = workload("llama-3-8b@nvfp4")
    D, F, kv, L, V = 4096, 14336, 1024, 32, 128256
    weights = 2 * D * D + 2 * D * kv + 3 * D * F
    expected = L * (weights // 2 + weights // 16 + 7 * 4 + 4 * D) + 2 * (2 * V * D + D)
    assert bytes_of(found) == expected


# --- configs

READ = [
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "awq"),
    ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": False}, "int4-g64"),
    ({"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True}, "gptq8-g32"),
    ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "gptq-column"),
    ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8-tensor"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8-static"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
    ({"quant_method": "fbgemm_fp8"}, "fp8-channel"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4-w4a4"),
    ({"config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}}, "int4"),
    ({"config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group"}}}}, "nvfp4"),
    ({"config_groups": {"g": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"}, "input_activations": {"dynamic": True}}}},
     "int8-token"),
    ({"config_groups": {"g": {"weights": {"num_bits": 8, "type": "float", "strategy": "tensor"}, "input_activations": {"dynamic": False}}}},
     "fp8-static"),
]  # fmt: skip


@for_each(("page", "text"), READ)
def test_a_config_states_the_format(page, text):
    found = model({**LLAMA, "quantization_config": page}, "config.json")
    stored = {step.name: form.text for step in found.steps if (form := found.stored(step))}
    assert set(stored.values()) == {text}
    assert {name.partition(".")[0] for name in stored} == {"layers"}
    assert len(stored) == 6  # q, k, v, the output projection, gate with up, down


def test_modules_that_a_config_leaves_out_keep_their_type():
    page = {
        "quant_method": "fp8",
        "modules_to_not_convert": ["self_attn", "re:.*down_proj", "model.layers.2.mlp.gate_proj"],
    }
    found = model({**LLAMA, "quantization_config": page}, "config.json")
    assert [step.name for step in found.steps if found.stored(step)] == ["layers.mlp.gate_up"]
    assert any("1 entries for modules of single layers" in text for text in found.not_counted)


def test_a_method_without_a_format_is_named():
    for page in (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "awq", "bits": 3},
        {"bits": 4},
    ):
        found = model({**LLAMA, "quantization_config": page}, "config.json")
        assert found.stored is None
        (told,) = found.not_counted
        assert told.startswith("the quantisation of the stored weights by ")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ({"quant_method": "awq", "group_size": "large"}, "group_size: found 'large'; a whole number is accepted"),
        ({"quant_method": "gptq", "group_size": 1}, "a group has 1 weights; 2 to 1,048,576 weights are accepted"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "two whole numbers are accepted"),
        ({"quant_method": "fp8", "ignored_layers": "lm_head"}, "a list of names is accepted"),
    ],
)
def test_a_slip_in_a_quantisation_is_told(page, told):
    with pytest.raises(InputError) as caught:
        model({**LLAMA, "quantization_config": page}, "config.json")
    assert told in str(caught.value)


def test_every_method_that_is_read_has_a_case():
    assert {page.get("quant_method", "compressed-tensors") for page, _ in READ} | {"mxfp4"} == METHODS.keys()


# --- where the formats lead


def test_training_and_another_data_type_have_unquantised_weights():
    found = workload("gpt-oss-20b")
    assert any(step.operation.stores for step in found.steps_in("prefill"))
    assert not any(step.operation.stores for step in found.steps_in("train"))
    assert not found.with_dtype("bf16").stores
    chosen = workload("llama-3-8b@awq").with_dtype("bf16")
    assert chosen.stores
    assert chosen.dtypes["activation"] == chosen.plain.dtypes["activation"] == "bf16"


def test_activations_are_quantised_once_for_all_products_that_read_them():
    steps = workload("llama-3-8b@fp8-block").steps
    names = [step.name for step in steps if step.operation.name == "quantise_block"]
    assert names == ["layers.attention.quantise_normed", "layers.attention.quantise_heads", "layers.mlp.quantise_normed",
                     "layers.mlp.quantise_active"]  # fmt: skip
    for step in steps:
        assert (step.operation.stores == "fp8-block") == (step.operation.name == "linear" and step.name != "logits")


def test_rows_of_experts_are_quantised_before_they_are_gathered():
    found = workload("mixtral-8x7b@fp8-block")
    rows = {step.name.rpartition(".")[2]: step.sizes["rows"].text for step in found.steps if "quantise" in step.name}
    assert rows["quantise_normed"] == "B*(N)"
    assert rows["quantise_active"] == "B*(N)*A"


def test_ranks_of_a_tensor_parallel_group_share_the_weights():
    """Two ranks halve each matrix. Embedding and output matrix are divided, norms are not."""
    card = hardware.gpu("h100")
    lines = {}
    for tp in (1, 2):
        holder = plans_of(workload("llama-3-8b@awq"), card, None, "decode", {})
        (lines[tp],) = (line for line in holder.memory(Plan(tp=tp, microbatch=1)) if line.name == "weights")
    norms = 65 * 4096 * 2
    assert lines[1].byte_per_gpu == bytes_of(workload("llama-3-8b@awq"))
    assert lines[2].byte_per_gpu == (lines[1].byte_per_gpu - norms) // 2 + norms
    assert "with their scales" in lines[1].formula


def test_the_break_even_batch_comes_out():
    """linear_int4 at D_in = D_out = 4096 and group 128: 4096^2 / 2 + 32 x 4096 x 2.5 = 8,716,288 bytes of weights; 2 x 4096^2
    FLOPs and 2 x 2 x 4096 bytes of activations a token. With a ridge of 295.17: 295.17 x 8,716,288 / (33,554,432 - 295.17 x
    16,384) = 89.6. In half precision it is 344.9.
    """
    given = (
        "--gpu",
        "h100",
        "--for",
        "B",
        "--set",
        "N=1",
        "--set",
        "D_in=4096",
        "--set",
        "D_out=4096",
        "--format",
        "json",
    )
    for name, below in (("linear_int4", 89), ("linear", 344)):
        (crossing,) = json.loads(perfmodel("solve", "--op", name, *given).out)["answers"][0]["crossings"]
        assert (crossing["largest_below"], crossing["smallest_above"]) == (below, below + 1)


def test_products_of_a_narrow_type_have_its_roof():
    """At long prompts, both operands in fp8 take half the time of the products in half precision; weights alone do not."""
    from perfmodel.analysis import analyse

    card = hardware.gpu("h100")

    def lower_s(name):
        found = analyse(workload(name), gpu=card, phase="prefill", settings={"N": 8192})
        return sum(row.bounds.engine_s["tensor"] * row.repeat for row in found.rows if row.name.endswith("gate_up"))

    assert lower_s("llama-3-8b@fp8-block") == pytest.approx(lower_s("llama-3-8b") / 2, rel=1e-3)
    assert lower_s("llama-3-8b@awq") == lower_s("llama-3-8b")


def test_a_conversion_takes_time_on_the_vector_engine():
    """A multiprocessor of an H100 converts weights as fast as it multiplies 32 rows by them; one with a tenth of the lanes is
    slower.
    """
    card = parameters.card(hardware.gpu("h100"))
    few = card._replace(lane_per_s=card.lane_per_s / 10)
    for own, slower in ((card, False), (few, True)):
        plain, converted = (
            choices_of(own, "bf16", (2, 0.5), 16, False, "bf16", converts=converts)[0] for converts in (False, True)
        )
        pairs = [(a.step_s, b.step_s) for a, b in zip(plain, converted, strict=True)]
        assert all(a <= b for a, b in pairs)
        assert any(a < b for a, b in pairs) == slower


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("llama-3-8b@int5", "'int5' is not a format of weights; int4, awq, "),
        ("llama-3-8b@int8-g64", "int8 has no groups of a chosen size"),
        ("llama-3-8b@awq-g1", "a group has 1 weights"),
        ("conv1d-8192@awq", "it has no product of weights"),
    ],
)
def test_a_format_that_cannot_be_is_told(name, told):
    with pytest.raises(InputError) as caught:
        workload(name)
    assert told in str(caught.value)


def test_every_format_quantises_every_kind_of_product():
    from perfmodel import ops

    for name in quantisation.PRODUCTS:
        operation = ops.find(name)
        plain = operation(**operation.example.at)
        for form in formats.FORMATS.values():
            found = formats.stored(operation, form)(**operation.example.at)
            assert found.contraction_flops() == plain.contraction_flops()
            assert found.parameters() == plain.parameters()
            assert found.computes == form.computes
            parts = found.kernels()
            assert len(parts) == len(plain.kernels())
            if parts:
                assert sum(op.flops() for _, op in parts) == found.flops()


def test_cases_operations_and_workload_files_take_a_format(tmp_path):
    """A linear layer of 4096 x 4096 with 16 tokens: the bytes of linear_int4, for a case, an operation and a file."""
    sizes = {"B": 1, "N": 16, "D_in": 4096, "D_out": 4096}
    lines = [
        {"op": "linear", "shape": sizes, "dtype": "bf16", "weights": "awq-g64"},
        {"op": "linear_int4", "shape": {**sizes, "group": 64}, "dtype": "bf16", "impl": "serving"},
        {"op": "linear", "shape": sizes, "dtype": "bf16"},
    ]
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    out = json.loads(perfmodel("predict", "--cases", str(path), "--gpu", "h100", "--format", "json").out)["cases"]
    assert out[0]["traffic_byte"] == out[1]["traffic_byte"] < out[2]["traffic_byte"]
    assert out[0]["expected_s"] == out[1]["expected_s"]
    given = [word for name, size in sizes.items() for word in ("--set", f"{name}={size}")]
    found = json.loads(perfmodel("flops", "--op", "linear@awq-g64", *given, "--format", "json").out)
    assert found["total"]["traffic_byte"] == out[0]["traffic_byte"]
    file = tmp_path / "layer.yaml"
    file.write_text(
        "title: A layer\nweights: awq-g64\nsteps: [{op: linear, sizes: {B: 1, N: 16, D_in: 4096, D_out: 4096}}]\n"
    )
    assert json.loads(perfmodel("flops", "--config", str(file), "--format", "json").out)["total"] == found["total"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"weights": "int5"}, "weights: 'int5' is not a format of weights"),
        ({"op": "linear@awq"}, "op: 'linear@awq' names a format of weights"),
        ({"op": "static_scale"}, "op: 'static_scale' is an implementation of products"),
        ({"weights": 4}, "weights: 4 is not a format of weights"),
        (
            {"weights": "awq", "direction": "forward_backward"},
            "quantised weights are accepted in the forward direction",
        ),
        ({"op": "softmax", "shape": {"rows": 2, "cols": 2}, "weights": "awq"}, "'weights' is not a key of a case"),
    ],
)
def test_a_case_with_a_format_that_cannot_be_is_told(line, told):
    with pytest.raises(InputError) as caught:
        case({"op": "linear", "shape": {"B": 1, "N": 1, "D_in": 8, "D_out": 8}, "dtype": "bf16", **line})
    assert told in str(caught.value)


@for_each(
    "config", ("llama-3-8b@fp8-block", "llama-3-8b@nvfp4-w4a4", "llama-3-8b@int8-token", "llama-3-8b@awq", "llama-3-8b")
)
def test_the_utilisation_is_that_of_the_type_that_computes(config):
    for card in ("h100", "b200"):
        found = speed(analyse(workload(config), gpu=hardware.gpu(card)))
        assert 0 < found.flops_utilisation_at_most <= 1


@pytest.mark.parametrize(
    ("gpu", "form", "told"),
    [
        ("a100", "fp8-block", "no tensor rate for fp8; quantised products run at the rate of tensor fp16, and their weights"),
        ("h100", "nvfp4-w4a4", "no tensor rate for fp4; quantised products run at the rate of tensor fp8, and their weights"),
        ("h100", "fp8-block", ""),
        ("a100", "awq", ""),  # runs in the type of the activations
    ],
)  # fmt: skip
def test_a_card_without_the_type_of_a_format_says_in_which_type_products_run(gpu, form, told):
    config = ("--config", f"llama-2-7b-layer@{form}", "--gpu", gpu)
    for command in (("flops",), ("solve", "--for", "B"), ("roofline", "show"), ("sweep", "--over", "N=1:8")):
        name, *words = command
        page = " ".join(perfmodel(name, *config, *words).out.split())
        assert (told in page) if told else ("tensor rate for" not in page), page
    found = json.loads(perfmodel("flops", *config, "--format", "json").out)["roof_notes"]
    assert [told in note for note in found] == ([True] if told else [])


def test_two_formats_and_training_in_a_format_are_refused():
    ran = perfmodel("flops", "--config", "llama-2-7b-layer@awq@int8")
    assert ran.code == 1
    assert "two formats of weights are named, awq and int8" in ran.err
    assert "Write llama-2-7b-layer@awq or llama-2-7b-layer@int8." in ran.err
    for command in ("flops", "memory"):
        ran = perfmodel(command, "--config", "llama-2-7b-layer@awq", "--phase", "train")
        assert ran.code == 1
        assert "a training step updates unquantised weights" in ran.err
        assert "Choose another phase, or train llama-2-7b-layer." in ran.err
