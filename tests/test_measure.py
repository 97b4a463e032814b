"""Measuring: programs against float64, records, runs with injected faults, and this processor for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import given_rates
import pytest
from command import perfmodel as command
from many import for_each

from perfmodel import measured, ops, records, validation
from perfmodel.cases import PROTOCOLS, case
from perfmodel.errors import InputError, NoDeviceError
from perfmodel.hardware import gpu
from perfmodel.measure import counters, environment, processor, runner, session, stopwatch, suites
from perfmodel.measure.program import Program, verdict
from perfmodel.measure.stopwatch import Cpu, Cuda, Samples, steadiest
from perfmodel.vocabulary import kind

ADD = {
    "op": "elementwise",
    "kind": "add",
    "shape": {"numel": 4096},
    "dtype": "fp32",
    "impl": "torch",
    "protocol": "warm",
}
SMALL = [
    {"op": "matmul", "shape": {"m": 24, "k": 40, "n": 56}, "dtype": "fp32"},
    {"op": "matmul", "shape": {"m": 24, "k": 40, "n": 56, "batch": 3}, "dtype": "fp64"},
    {"op": "softmax", "shape": {"rows": 17, "cols": 33}, "dtype": "fp32"},
    {"op": "layernorm", "shape": {"rows": 17, "cols": 33}, "dtype": "fp32"},
    {"op": "rmsnorm", "shape": {"rows": 17, "cols": 33}, "dtype": "fp32"},
    {"op": "attention", "shape": {"B": 2, "H": 4, "H_kv": 2, "N": 9, "S": 9, "d": 8}, "dtype": "fp32", "impl": "naive"},
    {"op": "attention", "shape": {"B": 2, "H": 4, "N": 9, "S": 12, "d": 8}, "dtype": "fp32", "impl": "naive", "causal": True},
    ADD,
]  # fmt: skip
TORCH_ONLY = [
    {"op": "softmax_backward", "shape": {"rows": 17, "cols": 33}, "dtype": "fp32"},
    {"op": "layernorm_backward", "shape": {"rows": 17, "cols": 33}, "dtype": "fp32"},
    {"op": "attention", "shape": {"B": 2, "H": 4, "N": 16, "d": 8}, "dtype": "fp32", "impl": "math", "causal": True},
    {"op": "attention", "shape": {"B": 2, "H": 4, "H_kv": 2, "N": 16, "d": 8}, "dtype": "fp32", "impl": "torch", "direction": "forward_backward"},
    {"op": "conv1d", "shape": {"B": 2, "N": 19, "D": 6, "K": 4}, "dtype": "fp32", "impl": "torch"},
    {"op": "conv1d", "shape": {"B": 2, "N": 19, "D": 6, "K": 4}, "dtype": "fp32", "impl": "torch_channels_first"},
    {"op": "conv1d", "shape": {"B": 2, "N": 19, "D": 6, "K": 4}, "dtype": "fp32", "impl": "torch", "direction": "forward_backward"},
    {"op": "qkv", "shape": {"B": 2, "N": 5, "D": 16, "H": 4, "H_kv": 2}, "dtype": "fp32"},
    {"op": "mlp", "shape": {"B": 2, "N": 5, "D": 16}, "dtype": "fp32", "activation": "swiglu"},
    {"op": "mlp", "shape": {"B": 2, "N": 5, "D": 16}, "dtype": "fp32", "direction": "train", "impl": "naive"},
    {"op": "layer", "shape": {"B": 2, "N": 8, "D": 16, "H": 4}, "dtype": "fp32", "impl": "naive", "direction": "train"},
    {"op": "layer", "shape": {"B": 2, "N": 8, "D": 16, "H": 4, "H_kv": 2}, "dtype": "fp32", "impl": "math"},
]  # fmt: skip


def each(op, *shapes, dtype="fp32"):
    return [{"op": op, "shape": shape, "dtype": dtype} for shape in shapes]


PLAIN, SPLIT = (
    {"B": 2, "C": 4, "C_out": 6, "h": 8, "h_out": 8, "K_h": 3},
    {"C_out": 6, "h_out": 4, "K_h": 3, "groups": 2},
)
POOLED = ({"B": 2, "C": 3, "h": 8, "w": 6, "h_out": 4, "w_out": 3, "K_h": k} for k in (2, 3))
PROGRAMS = [
    *each("copy", {"numel": 96}, {"numel": 96, "distinct": 24, "run": 6}, {"numel": 96, "run": 4}, {"numel": 96, "run": 1}),
    *each("copy", {"numel": 96, "out": 4}, {"numel": 96, "run": 4, "out": 4}, dtype="bf16"),
    *each("concatenate", {"numel": 96, "run": 6}),
    *(case for op in ("where", "masked_fill", "fill", "compare", "integer", "random") for case in each(op, {"numel": 4096})),
    *each("add_bias", {"B": 2, "N": 3, "D": 4}),
    *each("causal_mask", {"B": 2, "H": 3, "N": 4, "S": 5}),
    *(case for op in ("gather", "scatter", "scatter_add") for case in each(op, *({"rows": 17, "cols": n} for n in (6, 1)))),
    *each("embedding_backward", {"B": 2, "N": 5, "D": 4, "V": 7}),
    *(case for op in ("reduce_sum", "reduce_max", "argmax") for case in each(op, *({"rows": 5, "cols": 7, "inner": n} for n in (3, 1)))),
    *each("cumulative_sum", {"rows": 5, "cols": 7}),
    *each("top_k", {"rows": 5, "cols": 70, "chosen": 9}),
    *each("sort", {"rows": 5, "cols": 70}),
    *(case for op in ("conv2d", "conv2d_input_gradient", "conv2d_weight_gradient") for case in each(op, PLAIN, {**PLAIN, **SPLIT})),
    *(each(op, shape)[0] for shape in POOLED for op in ("max_pool2d", "max_pool2d_backward", "average_pool2d", "average_pool2d_backward")),
    *(case for op in ("interpolate", "interpolate_backward") for case in
      each(op, *({"B": 2, "C": 3, "h": 4, "w": 5, "h_out": 8, "w_out": 10, "taps": n} for n in (1, 4, 16)))),
    *(case for op in ("batch_norm", "batch_norm_inference", "batch_norm_backward") for case in each(op, {"B": 3, "C": 4, "pixels": 6})),
    *(case for op in ("group_norm", "group_norm_backward") for case in each(op, {"B": 3, "C": 4, "groups": 2, "pixels": 6})),
    *(case for op in ("log_softmax", "log_softmax_backward", "nll_loss", "nll_loss_backward") for case in each(op, {"rows": 5, "cols": 9})),
    *(case for op in ("adam_step", "sgd_step", "gradient_norm") for case in each(op, {"params": 50, "tensors": 3})),
    *each("foreach", *({"params": 50, "tensors": 3, "reads": n} for n in (1, 2, 3))),
]  # fmt: skip


def name(line):
    return validation.described(line)


# --- programs


@for_each("line", [*SMALL, *TORCH_ONLY])
def test_a_program_of_torch_agrees_with_float64(line):
    found = compared(line)
    assert not found.wrong
    assert found.relative_norm < 1e-5


def compared(line):
    """Builds and runs a program on the processor, and compares its result with the reference."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.workloads import build

    program = build(torch, "cpu", case(line))
    return verdict(program.compare(program.run()), line["dtype"], torch)


