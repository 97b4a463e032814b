"""Every operation: its worked example, and its counts against loops that run one scalar at a time.

The loops (``algorithms.py``) share no formula with the package. A machine (``machine.py``) counts what they compute and
move. Their results are compared with torch in float64, and backward passes with automatic derivatives.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from fractions import Fraction
from itertools import combinations, product

import algorithms
import pytest
from algorithms import ELEMENTWISE
from machine import Machine
from many import for_each

from perfmodel import ops
from perfmodel.arithmetic import expected_distinct, visible_pairs
from perfmodel.ops.flash import rescalings

NAMES = tuple(ops.FAMILY_OF)

PROMPT = {"B": 2, "H": 2, "H_kv": 1, "N": 4, "S": 4, "d": 3}
CHUNK = {"B": 1, "H": 2, "H_kv": 2, "N": 2, "S": 5, "d": 3, "causal": 1}
MASKS = (
    {**PROMPT},
    {**PROMPT, "causal": 1},
    {**PROMPT, "H": 4, "H_kv": 2, "causal": 1, "W": 2},
    CHUNK,
    {**CHUNK, "N": 3, "W": 3},
    {"B": 1, "H": 4, "H_kv": 2, "N": 1, "S": 6, "d": 2},
)
TILED = (
    {**PROMPT, "M": 48},
    {"B": 1, "H": 2, "H_kv": 1, "N": 6, "S": 8, "d": 2, "M": 32},
    {"B": 1, "H": 2, "H_kv": 2, "N": 5, "S": 7, "d": 2, "M": 48},
    {"B": 1, "H": 2, "H_kv": 1, "N": 5, "S": 5, "d": 2, "M": 32, "causal": 1},
    {"B": 1, "H": 1, "H_kv": 1, "N": 4, "S": 9, "d": 2, "M": 48, "causal": 1},
    {"B": 1, "H": 1, "H_kv": 1, "N": 7, "S": 7, "d": 2, "M": 32, "causal": 1, "W": 3},
    {"B": 1, "H": 1, "H_kv": 1, "N": 7, "S": 9, "d": 2, "M": 48, "causal": 1, "W": 4},
    {"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 12, "d": 2, "M": 32, "causal": 1, "W": 2},
    {"B": 1, "H": 1, "H_kv": 1, "N": 4, "S": 13, "d": 2, "M": 48, "causal": 1, "W": 3},
)
PRODUCT_TILES = (
    {"m": 4, "k": 3, "n": 6, "tile_m": 2, "tile_n": 3, "tile_k": 1, "M": 100},
    {"m": 5, "k": 4, "n": 7, "tile_m": 2, "tile_n": 3, "tile_k": 2, "M": 100},
    {"m": 3, "k": 2, "n": 2, "tile_m": 8, "tile_n": 8, "tile_k": 8, "M": 1000},
    {"m": 3, "k": 2, "n": 2, "tile_m": 1, "tile_n": 1, "tile_k": 1, "M": 4},
)
TOKENS = {"B": 2, "N": 3, "V": 5}
NORMS = ("layernorm", "layernorm_unbiased", "layernorm_plain", "rmsnorm", "rmsnorm_plain")
ROWS = ({"rows": 3, "cols": 4}, {"rows": 1, "cols": 7})
LINEAR = {"B": 2, "N": 3, "D_in": 4, "D_out": 2}
# Padding, a stride, groups of channels, and sides that differ.
SQUARE = {"B": 2, "C": 2, "C_out": 4, "h": 3, "w": 4, "h_out": 3, "w_out": 4, "K_h": 3, "K_w": 3, "groups": 1}
FILTERED = (SQUARE, {**SQUARE, "h": 4, "h_out": 2, "w_out": 2, "groups": 2}, {**SQUARE, "K_h": 1, "K_w": 1})
POOLED = (
    {"B": 2, "C": 2, "h": 4, "w": 4, "h_out": 2, "w_out": 2, "K_h": 2, "K_w": 2},
    {"B": 1, "C": 2, "h": 4, "w": 3, "h_out": 2, "w_out": 3, "K_h": 3, "K_w": 3},
)
RESIZED = {"B": 1, "C": 2, "h": 2, "w": 3, "h_out": 4, "w_out": 6}

CASES = [
    ("matmul", {"m": 2, "k": 3, "n": 4}),
    ("matmul", {"m": 3, "k": 1, "n": 2, "batch": 3}),
    ("gemm", {"m": 2, "k": 3, "n": 4}),
    *((name, LINEAR) for name in ("linear", "linear_bias", "linear_input_gradient", "linear_weight_gradient")),
    ("bias_gradient", {"B": 2, "N": 3, "D_out": 4}),
    ("qkv", {"B": 2, "N": 3, "D": 4, "H": 2, "H_kv": 1, "d": 3}),
    ("output_projection", {"B": 2, "N": 3, "D": 4, "H": 2, "d": 3}),
    ("logits", {"B": 2, "N": 3, "D": 2, "V": 5}),
    ("mlp", {"B": 2, "N": 2, "D": 3, "F": 5}),
    ("gated_mlp", {"B": 2, "N": 2, "D": 3, "F": 5}),
    *(
        (name, sizes)
        for name in ("attention", "scores", "weighted_values", "scores_backward", "weighted_values_backward")
        for sizes in MASKS
    ),
    *((name, sizes) for name in ("attention_backward", "attention_backward_recompute") for sizes in MASKS),
    ("multi_head_attention", {"B": 2, "N": 3, "D": 4, "H": 2}),
    ("multi_head_attention", {"B": 1, "N": 5, "D": 4, "H": 2, "causal": 1, "W": 2}),
    ("cross_attention", {"B": 2, "N": 2, "S": 3, "D": 4, "H": 2}),
    ("attention_decode", {"B": 2, "H": 4, "H_kv": 2, "S": 3, "d": 2}),
    ("mla_attention", {"B": 1, "H": 2, "N": 3, "S": 4, "d": 2, "d_r": 1, "d_v": 2, "r": 3, "causal": 1}),
    ("mla_cached_attention", {"B": 1, "H": 2, "N": 1, "S": 4, "d": 2, "d_r": 1, "d_v": 2}),
    ("mla_latent_attention", {"B": 1, "H": 2, "N": 1, "S": 4, "r": 3, "d_r": 2}),
    *((name, sizes) for name in ("softmax", "softmax_backward") for sizes in ROWS),
    *((name, sizes) for norm in NORMS for name in (norm, f"{norm}_backward") for sizes in ROWS),
    *((name, {"B": 2, "H": 3, "N": 2, "S": 4}) for name in ("causal_mask", "full_mask")),
    *((name, {"B": 2, "H": 3, "N": n, "S": 4}) for name in ("masked_softmax", "masked_softmax_backward") for n in (1, 2)),
    *((name, {"B": 2, "N": 4, "D": 3, "K": 3}) for name in ("conv1d", "conv1d_backward")),
    *((name, {"B": 1, "N": 2, "D": 2, "K": 5}) for name in ("conv1d", "conv1d_backward")),
    *((name, {"B": 1, "N": 3, "D": 2, "K": 1}) for name in ("conv1d", "conv1d_backward")),
    *((name, {**TOKENS, "D": 4}) for name in ("embedding", "embedding_backward")),
    ("positions", {"N": 3, "T": 5, "D": 4, "V": 8}),
    *((name, TOKENS) for name in ("cross_entropy", "cross_entropy_backward")),
    ("rope", {"B": 2, "N": 3, "H": 2, "H_kv": 1, "d": 4}),
    ("residual", {"B": 2, "N": 3, "D": 4}),
    ("add_bias", {"B": 2, "N": 3, "D": 4}),
    *((name, {"B": 2, "N": 3, "D": 4, "A": 2}) for name in ("combine_experts", "combine_experts_backward")),
    *((name, {**LINEAR, "E": 3, "A": 3}) for name in ("expert_linear", "expert_linear_bias", "expert_input_gradient",
      "expert_weight_gradient")),
    *((name, {"B": 2, "N": 3, "D_in": 2, "D_out": 4, "K": 3}) for name in ("conv", "conv_backward")),
    *((name, {"B": 1, "N": 3, "D_in": 2, "D_out": 1, "K": 3, "stride": 2}) for name in ("conv", "conv_backward")),
    *((name, {"B": 1, "H": 2, "N": 3, "S": 4, "d": 2, "d_r": 1, "d_v": 2, "causal": 1}) for name in
      ("mla_attention_backward", "mla_attention_backward_recompute")),
    ("expert_bias_gradient", {"B": 2, "N": 3, "D_out": 4, "E": 3, "A": 3}),
    *((name, {"B": 2, "N": 3, "E": 5, "A": 2}) for name in ("route", "route_backward")),
    ("route", {"B": 1, "N": 2, "E": 4, "A": 1}),
    *((name, {"B": 2, "N": 3, "D": 2, "X": 3}) for name in ("selective_scan", "selective_scan_backward")),
    *((name, {"B": 2, "N": 3, "D": 2}) for name in ("wkv", "wkv_backward", "token_shift", "token_shift_backward")),
    *((name, {"B": 2, "N": 3, "D": 2}) for name in ("mean", "mean_backward")),
    ("learned", {"rows": 3, "cols": 4}),
    *((name, {**LINEAR, "D_in": size, "group": 4}) for name in ("linear_int4", "linear_mxfp4", "linear_nvfp4", "linear_fp8")
      for size in (4, 6, 8)),
    ("linear_fp8", {**LINEAR, "D_in": 6, "D_out": 5, "group": 3}),
    ("linear_int8", LINEAR),
    *((f"quantise_{name}", {"rows": 3, "cols": 4}) for name in ("static", "tensor", "token")),
    *(("quantise_block", {"rows": 2, "cols": 7, "group": n}) for n in (2, 7, 8)),
    ("adam", {"params": 5}),
    *((name, {"numel": 6}) for name in ("dropout", "dropout_backward", "dot", *ELEMENTWISE)),
    ("copy", {"numel": 6, "distinct": 6, "run": 2}),
    ("copy", {"numel": 6, "distinct": 3, "run": 3}),
    ("concatenate", {"numel": 12, "run": 3}),
    *((name, {"numel": 6}) for name in ("fill", "where", "masked_fill", "compare", "integer", "random")),
    *((name, sizes) for name in ("gather", "scatter", "scatter_add") for sizes in ({"rows": 4, "cols": 3}, {"rows": 5, "cols": 1})),
    *((name, {"rows": 2, "cols": 4, "inner": n}) for name in ("reduce_sum", "reduce_max", "argmax") for n in (1, 3)),
    *((name, {"rows": 3, "cols": 4}) for name in ("cumulative_sum", "sort", "log_softmax", "log_softmax_backward", "nll_loss",
      "nll_loss_backward")),
    *(("top_k", {"rows": 2, "cols": 6, "chosen": n}) for n in (1, 3)),
    *((name, sizes) for name in ("conv2d", "conv2d_input_gradient", "conv2d_weight_gradient") for sizes in FILTERED),
    *((name, sizes) for name in ("max_pool2d", "max_pool2d_backward", "average_pool2d", "average_pool2d_backward") for sizes in POOLED),
    *((name, {**RESIZED, "taps": n}) for name in ("interpolate", "interpolate_backward") for n in (1, 4, 16)),
    *((name, {"B": 2, "C": 2, "pixels": 3}) for name in ("batch_norm", "batch_norm_inference", "batch_norm_backward")),
    *((name, {"B": 2, "C": 4, "groups": 2, "pixels": 3}) for name in ("group_norm", "group_norm_backward")),
    *((name, {"params": 5, "tensors": 2}) for name in ("adam_step", "sgd_step", "gradient_norm")),
    *(("foreach", {"params": 5, "tensors": 2, "reads": n}) for n in (1, 3)),
]  # fmt: skip


def case_id(case):
    name, sizes = case
    return f"{name}-" + "-".join(f"{key}{value}" for key, value in sizes.items())


each_case = for_each(("name", "sizes"), CASES)


def executed(name, sizes, apart=False):
    """Returns the machine after it has run the loops of the operation."""
    machine = Machine(apart)
    if name in ELEMENTWISE:
        algorithms.elementwise(machine, name, item=ops.find(name).defaults["act"], **sizes)
    elif name == "dot":
        algorithms.vector_dot(machine, **sizes)
    else:
        # m is the name of the machine.
        getattr(algorithms, name)(machine, **{"m_" if key == "m" else key: value for key, value in sizes.items()})
    return machine


def performed(op):
    return {primitive: count for primitive, count in op.primitives().items() if count}


# --- counts against executed loops


@each_case
def test_each_primitive_is_executed_as_often_as_it_is_counted(name, sizes):
    assert performed(ops.find(name)(**sizes)) == executed(name, sizes).primitives


@each_case
def test_separate_kernels_execute_what_they_count(name, sizes):
    """Including the work that a kernel repeats because it runs separately."""
    kernels = [op for _, op in ops.find(name)(**sizes).kernels()]
    counted = sum((Counter(performed(op)) for op in kernels), Counter())
    assert not kernels or counted == executed(name, sizes, apart=True).primitives


@each_case
def test_one_kernel_moves_what_its_loops_move(name, sizes):
    op, machine = ops.find(name)(**sizes), executed(name, sizes)
    assert (op.read_byte(), op.write_byte()) == (machine.read_byte, machine.write_byte)


@each_case
def test_separate_kernels_move_what_their_loops_move(name, sizes):
    kernels = ops.find(name)(**sizes).kernels()
    if kernels:
        assert [kernel.traffic_byte() for _, kernel in kernels] == executed(name, sizes, apart=True).kernel_bytes
    else:
        assert len(executed(name, sizes, apart=True).kernels) == 1


@pytest.mark.parametrize("sizes", [{"N": 1, "S": 8, "W": 3}, {"N": 2, "S": 8, "W": 3}, {"N": 3, "S": 9, "W": 2}])
def test_keys_that_no_query_sees_are_not_read(sizes):
    """A sliding window masks the oldest keys for all queries of a chunk, so they are not read."""
    sizes = {"B": 1, "H": 2, "H_kv": 1, "d": 4, "causal": 1, **sizes}
    assert ops.find("attention")(**sizes).read_byte() == executed("attention", sizes).read_byte


@for_each("sizes", TILED)
def test_flash_attention_rereads_what_its_tiles_reread(sizes):
    op, machine = ops.find("flash_attention")(**sizes), executed("flash_attention", sizes)
    assert (op.read_byte(), op.write_byte()) == (machine.read_byte, machine.write_byte)
    assert performed(op) == machine.primitives


@for_each("sizes", TILED)
def test_flash_attention_backward_rereads_what_its_tiles_reread(sizes):
    op, machine = ops.find("flash_attention_backward")(**sizes), executed("flash_attention_backward", sizes)
    assert (op.read_byte(), op.write_byte()) == (machine.read_byte, machine.write_byte)
    assert performed(op) == machine.primitives


def test_a_row_is_rescaled_once_for_every_r_keys_that_it_sees():
    for N, extra, r, W in product(range(1, 6), range(5), range(1, 5), (None, *range(1, 8))):
        S = N + extra
        for causal in (0, 1):
            keys = [sum(algorithms.sees(i, j, N, S, causal, W) for j in range(S)) for i in range(N)]
            rescaled = sum(-(-number // r) for number in keys)
            assert rescalings(N, S, r, causal, W) == rescaled, (N, S, r, causal, W)


@pytest.mark.parametrize("sizes", PRODUCT_TILES, ids=str)
def test_a_tiled_product_rereads_what_its_tiles_reread(sizes):
    op, machine = ops.find("tiled_matmul")(**sizes), executed("tiled_matmul", sizes)
    assert performed(op) == machine.primitives
    assert (op.read_byte(), op.write_byte()) == (machine.read_byte, machine.write_byte)


def test_visible_pairs_are_those_that_a_mask_leaves():
    for N, extra, causal, W in product(range(1, 6), range(5), (0, 1), (None, *range(1, 12))):
        S = N + extra
        seen = sum(algorithms.sees(i, j, N, S, causal, W if causal else None) for i in range(N) for j in range(S))
        assert visible_pairs(N, S, causal, W) == seen, (N, S, causal, W)


def test_distinct_experts_are_the_mean_over_all_choices():
    for E, A, tokens in ((3, 1, 2), (4, 2, 2), (3, 2, 3), (5, 5, 1)):
        choices = list(product(combinations(range(E), A), repeat=tokens))
        mean = Fraction(sum(len(set().union(*choice)) for choice in choices), len(choices))
        assert expected_distinct(E, A, tokens) == pytest.approx(float(mean))


# --- hand-worked examples


@for_each("name", NAMES)
def test_a_hand_worked_example_is_reproduced(name):
    operation = ops.find(name)
    example = operation.example
    op = operation(**example.at)
    kernels = op.kernels()
    assert (op.flops(), op.traffic_byte()) == (example.flops, example.traffic)
    assert bool(kernels) == (example.unfused is not None)
    assert not kernels or sum(kernel.traffic_byte() for _, kernel in kernels) == example.unfused


FACTOR = r"(?:\d+|\([\d +]+\))(?: [a-z]+)?"


def test_an_examples_arithmetic_comes_out():
    """Checks ``2 tokens x 4 x (4 + 2 + 2) = 64`` in the sentences that give the reasons."""
    reasons = [ops.find(name).example.because for name in NAMES]
    products = [found for text in reasons for found in re.findall(rf"({FACTOR}(?: x {FACTOR})+) = (\d+)", text)]
    assert len(products) > 10
    for text, value in products:
        factors = (map(int, re.findall(r"\d+", factor)) for factor in text.split(" x "))
        assert math.prod(map(sum, factors)) == int(value), text


@for_each("name", NAMES)
def test_an_example_gives_its_reason_in_numbers(name):
    assert len(re.findall(r"\d+", ops.find(name).example.because)) >= 2


COMPULSORY = [
    # Each tensor that a caller hands over or gets back, once.
    ("matmul", {"m": 2, "k": 3, "n": 4}, 2 * (6 + 12 + 8)),
    ("gemm", {"m": 2, "k": 3, "n": 4}, 2 * (6 + 12 + 8 + 8)),
    ("tiled_matmul", {"m": 4, "k": 2, "n": 6, "tile_m": 2, "tile_n": 3, "tile_k": 1, "M": 10}, 2 * (8 + 12 + 24)),
    # q and out 2 heads x 3 x 8, k and v 1 head x 4 x 8; scores and probabilities stay on chip.
    ("attention", {"B": 1, "H": 2, "H_kv": 1, "N": 3, "S": 4, "d": 8}, 2 * (48 + 48 + 32 + 32)),
    ("flash_attention", {"B": 1, "H": 2, "H_kv": 1, "N": 6, "S": 8, "d": 8, "M": 128}, 2 * (96 + 96 + 64 + 64)),
    # x 2 x 3, weights 3 x 4 and 4 x 3, y 2 x 3; no hidden activation.
    ("mlp", {"B": 1, "N": 2, "D": 3, "F": 4}, 2 * (6 + 12 + 12 + 6)),
    # u and out 4 x 2, filter 2 x 3, bias 2; no padded signal.
    ("conv1d", {"B": 1, "N": 4, "D": 2, "K": 3}, 2 * (8 + 8 + 6 + 2)),
    ("softmax", {"rows": 3, "cols": 4}, 2 * (12 + 12)),
    # 3 indices of 8 bytes, 3 rows of 4 read and written: not the table of 400.
    ("embedding", {"B": 1, "N": 3, "D": 4, "V": 100}, 3 * 8 + 2 * (12 + 12)),
]


@for_each(("name", "sizes", "expected"), COMPULSORY)
def test_compulsory_bytes_are_each_outer_tensor_once(name, sizes, expected):
    assert ops.find(name)(**sizes).compulsory_byte() == expected


def test_a_tables_parameters_are_not_its_traffic():
    op = ops.find("embedding")(B=1, N=3, D=4, V=50257)
    assert op.parameters() == 50257 * 4
    assert op.traffic_byte() == 24 + 24 + 24  # 3 indices of 8 bytes, 12 elements of 2 read, 12 written


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        # q and out of 48 elements follow the activations, k and v of 32 each the cache.
        ({"act": 2, "cache": 2}, 96 * 2 + 64 * 2),
        ({"act": 2, "cache": 1}, 96 * 2 + 64 * 1),
        ({"act": 4, "cache": 2}, 96 * 4 + 64 * 2),
    ],
)
def test_item_sizes_go_by_role(item, expected):
    assert ops.find("attention")(B=1, H=2, H_kv=1, N=3, S=4, d=8, **item).traffic_byte() == expected


# --- the results of the loops are correct


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch computes the values that the loops are held to")


class Reference:
    """The same results by torch in float64, from the tensors of the machine."""

    def __init__(self, torch, arrays, sizes):
        self.torch, self.F, self.sizes, self.arrays = torch, torch.nn.functional, sizes, arrays
        self.tensors = {
            name: torch.tensor(array.nested(), dtype=torch.float64, requires_grad=True)
            for name, array in arrays.items()
            if array.in_memory
        }

    def __getitem__(self, names):
        found = [self.tensors[name] for name in names.split()]
        return found if len(found) > 1 else found[0]

    def before(self, name):
        """Returns the initial values of a tensor that is changed in place."""
        return self.torch.tensor(self.arrays[name].nested(given=True), dtype=self.torch.float64)

    def derivatives(self, output, names, by):
        """Returns ``dx`` for each x, from the gradient of the output."""
        found = self.torch.autograd.grad(output, [self.tensors[name] for name in names.split()], by)
        return {f"d{name}": value for name, value in zip(names.split(), found, strict=True)}

    def mask(self, N, S):
        own, keys = self.torch.arange(N)[:, None] + S - N, self.torch.arange(S)[None, :]
        return (keys <= own) & (own - keys < self.sizes.get("W", S)) if self.sizes.get("causal") else keys >= 0

    def scores(self, q, k):
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        return q @ k.mT / math.sqrt(q.shape[-1])

    def attended(self, q, k, v):
        scores = self.scores(q, k)
        probs = scores.masked_fill(~self.mask(*scores.shape[2:]), -math.inf).softmax(-1)
        return probs @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)

    def weighted(self, probs, v):
        probs = probs.masked_fill(~self.mask(*probs.shape[2:]), 0.0)
        return probs @ v.repeat_interleave(probs.shape[1] // v.shape[1], dim=1)

    def convolved(self, u, taps, bias):
        padding = taps.shape[1] - 1
        return self.F.conv1d(u.mT, taps[:, None], bias, padding=padding, groups=u.shape[2]).mT[:, : u.shape[1]]

    def turned(self, x):
        """Rotates pairs of neighbours as complex numbers on the unit circle."""
        torch, d = self.torch, x.shape[-1]
        angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)
        pairs = torch.view_as_complex(x.detach().unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(-2)

    def layer_norm(self, x, gamma, beta):
        return self.F.layer_norm(x, x.shape[-1:], gamma, beta, algorithms.EPSILON)

    def rms_norm(self, x, gamma):
        return self.F.rms_norm(x, x.shape[-1:], gamma, algorithms.EPSILON)

    def entropy(self, logits):
        return self.F.cross_entropy(logits.flatten(0, 1), self["targets"].long().flatten(), reduction="none")

    def zeros(self, *shape):
        return self.torch.zeros(*shape, dtype=self.torch.float64, requires_grad=True)


def score_gradients(r):
    """Returns the gradient of the scores, zero where they are masked."""
    scores = r.scores(*r["q k"])
    return r.derivatives(scores.masked_fill(~r.mask(*scores.shape[2:]), 0.0), "q k", r["dscores"])


def masked_probabilities(r):
    return (algorithms.FACTOR * r["scores"] + r["mask"]).softmax(-1)


def masked_gradient(r):
    """torch's gradient of a softmax for given probabilities, through the factor."""
    data = r.torch.ops.aten._softmax_backward_data(r["dprobs"], r["probs"], -1, r["probs"].dtype)
    return {"dscores": algorithms.FACTOR * data}


