"""Facts: every operation states how it runs, and the stated sizes agree with its counts and tensors."""

from __future__ import annotations

from math import ceil, isclose, prod

import pytest
from many import for_each

from perfmodel import eager, ops, runs
from perfmodel.analysis import analyse
from perfmodel.arithmetic import visible_pairs
from perfmodel.block import Kernel, kernels
from perfmodel.cases import case
from perfmodel.config_files import workload
from perfmodel.hardware import gpu
from perfmodel.mixes import SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.timing import parameters, products, sequence
from perfmodel.timing.kernels import UNMODELLED, parts
from perfmodel.timing.walks import Attended

EVERY = list(ops.every())
H200 = parameters.card(gpu("h200"))


def made(operation):
    return operation(**operation.example.at)


@for_each("operation", EVERY)
def test_every_operation_and_every_stage_says_how_it_runs(operation):
    op = made(operation)
    assert runs.each(op.runs), operation.name
    for name, kernel in op.kernels():
        assert runs.each(kernel.runs), name


def multiply_adds(fact):
    """Multiply-adds of a product from its three sizes and its batch."""
    if isinstance(fact, runs.Stage):
        return multiply_adds(fact.kernel)
    if isinstance(fact, runs.GroupedGemm):
        return prod(map(runs.number, (fact.rows, fact.k, fact.n)))
    return prod(map(runs.number, fact[:4])) if isinstance(fact, runs.Gemm) else 0


def stated(op):
    return sum(map(multiply_adds, runs.each(op.runs)))


@for_each("operation", EVERY)
def test_the_products_that_are_stated_do_the_counted_work(operation):
    """2 m k n of the facts equals the counted FLOPs, kernel by kernel, if nothing is masked."""
    for op in (made(operation), *(kernel for _, kernel in made(operation).kernels())):
        if stated(op):
            assert 2 * stated(op) == op.contraction_flops(), operation.name


@for_each("W", [None, 1, 3, 128, 4096])
@for_each(("N", "S"), [(8, 8), (1, 9), (5, 9), (512, 512), (8192, 8192)])
def test_a_window_is_stated_and_not_inferred(N, S, W):
    op = ops.find("attention")(B=2, H=4, H_kv=2, N=N, S=S, d=8, causal=1, W=W)
    size = Attended.of(op.runs)
    assert size.window == (W if W is not None and N > 1 and W < S else 0)
    assert size.visible == op.tensor("k").shape[2]
    assert size.causal == (N > 1)
    scores = dict(op.kernels())["scores"].runs.kernel
    # an eager product computes every pair, including masked ones
    keys = size.keys if N == 1 else S  # a single query's window limits the keys themselves
    assert multiply_adds(scores) == 2 * 4 * N * keys * 8 >= 2 * 4 * visible_pairs(N, S, 1, W) * 8


def test_a_window_of_4096_costs_the_keys_of_a_window_of_4096():
    """The mean number of keys per query tile near its end is W plus at most one tile of queries and two steps of keys."""
    from perfmodel.timing.walks import Tile, walked

    op = ops.find("attention")(B=1, H=1, H_kv=1, N=8192, S=8192, d=128, causal=1, W=4096)
    _, longest, _ = walked(Attended.of(op.runs), 8192, Tile(128, 64, 2), 1)
    assert 4096 <= longest <= 4096 + 128 + 64


@pytest.mark.parametrize(
    ("name", "phase", "share"),
    [("mixtral-8x7b", "train", 0.55), ("qwen3-30b-a3b", "train", 0.3), ("deepseek-v2-lite", "train", 0.3), ("gpt-oss-20b", "train", 0.3)],
)  # fmt: skip
def test_training_with_experts_runs_near_its_bound(name, phase, share):
    """The gradients of an expert are products over its rows. A flattened tensor had given 10.77 s, 24 times the bound.

    The optimizer is left out: torch's fused step is far from its bound.
    """
    answer = analyse(workload(name), phase=phase, gpu=gpu("h200"))
    layers = [row for row in answer.rows if row.operation != "adam"]
    lower_s = sum(row.bounds.lower_s * row.repeat for row in layers)
    assert lower_s > share * sum(row.expected.expected_s * row.repeat for row in layers)
    for row in answer.rows:
        if row.operation.startswith("expert_") and row.contraction_flops:
            assert row.expected.expected_s < 4 * row.bounds.lower_s + 20e-6, row.name