MLP = {"op": "mlp", "shape": {"B": 2, "N": 5, "D": 16}, "dtype": "fp32"}
LAYER = {"op": "layer", "shape": {"B": 2, "N": 8, "D": 16, "H": 4, "H_kv": 2}, "dtype": "fp32", "impl": "math"}
LINEAR = {"op": "linear_bias", "shape": {"B": 2, "N": 5, "D_in": 8, "D_out": 6}, "dtype": "fp32"}
ATTENTION = {
    "op": "attention",
    "shape": {"B": 2, "H": 4, "H_kv": 2, "N": 6, "S": 9, "d": 8},
    "dtype": "fp32",
    "causal": True,
}
CONV = {"op": "conv1d", "shape": {"B": 2, "N": 19, "D": 6, "K": 4}, "dtype": "fp32", "impl": "torch"}
ROWS = {"shape": {"rows": 17, "cols": 33}, "dtype": "fp32"}
BOTH = {"direction": "forward_backward"}
GRAD = "autograd.grad"
BY_FUNCTION = [
    ("softmax", {"op": "softmax", **ROWS}),
    ("_softmax_backward_data", {"op": "softmax_backward", **ROWS}),
    ("nn.functional.layer_norm", {"op": "layernorm", **ROWS}),
    ("nn.functional.rms_norm", {"op": "rmsnorm", **ROWS}),
    ("ops.aten.native_layer_norm_backward", {"op": "layernorm_backward", **ROWS}),
    *(("nn.functional." + name, {**ADD, "kind": name}) for name in ("gelu", "silu")),
    *((name, {**ADD, "kind": name}) for name in ("relu", "exp", "sigmoid", "tanh")),
    *((f"ops.aten.{name}_backward", {**ADD, "kind": f"{name}_backward"}) for name in ("gelu", "silu", "sigmoid", "tanh")),
    ("ops.aten.threshold_backward", {**ADD, "kind": "relu_backward"}),
    ("matmul", {"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "dtype": "fp32"}),
    ("nn.functional.conv1d", CONV),
    (GRAD, {**CONV, **BOTH}),
    (GRAD, {**CONV, **BOTH, "impl": "torch_channels_first"}),
    ("nn.functional.linear", LINEAR),
    (GRAD, {**LINEAR, **BOTH}),
    *(("nn.functional.linear", {**MLP, "activation": name}) for name in ("gelu", "swiglu")),
    *(("nn.functional." + name, {**MLP, "activation": name}) for name in ("gelu", "relu", "silu")),
    *((GRAD, {**MLP, **BOTH, "activation": name}) for name in ("gelu", "gelu_tanh", "relu", "silu", "swiglu")),
    ("nn.functional.scaled_dot_product_attention", {**ATTENTION, "impl": "math"}),
    ("softmax", {**ATTENTION, "impl": "naive"}),
    (GRAD, {**ATTENTION, **BOTH, "impl": "math"}),
    (GRAD, {**ATTENTION, **BOTH, "impl": "naive"}),
    *(("nn.functional." + name, LAYER) for name in ("linear", "layer_norm", "gelu", "scaled_dot_product_attention")),
    ("softmax", {**LAYER, "impl": "naive", "causal": True}),
    (GRAD, {**LAYER, **BOTH, "causal": True}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "line"), BY_FUNCTION, ids=lambda value: value if isinstance(value, str) else name(value)
)
def test_an_error_of_2_percent_in_a_function_of_torch_is_found(monkeypatch, function, line):
    """The function is wrong in every data type, also in float64. Its reference must not use it."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert not compared(line).wrong
    where, _, last = function.rpartition(".")
    module = attrgetter(where)(torch) if where else torch
    right = getattr(module, last)
    monkeypatch.setattr(module, last, lambda *given, **more: by_2_percent(right(*given, **more)))
    assert "relative error of" in compared(line).wrong


ACTIVATIONS = [(line, word) for line in (MLP, LAYER) for word in kind(line["op"]).words["activation"]]
MEASURED = {"mlp": ("gelu", "gelu_tanh", "relu", "silu", "swiglu"), "layer": ("gelu", "gelu_tanh", "relu", "silu")}


@for_each(("line", "activation"), ACTIVATIONS)
def test_every_activation_is_measured_or_refused(line, activation):
    asked = {**line, **BOTH, "activation": activation}
    if activation in MEASURED[line["op"]]:
        assert not compared(asked).wrong
    else:
        with pytest.raises(InputError, match=f"no program measures {line['op']} with {activation}"):
            compared(asked)


def by_2_percent(found):
    return found * 1.02 if hasattr(found, "dtype") else tuple(one * 1.02 for one in found)


@for_each("line", PROGRAMS)
def test_a_kernel_of_a_program_agrees_with_float64(line):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.workloads import build

    program = build(torch, "cpu", case(line))
    for _ in range(2):  # a second run must not depend on what the first has changed
        assert not verdict(program.compare(program.run()), line["dtype"], torch).wrong


def test_every_operation_of_programs_is_in_their_suite():
    families = ("movement", "selection", "indexing", "reductions", "images", "windows", "channels")
    named = {op for family in families for op in ops.FAMILIES[family].split()}
    assert named <= {line["op"] for line in suites.programs()} <= {line["op"] for line in suites.full()}
    assert {line["op"] for line in PROGRAMS} == {line["op"] for line in suites.programs()}


@pytest.mark.parametrize("line", SMALL, ids=name)
def test_a_program_of_numpy_agrees_with_float64(line):
    numpy = pytest.importorskip("numpy")
    from perfmodel.measure.workloads import plain

    program = plain.build(numpy, case(line))
    assert not verdict(program.compare(program.run()), line["dtype"], numpy).wrong


@pytest.mark.parametrize("line", TORCH_ONLY[4:6], ids=name)
def test_convolution_is_causal(line):
    """A later input changes no earlier output: output 9 of 19 stays the same if inputs from 10 on are set to zero."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.workloads import build

    program = build(torch, "cpu", case(line))
    inputs = [cell.cell_contents for cell in program.run.__closure__ if hasattr(cell.cell_contents, "shape")]
    u = next(t for t in inputs if t.dim() == 3)
    before = program.run().clone()
    time_last = line["impl"] == "torch_channels_first"
    (u[..., 10:] if time_last else u[:, 10:]).zero_()
    after = program.run()
    pick = (slice(None), slice(None), slice(0, 10)) if time_last else (slice(None), slice(0, 10))
    assert torch.equal(before[pick], after[pick])
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda out: out * 1.01, "relative error"),
        (lambda out: out.index_fill(0, out.new_tensor([5]).long(), float("nan")), "nan"),
        (lambda out: out.index_add(0, out.new_tensor([5]).long(), out.new_tensor([1e-3])), "one element"),
    ],
    ids=["a percent off", "one element never written", "one element off"],
)
def test_a_wrong_result_is_told(spoil, told):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    right = torch.linspace(-1, 1, 1 << 14)
    found = verdict(iter([("the sum", spoil(right.clone()), right)]), "fp32", torch)
    assert told in found.wrong
    assert not verdict(iter([("the sum", right, right)]), "fp32", torch).wrong


