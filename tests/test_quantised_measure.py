"""Measured cases of quantised weights, experts and latent attention: programs on a processor, and on a GPU."""

from __future__ import annotations

import json

import pytest

from perfmodel import hardware, routing
from perfmodel.case_files import read
from perfmodel.cases import case
from perfmodel.prediction import predictions

torch = pytest.importorskip("torch", reason="torch runs the programs")

from perfmodel.measure.bench import Device  # noqa: E402 - needs torch
from perfmodel.measure.suites import SUITES  # noqa: E402
from perfmodel.measure.workloads import FAMILY, build  # noqa: E402
from perfmodel.measure.workloads.quantised import rows_of_experts  # noqa: E402

LINEAR = {"B": 1, "N": 6, "D_in": 256, "D_out": 128}
LATENT = {"B": 2, "H": 4, "N": 24, "S": 32, "d": 16, "d_r": 8, "d_v": 12, "r": 20}
RUNS = [
    {"op": "linear_int4", "shape": {**LINEAR, "group": 64, "zero": 2}, "dtype": "bf16"},
    {"op": "linear_int8", "shape": LINEAR, "dtype": "bf16"},
    {"op": "expert_linear", "shape": {"B": 1, "N": 40, "D_in": 64, "D_out": 32, "E": 8, "A": 2, "routing": 1.2}, "dtype": "bf16"},
    {"op": "mla_attention", "shape": LATENT, "dtype": "bf16", "impl": "naive", "causal": True},
    {"op": "mla_attention", "shape": {**LATENT, "S": 24}, "dtype": "bf16", "impl": "fused", "causal": True},
    {"op": "mla_latent_attention", "shape": {k: LATENT[k] for k in ("B", "H", "S", "d_r", "r")} | {"N": 1}, "dtype": "bf16",
     "impl": "naive"},
    {"op": "mla_latent_attention", "shape": {k: LATENT[k] for k in ("B", "H", "N", "S", "d_r", "r")}, "dtype": "bf16",
     "impl": "naive", "causal": True},
]  # fmt: skip
each_run = pytest.mark.parametrize("line", RUNS, ids=lambda line: line["op"])


@each_run
def test_a_program_computes_its_reference(line):
    """Runs on the processor, and is compared with float64 before it is timed."""
    found = Device("cpu").measure({**line, "protocol": "warm"})
    assert "error" not in found
    assert 0 < found["relative_norm"] < 1.2e-2
    assert found["median_us"] > 0


@each_run
def test_a_wrong_result_is_found(line):
    """One changed element of the output is an error of that element."""
    from perfmodel.measure.program import verdict

    program = build(torch, "cpu", case(line))
    out = program.run().clone()
    out.flatten()[0] += 8 * out.abs().max()
    assert verdict(program.compare(out), "bf16", torch).wrong


def test_the_rows_of_experts_are_those_of_the_routing():
    """20,000 tokens: the shares of the experts, within five standard deviations."""
    counts = rows_of_experts(16, 4, 20_000, 1.1)
    assert sum(counts) == 80_000
    for count, share in zip(counts, routing.shares(16, 4, 1.1), strict=True):
        assert abs(count - 20_000 * share) <= 5 * (20_000 * share * (1 - share)) ** 0.5 + 1


def test_every_case_of_the_suite_has_a_program_and_a_prediction():
    lines = SUITES["quantised"]()
    assert {line["op"] for line in lines} <= FAMILY.keys()
    found = list(predictions(read(map(json.dumps, lines), "suite"), hardware.gpu("h100")))
    assert [one.error for one in found if one.error] == []
    assert all(one.expected.expected_s >= one.total.lower_s for one in found)
    unmodelled = {one.line["op"] for one in found if one.expected.unmodelled_s}
    assert unmodelled == set()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"op": "linear_int4", "shape": LINEAR, "dtype": "fp16"}, "inputs in multiples of 128"),
        ({"op": "linear_int4", "shape": {**LINEAR, "group": 64}, "dtype": "bf16"}, "torch's zero points have 2 bytes"),
        ({"op": "linear_int8", "shape": LINEAR, "dtype": "fp32"}, "bf16 and fp16 are accepted"),
        ({"op": "linear_fp8", "shape": LINEAR, "dtype": "bf16"}, "on a GPU are accepted"),
        ({"op": "quantise_token", "shape": {"rows": 4, "cols": 128}, "dtype": "bf16"}, "the CUDA kernels need a GPU"),
        ({"op": "linear", "shape": LINEAR, "dtype": "fp8", "impl": "token_scale"}, "no program measures linear in fp8"),
        ({"op": "mla_latent_attention", "shape": {"B": 1, "H": 2, "N": 1, "S": 8, "r": 4, "d_r": 2}, "dtype": "bf16"}, "naive is accepted"),
    ],
)  # fmt: skip
def test_a_case_without_a_program_is_told(line, told):
    assert told in Device("cpu").measure(line)["error"]


@pytest.mark.gpu
@pytest.mark.parametrize("impl", ["static_scale", "token_scale", "tensor_scale", "block_scale"])
def test_a_scaled_product_computes_its_reference_on_a_gpu(impl):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this device has no products of 8-bit floats with blocks")
    line = {"op": "matmul", "shape": {"m": 64, "k": 1024, "n": 512}, "dtype": "fp8", "impl": impl, "protocol": "warm"}
    found = Device("cuda").measure(line)
    assert "error" not in found, found