def test_a_masked_softmax_and_its_gradient_are_those_of_torch(torch):
    """Forward by loops, then backward by loops from these probabilities, against automatic derivatives. Minus infinity
    hides keys: their probability and gradient are zero.
    """
    sizes = {"B": 2, "H": 3, "N": 2, "S": 4}
    found = {}

    class Hidden(Machine):
        def input(self, name, *shape, item=2):
            array = super().input(name, *shape, item=item)
            if name == "mask":
                array.values.update({place: -math.inf if place[1] > place[0] + 2 else 0.0 for place in array.indices()})
            elif name == "probs":
                array.values.update(found)
            return array

    forward, backward = Hidden(), Hidden()
    algorithms.masked_softmax(forward, **sizes)
    found.update(forward.arrays["probs"].values)
    algorithms.masked_softmax_backward(backward, **sizes)
    r = Reference(torch, forward.arrays, sizes)
    by = torch.tensor(backward.arrays["dprobs"].nested(), dtype=torch.float64)
    expected = r.derivatives(masked_probabilities(r), "scores", by)["dscores"]
    own = torch.tensor(backward.arrays["dscores"].nested(), dtype=torch.float64)
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)
    assert (own[:, :, 0, 3] == 0).all()


def layernorm_gradients(r):
    r.tensors["beta"] = r.zeros(*r["gamma"].shape)
    return r.derivatives(r.layer_norm(*r["x gamma beta"]), "x gamma beta", r["dy"])