def test_a_wrong_program_is_never_timed(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.bench import Device

    device = Device("cpu")
    wrong = Program(lambda: device.lib.ones(8), lambda out: iter([("the sum", out, 2 * out)]))
    monkeypatch.setattr(device, "program", lambda read: wrong)
    monkeypatch.setattr(device.watch, "times", lambda *_: pytest.fail("it was timed"))
    found = device.measure(ADD)
    assert "wrong result" in found["error"]
    assert "median_us" not in found


def test_whatever_a_library_throws_is_a_record(monkeypatch):
    from perfmodel.measure.bench import Device

    device = Device("cpu")
    monkeypatch.setattr(device, "program", lambda read: (_ for _ in ()).throw(MemoryError("out of memory")))
    assert device.measure(ADD)["error"] == "MemoryError: out of memory"


def test_rotating_weights_are_not_measured_on_a_processor(monkeypatch):
    from perfmodel.measure.bench import Device

    assert set(stopwatch.PROTOCOLS) == set(PROTOCOLS)
    device = Device("cpu")
    monkeypatch.setattr(device.watch, "times", lambda *_: pytest.fail("it was timed"))
    product = {"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "dtype": "fp32", "protocol": "rotating"}
    assert "'rotating' is not measured; one of cold, warm, eager is accepted" in device.measure(product)["error"]


def test_enough_copies_of_the_weights_rotate():
    """50 MB of cache: copies of 10 MB fill it four times, copies of 100 MB need no more than the fewest."""
    assert stopwatch.copies(10_000_000, 50_000_000) == 20
    assert stopwatch.copies(100_000_000, 50_000_000) == stopwatch.FEWEST_COPIES
    assert stopwatch.copies(1, 50_000_000) == stopwatch.MOST_COPIES


@pytest.mark.parametrize("turned", [False, True])
def test_a_run_uses_the_copy_in_the_place_of_the_weights(turned):
    """The memory of a tensor is replaced, also that of a transposed one, and comes back."""
    torch = pytest.importorskip("torch")
    weights = torch.arange(6.0).view(2, 3)
    weights = weights.t() if turned else weights
    other = weights.clone() + 1
    before = weights.data_ptr()
    with stopwatch.replaced((weights,), (other,)):
        assert weights.data_ptr() == other.data_ptr()
        assert weights.stride() == other.stride()
        assert float(weights.sum()) == 15 + 6
    assert weights.data_ptr() == before
    assert float(weights.sum()) == 15


@pytest.mark.gpu
def test_rotating_weights_come_from_memory():
    """A product of few rows reads 8 MB of weights, which stay in L2 of a card of 40 MB or more if nothing replaces them."""
    from perfmodel.measure.bench import Device

    if environment.torch_with_gpu() is None:
        pytest.skip("no usable GPU")
    device = Device("cuda")
    product = {"op": "matmul", "shape": {"m": 16, "k": 2048, "n": 2048}, "dtype": "bf16", "impl": "torch"}
    rotating = device.measure({**product, "protocol": "rotating"})
    assert rotating["median_us"] * 1e-6 > 2 * 2048 * 2048 / 5e12
    linear = {"op": "mlp", "shape": {"B": 1, "N": 16, "D": 1024, "F": 4096}, "dtype": "bf16", "protocol": "rotating"}
    assert "error" not in device.measure(linear)


def test_every_suite_is_made_of_cases_that_differ():
    for make in suites.SUITES.values():
        lines = make()
        assert len({records.key(case(line).line) for line in lines}) == len(lines)
    kinds = {line["op"] for line in suites.full()}
    assert {
        "matmul",
        "softmax",
        "softmax_backward",
        "layernorm",
        "layernorm_backward",
        "rmsnorm",
        "elementwise",
    } < kinds
    assert {"attention", "conv1d", "qkv", "mlp", "layer"} < kinds


# --- times


def test_quartiles_lie_between_neighbours():
    """A quarter of the way through 10, 20, 30, 40 is 3/4 of a step from the first: 10 + 0.75 x 10 = 17.5."""
    found = Samples((40.0, 10.0, 30.0, 20.0))
    assert (found.median_us, found.quantile_us(0.25), found.quantile_us(0.75)) == (25.0, 17.5, 32.5)


def test_a_time_on_the_processor_is_the_time_it_took():
    watch = Cpu(1 << 20)
    program = Program(lambda: time.sleep(0.02), lambda out: iter(()))
    run, _ = watch.ready(program, "warm")
    assert 20_000 <= watch.times(run, "warm").median_us < 60_000


def test_a_failed_capture_is_ended_by_one_that_succeeds():
    """Else torch refuses random numbers in the rest of the process (seen on an H100, torch 2.11)."""
    captures = []

    @contextlib.contextmanager
    def graph(*_, **__):
        captures.append("begun")
        yield
        captures.append("ended")

    device = SimpleNamespace(wait_stream=lambda other: None)
    cuda = SimpleNamespace(
        Stream=lambda: device, current_stream=lambda: device, stream=contextlib.nullcontext, synchronize=lambda: None,
        CUDAGraph=object, graph=graph, get_device_properties=lambda _: SimpleNamespace(L2_cache_size=1),
    )  # fmt: skip
    array = SimpleNamespace(zero_=lambda: None)
    watch = Cuda(SimpleNamespace(cuda=cuda, ones=lambda *_, **__: array, empty=lambda *_, **__: array))

    def run():
        if captures:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        watch.ready(Program(run, lambda out: iter(())), "cold")
    assert captures == ["begun", "begun", "ended"]


# Interquartile ranges of 40 %, 10 % and 2 %: 10 +- 2, +- 0.5 and +- 0.1, interpolated.
UNSTEADY, BETTER, STEADY = (Samples((10.0 - by, 10.0, 10.0 + by)) for by in (4.0, 1.0, 0.2))


@pytest.mark.parametrize(
    ("come", "kept", "tries"),
    [
        ((STEADY,), STEADY, 1),
        ((UNSTEADY, STEADY, UNSTEADY), STEADY, 2),
        ((UNSTEADY, BETTER, STEADY), STEADY, 3),
        ((BETTER, UNSTEADY, UNSTEADY, STEADY), BETTER, 3),
    ],
)
def test_an_unsteady_case_is_measured_up_to_three_times_and_the_steadiest_kept(come, kept, tries):
    assert [samples.spread for samples in (UNSTEADY, BETTER, STEADY)] == pytest.approx([0.4, 0.1, 0.02])
    rest = iter(come)
    assert steadiest(lambda: next(rest), Cuda.tries) == (kept, tries)
    assert steadiest(lambda: UNSTEADY, Cpu.tries) == (UNSTEADY, 1)


def test_a_record_says_how_often_it_was_measured(monkeypatch):
    from perfmodel.measure.bench import Device

    device = Device("cpu")
    monkeypatch.setattr(device.watch, "tries", 3, raising=False)  # the number of tries on a GPU
    rest = iter((UNSTEADY, UNSTEADY, STEADY, STEADY))
    monkeypatch.setattr(device.watch, "times", lambda *_: next(rest))
    found = device.measure(ADD)
    assert (found["tries"], found["p25_us"], found["p75_us"]) == (3, 9.9, 10.1)
    assert "flags" not in found
    assert "tries" not in device.measure(ADD)  # once was enough


# --- the run over many cases


class Faulty(runner.Worker):
    """A worker whose process fails as the case says."""

    SOURCE = (
        "import json, os, sys, time\n"
        "print(json.dumps({'schema': 1, 'environment': {'gpu': 'x'}}), flush=True)\n"
        "for text in sys.stdin:\n"
        "    line = json.loads(text)\n"
        "    if line['kind'] == 'hang': time.sleep(600)\n"
        "    if line['kind'] == 'die': os._exit(11)\n"
        "    print(json.dumps({**line, 'median_us': 1.0, 'p25_us': 1.0, 'p75_us': 1.0, 'n': 1}), flush=True)\n"
    )

    def start(self):
        real = subprocess.Popen
        try:
            subprocess.Popen = lambda command, **words: real([command[0], "-c", self.SOURCE], **words)
            super().start()
        finally:
            subprocess.Popen = real


def test_a_case_that_hangs_or_dies_does_not_stop_the_others():
    lines = [{**ADD, "kind": kind} for kind in ("add", "hang", "mul", "die", "relu")]
    kept = []
    found = list(runner.run(Faulty("cpu"), lines, kept.append, limit_s=2))
    assert [record.get("error", "measured") for record in found] == [
        "measured", "it took longer than 2 s", "measured", "the measuring process died", "measured",
    ]  # fmt: skip
    assert kept == found


def test_no_torch_and_no_card_is_said_at_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NoDeviceError, match="is accepted"):
        runner.Worker("cuda").start()


# --- records


def stored(tmp_path, *lines):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


ENVIRONMENT = {"schema": 1, "environment": {"gpu": "NVIDIA H200", "device": "cuda", "date": "2026-11-21"}}


def record(line, us, **more):
    return {"schema": 1, **line, "median_us": us, "p25_us": us, "p75_us": us, "n": 30, **more}


def test_a_file_that_was_cut_short_is_good_up_to_its_last_whole_line(tmp_path):
    path = stored(tmp_path, ENVIRONMENT, record(ADD, 5.0))
    with open(path, "a") as file:
        file.write('{"op": "elementwise", "ki')
    assert [r["median_us"] for r in records.read(path).records] == [5.0]


def test_the_last_record_of_a_case_stands(tmp_path):
    assert [
        r["median_us"] for r in records.read(stored(tmp_path, ENVIRONMENT, record(ADD, 5.0), record(ADD, 6.0))).records
    ] == [6.0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([record(ADD, 5.0)], ":1: it does not begin with an environment line"),
        ([ENVIRONMENT, record(ADD, 0.0)], ":2: median_us: 0.0 is not accepted"),
        ([ENVIRONMENT, record(ADD, True)], ":2: median_us: true is not accepted"),
        ([ENVIRONMENT, [1]], ":2: \\[1\\] was found"),
        ([{"environment": 3}], ":1: environment: 3 is not an object"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, lines, told):
    with pytest.raises(InputError, match=told):
        records.read(stored(tmp_path, *lines))


# --- against the model


def test_errors_and_shares_by_hand(tmp_path):
    """3 x 2^27 fp16 elements are 805.3 MB, 167.8 us at 4.8 TB/s. So 200 us are 84 % of the roofline."""
    line = {"op": "elementwise", "kind": "add", "shape": {"numel": 1 << 27}, "dtype": "fp16"}
    found = validation.compare([record(line, 200.0)], gpu("h200"))
    assert found.cases[0].of_roofline == pytest.approx(3 * 2 * 2**27 / 4.8e12 / 200e-6)
    assert found.broken == []
    assert found.summaries[0].cases == 1


def test_a_time_below_the_bound_and_a_wrong_result_break_a_validation(tmp_path):
    line = {"op": "elementwise", "kind": "add", "shape": {"numel": 1 << 27}, "dtype": "fp16"}
    wrong = {"schema": 1, **line, "protocol": "warm", "error": "wrong result: the sum is off by 1 of its norm"}
    path = stored(tmp_path, ENVIRONMENT, record(line, 100.0), wrong)
    found = command("validate", "--from", path)
    assert found.code == 3
    assert "below the bound" in found.err
    assert "wrong result" in found.err
    assert command("validate", "--from", stored(tmp_path, ENVIRONMENT, record(line, 200.0))).code in (0, None)


def test_a_stored_run_is_shown_in_every_form(tmp_path):
    line = {"op": "softmax", "shape": {"rows": 4096, "cols": 4096}, "dtype": "fp16", "impl": "torch"}
    counts = {"dram_read_byte": 33554432, "dram_write_byte": 33554432, "l2_byte": 67108864}
    path = stored(
        tmp_path,
        ENVIRONMENT,
        record(line, 60.0, stream_us=20.0, **counts),
        {"schema": 1, **ADD, "error": "out of memory"},
    )
    table = command("validate", "--from", path).out
    assert "counted DRAM" in table
    assert "67.11 MB" in table
    assert "33%" in table  # 20 of 60 us: of stream
    assert "out of memory" in table
    answer = json.loads(command("validate", "--from", path, "--format", "json").out)
    assert answer["cases"][0]["measured_s"] == pytest.approx(60e-6)
    assert answer["cases"][0]["compulsory_byte"] == 67108864
    assert answer["cases"][1]["failed"] == "out of memory"
    assert [one["name"] for one in answer["summary"]] == ["softmax"]
    assert command("validate", "--from", path, "--format", "csv").out.splitlines()[0].startswith("op,shape")
    picture = tmp_path / "run.svg"
    assert command("validate", "--from", path, "--plot", str(picture)).code == 3  # one of two cases has no time
    assert "softmax" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--from", "{path}", "--suite", "quick"), 2, "--from and --suite are both given"),
        (("--gpu", "h200"), 4, "no usable GPU was found"),
        (("--from", "missing.jsonl"), 1, "missing.jsonl"),
        (("--suite", "missing.jsonl"), 1, "missing.jsonl"),
        (("--gpu", "cpu", "--limit", "0"), 2, "--limit"),
    ],
)
def test_what_cannot_be_validated_is_said(tmp_path, monkeypatch, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    path = stored(tmp_path, ENVIRONMENT, record(ADD, 5.0))
    found = command("validate", *(a.format(path=path) for a in arguments))
    if code == 4 and environment.torch_with_gpu() is not None:
        pytest.skip("a GPU is here")
    assert found.code == code
    assert told in found.err
    assert "Traceback" not in found.err


# --- a busy device


def streams(*times, byte=12e9, **more):
    """Probes of a number of bytes, each with its quartiles in microseconds."""
    found = [{"p25_us": low, "median_us": (low + high) / 2, "p75_us": high} for low, high in times]
    return [{"byte": byte, "n": 12, **probe, **more} for probe in found]


def told(tmp_path, environment, *lines, gpu=None):
    path = stored(tmp_path, {"schema": 1, "environment": environment}, *lines)
    ran = command("validate", "--from", path, *(("--gpu", gpu) if gpu else ()))
    document = json.loads(command("validate", "--from", path, "--format", "json", *(("--gpu", gpu) if gpu else ())).out)
    return ran, document


FAST = {"op": "elementwise", "kind": "add", "shape": {"numel": 1 << 27}, "dtype": "fp16"}


@pytest.mark.parametrize(
    ("times", "spread"),
    [
        ([(100.0, 101.0), (100.0, 130.0)], 0.3),  # the run ended beside other work
        ([(125.0, 126.0), (100.0, 101.0)], 0.26),  # it began so
        ([(100.0, 101.0), (104.0, 130.0), (100.0, 101.0)], 0.3),  # resumed: any of them
    ],
)
def test_other_work_on_a_card_is_told_but_a_bound_stays_a_bound(tmp_path, times, spread):
    """The peaks of a GPU are those of its data sheet, which other load does not change."""
    environment = {**ENVIRONMENT["environment"], "streams": streams(*times)}
    ran, document = told(tmp_path, environment, record(FAST, 100.0))
    assert ran.code == 3
    assert "below the bound" in ran.err
    assert "The device was busy: a memory stream took 100 µs to 1" in ran.out
    assert f"a spread of {spread:.0%} (on a quiet device at most 10%)" in " ".join(ran.out.split())
    assert document["busy"] is True
    assert document["stream_spread"] == pytest.approx(spread)


@pytest.mark.parametrize("times", [[(100.0, 104.0), (101.0, 105.0)], [(100.0, 900.0)], []])
def test_a_quiet_device_is_not_told_and_one_stream_says_nothing(tmp_path, times):
    environment = {**ENVIRONMENT["environment"], "streams": streams(*times)}
    ran, document = told(tmp_path, environment, record(FAST, 200.0))
    assert "busy" not in ran.out
    assert document["busy"] is False


# 12 GB take 120,000 us at the peak of 100 GB/s.
@pytest.mark.parametrize(
    ("times", "share", "excused"),
    [
        ([(120e3, 121e3), (121e3, 123e3)], 0.99, False),
        ([(120e3, 121e3), (180e3, 200e3)], 0.99, True),  # beside other work
        ([(120e3, 121e3), (120e3, 121e3)], 0.45, True),  # other load throughout the run
        (
            [(60e3, 61e3), (60e3, 61e3)],
            0.99,
            True,
        ),  # twice as fast as the peak, so the peak was measured under other load
    ],
)
def test_times_below_roofs_that_a_busy_processor_measured_are_no_error_of_the_model(tmp_path, times, share, excused):
    card = CARD.format(bandwidth="100 GB/s")
    environment = {"gpu": "Some processor", "device": "cpu", "card": card, "streams": streams(*times, cpu_share=share)}
    line = {"op": "elementwise", "kind": "add", "shape": {"numel": 10**8}, "dtype": "fp32"}  # 1.2 GB: 12 ms at the roof
    wrong = {"schema": 1, **ADD, "error": "wrong result: the sum is off by 1 of its norm"}
    ran, document = told(tmp_path, environment, record(line, 9e3))
    assert ran.code == (0 if excused else 3)
    assert ("it got 45% of the processor" in " ".join(ran.out.split())) == (share == 0.45)
    assert (
        "1 case is faster than the roofs. The same run measured these roofs" in " ".join(ran.out.split())
    ) == excused
    assert ("below the bound" in ran.err) != excused
    assert bool(document["broken"]) != excused
    assert told(tmp_path, environment, record(line, 9e3), wrong)[0].code == 3  # a wrong result is still an error


CARD = """\
title: Some processor
vendor: Some
architecture: unknown
form: processor
matches: ["Some processor"]
sources:
  measured: {{title: own measurement, read: 2026-11-25}}
multiprocessors: {{value: 2, from: measured}}
clocks: {{}}
memory: {{type: of this machine, capacity: {{value: 16 GB, from: measured}}, bandwidth: {{value: {bandwidth}, from: measured}}}}
vector: {{fp32: {{value: 100 GFLOP/s, from: measured}}}}
"""


# --- counters


HEAD = '"ID","Kernel Name","Metric Name","Metric Value"'


def test_counts_are_summed_between_markers():
    """Case one: two kernels that read 10 and 5 bytes and write 3, and 4 more bytes written back by the flush. Case two:
    none.
    """
    lines = [
        "==PROF== Connected", HEAD,
        '"0","nothing","dram__bytes_read.sum","7"', '"0","nothing","dram__bytes_write.sum","7"',
        '"1","add","dram__bytes_read.sum","10"', '"1","add","dram__bytes_write.sum","1"',
        '"2","mul","dram__bytes_read.sum","1,005"', '"2","mul","dram__bytes_write.sum","2"',
        '"3","read_all","dram__bytes_read.sum","900"', '"3","read_all","dram__bytes_write.sum","4"',
        '"4","nothing","dram__bytes_read.sum","7"',
    ]  # fmt: skip
    assert counters.by_case(lines, counters.BYTES) == [{"dram_read_byte": 1015, "dram_write_byte": 7}, {}]


def test_of_a_share_the_largest_kernel_stands():
    metric = counters.INSTRUCTIONS["achieved_occupancy"][0]
    lines = [HEAD, f'"0","nothing","{metric}","1"', f'"1","add","{metric}","62.5"', f'"2","mul","{metric}","40"']
    assert counters.by_case(lines, counters.INSTRUCTIONS) == [{"achieved_occupancy": 0.625}]


def test_what_a_kernel_takes_is_told(tmp_path):
    line = {"op": "softmax", "shape": {"rows": 4096, "cols": 4096}, "dtype": "fp16", "impl": "ours"}
    kernel = {
        "name": "softmax_forward",
        "registers": 40,
        "shared_byte": 8192,
        "threads": 256,
        "blocks": 6,
        "occupancy": 0.75,
    }
    shown = command("validate", "--from", stored(tmp_path, ENVIRONMENT, record(line, 60.0, kernels=[kernel]))).out
    assert "softmax_forward: 40 registers, 8.192 kB of shared memory" in shown
    assert "75%" in shown


def test_no_profiler_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoDeviceError, match="not installed"):
        counters.counted([ADD])


