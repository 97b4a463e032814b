"""Memory: published totals and hand counts, what a training step keeps compared with torch, and what fits.

Bytes are compared exactly. Caches of real models are compared with instantiated models if the reference counts are
beside the repository; a few of these totals are repeated here.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import analyse, ops
from perfmodel.block import gradients, kernels
from perfmodel.config_files import workload
from perfmodel.errors import InputError, SizeRangeError, UsageError
from perfmodel.footprint import Plan, memory
from perfmodel.footprint.activations import size_byte
from perfmodel.footprint.fit import solved
from perfmodel.footprint.lines import Model, training_states, weights
from perfmodel.footprint.reserve import DEFAULT, reserve
from perfmodel.footprint.resident import resident
from perfmodel.hardware import gpu
from perfmodel.report.fit import certainly_fits
from perfmodel.report.memory import document, render
from perfmodel.units import LARGEST_SIZE
from perfmodel.workload import single

ROOT = Path(__file__).parent.parent
ORACLE = Path(__file__).parents[2] / "shared" / "oracle"

# The model of the ZeRO paper: 48 layers of width 1600. Its 25 heads are those of the published GPT-2.
GPT2_XL = {"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024, "vocab_size": 50257}
# Width 4 of two heads of 2, network 16, three layers.
TINY = {"model_type": "gpt2", "n_embd": 4, "n_head": 2, "n_layer": 3, "n_positions": 8, "vocab_size": 5}
# Width 8, four heads of 2 that share two, network 12 gated, two layers.
TINY_LLAMA = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12,
    "num_hidden_layers": 2, "vocab_size": 5,
}  # fmt: skip


@pytest.fixture
def config(tmp_path):
    """Returns the workload of a config."""

    def made(document, **changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**document, **changes}))
        return workload(str(path))

    return made


def line(answer, name):
    return next((line.byte_per_gpu for line in answer.lines if line.name == name), 0)


def kept(answer):
    return {layer.name: layer.byte for layer in answer.training.activations.layers}


def moment(answer, name):
    return next(moment.byte for moment in answer.training.moments if moment.name == name)


def train(found, *, batch=1, tokens=None, fused=None, card=None, **plan):
    sizes = {"B": batch, **({"N": tokens} if tokens else {})}
    return memory(found, phase="train", plan=Plan(**plan), settings=sizes, fused=fused, gpu=card)


# --- the 1.5-billion-parameter GPT-2 of the ZeRO paper


def test_a_model_of_one_and_a_half_billion():
    model = Model(1_500_000_000, 0, 2)
    assert [line.byte_per_gpu for line in weights(model, Plan())] == [3_000_000_000]  # 2 bytes each
    gradients, states = training_states(model, Plan(), "")
    assert (gradients.byte_per_gpu, states.byte_per_gpu) == (3_000_000_000, 18_000_000_000)  # 2, and 4 + 4 + 4
    assert 3 + 3 + 18 == 24  # GB: 16 bytes each


def test_gpt2_xl_in_training(config):
    answer = train(config(GPT2_XL), batch=32)
    # 50257 x 1600 + 1024 x 1600 + 48 layers of 12 x 1600^2 + 13 x 1600, and 2 x 1600 of the last norm.
    assert answer.parameters == 80_411_200 + 1_638_400 + 48 * (30_720_000 + 20_800) + 3_200 == 1_557_611_200
    assert line(answer, "weights") == 3_115_222_400
    assert line(answer, "weights") + line(answer, "gradients") + line(answer, "optimizer states") == 16 * 1_557_611_200


def test_gpt2_xl_activations_by_the_rules_and_by_the_steps(config):
    """About 60 GB by the rule of ZeRO, 80.7 by the tensors that the gradients of a fused layer read, 85.6 with two
    dropout masks.

    The rule of ZeRO is 24 bytes per element of the stream and layer. Counted from the steps it is 32: 16 tensors of 2
    bytes. They are the stream twice, its normed form twice, q, k, v, the heads, and twice the hidden layer of four
    times the width. Korthikanti et al. count 34: 2 more for two dropout masks of one byte, and the 5 squares of unfused
    scores.
    """
    answer = train(config(GPT2_XL), batch=32)
    element = 32 * 1024 * 1600
    rules = {estimate.name: estimate.byte for estimate in answer.estimates}
    assert rules["ZeRO's rule"] == 12 * 1600 * 32 * 1024 * 48 * 2 == 60_397_977_600
    assert rules["34 s b h, selective"] == 48 * 34 * element == 85_563_801_600
    assert rules["s b h (34 + 5 a s / h)"] == 48 * (34 * element + 5 * 25 * 1024 * 1024 * 32) == 286_890_393_600
    # Beside 32 bytes: mean and 1/σ of 4 bytes for 32,768 rows of two norms, one logsumexp for each row of 25 heads.
    layer = 32 * element + 2 * 2 * 4 * 32768 + 4 * 25 * 32768
    assert kept(answer) == {"layers": 48 * layer, "outside the layers": 210_247_680}
    assert line(answer, "activations: layers") == 80_713_089_024


def test_gpt2_xl_with_every_layer_recomputed(config):
    """About 8 GB. The peak is higher while the logits and their gradient are in memory, which the paper does not count.

    48 layer inputs of 2 x 52,428,800 bytes: 5.03 GB. One recomputed layer: the 16 tensors except its input. Largest
    gradients in flight: input and output of the GELU, four times the width each. With the ends of the model 7.66 GB.
    """
    answer = train(config(GPT2_XL), batch=32, recompute="full")
    stream = 2 * 32 * 1024 * 1600
    assert line(answer, "activations: layers") == 48 * stream == 5_033_164_800
    again = 15 * stream + 2 * 2 * 4 * 32768 + 4 * 25 * 32768
    assert moment(answer, "backward pass in layers") == again + 2 * 4 * stream == 2_415_525_888
    without_logits = 5_033_164_800 + 2_415_525_888 + line(answer, "activations: outside the layers")
    assert without_logits == 7_658_938_368
    logits = 2 * 32 * 1024 * 50257
    assert moment(answer, "loss") == line(answer, "working memory") == 2 * logits == 6_587_285_504
    assert sum(line.byte_per_gpu for line in answer.lines[3:]) == 5_033_164_800 + 210_247_680 + 6_587_285_504


# --- ZeRO


@pytest.mark.parametrize(
    ("stage", "gigabyte"),
    # 7.5 billion parameters over 64 GPUs: 16 bytes; 4 and 12/64; 2 and 14/64; 16/64. Rajbhandari et al. 2020, figure 1.
    [(0, "120.0"), (1, "31.4"), (2, "16.6"), (3, "1.9")],
)
def test_zero_stages_of_the_papers_figure(stage, gigabyte):
    model, plan = Model(7_500_000_000, 0, 2), Plan(gpus=64, zero=stage)
    found = [*weights(model, plan), *training_states(model, plan, "")]
    assert f"{sum(line.byte_per_gpu for line in found) / 1e9:.1f}" == gigabyte


def test_a_shard_is_of_whole_numbers():
    model, plan = Model(10, 7, 2), Plan(gpus=3, zero=3)  # 10 over 3: 4 each; the largest layer of 7 is gathered
    assert [line.byte_per_gpu for line in weights(model, plan)] == [2 * 4, 2 * 7]
    assert [line.byte_per_gpu for line in training_states(model, plan, "")] == [2 * 4, 12 * 4]


@for_each(("item", "optimizer", "each"), [
        (2, "adam", [2, 12]), (2, "sgd", [2, 8]), (2, "none", [2]),  # master copy, mean, variance; master, momentum
        (4, "adam", [4, 8]), (4, "sgd", [4, 4]), (4, "none", [4]),  # float32 weights are their own master copy
        (8, "adam", [8, 16]),
    ])  # fmt: skip
def test_states_of_each_optimizer(item, optimizer, each):
    found = training_states(Model(1, 0, item), Plan(optimizer=optimizer), "")
    assert [line.byte_per_gpu for line in found] == each


def test_weights_of_one_byte_are_not_trained(config):
    with pytest.raises(InputError, match=r"training with 1-byte weights; .* Choose --dtype bf16\."):
        train(config(TINY).with_dtype("fp8"))


@pytest.mark.parametrize("sizes", [{"weight": 0.5, "cache": 0.5}, None], ids=["set", "int4"])
def test_weights_and_cache_of_half_a_byte(sizes):
    """Llama 3 8B: 8,030,261,248 parameters in half as many bytes, 65,536 cache elements per token in 32,768 bytes."""
    found = workload("llama-3-8b") if sizes else workload("llama-3-8b").with_dtype("int4")
    answer = memory(found, phase="decode", settings={"S": 1000, **(sizes or {})})
    assert line(answer, "weights") == 8_030_261_248 // 2
    assert line(answer, "key-value cache") == 1000 * 32_768
    assert all(type(each.byte_per_gpu) is int for each in answer.lines)
    assert ".0 bytes" not in render(answer, "markdown")


def test_odd_numbers_of_half_bytes_fill_the_last_one():
    assert [each.byte_per_gpu for each in weights(Model(11, 0, 0.5), Plan())] == [6]


def test_totals_are_of_all_gpus(config):
    answer = train(config(TINY), gpus=8, zero=1)
    page = document(answer)
    assert page["total_byte"] == 8 * page["total_byte_per_gpu"]
    assert all(line["byte"] == 8 * line["byte_per_gpu"] for line in page["lines"])
    assert page["total_byte_per_gpu"] == sum(line["byte_per_gpu"] for line in page["lines"])


# --- what a training step keeps


def test_a_tiny_gpt2_layer_by_hand(config):
    """Three tokens of width 4: the stream has 12 elements of 2 bytes.

    16 such tensors are kept. Mean and 1/σ of 3 rows in two norms, 4 bytes each: 48. A logsumexp for 3 rows of 2 heads:
    24. Unfused, 2 squares of 9 probabilities of 2 bytes replace the logsumexps.
    """
    found = config(TINY)
    assert kept(train(found, tokens=3))["layers"] == 3 * (16 * 24 + 48 + 24)
    assert kept(train(found, tokens=3, fused=False))["layers"] == 3 * (16 * 24 + 48 + 36)
    # Token and position indices of 8 bytes; the last norm's stream, its statistics, and what the logits read.
    assert kept(train(found, tokens=3))["outside the layers"] == 24 + 24 + 24 + 24 + 24


def test_a_tiny_llama_layer_by_hand(config):
    """Rotation keeps nothing. Keys and values are half as wide. Gate and up are 24 wide, their product 12.

    Elements of 3 tokens: stream, normed, q, heads, stream, normed 24 each, k and v 12 each, 72 and 36: 276. One 1/rms
    for 3 rows in two norms, and a logsumexp for 3 rows of 4 heads, 4 bytes each: 24 and 48.
    """
    assert kept(train(config(TINY_LLAMA), tokens=3))["layers"] == 2 * (2 * 276 + 24 + 48)


def test_a_tensor_that_several_operations_read_is_kept_once(config):
    layer = train(config(TINY), tokens=3).training.activations.layers[0]
    readers = {tensor.name: tensor.steps for tensor in layer.further}
    assert readers["heads"] == ("attention", "attention.project")
    normed = [tensor.steps for tensor in layer.further if tensor.name == "normed"]
    assert normed == [("attention.q", "attention.k", "attention.v"), ("mlp.up",)]
    assert [tensor.name for tensor in layer.further].count("stream") == 2  # before and after the attention's sum


def test_experts_keep_their_gathered_rows(config):
    """Each of 3 tokens goes to 2 of 4 experts. 6 rows of 8 are gathered and kept in addition to the input of the
    router.
    """
    sizes = {**TINY_LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    layer = train(config(sizes), tokens=3).training.activations.layers[0]
    found = {tensor.name: tensor.byte for tensor in layer.first}
    assert found["normed"] == 2 * 3 * 8
    assert found["moe.gate_up: normed"] == found["outputs"] == 2 * 6 * 8
    assert found["gate_up"] == 2 * found["active"] == 2 * 6 * 24
    assert (found["moe.route: probs"], found["moe.route: chosen"]) == (2 * 12, 8 * 6)
    assert not any("distinct" in name for name in found)  # weights are not kept: they are there


def test_layers_share_what_comes_from_outside(config):
    """The last tensor of the encoder is kept once for all decoder layers that attend to it."""
    t5 = {"model_type": "t5", "d_model": 8, "num_heads": 2, "d_kv": 4, "num_layers": 3, "d_ff": 16, "vocab_size": 5}
    layer = next(x for x in train(config(t5), tokens=4).training.activations.layers if x.name == "decoder.layers")
    assert [tensor.byte for tensor in layer.first if tensor.name == "encoder.encoded"] == [2 * 4 * 8]
    assert "encoder.encoded" not in {tensor.name for tensor in layer.further}


@for_each(
    ("name", "sizes", "byte"),
    [
        ("add", {"numel": 10}, 0),  # a gradient passes a sum as it is
        ("scale", {"numel": 10}, 0),
        ("rope", {"B": 1, "N": 2, "H": 2, "H_kv": 1, "d": 4}, 0),
        ("mul", {"numel": 10}, 40),  # both factors
        ("exp", {"numel": 10}, 20),  # its result
        ("softmax", {"rows": 3, "cols": 4}, 24),  # its result
        ("gelu", {"numel": 10}, 20),
        ("dropout", {"numel": 12}, 12),  # a byte for each element
        ("matmul", {"m": 2, "k": 3, "n": 4, "batch": 5}, 2 * (30 + 60)),  # both matrices
        ("linear_bias", {"B": 1, "N": 2, "D_in": 3, "D_out": 4}, 12),
        ("qkv", {"B": 1, "N": 2, "D": 4, "H": 2, "H_kv": 1, "d": 2}, 16),
        ("mlp", {"B": 1, "N": 2, "D": 3, "F": 3}, 3 * 12),  # x, the hidden layer, and what the activation made of it
        ("gated_mlp", {"B": 1, "N": 2, "D": 3, "F": 3}, 4 * 12),  # gate and up as well
        ("embedding", {"B": 1, "N": 3, "D": 4, "V": 100}, 24),  # indices of 8 bytes
        ("learned", {"cols": 3}, 0),
    ],
)
def test_what_one_operation_keeps(name, sizes, byte):
    answer = memory(single(ops.find(name)), phase="train", settings=sizes)
    assert size_byte(answer.training.activations.layers[-1].first) == byte


@for_each("name", sorted(name for name in ops.FAMILY_OF if ops.find(name).backward))
def test_no_operation_keeps_more_than_its_gradients_read(name):
    """A tensor that two gradients read counts for both here, and once in the kept bytes."""
    found = single(ops.find(name))
    for fused in (True, False):
        answer = memory(found, phase="train", settings=found.steps[0].operation.example.at, fused=fused)
        reads = sum(gradient.op.read_byte() for gradient in gradients(found.steps[0], answer.dims, fused=fused))
        assert kept(answer)["outside the layers"] <= reads


@for_each("fused", [True, False])
@for_each("name", sorted(name for name in ops.FAMILY_OF if ops.find(name).backward))
def test_a_forward_pass_moves_all_that_is_kept(name, fused):
    """Every kept tensor is an operand of a forward kernel of the training step, which reads or writes it.

    Inner tensors of an operation with several products have other names in its gradients. They are matched by size.
    """
    found = single(ops.find(name))
    answer = memory(found, phase="train", settings=found.steps[0].operation.example.at, fused=fused)
    dims = {"causal": 0, **answer.dims}
    forward = [k for k in kernels(found.steps, dims, fused=fused, backward=True) if k.forward]
    moved = [t for kernel in forward for t in kernel.op.tensors if t.traffic_byte and not t.spill]
    names = {tensor.name for tensor in moved}
    sizes = Counter({tensor.name: tensor.size_byte for tensor in moved}.values())
    for tensor in answer.training.activations.layers[-1].first:
        own = tensor.name.rpartition(": ")[2]
        assert own in names or (" of " in own and sizes[tensor.byte] > 0), own
        sizes[tensor.byte] -= own not in names


WRITTEN_FOR_GRADIENTS = [
    # operation, sizes, form, bytes that the forward pass of a training step writes beside those of an inference
    ("layernorm", {"rows": 3, "cols": 4}, True, 3 * 2 * 4),  # mean and 1/σ of a row
    ("layernorm", {"rows": 3, "cols": 4}, False, 3 * 2 * 4),
    ("rmsnorm", {"rows": 3, "cols": 4}, True, 3 * 4),  # 1/rms of a row
    ("softmax", {"rows": 3, "cols": 4}, True, 0),  # its result is an output anyway
    ("attention", {"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8}, True, 2 * 3 * 4),  # a logsumexp of a row
    ("attention", {"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8}, False, 0),  # the squares are written anyway
    ("mla_attention", {"B": 1, "H": 2, "N": 3, "S": 4, "d": 4, "d_r": 2, "d_v": 5, "r": 6}, True, 2 * 3 * 4),
    ("mlp", {"B": 1, "N": 2, "D": 3, "F": 4}, True, 2 * 8 * 2),  # the hidden layer before and after its GELU
    ("mlp", {"B": 1, "N": 2, "D": 3, "F": 4}, False, 0),
    ("gated_mlp", {"B": 1, "N": 2, "D": 3, "F": 4}, True, 3 * 8 * 2),  # gate, up and their product
    ("route", {"B": 1, "N": 3, "E": 4, "A": 2}, True, 12 * 2),  # the probabilities of all experts
    ("linear", {"B": 1, "N": 2, "D_in": 3, "D_out": 4}, True, 0),
]


@for_each(("name", "sizes", "fused", "byte"), WRITTEN_FOR_GRADIENTS)
def test_what_a_forward_pass_writes_for_its_gradients(name, sizes, fused, byte):
    found = single(ops.find(name))
    infer, step = (analyse(found, phase=phase, settings=sizes, fused=fused) for phase in ("prefill", "train"))
    written = [sum(row.write_byte for row in answer.rows if row.forward) for answer in (infer, step)]
    read = [sum(row.read_byte for row in answer.rows if row.forward) for answer in (infer, step)]
    assert (written[1] - written[0], read[1] - read[0]) == (byte, 0)


def test_torch_keeps_the_same_tensors(config):
    """A GPT-2 with two widths in torch, in float32: bytes of the distinct storages that its graph keeps."""
    torch = pytest.importorskip("torch")
    sizes = {"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_positions": 16, "vocab_size": 50}
    for fused in (True, False):
        for depth in (1, 2):
            answer = train(config(sizes, n_layer=depth).with_dtype("fp32"), batch=2, tokens=16, fused=fused)
            assert sum(kept(answer).values()) == saved_by_torch(torch, depth, fused)


def saved_by_torch(torch, depth, fused, batch=2, tokens=16, width=32, heads=4):
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv = nn.ModuleList(nn.Linear(width, width) for _ in "qkv")
            self.project, self.up, self.down = (
                nn.Linear(*s) for s in ((width, width), (width, 4 * width), (4 * width, width))
            )

        def forward(self, x):
            normed = self.norm(x)
            q, k, v = (m(normed).view(batch, tokens, heads, -1).transpose(1, 2) for m in self.qkv)
            if fused:
                out = nn.functional.scaled_dot_product_attention(q, k, v)
            else:
                out = torch.softmax(q @ k.transpose(-1, -2) * (heads / width) ** 0.5, -1) @ v
            x = x + self.project(out.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))

    words, places, last = nn.Embedding(50, width), nn.Embedding(tokens, width), nn.LayerNorm(width)
    stack = nn.Sequential(*(Layer() for _ in range(depth)), last)
    trained = {p.untyped_storage().data_ptr() for m in (words, places, stack) for p in m.parameters()}
    held, alive = {}, []

    def pack(tensor):
        alive.append(tensor)  # so that no storage is reused
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x = words(torch.zeros(batch, tokens, dtype=torch.long)) + places(torch.arange(tokens)[None])
        logits = stack(x) @ words.weight.T
    assert logits.shape == (batch, tokens, 50)
    return sum(byte for storage, byte in held.items() if storage not in trained)


# --- recomputation


def test_selective_drops_the_squares(config):
    """Two squares of 9 probabilities of 2 bytes, of one layer at a time, are not kept."""
    found = config(TINY)
    none, selective = (train(found, tokens=3, fused=False, recompute=mode) for mode in ("none", "selective"))
    assert kept(none)["layers"] - kept(selective)["layers"] == 3 * 36
    difference = moment(selective, "backward pass in layers") - moment(none, "backward pass in layers")
    assert difference == 36


def test_selective_gains_nothing_where_the_attention_is_fused(config):
    answer = train(config(TINY), tokens=3, recompute="selective")
    assert kept(answer) == kept(train(config(TINY), tokens=3))
    assert any(note.startswith("Selective recomputation saves no memory here") for note in answer.notes)


def test_full_keeps_the_inputs_of_the_layers(config):
    answer = train(config(TINY), tokens=3, recompute="full")
    assert kept(answer)["layers"] == 3 * 24
    # Computed again: the other 15 of 16 and the statistics; in flight: into and out of the GELU, 16 wide.
    assert moment(answer, "backward pass in layers") == 15 * 24 + 48 + 24 + 2 * 3 * 16 * 2


def test_full_without_layers_says_so():
    answer = memory(workload("mlp-4096"), phase="train", plan=Plan(recompute="full"))
    assert any(note.startswith("Full recomputation saves no memory here") for note in answer.notes)


# --- inference: caches, states, workspace

TOTALS = [
    # model, phase, sizes, line, bytes: the shapes are those of the instantiated models' own caches.
    ("llama-3-8b", "prefill", {"N": 8192}, "key-value cache", 1_073_741_824),  # 32 x 2 x (1, 8, 8192, 128) x 2 bytes
    ("llama-3-8b", "decode", {"S": 8192}, "key-value cache", 1_073_741_824),
    ("llama-3-8b", "decode", {"S": 8192}, "key-value cache, new tokens", 131_072),  # 32 x 2 x 8 x 128 x 2
    ("llama-3-8b", "decode", {"S": 8192, "B": 16}, "key-value cache", 16 * 1_073_741_824),
    ("mistral-7b-v0.1", "prefill", {"N": 32768}, "key-value cache", 536_870_912),  # the window of 4096 alone
    ("mistral-7b-v0.1", "decode", {"S": 32768}, "key-value cache, new tokens", 0),  # takes the oldest one's place
    ("gemma-2-9b", "prefill", {"N": 8192}, "key-value cache", 2_113_929_216),  # 21 layers of 4096, 21 of 8192
    ("gpt-oss-20b", "decode", {"S": 32768}, "key-value cache", 808_452_096),
    ("deepseek-v2-lite", "decode", {"S": 1024}, "key-value cache", 31_850_496),  # 27 x (512 + 64) x 2 bytes a token
    ("t5-base", "prefill", {"N": 1024}, "cross-attention cache", 37_748_736),  # 12 x 2 x (1, 12, 1024, 64) x 2
    ("whisper-base", "decode", {"S": 256}, "key-value cache", 3_145_728),
    ("whisper-base", "decode", {"S": 256}, "cross-attention cache", 18_432_000),  # 1500 positions
    ("mamba-130m", "decode", {"S": 1024}, "recurrent state", 1_474_560),  # 24 x 1536 x (4 + 16) x 2 bytes
    ("rwkv-4-169m", "decode", {"S": 1024}, "recurrent state", 92_160),  # 12 x 5 x 768 x 2 bytes
    ("bert-base-uncased", "prefill", {}, "key-value cache", 0),
]


@for_each(("name", "phase", "sizes", "what", "byte"), TOTALS)
def test_caches_of_real_models(name, phase, sizes, what, byte):
    assert line(memory(workload(name), phase=phase, settings=sizes), what) == byte


QUANTITIES = {
    "kv_cache_bytes_fp16_total": "key-value cache",
    "kv_cache_bytes_fp16_self_total": "key-value cache",
    "kv_cache_bytes_fp16_total_window_bound": "key-value cache",
    "kv_cache_bytes_fp16_cross_total": "cross-attention cache",
    "state_bytes_fp16_total": "recurrent state",
}


def oracle_rows():
    """Caches by shape. In the library a window keeps one token less than the mask shows; those rows have a separate
    bound.
    """
    if not ORACLE.is_dir():
        return []
    with (ORACLE / "oracle.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] in QUANTITIES and row["value"]]
    full = [row for row in rows if "SlidingWindow" not in row["note"] or int(row["seq"]) <= 64]
    return [(row["model"], row["quantity"], int(row["seq"]), int(row["value"])) for row in full]


@pytest.mark.skipif(not ORACLE.is_dir(), reason="the oracle of counts is not beside the repository")
@pytest.mark.parametrize(("name", "quantity", "seq", "byte"), oracle_rows())
def test_caches_of_the_oracle(name, quantity, seq, byte):
    found = workload(str(ORACLE / "configs" / f"{name}.json")).with_dtype("fp16")
    fixed = "cross" in quantity and name.startswith("whisper")  # the encoder's positions are the architecture's
    for phase, size in (("prefill", "N"), ("decode", "S")):
        answer = memory(found, phase=phase, settings={} if fixed else {size: seq})
        assert line(answer, QUANTITIES[quantity]) == byte


def test_a_window_that_only_masks_keeps_every_token(config):
    """GPT-Neo multiplies the whole cache and masks it: 2 layers x 2 x (1, 2, 6, 2) x 2 bytes."""
    neo = {
        "model_type": "gpt_neo", "hidden_size": 4, "num_heads": 2, "num_layers": 2, "max_position_embeddings": 8,
        "vocab_size": 5, "window_size": 2, "attention_types": [[["global", "local"], 1]],
    }  # fmt: skip
    assert line(memory(config(neo), phase="decode", settings={"S": 6}), "key-value cache") == 2 * 2 * 24 * 2


def test_other_forms_of_a_cache_stand_beside_it():
    """DeepSeek-V2-Lite expanded: 27 layers x 16 heads x (128 + 64 + 128) x 2 bytes per token."""
    answer = memory(workload("deepseek-v2-lite"), phase="decode", settings={"S": 1000})
    assert {e.name: e.byte for e in answer.estimates}["key-value cache, expanded cache"] == 276_480 * 1000
    other = memory(workload("deepseek-v2-lite"), phase="decode", settings={"S": 1000}, form="expanded cache")
    assert line(other, "key-value cache") == 276_480 * 1000


def test_a_state_in_float32_stands_beside_the_short_one():
    answer = memory(workload("mamba-130m"), phase="decode")
    assert answer.estimates[0].byte == 24 * 1536 * (4 * 2 + 16 * 4)


def test_the_workspace_by_hand(config):
    """Three tokens of width 4 and hidden width 16, in 2 bytes: input and output of the GELU 96 each, and the stream of
    24.
    """
    answer = memory(config(TINY), phase="prefill", settings={"N": 3})
    assert line(answer, "workspace of the largest kernel") == 96 + 96 + 24
    # With 100 words the logits: 3 x 100 out and 3 x 4 in; the stream is done with.
    answer = memory(config(TINY, vocab_size=100), phase="prefill", settings={"N": 3})
    assert line(answer, "workspace of the largest kernel") == 600 + 24


def test_a_part_without_decoding_has_no_cache():
    answer = memory(workload("attention-16x16384"), phase="prefill")
    assert {line.name for line in answer.lines} == {"weights", "workspace of the largest kernel"}


# --- whether it fits


def test_fits_and_by_how_much(config):
    answer = train(config(GPT2_XL), batch=1, card=gpu("a100"))
    assert (answer.verdict.fits, answer.verdict.capacity_byte) == (True, 85_100_000_000)
    assert answer.verdict.spare_byte == 85_100_000_000 - answer.verdict.reserve_byte - answer.byte_per_gpu
    assert answer.verdict.remedies == ()


def test_remedies_are_what_the_same_change_gives(config):
    """Each remedy is compared with a new account of that plan: the fewest GPUs and the largest batch that fit."""
    found, card = config(GPT2_XL), gpu("v100-32gb")
    answer = train(found, batch=32, card=card)
    assert not answer.verdict.fits
    by = {remedy.change: remedy for remedy in answer.verdict.remedies}
    assert list(by) == [
        "recompute full", "ZeRO stage 1 over 1,024 GPUs", "ZeRO stage 2 over 1,024 GPUs", "ZeRO stage 3 over 1,024 GPUs",
        "B = 2 instead of 32", "recompute full and ZeRO stage 1 over 2 GPUs", "recompute full and ZeRO stage 2 over 2 GPUs",
        "recompute full and ZeRO stage 3 over 2 GPUs",
    ]  # fmt: skip
    assert by["recompute full"].byte_per_gpu == train(found, batch=32, recompute="full").byte_per_gpu
    assert by["ZeRO stage 2 over 1,024 GPUs"].byte_per_gpu == train(found, batch=32, gpus=1024, zero=2).byte_per_gpu
    room_byte = 34_100_000_000 - DEFAULT.byte(34_100_000_000)
    assert by["B = 2 instead of 32"].byte_per_gpu == train(found, batch=2).byte_per_gpu <= room_byte
    assert train(found, batch=3).byte_per_gpu > room_byte
    together = train(found, batch=32, gpus=2, zero=1, recompute="full", card=card)
    assert together.verdict.fits
    assert by["recompute full and ZeRO stage 1 over 2 GPUs"].byte_per_gpu == together.byte_per_gpu


def test_the_fewest_gpus(config):
    found, card = config(GPT2_XL), gpu("t4")
    answer = train(found, batch=1, card=card).verdict
    room_byte, changes = answer.capacity_byte - answer.reserve_byte, [r.change for r in answer.remedies if r.fits]
    for stage in (1, 2, 3):
        few = next(int(c.split()[-2]) for c in changes if c.startswith(f"ZeRO stage {stage}"))
        assert (
            train(found, gpus=few, zero=stage).byte_per_gpu
            <= room_byte
            < train(found, gpus=few // 2, zero=stage).byte_per_gpu
        )


def test_a_change_that_saves_nothing_is_no_remedy():
    """The attention stage has no weights, so neither sharding nor smaller weights help with its squares."""
    answer = memory(workload("attention-16x16384"), phase="prefill", fused=False, gpu=gpu("t4"))
    assert line(answer, "weights") == 0
    assert [remedy.change for remedy in answer.verdict.remedies] == ["B = 1 instead of 16"]


def test_shorter_weights_for_inference():
    answer = memory(workload("llama-3-70b"), phase="decode", settings={"S": 1000}, gpu=gpu("h100"))
    by = {remedy.change: remedy for remedy in answer.verdict.remedies}
    assert by["weights in fp8 or int8"].fits
    assert answer.byte_per_gpu - by["weights in fp8 or int8"].byte_per_gpu == answer.parameters
    assert not by["cache in fp8 or int8"].fits
    assert by["sharded weights (ZeRO stage 3) over 2 GPUs"].fits


@pytest.mark.parametrize(
    ("phase", "symbol", "sizes", "plan"),
    [
        ("train", "B", {"N": 512}, Plan(recompute="full")),
        ("train", "N", {"B": 2}, Plan(gpus=4, zero=3)),
        ("prefill", "N", {}, Plan()),
        ("decode", "B", {"S": 4096}, Plan()),
        ("decode", "S", {"B": 3}, Plan()),
    ],
)
def test_the_largest_size_fits_and_the_next_does_not(phase, symbol, sizes, plan):
    found, card = workload("llama-3.2-1b"), gpu("v100-32gb")
    answer = memory(found, phase=phase, plan=plan, settings=sizes, gpu=card, solve=symbol)
    largest = answer.solved.largest
    assert answer.dims[symbol] == largest > 1
    at = [memory(found, phase=phase, plan=plan, settings={**sizes, symbol: largest + i}) for i in (0, 1)]
    room_byte = 34_100_000_000 - answer.verdict.reserve_byte
    assert at[0].byte_per_gpu == answer.byte_per_gpu == answer.solved.byte_per_gpu <= room_byte
    assert at[1].byte_per_gpu == answer.solved.next_byte_per_gpu > room_byte
    assert answer.solved.ends == "memory"


def test_no_size_fits():
    answer = memory(workload("llama-3.1-405b"), phase="decode", gpu=gpu("t4"), solve="B")
    assert (answer.solved.largest, answer.dims["B"], answer.verdict.fits) == (0, 1, False)
    assert "No B fits: B = 1 needs " in render(answer, "markdown")


ANY = [
    # A state of constant size; windows of 4096 tokens in every layer, the new ones included.
    ("mamba-130m", {}, 1, "Any S fits: the total, ", "does not depend on S."),
    ("rwkv-4-169m", {"B": 8}, 1, "Any S fits: the total, ", "does not depend on S."),
    ("mistral-7b-v0.1", {}, 4095, "Any S fits: the window bounds the cache. From S = 4095 on, ", "show this total."),
    (
        "mistral-7b-v0.1",
        {"N": 3000},
        1096,
        "Any S fits: the window bounds the cache. From S = 1096 on, ",
        "show this total.",
    ),
]


@pytest.mark.parametrize(("name", "sizes", "first", "begins", "ends"), ANY)
def test_every_size_fits(name, sizes, first, begins, ends):
    """If there is no largest size, no number is printed. The bytes are the maximum over all sizes."""
    arguments = [word for symbol, value in sizes.items() for word in ("--set", f"{symbol}={value}")]
    ran = perfmodel("memory", "--config", name, "--phase", "decode", *arguments, "--gpu", "h100", "--solve", "S",
                    "--format", "json")  # fmt: skip
    found = json.loads(ran.out)["solved"]
    assert (found["largest"], found["next_byte_per_gpu"], found["ends"]) == (None, None, "nothing")
    assert found["sentence"].startswith(begins)
    assert found["sentence"].endswith(ends)
    assert "999" not in ran.out
    total = {at: memory(workload(name), phase="decode", settings={**sizes, "S": at}).byte_per_gpu for at in
             (max(1, first - 1), first, 10 * first, 10**9)}  # fmt: skip
    assert total[first] == total[10 * first] == total[10**9] == found["byte_per_gpu"]
    assert found["constant_from"] == first
    assert first == 1 or total[first - 1] < total[first]


def test_windows_in_some_layers_bound_nothing():
    """Every second layer of Gemma 2 attends to all tokens, so each token needs memory."""
    found = memory(workload("gemma-2-9b"), phase="decode", gpu=gpu("h100"), solve="S").solved
    assert (found.ends, found.windowed) == ("memory", False)
    assert found.next_byte_per_gpu - found.byte_per_gpu >= 21 * 2 * 8 * 256 * 2


@for_each("capacity", [0, 1, 2, 3, 7, 8, 9, 1000, 10**15])
@for_each("at_most", [1, 2, 9, 10**6])
def test_the_search_finds_the_end(capacity, at_most):
    found = solved("B", lambda size: size, capacity, at_most=at_most)
    assert found.largest == min(capacity, at_most)


def sizes_to(limit, error):
    """A model that accepts sizes up to a limit and keeps at most 100 bytes."""

    def byte_at(size):
        if size > limit:
            raise error("here", "too large")
        return min(size, 100)

    return byte_at


@for_each(
    ("byte_at", "room", "found"),
    [
        (sizes_to(10**9, SizeRangeError), 200, (None, "nothing", 100)),  # constant as far as can be counted
        (sizes_to(LARGEST_SIZE, InputError), 200, (None, "nothing", 100)),
        (sizes_to(10**9, InputError), 200, (10**9, "model", 10**9)),  # positions end: a largest size after all
        (sizes_to(64, InputError), 200, (64, "model", 64)),
        (sizes_to(64, SizeRangeError), 200, (64, "count", 64)),  # it still grows where counting ends
        (sizes_to(10**9, InputError), 64, (64, "memory", 64)),
        (lambda size: 10 + size, 10, (0, "memory", 1)),
    ],
)
def test_the_search_says_what_ends_it(byte_at, room, found):
    answer = solved("S", byte_at, room)
    assert (answer.largest, answer.ends, answer.constant_from or answer.largest or 1) == found


# --- the reserve


def test_the_reserve_of_an_h100():
    """810 MB and 32 MiB, plus 8 % of the rest of 85,017,493,504 bytes, rounded up."""
    assert DEFAULT.byte(85_017_493_504) == 843_554_432 + 6_733_915_126
    assert 8 * (85_017_493_504 - 843_554_432) / 100 == 6_733_915_125.76
    assert DEFAULT.byte(10**8) == 10**8  # at most the whole memory


@for_each(
    ("text", "byte"),
    [("0", 0), ("4 GB", 4 * 10**9), ("1GiB", 2**30), ("10%", 10**9), ("2.5 %", 250_000_000), ("0%", 0)],
)
def test_a_reserve_as_it_is_written(text, byte):
    assert reserve(text).byte(10**10) == byte


@for_each("text", ["4", "4 W", "-1 GB", "101%", "-1%", "nan%", "%", "", "ten"])
def test_a_reserve_that_is_none(text):
    ran = perfmodel("memory", "--config", "gpt2", "--gpu", "t4", "--reserve", text)
    check_refused(ran, 1)
    assert ran.err.startswith(f"--reserve {text!r}: ")


def test_the_reserve_decides():
    """Llama 3 8B decodes one token at S = 2048 in 16.4 GB. A card of 25.4 GB with a reserve of 9 GB is too small."""
    fits = {}
    for text in ("0", "5 GB", "9.5 GB", "50%"):
        ran = perfmodel("memory", "--config", "llama-3-8b", "--phase", "decode", "--gpu", "rtx-3090", "--reserve", text,
                        "--format", "json")  # fmt: skip
        verdict = json.loads(ran.out)["verdict"]
        assert "--reserve" in verdict["reserve"]
        fits[text] = verdict["fits"]
    assert fits == {"0": True, "5 GB": True, "9.5 GB": False, "50%": False}


def test_the_reserve_stands_in_the_table():
    out = " ".join(perfmodel("memory", "--config", "gpt2", "--gpu", "h100").out.split())
    assert "Reserve: 7.577 GB: 810 MB for the CUDA context and the code of kernels, 33.6 MB for the workspace" in out
    assert "minus the reserve), " in out


# --- every report that shows a time


def test_a_time_on_a_card_that_is_too_small_says_so():
    arguments = ("flops", "--config", "llama-3-70b", "--phase", "decode", "--gpu")
    out = " ".join(perfmodel(*arguments, "t4").out.split())
    assert "Warning: It does not fit on one NVIDIA T4: it needs 141.8 GB, and 13.80 GB are available" in out
    small = json.loads(perfmodel(*arguments, "t4", "--format", "json").out)["memory"]
    whole = memory(workload("llama-3-70b"), phase="decode", gpu=gpu("t4"))
    assert (small["fits"], small["total_byte"]) == (False, whole.byte_per_gpu)
    assert small["sentence"] in out
    large = json.loads(perfmodel(*arguments, "b200", "--format", "json").out)["memory"]
    assert (large["fits"], large["sentence"]) == (True, "")
    assert "fit on" not in perfmodel(*arguments, "b200").out
    assert "memory" not in json.loads(perfmodel(*arguments[:-1], "--format", "json").out)


def test_a_chart_says_which_workloads_are_too_large():
    """Unfused attention of 16,384 tokens keeps 16 x 32 squares of 2 bytes: 275 GB each."""
    out = " ".join(perfmodel("roofline", "--gpu", "t4", "show").out.split())
    assert "attention-16x16384 (unfused): It does not fit on one NVIDIA T4: it needs " in out
    assert "It does not fit" not in perfmodel("roofline", "--gpu", "t4", "--config", "gpt2", "show").out


@pytest.mark.parametrize("phase", ["prefill", "decode", "train"])
@pytest.mark.parametrize("name", ["t4", "h100"])
def test_what_certainly_fits_does_fit(phase, name):
    """The short test, which needs no account, never accepts a plan that the account rejects."""
    found = {True: 0, False: 0}
    for config in ("gpt2", "llama-3-8b", "mamba-130m", "rwkv-4-169m", "mixtral-8x7b", "t5-base", "mistral-7b-v0.1"):
        for batch in (1, 16, 256):
            sizes = {"B": batch} if phase == "decode" else {"B": batch, "N": 32}
            answer = analyse(config, gpu=name, phase=phase, settings=sizes)
            found[certainly_fits(answer)] += 1
            assert resident(answer).fits or not certainly_fits(answer)
    assert all(found.values())


# --- output


def test_the_json_document():
    ran = perfmodel("memory", "--config", "gpt2", "--phase", "train", "--gpus", "4", "--zero", "2", "--gpu", "t4",
                    "--set", "B=8", "--format", "json")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    page = json.loads(ran.out)
    assert list(page)[:4] == ["schema", "config", "phase", "form"]
    assert {k: page[k] for k in ("schema", "config", "phase", "gpus", "zero", "recompute", "optimizer")} == {
        "schema": 2, "config": "gpt2", "phase": "train", "gpus": 4, "zero": 2, "recompute": "none", "optimizer": "adam",
    }  # fmt: skip
    first = page["lines"][0]
    assert first == {
        "name": "weights", "byte": 4 * 248_879_616, "byte_per_gpu": 248_879_616,
        "formula": "2 bytes x 124,439,808 parameters", "kind": "weights",
    }  # fmt: skip
    assert page["gpu"]["name"] == "t4"
    verdict = page["verdict"]
    assert verdict["spare_byte"] == verdict["capacity_byte"] - verdict["reserve_byte"] - page["total_byte_per_gpu"]
    assert page["solved"] is None


def test_without_a_card_there_is_no_verdict():
    page = json.loads(perfmodel("memory", "--config", "gpt2", "--format", "json").out)
    assert (page["phase"], page["gpu"], page["verdict"], page["optimizer"]) == ("prefill", None, None, None)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        (
            "--config",
            "gpt2-xl",
            "--phase",
            "train",
            "--set",
            "B=32",
            "--gpu",
            "v100-32gb",
            "--gpus",
            "8",
            "--zero",
            "1",
        ),
        ("--config", "mixtral-8x7b", "--recompute", "full", "--gpu", "h100"),
        ("--config", "deepseek-v3", "--phase", "decode", "--gpu", "h200", "--solve", "B"),
    ],
    ids=["gpt2-xl", "mixtral", "deepseek"],
)
def test_the_table_keeps_within_the_terminal(monkeypatch, width, arguments):
    monkeypatch.setenv("COLUMNS", str(width))
    ran = perfmodel("memory", *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= width


def test_each_line_has_its_formula():
    answer = train(workload("gpt2"))
    table = list(csv.DictReader(render(answer, "csv").splitlines()))
    assert [row["name"] for row in table] == [line.name for line in answer.lines]
    assert all(row["formula"] and int(row["byte_per_gpu"]) > 0 for row in table)
    assert "| weights |" in render(answer, "markdown")


def test_options_of_training_mean_training():
    for words in (("--recompute", "full"), ("--optimizer", "sgd"), ("--zero", "3", "--gpus", "2")):
        page = json.loads(perfmodel("memory", "--config", "gpt2", *words, "--format", "json").out)
        assert page["phase"] == "train"


def test_huge_sizes_stay_exact():
    sizes = ("--set", "B=1e8", "--set", "N=1e3")
    page = json.loads(perfmodel("memory", "--config", "gpt2", "--phase", "train", *sizes, "--format", "json").out)
    logits = next(moment for moment in page["moments"] if moment["name"] == "loss")
    assert logits["byte"] == 2 * 2 * 50257 * 10**11
    # Attention's five squares: 5 x 12 heads x 10^6 x 10^8 bytes in each of 12 layers, beside 34 x 10^11 x 768.
    rules = {estimate["name"]: estimate["byte"] for estimate in page["estimates"]}
    assert rules["s b h (34 + 5 a s / h)"] == 12 * (60 * 10**14 + 34 * 768 * 10**11)
    assert "inf" not in perfmodel("memory", "--config", "gpt2", "--phase", "train", *sizes, "--gpu", "t4").out


def test_no_length_beyond_the_learned_positions_fits():
    ran = perfmodel("memory", "--config", "gpt2", "--gpu", "h200", "--solve", "N", "--format", "json")
    assert json.loads(ran.out)["solved"]["largest"] == 1024


MEMORY = ("memory", "--config", "gpt2")
REFUSED = [
    (("memory",), 2, "perfmodel memory: no workload is named; --config NAME or FILE is required."),
    ((*MEMORY, "--zero", "4"), 2, "perfmodel memory: invalid value for '--zero': 4 is not in the range"),
    ((*MEMORY, "--gpus", "0"), 2, "perfmodel memory: invalid value for '--gpus': 0 is not in the range"),
    ((*MEMORY, "--recompute", "some"), 2, "perfmodel memory: invalid value for '--recompute': 'some' is not one of"),
    ((*MEMORY, "--solve", "D"), 2, "perfmodel memory: invalid value for '--solve': 'D' is not one of"),
    ((*MEMORY, "--solve", "B"), 2, "perfmodel memory --solve B: no GPU is given; the name of a GPU is required."),
    (
        (*MEMORY, "--solve", "B", "--gpu", "t4", "--set", "B=4"), 2,
        "perfmodel memory --solve B: B is also set; a size is either set or solved for. Remove --set B.",
    ),
    (
        (*MEMORY, "--phase", "decode", "--zero", "1"), 2,
        "perfmodel memory --zero: the decode phase has no gradients, optimizer states or kept activations;",
    ),
    ((*MEMORY, "--phase", "prefill", "--recompute", "full"), 2, "perfmodel memory --recompute: the prefill phase has no gradients"),
    ((*MEMORY, "--phase", "train", "--dtype", "fp8"), 1, "gpt2: training with 1-byte weights;"),
    ((*MEMORY, "--phase", "train", "--set", "B=0"), 1, "--set B: "),
    ((*MEMORY, "--set", "B=1e15", "--set", "N=1e3"), 1, "embed.add_positions: add: numel: 768"),
    (("memory", "--config", "mlp-4096", "--gpu", "t4", "--solve", "S"), 1, "perfmodel memory --solve S: the prefill phase"),
    (("memory", "--config", "bert-base-uncased", "--phase", "decode"), 1, "configs/bert-base-uncased.json: this workload has no phase 'decode'; prefill, train are accepted."),
    ((*MEMORY, "--gpu", "t5"), 1, "gpu 't5': no file has this name;"),
]  # fmt: skip


@for_each(("arguments", "code", "begins"), REFUSED)
def test_bad_requests_are_one_line(arguments, code, begins):
    ran = perfmodel(*arguments)
    check_refused(ran, code)
    assert ran.err.removeprefix(f"{ROOT}{os.sep}").startswith(begins)


def test_the_library_refuses_as_the_command_does(config):
    with pytest.raises(UsageError, match="--solve B"):
        memory(config(TINY), solve="B")


def test_what_training_costs_before_and_with_recomputed_activations():
    """GPT-2 XL, B 32, N 1024: 16 bytes per parameter; 48 inputs of 104.86 MB, 210.2 MB outside, and 2.416 GB of one
    layer.
    """
    found = perfmodel("memory", "--config", "gpt2-xl", "--phase", "train", "--set", "B=32", "--format", "json")
    estimates = {one["name"]: one["byte"] for one in json.loads(found.out)["estimates"]}
    assert estimates["training states"] == 16 * 1_557_611_200
    assert estimates["each layer recomputed"] == 48 * 104_857_600 + 210_247_680 + 2_415_525_888