def conv1d_gradients(r):
    r.tensors["bias"] = r.zeros(r["filter"].shape[0])
    return r.derivatives(r.convolved(*r["u filter bias"]), "u filter bias", r["dout"])


def table_gradient(r):
    r.tensors["table"] = r.zeros(r.sizes["V"], r.sizes["D"])
    return r.derivatives(r.F.embedding(r["tokens"].long(), r["table"]), "table", r["dy"])


def quotient_gradients(r):
    """The operation gets the quotient instead of the numerator."""
    r.tensors["a"] = (r["y"] * r["b"]).detach().requires_grad_()
    return r.derivatives(r["a"] / r["b"], "a b", r["dy"])


def clamped(r, gate, up):
    gate, up = gate.clamp(max=algorithms.LIMIT), up.clamp(-algorithms.LIMIT, algorithms.LIMIT)
    return gate * (1.702 * gate).sigmoid() * (up + 1)


def dequantised(r, repeats):
    """The weights in float64: every scale and zero point repeated over its block."""

    def spread(name):
        return r[name].repeat_interleave(repeats, 0)[: r["w"].shape[0]]

    w = r["w"] - spread("z") if "z" in r.tensors else r["w"]
    return w * spread("s")


def block_scaled(r):
    """Both operands with their scales, then one product."""
    (x, w), group = r["x w"], r.sizes["group"]
    s_x = r["s_x"].repeat_interleave(group, -1)[..., : x.shape[-1]]
    s_w = r["s_w"].repeat_interleave(group, 0).repeat_interleave(group, 1)[: w.shape[0], : w.shape[1]]
    return (x * s_x) @ (w * s_w)