# --- ceilings


def test_a_file_of_readings_is_what_was_written(tmp_path):
    reading = measured.Reading(4.4e12, 4.3e12, 4.5e12, "how")
    launch = measured.Reading(2.8e-6, 2.7e-6, 2.9e-6)
    path = tmp_path / "x.measured.yaml"
    path.write_text(
        measured.text("x", {"date": "2026-11-21"}, [("stream", "add", reading), ("launch", "replay warm", launch)])
    )
    found = measured.read(str(path))
    assert found.sections == {"stream": {"add": reading}, "launch": {"replay warm": launch}}
    assert (found.gpu, found.made, found.value("matmul", "bf16 burst")) == ("x", {"date": "2026-11-21"}, None)


def test_the_readings_that_are_shipped_stay_under_their_sheets():
    """Measured rates cannot exceed the memory interface or the arithmetic units; otherwise the sheet or the reading is
    wrong.
    """
    from perfmodel.paths import MEASURED
    from perfmodel.report.calibration import lines

    names = [name for name in os.listdir("hardware") if name.endswith(MEASURED)]
    assert names
    for name in names:
        found = measured.read(os.path.join("hardware", name))
        assert found.gpu == name.removesuffix(MEASURED)
        readings = [(section, key, value) for section, table in found.sections.items() for key, value in table.items()]
        for line in lines(readings, gpu(found.gpu)):
            assert line.of_sheet is None or 0.2 < line.of_sheet < 1.0, (line.section, line.name)


