"""Profiler traces: reading, the parts of a step, operators and formulas of kernels, advice, and the command.

Every expected time stands beside its arithmetic: the traces are written by hand, in microseconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import check_refused, perfmodel
from many import for_each
from traces import ADD, COPY, CUTLASS, GEMM, Written, product

import perfmodel as library
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call
from perfmodel.errors import InputError
from perfmodel.programs.program import Program, Step
from perfmodel.traces import scanning
from perfmodel.traces.calls import arguments
from perfmodel.traces.events import Signature
from perfmodel.traces.kernel_names import dtype, family, function, is_communication, layout, short, tile
from perfmodel.traces.reading import read

MICRO = pytest.approx


def parts(path, **options):
    """The parts of the step in microseconds: kernels, exposed communication, idle host, idle other; and the span."""
    spans = library.trace(path, **options).spans
    found = (spans.kernel_s, spans.communication_exposed_s, spans.idle_host_s, spans.idle_other_s, spans.span_s)
    return tuple(round(value * 1e6, 3) for value in found)


# --- the parts of a step


def test_idle_time_before_a_late_launch_is_the_hosts(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)  # runs to 110
    trace.kernel(
        ADD, 140, 10, launched=130
    )  # launched at 130, after the device ran dry at 110: 110 to 140 is the host's
    assert parts(trace.save(tmp_path)) == (20, 0, 30, 0, 50)


def test_idle_time_after_the_launch_is_no_fault_of_the_host(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)
    trace.kernel(ADD, 111, 10, launched=95)  # launched before 110: the gap of 1 us is between two kernels
    trace.kernel(ADD, 150, 10, launched=96)  # waited from 121 to 150 for something else
    assert parts(trace.save(tmp_path)) == (30, 0, 0, 30, 60)


def test_two_streams_count_their_union(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 30, launched=90)  # 100 to 130
    trace.kernel(ADD, 120, 20, launched=91, stream=8)  # 120 to 140, 10 us of them beside the first
    trace.kernel(
        "Memcpy DtoD (Device -> Device)", 150, 5, launched=145, cat="gpu_memcpy", bytes=1024
    )  # late: 140 to 150
    assert parts(trace.save(tmp_path)) == (45, 0, 10, 0, 55)


def test_communication_is_exposed_where_nothing_else_runs(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 50, launched=90)  # 100 to 150
    trace.collective(130, 40, launched=120, elements=1000)  # 130 to 170: 20 hidden, 20 exposed
    trace.kernel(ADD, 170, 10, launched=100)
    path = trace.save(tmp_path)
    assert parts(path) == (60, 20, 0, 0, 80)
    assert library.trace(path).spans.communication_hidden_s == MICRO(20e-6)


def test_gaps_inside_a_graph_are_not_the_hosts(tmp_path):
    trace = Written()
    graph = trace.kernel(ADD, 100, 10, launched=80, call="cudaGraphLaunch", took=5)
    trace.kernel(ADD, 112, 10, correlation=graph)
    trace.kernel(ADD, 125, 10, correlation=graph)  # gaps of 2 and 3 us
    path = trace.save(tmp_path)
    assert parts(path) == (30, 0, 0, 5, 35)
    assert all(row.graph for row in library.trace(path).kernels)


def test_the_host_is_named_by_its_operator(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)
    trace.operator("aten::cumsum", 105, 21)  # to 126
    trace.named("my range", 126, 100)
    trace.kernel(ADD, 150, 10, launched=136, took=4)  # 110 to 150; the host's part ends with the launch at 140
    found = library.trace(trace.save(tmp_path)).spans.host_in
    # of 30 us to the end of the launch, 16 are in cumsum and 14 in Python; both stand for 40 us of idle time
    assert found["aten::cumsum"] == MICRO(40e-6 * 16 / 30)
    assert found["Python, outside any operator (my range)"] == MICRO(40e-6 * 14 / 30)


def test_what_the_profiler_added_is_the_difference(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)
    trace.kernel(ADD, 140, 10, launched=130)  # 50 us
    spans = library.trace(trace.save(tmp_path), unprofiled=30e-6).spans
    assert spans.profiler_s == MICRO(20e-6)


# --- steps


def steps(tmp_path):
    trace = Written()
    for number in range(3):
        trace.named(f"ProfilerStep#{number}", 100 * number, 90)
        trace.kernel(ADD, 100 * number + 50, 10 + number, launched=100 * number + 20)
    return trace.save(tmp_path)


def test_a_schedule_shows_its_last_step_and_others_by_name(tmp_path):
    path = steps(tmp_path)
    assert parts(path)[0] == 12
    assert parts(path, step="ProfilerStep#0")[0] == 10
    assert library.trace(path).notes == (f"{path}: ProfilerStep#2 is one of 3 such ranges.",)


def test_an_unknown_step_is_refused_with_the_known_ones(tmp_path):
    ran = perfmodel("trace", steps(tmp_path), "--step", "ProfilerStep#9")
    assert "ProfilerStep#" in check_refused(ran, 1)["action"]


# --- ranks


def two_ranks(tmp_path):
    paths = []
    for rank, length in ((0, 20), (1, 70)):
        trace = Written(rank=rank)
        trace.kernel(ADD, 100, 30, launched=90)
        trace.collective(140, length, launched=130, elements=1000)
        paths.append(trace.save(tmp_path, f"rank{rank}.json.gz"))
    return paths


def test_a_rank_waits_for_the_one_whose_collective_is_short(tmp_path):
    found = library.trace(reversed(two_ranks(tmp_path)))
    assert [one.rank for one in found.ranks] == [0, 1]
    assert [round(one.waiting_s * 1e6, 3) for one in found.ranks] == [0, 50]  # 70 - 20
    assert found.main.rank == 0  # the one that the others wait for


def test_ranks_stand_beside_one_another(tmp_path):
    paths = two_ranks(tmp_path)
    document = json.loads(perfmodel("trace", *paths, "--format", "json").out)
    assert [(one["rank"], one["span_s"]) for one in document["ranks"]] == [(0, MICRO(60e-6)), (1, MICRO(110e-6))]
    assert "The others wait for rank 0." in perfmodel("trace", *paths).out
    collective = next(row for row in document["kernels"] if row["op"] == "all_reduce")
    assert (collective["shape"], collective["dtype"], collective["count"]) == ({"byte": 2000, "gpus": 2}, "bf16", 1)


# --- operators and formulas


def test_a_product_gets_its_sizes_and_its_flops(tmp_path):
    trace = Written()
    product(trace, 100, m=4096, k=1024, n=2048)
    (row,) = library.trace(trace.save(tmp_path), gpu="h100").kernels
    assert (row.op, row.operator, row.source) == ("matmul", "aten::mm", "shapes")
    assert {name: row.shape[name] for name in "mkn"} == {"m": 4096, "k": 1024, "n": 2048}
    assert row.flops == 2 * 4096 * 1024 * 2048
    assert row.lower_s == MICRO(2 * 4096 * 1024 * 2048 / 989.4e12, rel=1e-3)  # compute-bound on the sheet
    assert row.of_bound == MICRO(row.lower_s / 100e-6)


def test_without_external_ids_threads_and_times_tie_a_kernel(tmp_path):
    trace = Written()
    trace.operator("aten::gelu", 80, 20, [[1000, 1000]], thread=3)
    trace.operator("aten::tanh", 80, 20, [[1000, 1000]], thread=4)
    trace.kernel(ADD, 120, 5, launched=85, thread=4)
    (row,) = library.trace(trace.save(tmp_path), gpu="h100").kernels
    assert row.op == "tanh"


def test_the_operator_outside_counts_and_its_kernels_together(tmp_path):
    trace = Written()
    trace.operator("aten::native_layer_norm", 80, 20, [[64, 512], [], [512], [512], []],
                   types=["c10::BFloat16", "ScalarList", "c10::BFloat16", "c10::BFloat16", "Scalar"],
                   values=["", "[512]", "", "", "1e-05"], number=1)  # fmt: skip
    trace.operator("aten::fill_", 82, 5, [[64], []], values=["", "0"], number=2)
    trace.kernel(ADD, 120, 2, launched=83, number=2)
    trace.kernel("void at::native::vectorized_layer_norm_kernel<c10::BFloat16>(int)", 125, 8, launched=90, number=1)
    found = library.trace(trace.save(tmp_path), gpu="h100")
    (group,) = [one.group for one in found.main.priced]
    assert (group.main.operation, len(group.kernels), group.measured_s) == ("layernorm", 2, MICRO(10e-6))


def test_a_backward_kernel_has_the_module_of_its_forward_operator(tmp_path):
    trace = Written()
    trace.module("Model_0", 0, 200)
    trace.module("Linear_3", 10, 50)
    trace.operator(
        "aten::addmm", 20, 20, [[8], [16, 8], [8, 8]], number=1, **{"Sequence number": 77, "Fwd thread id": 0}
    )
    trace.kernel(GEMM, 50, 5, launched=25, number=1)
    trace.operator("autograd::engine::evaluate_function: AddmmBackward0", 100, 50, number=2, thread=2,
                   **{"Sequence number": 77, "Fwd thread id": 1})  # fmt: skip
    trace.operator("aten::mm", 110, 20, [[16, 8], [8, 8]], number=3, thread=2)
    trace.kernel(GEMM, 150, 5, launched=115, number=3, thread=2)
    trace.named("Optimizer.step#AdamW.step", 200, 50)
    trace.operator("aten::add_", 210, 20, [[64, 64], [64, 64], []], values=["", "", "1"], number=4)
    trace.kernel(ADD, 250, 5, launched=215, number=4)
    rows = {row.phase: row for row in library.trace(trace.save(tmp_path), gpu="h100").kernels}
    assert {phase: row.module for phase, row in rows.items()} == {
        "forward": "Model.Linear", "backward": "Model.Linear", "optimizer": "",
    }  # fmt: skip


def test_a_kernel_without_shapes_has_the_sizes_of_its_grid(tmp_path):
    trace = Written()
    trace.operator("aten::add", 80, 20)
    trace.kernel(ADD, 120, 5, launched=85, grid=(2048, 1, 1))  # 2048 blocks of 128 threads with 8 elements each
    (row,) = library.trace(trace.save(tmp_path), gpu="h100").kernels
    assert (row.op, dict(row.shape), row.source) == ("add", {"numel": 2048 * 128 * 8}, "name")


def test_a_product_in_a_graph_takes_its_sizes_from_the_kernels_around(tmp_path):
    """A normalisation of 4096 rows, and tensors of 4096 x 1024 before and 4096 x 4096 after the product."""
    trace = Written()
    graph = trace.kernel(ADD, 100, 10, launched=80, call="cudaGraphLaunch", grid=(4096 * 1024 // 1024, 1, 1))
    norm = "void at::native::vectorized_layer_norm_kernel<c10::BFloat16, float, false>(int)"
    trace.kernel(norm, 111, 12, correlation=graph, grid=(4096, 1, 1), block=(32, 4, 1))
    trace.kernel(GEMM, 124, 60, correlation=graph, grid=(2, 66, 1), block=(384, 1, 1))
    trace.kernel(ADD, 185, 20, correlation=graph, grid=(4096 * 4096 // 1024, 1, 1))
    found = {row.op: row for row in library.trace(trace.save(tmp_path), gpu="h100").kernels}
    assert found["layernorm"].shape["cols"] == 1024
    assert {name: found["matmul"].shape[name] for name in "mkn"} == {"m": 4096, "k": 1024, "n": 4096}
    assert found["matmul"].graph


def test_a_program_gives_its_sizes_to_the_kernels_of_a_graph(tmp_path):
    """The fill before the product has no call of its own; the product takes the sizes of the second call."""
    trace = Written()
    graph = trace.kernel(ADD, 100, 10, launched=80, call="cudaGraphLaunch")
    trace.kernel("Memset (Device)", 111, 1, correlation=graph, cat="gpu_memset", bytes=4)
    trace.kernel(GEMM, 113, 60, correlation=graph)
    x, w = compact((48, 32), "bf16"), compact((32, 96), "bf16")
    program = Program("p", (Step(Call("add", (x, x)), "block.0"), Step(Call("mm", (x, w)), "block.1")))
    path = trace.save(tmp_path)
    rows = {row.op: row for row in library.trace(path, gpu="h100", program=program).kernels}
    assert {name: rows["matmul"].shape[name] for name in "mkn"} == {"m": 48, "k": 32, "n": 96}
    assert (rows["matmul"].source, rows["matmul"].module) == ("program", "block.1")
    assert rows["add"].shape == {"numel": 48 * 32}
    assert rows["fill"].source == "name"


def test_an_inductor_kernel_counts_each_tensor_once(tmp_path):
    trace = Written()
    name = "triton_poi_fused_add_mul_3"
    shapes, types = [[100, 100], [100, 100], [100, 100], []], ["c10::BFloat16"] * 3 + ["Scalar"]
    trace.operator(name, 80, 20, shapes, types, ["", "", "", "10000"], number=1)
    trace.kernel(name, 120, 5, launched=85, number=1)
    (row,) = library.trace(trace.save(tmp_path), gpu="h100").kernels
    assert (row.op, row.traffic_byte, row.flops) == ("fused", 3 * 10000 * 2, 2 * 10000)


def test_what_is_unknown_is_listed_with_its_time(tmp_path):
    trace = Written()
    trace.kernel("my_own_kernel(float*)", 100, 30, launched=90)
    trace.kernel(ADD, 131, 10, launched=91, grid=(64, 1, 1))
    path = trace.save(tmp_path)
    assert library.trace(path, gpu="h100").unknown_s == MICRO(30e-6)
    shown = perfmodel("trace", path, "--gpu", "h100").out
    assert "25.0% of the kernels' time is tied" in shown
    assert "Unknown, 30.000 µs: my_own_kernel" in shown


def test_wrapped_numbers_are_no_tensors():
    given = Signature([[8, 4], []], ["c10::BFloat16", "double"], [[4, 1], []], ["", ""])
    tensor, number = arguments(given)
    assert (tensor.shape, tensor.dtype, number) == ((8, 4), "bf16", 1.0)
    plain = Signature([[], [], []], ["Scalar", "ScalarList", "Scalar"], [[], [], []], ["2.5", "[1, -2]", "True"])
    assert arguments(plain) == (2.5, (1, -2), True)


@for_each(("name", "expected"), [
        (GEMM, "product"), (CUTLASS, "product"), (ADD, "elementwise"), ("Memcpy HtoD (Pageable -> Device)", "copy"),
        ("ncclDevKernel_AllGather_RING_LL(x)", "communication"), ("void flash_fwd_kernel<Flash_fwd_kernel_traits<64>>(P)", "attention"),
        ("fmha_cutlassB_bf16_aligned_64x64_k64_sm80(P)", "attention_backward"), ("triton_red_fused_mean_2", "fused"),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>(int)", "softmax"), ("vllm_kernel", "other"),
    ])  # fmt: skip
def test_names_tell_families(name, expected):
    assert family(name) == expected
    assert is_communication(name) == (expected == "communication")


def test_names_tell_types_tiles_and_functions():
    assert (dtype(GEMM), tuple(tile(GEMM)), layout(GEMM)) == ("bf16", (192, 192), "TN")
    assert (dtype(ADD), function(ADD), short(ADD)) == ("bf16", "add", "vectorized_elementwise_kernel<CUDAFunctor_add>")
    assert dtype("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3") == "fp32"


# --- advice


def helps(trace, tmp_path, **options):
    return library.trace(trace.save(tmp_path), gpu="h100", **options).advice


def test_an_odd_vocabulary_comes_first(tmp_path):
    trace = Written()
    product(trace, 100, m=8192, k=50257, n=768, length=4500.0, name=CUTLASS)
    first = helps(trace, tmp_path)[0]
    assert (first.what, first.kind) == ("Pad the size 50257 to 50304", "misaligned")
    assert first.saves_s == MICRO(first.before_s - first.after_s)
    assert first.after_s < first.before_s / 2


def test_copies_of_grouped_heads_are_found(tmp_path):
    """Eight query heads over two key heads of 64: each copied four times before attention over 512 keys."""
    trace = Written()
    B, H, S, d = 4, 8, 512, 64
    for number in (1, 2):
        trace.operator("aten::copy_", 100 * number, 20, [[B, 2, 4, S, d], [B, 2, 4, S, d], []], values=["", "", "False"],
                       strides=[[H * S * d, 4 * S * d, S * d, d, 1], [2 * S * d, S * d, 0, d, 1], []], number=number)  # fmt: skip
        trace.kernel(COPY, 100 * number + 50, 20, launched=100 * number + 5, number=number, grid=(2048, 1, 1))
    shapes, types = [[B, H, S, d]] * 3, ["c10::BFloat16"] * 3
    trace.operator("aten::_scaled_dot_product_flash_attention", 300, 20, shapes, types, number=3)
    trace.kernel(
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>(P)", 350, 30, launched=305, number=3
    )
    found = {one.kind: one for one in helps(trace, tmp_path)}
    assert "4 times" in found["copy"].because
    assert found["copy"].measured_s == MICRO(70e-6)


def test_late_launches_would_fit_a_graph_and_the_profilers_part_is_left_out(tmp_path):
    trace = Written()
    for number in range(20):
        product(trace, 100 * number + 50, 256, 256, 256, length=5.0, number=10 * number)
    found = {one.kind: one for one in helps(trace, tmp_path, unprofiled=1000e-6)}
    spans = library.trace(str(tmp_path / "trace.json"), gpu="h100").spans
    # the step lasts 1905 us, 905 of them the profiler's; the host is late by 19 gaps of 95 us
    assert spans.idle_host_s == MICRO(19 * 95e-6)
    assert found["host"].before_s == MICRO((1805 - 905) * 1e-6)


def test_fp32_products_would_be_quicker_in_a_shorter_type(tmp_path):
    trace = Written()
    trace.operator("aten::mm", 90, 20, [[4096, 4096]] * 2, ["float"] * 2, number=1)
    trace.kernel(
        "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3_ffma", 120, 2700, launched=95, number=1
    )
    first = helps(trace, tmp_path)[0]
    assert first.kind == "precision"
    assert first.saves_s > 2e-3  # 137 GFLOP at 66.9 TFLOP/s of the vector engine are 2.05 ms


def test_chains_of_elementwise_kernels_would_fuse(tmp_path):
    trace = Written()
    for number, name in enumerate(("mul", "tanh", "add", "sigmoid")):
        shapes = [[4096, 4096]] * (2 if name in ("mul", "add") else 1)
        trace.operator(f"aten::{name}", 100 * number, 20, shapes, number=number)
        trace.kernel(ADD, 100 * number + 50, 30, launched=100 * number + 5, number=number, grid=(16384, 1, 1))
    found = {one.kind: one for one in helps(trace, tmp_path)}
    assert found["fusion"].what == "Fuse mul + tanh + add + sigmoid"
    # ten tensors of 33.6 MB are read or written one by one, four in one kernel: mul reads two, add one more, one is written
    assert found["fusion"].after_s == MICRO(found["fusion"].before_s * 4 / 10, rel=0.25)


# --- reading


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_files_are_read_in_small_pieces(tmp_path, monkeypatch, name):
    trace = Written()
    product(trace, 100, 64, 64, 64)
    monkeypatch.setattr(scanning, "PIECE", 7)
    found = read(trace.save(tmp_path, name))
    assert (len(found.activities), found.events, found.device_name) == (1, 4, "NVIDIA H100 80GB HBM3")


def test_a_bare_list_of_events_and_one_that_was_cut_between_events_are_read(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)
    path = tmp_path / "list.json"
    text = json.dumps(trace.events)
    for written in (text, text[:-1], '{"traceEvents": ' + text[:-1]):
        path.write_text(written)
        assert len(read(str(path)).activities) == 1


KERNEL = '{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":1,"args":{}}'


@for_each(("text", "found"), [
        ("", "it is empty"),
        ("7", "it begins with '7'"),
        ("{}", "it has no list 'traceEvents'"),
        ('{"traceEvents": 3}', "it has no list 'traceEvents'"),
        ('{"traceEvents": []}', "it has no kernel, copy or fill of a device"),
        ('{"traceEvents": [' + KERNEL + ",{", "the text is not valid JSON, or it ends early"),
        ('{"traceEvents": [nope]}', "the text is not valid JSON, or it ends early"),
        ('{"traceEvents": [' + KERNEL.replace('"ts":1', '"ts":"x"') + "]}", "ts = 'x', dur = 1"),
        ('{"traceEvents": [' + KERNEL.replace('"dur":1', '"dur":[]') + "]}", "ts = 1, dur = []"),
        ('{"traceEvents": [' + KERNEL.replace('"name":"k"', '"name":4') + "]}", "name = 4"),
        ('{"traceEvents": [' + KERNEL.replace('"dur":1', '"dur":NaN') + "]}", "it has no kernel, copy or fill of a device"),
        ('{"traceEvents": [{"a":' + "[" * 100_000, "it is nested too deeply"),
        ('{"traceEvents": [' + KERNEL.replace('"ts":1', '"ts":' + "9" * 5000) + "]}", "it cannot be read"),
    ])  # fmt: skip
def test_malformed_traces_are_refused_in_one_line(tmp_path, text, found):
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert found in check_refused(perfmodel("trace", str(path)), 1)["found"]


def test_unreadable_files_are_refused(tmp_path):
    damaged = tmp_path / "damaged.json.gz"
    damaged.write_bytes(b"\x1f\x8b" + b"\x00" * 40)
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(Path(one_kernel(tmp_path)).read_bytes()[:-20])
    for path, found in (
        (tmp_path, "cannot be read"),
        (tmp_path / "none", "there is no such file"),
        (damaged, "damaged"),
        (cut, "ends early"),
    ):
        assert found in check_refused(perfmodel("trace", str(path)), 1)["found"]


def one_kernel(tmp_path):
    trace = Written()
    trace.kernel(ADD, 100, 10, launched=90)
    return trace.save(tmp_path, "one.json.gz")


def test_strange_values_beside_the_needed_ones_are_no_error(tmp_path):
    trace = Written(device=None)
    trace.kernel(ADD, 100, 10, launched=90, grid=(1, 1, 1), queued="x")
    trace.operator("aten::mm", 80, 20, [["a", -1], [[2], 3]], ["c10::BFloat16", "TensorList"], number=1)
    trace.events += [{"ph": "X", "cat": [], "ts": None}, {"cat": "cpu_op"}, 5, None, {"ph": "i", "name": {}}]
    trace.header["distributedInfo"] = {"rank": "zero"}
    path = trace.save(tmp_path)
    found = library.trace(path)
    assert (found.gpu, found.main.rank, len(found.kernels)) == (None, 0, 1)
    ran = perfmodel("trace", path)
    assert ran.code == 0
    assert "Name one with --gpu." in ran.err


def test_control_characters_of_a_file_reach_no_terminal(tmp_path):
    trace = Written()
    trace.named("\x1b]52;c;x\x07", 0, 1000)
    trace.kernel("evil\x1b[2Jname\u202e", 100, 10, launched=90)
    trace.kernel(ADD, 150, 10, launched=140)
    path = trace.save(tmp_path)
    for form in ((), ("--format", "json"), ("--format", "html", "-o", str(tmp_path / "x.html"))):
        ran = perfmodel("trace", path, "--gpu", "h100", *form)
        assert "\x1b" not in ran.out + ran.err
        assert "\u202e" not in ran.out
    page = (tmp_path / "x.html").read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page


# --- the command


def test_the_document_has_the_agreed_fields(tmp_path):
    trace = Written()
    product(trace, 100, 256, 256, 256)
    ran = perfmodel("trace", trace.save(tmp_path), "--gpu", "h100", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert document["schema"] == 2
    assert document["gpu"]["name"] == "h100-sxm5-80gb"
    assert {
        "span_s", "kernel_s", "communication_exposed_s", "idle_host_s", "idle_other_s", "unknown_s", "kernels", "advice",
    } <= set(document)  # fmt: skip
    assert {
        "name", "count", "op", "shape", "dtype", "module", "measured_s", "lower_s", "expected_s", "of_bound",
    } <= set(document["kernels"][0])  # fmt: skip
    assert all({"what", "saves_s", "because"} <= set(one) for one in document["advice"])


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits_the_terminal(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    trace = Written()
    product(trace, 100, m=8192, k=50257, n=768, name=CUTLASS)
    trace.kernel(ADD, 400, 20, launched=390, grid=(4096, 1, 1))
    shown = perfmodel("trace", trace.save(tmp_path), "--gpu", "h100").out
    assert max(map(len, shown.splitlines())) <= width
    assert "Suggested changes" in shown


def test_a_card_is_found_by_the_name_of_its_driver_and_another_one_is_noted(tmp_path):
    trace = Written()
    product(trace, 100, 256, 256, 256)
    path = trace.save(tmp_path)
    assert library.trace(path).gpu.name == "h100-sxm5-80gb"
    assert "The trace ran on NVIDIA H100 80GB HBM3" in library.trace(path, gpu="a100").notes[0]


@for_each(("arguments", "found"), [
        (("--format", "html"), "--format html is given without -o"),
        (("--format", "json", "-o", "x.html"), "--format json is given"),
        (("--unprofiled", "soon"), "'soon' is not a time"),
        (("--unprofiled", "-1"), "-1"),
        (("-o", "no/such/folder.html"), "there is no folder"),
        (("--gpu", "h1000"), "h1000"),
    ])  # fmt: skip
def test_wrong_options_are_refused(tmp_path, arguments, found):
    ran = perfmodel("trace", one_kernel(tmp_path), *arguments)
    assert found in ran.err
    check_refused(ran)


def test_a_file_is_written_in_the_format_of_its_ending(tmp_path):
    path = one_kernel(tmp_path)
    for _ in range(2):  # the second time it replaces its own file without a note
        ran = perfmodel("trace", path, "--gpu", "h100", "-o", str(tmp_path / "x.json"))
        assert (ran.code, ran.out, ran.err) == (0, f"Wrote {tmp_path / 'x.json'}.\n", "")
    assert json.loads((tmp_path / "x.json").read_text())["schema"] == 2


def test_an_answer_has_tables_json_and_rows(tmp_path):
    found = library.trace(one_kernel(tmp_path), gpu="h100")
    assert repr(found) == "<TraceAnswer one.json.gz: 10.00 µs on NVIDIA H100 SXM5 80 GB>"
    assert "<table" in found._repr_html_()
    assert json.loads(found.to_json())["span_s"] == MICRO(10e-6)
    assert found.to_html().startswith("<!doctype html>")


def test_no_file_is_an_error_of_the_library_too():
    with pytest.raises(InputError, match="0 files are given"):
        library.trace([])