def test_rows_are_shared_out_over_the_distinct_experts():
    op = ops.find("expert_weight_gradient")(B=1, N=100, D_in=32, D_out=48, E=8, A=2)
    (fact,) = runs.each(op.runs)
    # 200 rows over 8 x (1 - 0.75^100) = 8 experts: 25 rows each, summed into matrices of 32 x 48
    assert products.Product.of(fact.even())[:4] == (32, 25, 48, 8)
    forward = runs.each(ops.find("expert_linear")(B=1, N=3, D_in=32, D_out=48, E=8, A=2).runs)[0].even()
    assert forward[0] == ceil(6 / round(8 * (1 - 0.75**3)))


@pytest.mark.parametrize("name", ["whisper-base", "whisper-large-v3"])
def test_gradients_of_a_full_convolution_are_two_products(name):
    answer = analyse(workload(name), phase="train", gpu=gpu("h200"))
    rows = [row for row in answer.rows if row.operation == "conv_backward"]
    assert rows
    for row in rows:
        assert row.expected.expected_s < 8 * row.bounds.lower_s + 20e-6


def test_bytes_per_element_reach_the_time_of_a_product():
    """One row by a large matrix is bound by reading the weights. Half of the bytes take about half of the time."""
    times = {}
    for weight in (4, 2, 1, 0.5):
        op = ops.find("linear")(B=1, N=1, D_in=16384, D_out=16384, weight=weight)
        (part,) = parts(H200, op, "fp16", "")
        times[weight] = part.body(0.0).seconds
        assert part.byte == 2 * 16384 * 2 + 16384 * 16384 * weight
    for weight in (4, 2):
        assert isclose(times[weight], 2 * times[weight / 2], rel_tol=0.15), weight
    assert times[0.5] < times[1] < times[2]


def test_a_narrow_cache_reaches_the_time_of_attention():
    line = {"B": 64, "H": 32, "H_kv": 8, "N": 1, "S": 8192, "d": 128}
    two, one = (
        parts(H200, ops.find("attention")(**line, cache=cache), "fp16", "")[0].body(0.0).seconds for cache in (2, 1)
    )
    assert isclose(two, 2 * one, rel_tol=0.1)


def test_an_operation_without_a_mechanism_is_priced_by_bytes_with_a_wide_range():
    op = Op(
        (Tensor("x", (1 << 24,), 2, reads=1), Tensor("y", (1 << 24,), 2, writes=1)),
        (Work("unheard of", each(SUM, 1 << 24), Engine.VECTOR),),
    )
    (part,) = parts(H200, op, "fp16", "")
    assert part.body(0.0).mechanism == UNMODELLED
    step = next(iter(workload("mlp-4096").steps))
    whole = sequence.expected(H200, [(Kernel("x", "x", 1, op, step), 0.0)], "fp16")[1]
    assert whole.high_s > 1.9 * whole.expected_s
    assert whole.low_s < 0.55 * whole.expected_s
    assert isclose(whole.unmodelled_s, part.body(0.0).seconds, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("name", "phase", "operation"),
    [("rwkv-4-169m", "prefill", "wkv"), ("mamba-130m", "prefill", "selective_scan"), ("gpt2", "train", "cross_entropy")],
)  # fmt: skip
def test_what_has_no_mechanism_is_told(name, phase, operation):
    answer = analyse(workload(name), phase=phase, gpu=gpu("h200"))
    (note,) = [note for note in answer.notes if note.startswith("Timed by bytes alone")]
    assert operation in note


def launched(line):
    read = case(line)
    return list(eager.launched(kernels(read.steps, read.dims, fused=read.fused), line["impl"], read.dtype))


def test_bytes_of_naive_attention_are_those_of_its_kernels():
    """Scores are scaled into a new tensor. A mask takes two kernels; then the scores are copied and filled."""
    shape = {"B": 1, "H": 2, "H_kv": 2, "N": 8, "S": 8, "d": 4}
    plain = launched({"op": "attention", "shape": shape, "dtype": "fp16", "impl": "naive"})
    masked = launched({"op": "attention", "shape": shape, "dtype": "fp16", "impl": "naive", "causal": True})
    square, table, heads = 64, 128, 64  # elements of one head's scores, of all, of each of q, k, v and out
    stages = (2 * heads + table) + 2 * table + (table + 2 * heads)
    assert sum(k.op.traffic_byte() for k in plain) == 2 * (stages + 2 * table)
    # the mask: 64 bytes written, then read and written; a copy and a filling of the scores
    assert sum(k.op.traffic_byte() for k in masked) == 2 * (stages + 2 * table) + 3 * square + 2 * 2 * 2 * table
    assert len(masked) == 8
    assert sum(k.op.contraction_flops() for k in plain) == 2 * 2 * 2 * 64 * 4