def test_a_data_sheet_is_never_written_over(tmp_path):
    sheet = tmp_path / "mine.yaml"
    sheet.write_text("title: a data sheet\n")
    found = command("calibrate", "--gpu", "cpu", "-o", str(sheet))
    assert found.code == 1
    assert "a file that is not a measurement exists there" in found.err
    assert sheet.read_text() == "title: a data sheet\n"


# --- this processor, for real


@pytest.fixture(scope="module")
def processor_file(tmp_path_factory):
    """A GPU file for this processor, measured quickly with small sizes. The tests that need it share a worker."""
    path = tmp_path_factory.mktemp("cpu") / "cpu.yaml"
    patch = pytest.MonkeyPatch()
    patch.setattr(processor, "REPEATS", 2)
    patch.setattr(processor, "ORDERS", (256,))
    patch.setattr(environment, "cache_byte", lambda: 1 << 21)
    try:
        path.write_text(processor.hardware_file())
    finally:
        patch.undo()
    return str(path)


@pytest.mark.xdist_group("processor")
def test_a_processor_is_a_card_like_any_other(processor_file):
    card = gpu(processor_file)
    assert card.knowledge == "calibrated"
    assert 1e8 < card.bandwidth_byte_per_s.value < 1e13
    found = command("flops", "--config", "llama-2-7b-layer", "--gpu", processor_file, "--dtype", "fp32", "-v")
    assert found.code in (0, None)
    assert f"{processor_file}, calibrated." in " ".join(found.out.split())
    assert "calibrate the card" not in found.out