def narrowed(r):
    """Rows cut into runs, padded with zeros, each divided by its largest magnitude."""
    group = r.sizes.get("group", r.sizes["cols"])
    runs = r.F.pad(r["x"], (0, -r.sizes["cols"] % group)).unflatten(1, (-1, group))
    factors = algorithms.LARGEST / runs.abs().amax(2)
    y = (runs * factors[..., None]).flatten(1)[:, : r.sizes["cols"]]
    return {"y": y, "scales": factors}


def narrowed_alike(r):
    factor = algorithms.LARGEST / r["x"].abs().max()
    return {"y": r["x"] * factor, "scales": factor.view(1)}


def gate_fed(r):
    gate, up = (r["x"] @ r["w_gate_up"][:, half] for half in (0, 1))
    return {"y": (r.F.silu(gate) * up) @ r["w_down"]}


def combined(r):
    return (r["outputs"] * r["weights"][..., None]).sum(2)


def convolved_fully(r):
    x, filters, bias = r["x filters bias"]
    stride = r.sizes.get("stride", 1)
    return r.F.conv1d(x.mT, filters, bias, padding=filters.shape[2] // 2, stride=stride).mT


def conv_gradients(r):
    r.tensors["bias"] = r.zeros(r["filters"].shape[0])
    return r.derivatives(convolved_fully(r), "x filters bias", r["dy"])


def shifted(r):
    x, mean = r["x mean"]
    return x * mean + r.F.pad(x, (0, 0, 1, 0))[:, :-1] * (1 - mean)


def scanned(r):
    torch, (u, delta, b, c, a, skip) = r.torch, r["u delta b c a skip"]
    step, h, outputs = r.F.softplus(delta), torch.zeros(u.shape[0], *a.shape, dtype=u.dtype), []
    for t in range(u.shape[1]):
        h = (step[:, t, :, None] * a).exp() * h + (step * u)[:, t, :, None] * b[:, t, None]
        outputs.append(h @ c[:, t, :, None])
    return torch.cat(outputs, dim=-1).mT + skip * u


def routed(r):
    weights, chosen = r["scores"].softmax(-1).topk(r.sizes["A"])
    return {"weights": weights, "chosen": chosen.double()}


def routing_gradients(r):
    arriving = r.torch.zeros_like(r["probs"]).scatter(2, r["chosen"].long(), r["dweights"])
    return {"dscores": r.torch.ops.aten._softmax_backward_data(arriving, r["probs"], -1, arriving.dtype)}


def decaying_mean(r):
    """RWKV as in its paper: a mean of all values so far, weighted by exp(decay x age + key). The newest has a separate
    weight.
    """
    torch, (k, v, decay, first) = r.torch, r["k v decay first"]
    outputs = []
    for t in range(k.shape[1]):
        age = torch.arange(t - 1, -1, -1, dtype=k.dtype)[:, None]
        weights = torch.cat([k[:, :t] + age * decay, (first + k[:, t])[:, None]], dim=1).exp()
        outputs.append((weights * v[:, : t + 1]).sum(1) / weights.sum(1))
    return torch.stack(outputs, dim=1)


def joined(r):
    first, second = r["x"].view(2, -1, r.sizes["run"])
    return {"y": r.torch.cat((first, second), 1).flatten()}


def walked(r):
    """Stride and padding of both sides."""
    pairs = [algorithms.walk(*(r.sizes[name] for name in (s, f"{s}_out", f"K_{s}"))) for s in "hw"]
    return {"stride": tuple(pair[0] for pair in pairs), "padding": tuple(pair[1] for pair in pairs)}


def filtered(r):
    r.tensors.setdefault("x", r.zeros(*(r.sizes[name] for name in ("B", "C", "h", "w"))))
    shape = (r.sizes["C_out"], r.sizes["C"] // r.sizes["groups"], r.sizes["K_h"], r.sizes["K_w"])
    r.tensors.setdefault("filters", r.zeros(*shape))
    return r.F.conv2d(*r["x filters"], groups=r.sizes["groups"], **walked(r))


def averaged(r):
    r.tensors.setdefault("x", r.zeros(*(r.sizes[name] for name in ("B", "C", "h", "w"))))
    return r.F.avg_pool2d(r["x"], (r.sizes["K_h"], r.sizes["K_w"]), **walked(r))


def largest(r):
    y, places = r.F.max_pool2d(r["x"], (r.sizes["K_h"], r.sizes["K_w"]), **walked(r), return_indices=True)
    return {"y": y, "places": places.double()}


def largest_gradient(r):
    zeros = r.zeros(*(r.sizes[name] for name in ("B", "C", "h", "w"))).detach()
    return {"dx": zeros.flatten(2).scatter_add(2, r["places"].long().flatten(2), r["dy"].flatten(2)).view(zeros.shape)}


def resized(r):
    r.tensors.setdefault("x", r.zeros(*(r.sizes[name] for name in ("B", "C", "h", "w"))))
    mode = {1: "nearest", 4: "bilinear", 16: "bicubic"}[r.sizes["taps"]]
    return r.F.interpolate(r["x"], (r.sizes["h_out"], r.sizes["w_out"]), mode=mode)


def trained(r):
    x, gamma, beta = r["x gamma beta"]
    kept = [r.before(name) for name in ("running_mean", "running_var")]
    y = r.F.batch_norm(x, *kept, gamma, beta, True, algorithms.MOMENTUM, algorithms.EPSILON)
    return {"y": y, "running_mean": kept[0], "running_var": kept[1]}


def channel_gradients(r):
    """Of a batch normalisation, or in groups of channels."""
    r.tensors["beta"] = r.zeros(r.sizes["C"])
    x, gamma, beta = r["x gamma beta"]
    if "groups" in r.sizes:
        y = r.F.group_norm(x, r.sizes["groups"], gamma, beta, algorithms.EPSILON)
    else:
        y = r.F.batch_norm(x, None, None, gamma, beta, True, 0.0, algorithms.EPSILON)
    return r.derivatives(y, "x gamma beta", r["dy"])


def stepped(r):
    momentum = algorithms.FIRST * r.before("momentum") + r["gradient"]
    return {"momentum": momentum, "weight": r.before("weight") - algorithms.RATE_OF_STEP * momentum}


def norms(r):
    tensors = r.sizes["tensors"]
    return {"norms": r.torch.stack([r["gradient"][t::tensors].norm() for t in range(tensors)])}


FUNCTIONS = {
    "relu_squared": ("x", lambda r, x: r.F.relu(x) ** 2),
    "relu": ("x", lambda r, x: r.F.relu(x)),
    "gelu": ("x", lambda r, x: r.F.gelu(x)),
    "gelu_tanh": ("x", lambda r, x: r.F.gelu(x, approximate="tanh")),
    "silu": ("x", lambda r, x: r.F.silu(x)),
    "softcap": ("x", lambda r, x: algorithms.CAP * r.torch.tanh(x / algorithms.CAP)),
    "relu_gate": ("gate up", lambda r, gate, up: r.F.relu(gate) * up),
    "relu_squared_gate": ("gate up", lambda r, gate, up: r.F.relu(gate) ** 2 * up),
    "sigmoid_gate": ("gate up", lambda r, gate, up: r.F.sigmoid(gate) * up),
    "tanh_gate": ("gate up", lambda r, gate, up: r.F.tanh(gate) * up),
    "silu_gate": ("gate up", lambda r, gate, up: r.F.silu(gate) * up),
    "gelu_gate": ("gate up", lambda r, gate, up: r.F.gelu(gate) * up),
    "gelu_tanh_gate": ("gate up", lambda r, gate, up: r.F.gelu(gate, approximate="tanh") * up),
    "mul": ("a b", lambda r, a, b: a * b),
    "layernorm_unbiased": ("x gamma", lambda r, x, gamma: r.layer_norm(x, gamma, None)),
    "layernorm_plain": ("x", lambda r, x: r.layer_norm(x, None, None)),
    "rmsnorm_plain": ("x", lambda r, x: r.rms_norm(x, None)),
    "div": ("a b", lambda r, a, b: a / b),
    "add": ("a b", lambda r, a, b: a + b),
    "residual": ("a b", lambda r, a, b: a + b),
    "scale": ("x", lambda r, x: 3 * x),
    "exp": ("x", lambda r, x: x.exp()),
    "clamped_swiglu": ("gate up", clamped),
    "rmsnorm": ("x gamma", lambda r, x, gamma: r.rms_norm(x, gamma)),
}
ATTENTION = ("attention", "multi_head_attention", "cross_attention", "attention_decode", "mla_attention",
             "mla_cached_attention", "flash_attention")  # fmt: skip
ATTENTION_BACKWARD = ("attention_backward", "attention_backward_recompute", "flash_attention_backward",
                      "mla_attention_backward", "mla_attention_backward_recompute")  # fmt: skip
PRODUCTS = ("linear", "output_projection", "logits")

REFERENCES = {
    "matmul": lambda r: {"c": r["a"] @ r["b"]},
    **dict.fromkeys(PRODUCTS, lambda r: {"y": r["x"] @ r["w"]}),
    "linear_bias": lambda r: {"y": r["x"] @ r["w"] + r["b"]},
    **dict.fromkeys(("linear_int4", "linear_mxfp4"), lambda r: {"y": r["x"] @ dequantised(r, r.sizes["group"])}),
    "linear_nvfp4": lambda r: {"y": r["x"] @ dequantised(r, r.sizes["group"]) * r["t"]},
    "linear_int8": lambda r: {"y": r["x"] @ (r["w"] * r["s"])},
    "linear_fp8": lambda r: {"y": block_scaled(r)},
    "quantise_static": lambda r: {"y": (r["x"] * r["scales"]).clamp(-algorithms.LARGEST, algorithms.LARGEST)},
    "quantise_tensor": narrowed_alike,
    **dict.fromkeys(("quantise_token", "quantise_block"), narrowed),
    "linear_input_gradient": lambda r: {"dx": r["dy"] @ r["w"].mT},
    "linear_weight_gradient": lambda r: {"dw": r["x"].flatten(0, 1).mT @ r["dy"].flatten(0, 1)},
    "bias_gradient": lambda r: {"db": r["dy"].sum((0, 1))},
    "qkv": lambda r: {name: r.torch.einsum("bni,ihe->bnhe", r["x"], r[f"w_{name}"]) for name in "qkv"},
    "mlp": lambda r: {"y": r.F.gelu(r["x"] @ r["w_up"]) @ r["w_down"]},
    "gated_mlp": gate_fed,
    "scores": lambda r: {"scores": r.scores(*r["q k"]).masked_fill(~r.mask(*r["scores"].shape[2:]), -math.inf)},
    "scores_backward": score_gradients,
    "weighted_values": lambda r: {"out": r.weighted(*r["probs v"])},
    "weighted_values_backward": lambda r: r.derivatives(r.weighted(*r["probs v"]), "probs v", r["dout"]),
    **dict.fromkeys(ATTENTION, lambda r: {"out": r.attended(*r["q k v"])}),
    **dict.fromkeys(ATTENTION_BACKWARD, lambda r: r.derivatives(r.attended(*r["q k v"]), "q k v", r["dout"])),
    "mla_latent_attention": lambda r: {
        "out": r.attended(r["q"], r.torch.cat(r["latent rotary"], dim=-1), r["latent"])
    },
    "softmax": lambda r: {"y": r["x"].softmax(-1)},
    "softmax_backward": lambda r: {"dx": r.torch.ops.aten._softmax_backward_data(r["dy"], r["y"], -1, r["y"].dtype)},
    "layernorm": lambda r: {"y": r.layer_norm(*r["x gamma beta"])},
    "layernorm_backward": layernorm_gradients,
    "masked_softmax": lambda r: {"probs": masked_probabilities(r)},
    "masked_softmax_backward": masked_gradient,
    **dict.fromkeys(("causal_mask", "full_mask"), lambda r: {"masked": r["scores"] + r["mask"]}),
    "conv1d": lambda r: {"out": r.convolved(*r["u filter bias"])},
    "conv1d_backward": conv1d_gradients,
    "embedding": lambda r: {"y": r.F.embedding(r["tokens"].long(), r["table"])},
    "embedding_backward": table_gradient,
    "cross_entropy": lambda r: {"loss": r.entropy(r["logits"]).view(r["loss"].shape)},
    "cross_entropy_backward": lambda r: r.derivatives(r.entropy(r["logits"]).mean(), "logits", None),
    "rope": lambda r: {"q_turned": r.turned(r["q"]), "k_turned": r.turned(r["k"])},
    "add_bias": lambda r: {"y": r["x"] + r["b"]},
    "combine_experts": lambda r: {"y": combined(r)},
    "combine_experts_backward": lambda r: r.derivatives(combined(r), "outputs weights", r["dy"]),
    "expert_linear": lambda r: {"y": r.torch.einsum("bnai,aio->bnao", *r["x w"])},
    "expert_linear_bias": lambda r: {"y": r.torch.einsum("bnai,aio->bnao", *r["x w"]) + r["b"]},
    "expert_input_gradient": lambda r: {"dx": r.torch.einsum("bnao,aio->bnai", *r["dy w"])},
    "expert_weight_gradient": lambda r: {"dw": r.torch.einsum("bnai,bnao->aio", *r["x dy"])},
    "conv": lambda r: {"y": convolved_fully(r)},
    "conv_backward": conv_gradients,
    "selective_scan": lambda r: {"y": scanned(r)},
    "selective_scan_backward": lambda r: r.derivatives(scanned(r), "u delta b c a skip", r["dy"]),
    "wkv": lambda r: {"y": decaying_mean(r)},
    "wkv_backward": lambda r: r.derivatives(decaying_mean(r), "k v decay first", r["dy"]),
    "learned": lambda r: {"y": r["table"]},
    "route": routed,
    "route_backward": routing_gradients,
    "expert_bias_gradient": lambda r: {"db": r["dy"].sum((0, 1))},
    "token_shift": lambda r: {"mixed": shifted(r)},
    "token_shift_backward": lambda r: r.derivatives(shifted(r), "x mean", r["dmixed"]),
    "sigmoid": lambda r: {"y": r["x"].sigmoid()},
    "sigmoid_backward": lambda r: {"dx": r.torch.ops.aten.sigmoid_backward(*r["dy y"])},
    "tanh": lambda r: {"y": r["x"].tanh()},
    "tanh_backward": lambda r: {"dx": r.torch.ops.aten.tanh_backward(*r["dy y"])},
    **{name: lambda r, n=names, f=f: {"y": f(r, *(r[x] for x in n.split()))} for name, (names, f) in FUNCTIONS.items()},
    **{
        f"{name}_backward": lambda r, n=names, f=f: r.derivatives(f(r, *(r[x] for x in n.split())), n, r["dy"])
        for name, (names, f) in FUNCTIONS.items()
        if f"{name}_backward" in NAMES
    },
    "div_backward": quotient_gradients,
    "dropout": lambda r: {"y": r["x"] * r["kept"] / 0.9},
    "dropout_backward": lambda r: {"dx": r["dy"] * r["kept"] / 0.9},
    "gemm": lambda r: {"c": r.torch.addmm(r.before("c"), *r["a b"])},
    "tiled_matmul": lambda r: {"c": r["a"] @ r["b"]},
    "dot": lambda r: {"scratch": r.torch.dot(*r["x y"]).view(1)},
    "saxpy": lambda r: {"y": 3 * r["x"] + r.before("y")},
    "stream_copy": lambda r: {"c": r["a"]},
    "stream_scale": lambda r: {"b": 3 * r["c"]},
    "stream_add": lambda r: {"c": r["a"] + r["b"]},
    "stream_triad": lambda r: {"a": r["b"] + 3 * r["c"]},
    "mean": lambda r: {"y": r["x"].mean(1)},
    "mean_backward": lambda r: {"dx": r["dy"][:, None].expand(-1, r.sizes["N"], -1) / r.sizes["N"]},
    "positions": lambda r: {"y": r["table"][r.sizes["T"] - r.sizes["N"] : r.sizes["T"]][None]},
    "copy": lambda r: {"y": r["x"].repeat(r.sizes["numel"] // r.sizes["distinct"])},
    "concatenate": joined,
    "fill": lambda r: {"y": r.torch.full((r.sizes["numel"],), algorithms.VALUE, dtype=r.torch.float64)},
    "where": lambda r: {"y": r.torch.where(r["mask"] > 0, *r["a b"])},
    "masked_fill": lambda r: {"y": r["x"].masked_fill(r["mask"] > 0, algorithms.VALUE)},
    "compare": lambda r: {"y": (r["a"] > r["b"]).double()},
    "integer": lambda r: {"y": r["a"] + r["b"]},
    "random": lambda r: {"y": r.torch.tensor(r.arrays["scratch"].nested()).double() * algorithms.WIDTH + algorithms.LOW},
    "gather": lambda r: {"y": r["table"][r["index"].long()]},
    "scatter": lambda r: {"table": r.before("table").index_copy(0, r["index"].long(), r["x"])},
    "scatter_add": lambda r: {"table": r.before("table").index_add(0, r["index"].long(), r["x"])},
    "reduce_sum": lambda r: {"y": r["x"].sum(1)},
    "reduce_max": lambda r: {"y": r["x"].amax(1)},
    "argmax": lambda r: {"y": r["x"].argmax(1).double()},
    "cumulative_sum": lambda r: {"y": r["x"].cumsum(1)},
    "top_k": lambda r: dict(zip(("values", "places"), map(r.torch.Tensor.double, r["x"].topk(r.sizes["chosen"])), strict=True)),
    "sort": lambda r: dict(zip(("values", "places"), map(r.torch.Tensor.double, r["x"].sort(1)), strict=True)),
    "conv2d": lambda r: {"y": filtered(r)},
    "conv2d_input_gradient": lambda r: r.derivatives(filtered(r), "x", r["dy"]),
    "conv2d_weight_gradient": lambda r: r.derivatives(filtered(r), "filters", r["dy"]),
    "max_pool2d": largest,
    "max_pool2d_backward": largest_gradient,
    "average_pool2d": lambda r: {"y": averaged(r)},
    "average_pool2d_backward": lambda r: r.derivatives(averaged(r), "x", r["dy"]),
    "interpolate": lambda r: {"y": resized(r)},
    "interpolate_backward": lambda r: r.derivatives(resized(r), "x", r["dy"]),
    "batch_norm": trained,
    "batch_norm_inference": lambda r: {"y": r.F.batch_norm(*(t.detach() for t in r["x mean variance gamma beta"]), eps=algorithms.EPSILON)},
    "group_norm": lambda r: {"y": r.F.group_norm(r["x"], r.sizes["groups"], *r["gamma beta"], eps=algorithms.EPSILON)},
    **dict.fromkeys(("batch_norm_backward", "group_norm_backward"), channel_gradients),
    "log_softmax": lambda r: {"y": r["x"].log_softmax(1)},
    "log_softmax_backward": lambda r: {"dx": r.torch.ops.aten._log_softmax_backward_data(*r["dy y"], 1, r["y"].dtype)},
    "nll_loss": lambda r: {"loss": r.F.nll_loss(r["x"], r["targets"].long(), reduction="sum").view(1)},
    "nll_loss_backward": lambda r: {"dx": -r.F.one_hot(r["targets"].long(), r.sizes["cols"]).double()},
    "sgd_step": stepped,
    "foreach": lambda r: {"y": r["lists"].sum(0)},
    "gradient_norm": norms,
}  # fmt: skip

STEPPED = {"adam", "adam_step"}  # whose reference is an optimizer's step: the test after the next
CHECKED = [
    *(case for case in CASES if case[0] not in STEPPED),
    *((name, sizes) for name in ("flash_attention", "flash_attention_backward") for sizes in TILED),
    *(("tiled_matmul", sizes) for sizes in PRODUCT_TILES),
]


def test_every_operation_has_loops_and_a_reference_by_torch():
    alone = set(NAMES) - set(ops.FAMILIES["collectives"].split())  # these have ranks: see test_collectives.py
    assert {name for name, _ in CHECKED} | STEPPED == alone
    assert REFERENCES.keys() | STEPPED == alone


@for_each(("name", "sizes"), CHECKED)
def test_the_loops_compute_what_torch_computes(torch, name, sizes):
    machine = executed(name, sizes)
    reference = Reference(torch, machine.arrays, sizes)
    for output, expected in REFERENCES[name](reference).items():
        found = torch.tensor(machine.arrays[output].nested(), dtype=torch.float64)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "start"), [("adam", "master"), ("adam_step", "weight")])
def test_the_loops_of_adam_take_torchs_step(torch, name, start):
    """Both start from the same moments after four steps. The random numbers of the machine have a fixed order."""
    run, before = executed(name, {"params": 5} if name == "adam" else {"params": 5, "tensors": 2}), Machine()
    given = {name: before.input(name, 5).nested() for name in ("gradient", "mean", "variance", start)}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in given.items()}
    weight = torch.nn.Parameter(tensors[start])
    optimizer = torch.optim.AdamW([weight], algorithms.RATE_OF_STEP, (algorithms.FIRST, algorithms.SECOND),
                                  algorithms.TINY, algorithms.DECAY)  # fmt: skip
    moments = {"exp_avg": tensors["mean"], "exp_avg_sq": tensors["variance"].abs()}
    optimizer.state[weight] = {"step": torch.tensor(algorithms.STEPS - 1.0), **moments}
    weight.grad = tensors["gradient"]
    optimizer.step()
    found = torch.tensor(run.arrays["weight"].nested(), dtype=torch.float64)
    torch.testing.assert_close(found, weight.detach(), rtol=1e-9, atol=1e-12)


@for_each("name", NAMES)
def test_a_spilled_tensor_is_read_by_as_many_kernels_as_it_says(name):
    op = ops.find(name)(**ops.find(name).example.at)
    for tensor in op.tensors:
        if tensor.spill:
            readers = sum(tensor.name in work.reads for work in op.work)
            writers = sum(tensor.name in work.writes for work in op.work)
            assert (tensor.reads, tensor.writes) == (readers, writers), tensor.name
