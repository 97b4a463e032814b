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
        ({"op": "linear_fp8", "shape": {**LINEAR, "D_in": 512}, "dtype": "bf16"}, "rows in multiples of 4"),
        ({"op": "linear_int8", "shape": LINEAR, "dtype": "bf16", "impl": "serving"}, "serving stands for the kernel of a serving stack"),
        ({"op": "matmul", "shape": {"m": 8, "k": 16, "n": 16}, "dtype": "fp8", "impl": "static_scale"}, "torch_static_scale is accepted in fp8"),
        ({"op": "linear", "shape": LINEAR, "dtype": "fp8", "impl": "token_scale"}, "no program measures linear in fp8"),
        ({"op": "mla_latent_attention", "shape": {"B": 1, "H": 2, "N": 1, "S": 8, "r": 4, "d_r": 2}, "dtype": "bf16"}, "naive is accepted"),
    ],
)  # fmt: skip
def test_a_case_without_a_program_is_told(line, told):
    assert told in Device("cpu").measure(line)["error"]


def test_the_scales_of_a_product_in_blocks_have_the_layout_of_the_library(monkeypatch):
    """Shapes by torch's own check for CUDA, which needs no device. Strides as cuBLAS reads them: scales of 1 x 128 have
    neighbouring rows, scales of 128 x 128 neighbouring runs of inputs. A column of 8 rows has 32 bytes.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from perfmodel.measure.workloads import Bench, quantised

    class Unfilled(Bench):
        def __init__(self, line):
            self.torch, self.device, self.case, self.dtype = torch, "cuda", case(line), torch.bfloat16
            self.shape = self.case.dims

        def normal(self, *shape, **more):
            return torch.empty(shape, device="cuda", dtype=self.dtype)

    given, real = [], torch._scaled_mm
    monkeypatch.setattr(torch, "_scaled_mm", lambda *tensors, **more: given.append(tensors) or real(*tensors, **more))
    shape = {"B": 1, "N": 8, "D_in": 1024, "D_out": 256}
    with FakeTensorMode():
        program = quantised.build(Unfilled({"op": "linear_fp8", "shape": shape, "dtype": "bf16", "impl": "torch"}))
        assert program.run().shape == (8, 256)
    _, _, rows, blocks = given[0]
    assert (rows.shape, rows.stride()) == ((8, 8), (1, 8))
    assert (blocks.T.shape, blocks.T.stride()) == ((2, 8), (8, 1))


@pytest.mark.gpu
@pytest.mark.parametrize("impl", ["torch_static_scale", "torch_token_scale", "torch_tensor_scale", "torch_block_scale"])
def test_a_scaled_product_computes_its_reference_on_a_gpu(impl):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this device has no products of 8-bit floats with blocks")
    line = {"op": "matmul", "shape": {"m": 64, "k": 1024, "n": 512}, "dtype": "fp8", "impl": impl, "protocol": "warm"}
    found = Device("cuda").measure(line)
    assert "error" not in found, found


def bits_of(value, exponent_bits, mantissa_bits):
    """The magnitude of a small float, by its fields."""
    bias = 2 ** (exponent_bits - 1) - 1
    exponent, mantissa = value >> mantissa_bits & (2**exponent_bits - 1), value & (2**mantissa_bits - 1)
    if exponent == 0:
        return mantissa / 2**mantissa_bits * 2.0 ** (1 - bias)
    return (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias)


@pytest.mark.parametrize(("op", "group"), [("linear_int4", 32), ("linear_mxfp4", 32), ("linear_nvfp4", 16)])
def test_the_reference_decodes_the_bits_of_its_format(op, group):
    """Weight by weight from the packed bytes: the first of a byte in its low half, scales and zero points by column."""
    from perfmodel.measure.workloads import Bench
    from perfmodel.measure.workloads.quantised import unpacked_weights

    D_in, D_out = 128, 6
    line = {
        "op": op,
        "shape": {"B": 1, "N": 1, "D_in": D_in, "D_out": D_out, "group": group},
        "dtype": "bf16",
        "impl": "ours",
    }
    bench = Bench(torch, "cpu", case(line))
    bits = bench.indices(D_out * D_in // 2, 256).view(D_out, D_in // 2).to(torch.uint8)
    packed, wide = unpacked_weights(bench, bits, D_in // group)
    for column in range(D_out):
        for i in range(D_in):
            half = int(bits[column, i // 2]) >> 4 * (i % 2) & 15
            block, scale = i // group, float(packed.scales[column, i // group])
            if op == "linear_int4":
                zero = int(packed.zeros[column, block // 2]) >> 4 * (block % 2) & 15
                expected = (half - zero) * scale
            else:
                sign, magnitude = (-1) ** (half >> 3), bits_of(half & 7, 2, 1)
                factor = 2.0 ** (scale - 127) if op == "linear_mxfp4" else bits_of(int(scale), 4, 3) * packed.whole
                expected = sign * magnitude * factor
            assert float(wide[column, i]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize(
    ("op", "group"), [("linear_int4", 128), ("linear_int4", 32), ("linear_mxfp4", 32), ("linear_nvfp4", 16)]
)
def test_a_product_with_unpacked_weights_computes_its_reference_on_a_gpu(op, group, rows):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("cupy", reason="CuPy is not installed")
    shape = {"B": 1, "N": rows, "D_in": 1024, "D_out": 520, "group": group}
    for dtype in ("bf16", "fp16"):
        found = Device("cuda").measure({"op": op, "shape": shape, "dtype": dtype, "impl": "ours", "protocol": "warm"})
        assert "error" not in found, found


@pytest.mark.gpu
@pytest.mark.parametrize("line", RUNS, ids=lambda line: line["op"])
def test_a_program_computes_its_reference_on_a_gpu(line):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this device lacks some of these products")
    found = Device("cuda").measure({**line, "protocol": "warm"})
    assert "error" not in found, found


def test_a_value_between_two_8_bit_floats_may_be_rounded_to_either():
    """Neighbours of 1 are 1 / 8 apart: 1.0625 may be 1 or 1.125; 1.07 is 1.125, and 1.125 is not rounded to 1."""
    from perfmodel.measure.workloads.quantised import nearest

    exact = torch.tensor([1.0625, 1.0625, 1.07, 1.125], dtype=torch.float64)
    got = torch.tensor([1.0, 1.125, 1.0, 1.0], dtype=torch.float64)
    assert nearest(torch, exact, got).tolist() == [1.0, 1.125, 1.125, 1.125]