@pytest.fixture
def quick_start(monkeypatch, processor_file):
    """The device without the seconds that measuring its peak rates takes."""
    text = Path(processor_file).read_text()
    monkeypatch.setattr("perfmodel.measure.processor.hardware_file", lambda: text)


@pytest.mark.xdist_group("processor")
def test_this_processor_is_measured_saved_and_resumed(tmp_path, quick_start):
    lines = [ADD, {"op": "matmul", "shape": {"m": 64, "k": 64, "n": 64}, "dtype": "fp32", "protocol": "warm"}]
    path = str(tmp_path / "run.jsonl")
    here = session.device("cpu")
    log = session.Log(path, here)
    found = list(session.records(here, lines[:1], log, 60))
    assert found[0]["median_us"] > 0
    log.close()
    again = session.Log(path, here)
    assert [again.has(line) for line in lines] == [True, False]
    list(session.records(here, lines[1:], again, 60))
    kept = records.read(path)
    assert {records.key(r) for r in kept.records} == {records.key(line) for line in lines}
    assert len(kept.environment["streams"]) == 4  # before and after the cases of either run
    assert all(probe["byte"] == 12 * environment.cache_byte() for probe in kept.environment["streams"])
    assert all(0 < probe["cpu_share"] < 1.2 for probe in kept.environment["streams"])
    assert all(0 < probe["p25_us"] <= probe["p75_us"] for probe in kept.environment["streams"])
    report = command("validate", "--from", path)
    assert report.code in (0, 3)
    assert "calibrated" in report.out