def test_math_attention_moves_fp32():
    shape = {"B": 1, "H": 4, "H_kv": 2, "N": 8, "S": 8, "d": 4}
    ran = launched({"op": "attention", "shape": shape, "dtype": "fp16", "impl": "math"})
    scores = next(kernel for kernel in ran if kernel.name == "attention.scores")
    assert scores.dtype == "fp32"
    assert scores.op.traffic_byte() == 4 * (4 * 8 * 4 + 2 * 8 * 4 + 4 * 8 * 8)
    assert scores.op.runs.kernel.items == (4, 4, 4)
    assert [kernel.name.rsplit(".", 1)[1] for kernel in ran[:3]] == ["cast"] * 3


def test_stages_are_the_unfused_form_and_naive_is_what_eager_code_runs():
    shape = {"B": 1, "H": 2, "H_kv": 2, "N": 8, "S": 8, "d": 4}
    stages, naive = (launched({"op": "attention", "shape": shape, "impl": impl}) for impl in ("stages", "naive"))
    assert [kernel.operation for kernel in stages] == ["scores", "softmax", "output"]
    assert sum(k.op.traffic_byte() for k in stages) < sum(k.op.traffic_byte() for k in naive)
    assert sum(k.op.flops() for k in stages) == sum(k.op.flops() for k in naive)


@pytest.mark.parametrize("N", [8192, 8320, 16384])
@pytest.mark.parametrize("part", [2, 4, 16])
def test_a_walk_under_a_window_is_that_of_its_tiles(N, part):
    """The keys of all tiles, one by one in whole steps, on both sides of the number that is summed in closed form."""
    from perfmodel.timing.walks import Tile, walked

    W, tile = N // part, Tile(128, 128, 2)
    op = ops.find("attention")(B=1, H=1, H_kv=1, N=N, S=N, d=128, causal=1, W=W)
    steps = [
        ceil((min(N, (i + 1) * tile.queries) - max(0, i * tile.queries - W + 1)) / tile.keys) * tile.keys
        for i in range(ceil(N / tile.queries))
    ]
    mean, _, _ = walked(Attended.of(op.runs), N, tile, 1)
    assert isclose(mean, sum(steps) / len(steps), rel_tol=0.06)


@for_each("operation", EVERY)
def test_rotating_lies_between_warm_and_cold(operation):
    """No protocol finds more or less than all of the data in L2, whatever the operation."""
    op = made(operation)
    if not op.tensors:
        return
    step = next(iter(workload("mlp-4096").steps))
    times = {
        protocol: sequence.expected(H200, [(Kernel("x", "x", 1, op, step), 0.0)], "fp16", protocol=protocol)[1]
        for protocol in ("warm", "rotating", "cold")
    }
    body = {protocol: sum(each.seconds for each in found.bodies) for protocol, found in times.items()}
    late_s = sum(term.seconds for term in times["warm"].terms if term.name == "write-back of the previous run")
    assert body["warm"] * (1 - 1e-9) <= body["rotating"] <= (body["cold"] + late_s) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("conv", {"B": 8, "N": 150_000, "D_in": 64, "D_out": 64, "K": 9}),
        ("gemm", {"m": 16384, "k": 8, "n": 16384}),
        ("mla_cached_attention", {"B": 8, "H": 16, "N": 1, "S": 8192, "d": 128, "d_r": 64, "d_v": 128, "cache": 1}),
    ],
)  # fmt: skip
def test_bytes_of_the_time_are_those_of_the_tensors(name, sizes):
    """A convolution's inputs overlap, an accumulating product reads C, a cache may be narrower than the queries."""
    op = ops.find(name)(**sizes)
    found = sum(part.body(0.0).seconds for part in parts(H200, op, "fp16", ""))
    least_s = max(op.traffic_byte() / 4.8e12, 2 * op.contraction_flops() / 2 / 990e12)
    assert 0.8 * least_s < found < 3 * least_s + 20e-6