@pytest.fixture
def known_processor(monkeypatch):
    """A processor whose rates need not be measured."""
    text = given_rates.FILE.read_text()
    monkeypatch.setattr("perfmodel.measure.processor.hardware_file", lambda: text)


def test_a_resumed_run_is_compared_with_the_roofs_of_its_file(tmp_path, monkeypatch, known_processor):
    """The processor seems twice as fast in the second run, where the only case is already in the file."""
    here = session.device("cpu")
    large = {**ADD, "shape": {"numel": 1 << 28}, "protocol": "cold"}
    first = {"schema": 1, "environment": {"gpu": here.card.matches[0], "device": "cpu", "card": here.description}}
    path = stored(tmp_path, first, record(large, 1e6))
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps(large) + "\n")
    before = json.loads(command("validate", "--from", path, "--format", "json").out)["cases"][0]["lower_s"]
    assert before > 0

    def doubled(found):
        return f"{2 * float(found[1]):g} {found[2]}"

    faster = re.sub(r"([0-9.]+) ([GMT]B/s)", doubled, here.description)
    monkeypatch.setattr("perfmodel.measure.processor.hardware_file", lambda: faster)
    resumed = command("validate", "--gpu", "cpu", "--suite", str(suite), "--save", path, "--format", "json")
    assert resumed.code == 0, resumed
    assert json.loads(resumed.out)["cases"][0]["lower_s"] == before


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_an_interruption_before_the_first_case_is_answered(tmp_path, monkeypatch, known_processor, form):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "records", interrupted)
    suite = tmp_path / "suite.jsonl"
    suite.write_text(json.dumps(ADD) + "\n")
    ran = command("validate", "--gpu", "cpu", "--suite", str(suite), "--format", form)
    assert ran.code == 130
    assert "interrupted; 0 cases were measured" in ran.err


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    """Processes that a test starts find no torch, and run their cases with NumPy."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "torch.py").write_text("raise ModuleNotFoundError('hidden', name='torch')\n")
    root = str(Path(__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hidden"), root]))
    monkeypatch.setattr(environment, "torch_with_gpu", lambda: None)


@pytest.mark.xdist_group("processor")
def test_without_torch_nothing_says_torch(tmp_path, without_torch, quick_start):
    """Neither the table nor the notes name torch."""
    suite = tmp_path / "cases.jsonl"
    softmax = {"op": "softmax", "shape": {"rows": 8, "cols": 8}, "dtype": "fp32"}
    suite.write_text("".join(json.dumps(line) + "\n" for line in ({**ADD, "impl": "torch"}, softmax)))
    ran = command("validate", "--suite", str(suite))
    assert ran.code in (0, 3)
    assert "numpy warm" in ran.out
    assert ran.out.count("fp32") == 2
    assert "torch" not in ran.out + ran.err
    assert [line for line in suites.processor() if line.get("impl") == "torch"] == []


@pytest.mark.xdist_group("processor")
def test_a_file_of_another_device_is_not_resumed(tmp_path, quick_start):
    path = stored(tmp_path, ENVIRONMENT, record(ADD, 5.0))
    with pytest.raises(InputError, match="the file has a run on 'NVIDIA H200'"):
        session.Log(path, session.device("cpu"))


def test_an_interruption_keeps_what_was_measured(tmp_path, without_torch):
    """An interrupted run leaves the environment and the finished cases in the file, and can be resumed."""
    if sys.platform == "win32":
        pytest.skip("signals are those of POSIX")
    cases = tmp_path / "cases.jsonl"
    slow = [
        {"op": "matmul", "shape": {"m": 32, "k": 32, "n": 32 + i}, "dtype": "fp32", "protocol": "warm"}
        for i in range(400)
    ]
    cases.write_text("".join(json.dumps(line) + "\n" for line in slow))
    path = tmp_path / "run.jsonl"
    process = subprocess.Popen(
        [sys.executable, given_rates.__file__, "validate", "--gpu", "cpu", "--suite", str(cases), "--save", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and path.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        err = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert 3 <= len(records.read(str(path)).records) < 400


def test_a_warm_run_may_find_its_data_in_the_cache():
    """3 x 2^21 x 2 bytes are 12.6 MB, less than the 60 MiB of L2 of an H200. Warm, memory is no bound, and the
    additions at 133.8 TFLOP/s remain. Cold, it takes 12.6 MB / 4.8 TB/s.
    """
    line = {"op": "elementwise", "kind": "add", "shape": {"numel": 1 << 21}, "dtype": "fp16"}
    warm, cold = validation.compare([record({**line, "protocol": p}, 5.0) for p in ("warm", "cold")], gpu("h200")).cases
    assert cold.lower_s == pytest.approx(3 * 2 * 2**21 / 4.8e12)
    assert warm.lower_s == pytest.approx(2**21 / 133.8e12, rel=1e-3)
