"""Checks: verdicts by hand, exit codes, what is no verdict, and the sources: records, cases, traces."""

from __future__ import annotations

import json
import re

import pages
import pytest
from command import check_message, check_refused, perfmodel
from many import for_each

from perfmodel import hardware, records
from perfmodel.checking import FAIL, PASS, UNKNOWN, Limit, Reference, Time, checked, judge, limit, of_records, of_trace
from perfmodel.errors import InputError
from perfmodel.hardware import gpu

# 3 x 2^27 elements of 2 bytes are 805.3 MB: 167.77 us at the 4.8 TB/s of an H200.
ADD = {"op": "add", "shape": {"numel": 1 << 27}, "dtype": "fp16"}
BOUND_US = 3 * 2 * 2**27 / 4.8e12 * 1e6
MUL = {"op": "mul", "shape": {"numel": 1 << 27}, "dtype": "fp16"}
H200 = {"schema": 1, "environment": {"gpu": "NVIDIA H200", "device": "cuda"}}


def record(line, median, low=None, high=None, **more):
    return {**line, "median_us": median, "p25_us": low or median, "p75_us": high or median, "n": 30, **more}


def stored(tmp_path, *lines):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def run(*arguments, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return perfmodel("check", *arguments, *words)


def document(ran):
    return json.loads(ran.out)


# --- verdicts


@for_each(
    ("low", "median", "high", "verdict"),
    [
        (100, 110, 125, PASS),  # bound 100: shares 100 to 80 %
        (100, 110, 126, UNKNOWN),  # 79.4 % is below the limit, the median of 90.9 % above it
        (124, 130, 140, UNKNOWN),  # 80.6 % is above it, the median of 76.9 % below it
        (126, 130, 140, FAIL),  # 79.4 % at most
        (90, 97, 97.9, UNKNOWN),  # more than 2 % below the bound
        (90, 99, 100, PASS),  # a timer resolves no more than that
    ],
)
def test_the_whole_range_between_the_quartiles_decides(low, median, high, verdict):
    found = judge(ADD, Reference(100.0, 150.0), Time(median, low, high), Limit(0.8))
    assert found.verdict == verdict
    assert (found.reached_low, found.reached, found.reached_high) == (100 / high, 100 / median, 100 / low)
    assert bool(found.reason) == (verdict == UNKNOWN)
    assert (found.limit_s, found.headroom_s) == (125, median - 100)


def test_a_share_of_the_expected_time_may_be_above_one():
    """150 us expected: 130 us are 115 %."""
    time = Time(130, 128, 131)
    for share, verdict in ((0.9, PASS), (1.1, PASS), (1.15, UNKNOWN), (1.2, FAIL)):
        assert judge(ADD, Reference(100.0, 150.0), time, Limit(share, "expected")).verdict == verdict


@pytest.mark.parametrize(
    ("reference", "time", "failed", "verdict", "reason"),
    [
        (Reference(100.0), None, "", UNKNOWN, "it has no measured time"),
        (Reference(), Time(1, 1, 1), "", UNKNOWN, "its work is not known"),
        (Reference(0.0), Time(1, 1, 1), "", UNKNOWN, "its bound is 0: L2 can hold all its data"),
        (Reference(100.0), None, "it took longer than 60 s", UNKNOWN, "it took longer than 60 s"),
        (Reference(100.0), None, "wrong result: off by 1", FAIL, "wrong result: off by 1"),
    ],
)
def test_no_verdict_has_a_reason_and_a_wrong_result_fails(reference, time, failed, verdict, reason):
    found = judge(ADD, reference, time, Limit(0.8), failed)
    assert (found.verdict, found.reason) == (verdict, reason)


def judged(*verdicts):
    times = {PASS: Time(100, 100, 100), FAIL: Time(400, 400, 400), UNKNOWN: None}
    return [judge(ADD, Reference(100.0, 150.0), times[one], Limit(0.8)) for one in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "plain", "allowed"),
    [
        ((PASS, PASS), True, True),
        ((PASS, UNKNOWN), False, True),
        ((UNKNOWN, UNKNOWN), False, False),  # a check without a verdict has shown nothing
        ((PASS, FAIL), False, False),
        ((PASS, UNKNOWN, FAIL), False, False),
    ],
)
def test_what_passes(verdicts, plain, allowed):
    assert checked(judged(*verdicts), Limit(0.8)).passed is plain
    assert checked(judged(*verdicts), Limit(0.8), allow_unknown=True).passed is allowed


def test_the_worst_come_first():
    lines = [record({**ADD, "shape": {"numel": 1 << n}}, us) for n, us in ((27, 200), (26, 300), (25, 80), (24, 21))]
    found = checked(of_records([*lines, MUL], gpu("h200"), Limit(0.8)), Limit(0.8))
    assert [one.verdict for one in found.kernels] == [FAIL, FAIL, UNKNOWN, PASS, PASS]
    headrooms = [one.headroom_s for one in found.kernels]
    assert headrooms[0] > headrooms[1] > 0
    assert headrooms[3] > headrooms[4] > 0


def streams(*times):
    return [{"byte": 8e8, "median_us": us, "p25_us": us, "p75_us": us} for us in times]


def test_on_a_busy_device_a_slow_kernel_has_no_verdict():
    """The stream before the cases took 200 us, the one after them 300 us."""
    lines = [record(ADD, 400), record(MUL, 180), {**ADD, "protocol": "warm", "error": "wrong result: off by 1"}]
    busy = {"gpu": "NVIDIA H200", "device": "cuda", "streams": streams(200, 300)}
    found = of_records(lines, gpu("h200"), Limit(0.8), busy)
    assert [one.verdict for one in found] == [UNKNOWN, PASS, FAIL]
    assert found[0].reason == "the device was busy with other work"
    quiet = {**busy, "streams": streams(200, 205)}
    assert [one.verdict for one in of_records(lines, gpu("h200"), Limit(0.8), quiet)] == [FAIL, PASS, FAIL]


PROCESSOR = """\
title: A processor
vendor: nobody
architecture: unknown
form: processor
matches: ["A processor"]
sources: {measured: {title: by hand, read: 2026-11-26}}
multiprocessors: {value: 2, from: measured}
clocks: {}
memory: {type: system memory, capacity: {value: 8 GB, from: measured}, bandwidth: {value: 8 GB/s, from: measured}}
caches: {l2: {value: 4 KiB, from: measured}, l2_bandwidth: {value: 80 GB/s, from: measured}}
vector: {fp64: {value: 10 GFLOP/s, from: measured}, fp32: {value: 20 GFLOP/s, from: measured}}
"""


def processor():
    from perfmodel.specfile import parse

    return hardware.described(parse(PROCESSOR, "cpu.yaml"), "cpu.yaml")


def test_roofs_that_were_measured_on_a_busy_device_decide_nothing():
    """800 MB at 8 GB/s are 100 ms, which the streams pass or miss: then a fast kernel may have a low roof."""
    line = record({"op": "add", "shape": {"numel": 1 << 20}, "dtype": "fp32"}, 2000)
    for times, verdict in (((1.0e5, 1.01e5), PASS), ((1.0e5, 2.0e5), UNKNOWN)):
        environment = {"gpu": "A processor", "device": "cpu", "streams": streams(*times)}
        (found,) = of_records([line], processor(), Limit(0.5), environment)
        assert found.verdict == verdict


# --- the limit


@pytest.mark.parametrize(("text", "of", "share"), [("0.8", "bound", 0.8), ("80%", "bound", 0.8), ("1.5", "expected", 1.5), ("150 %", "expected", 1.5), ("1", "bound", 1.0)])  # fmt: skip
def test_a_share_is_a_number_or_a_percentage(text, of, share):
    assert limit(text, of) == Limit(share, of)


@for_each(("text", "told"), [
        ("80", "--min: 80.0 is not a share; a share of the bound, a number from 1e-06 to 1, is accepted. Write 0.8 for 80 %."),
        ("1.01", "--min: 1.01 is not a share; a share of the bound, a number from 1e-06 to 1, is accepted. Write 0.0101 for"),
        ("0", "--min: 0.0 is not a share;"),
        ("-1", "--min: -1.0 is not a share;"),
        ("nan", "--min: nan is not a share;"),
        ("inf%", "--min: inf is not a share;"),
        ("most", "--min: 'most' is not a share; 0.8 or 80% is accepted. Correct it."),
        ("", "--min: '' is not a share;"),
    ])  # fmt: skip
def test_other_shares_are_refused(tmp_path, text, told):
    ran = perfmodel("check", "--from", stored(tmp_path, ADD), "--gpu", "h200", f"--min={text}")
    check_refused(ran, 1)
    assert ran.err.startswith(told)


# --- the command


def test_a_check_that_passes_is_silent_on_stderr(tmp_path):
    ran = run("--from", stored(tmp_path, H200, record(ADD, 200, 199, 201)), min=0.8)
    assert (ran.code, ran.err) == (0, "")
    assert "every kernel must reach 80 % of the bound" in ran.out
    assert "1 passes." in ran.out


def test_a_check_that_fails_says_where_to_begin(tmp_path):
    path = stored(
        tmp_path, H200, record(ADD, 200), record(MUL, 400, 390, 410), {**ADD, "protocol": "warm", "error": "died"}
    )
    ran = run("--from", path, min=0.8)
    assert ran.code == 3
    check_message(ran.err)
    assert ran.err == (
        "perfmodel check: of 3 kernels, 1 fails, 1 has no verdict, 1 passes; every kernel must reach 80 % of the bound. "
        "Begin with mul numel=134217728 fp16: 41.9%, 232.2 µs above the bound.\n"
    )
    assert [line.split()[0] for line in ran.out.splitlines()[4:7]] == ["fail", "unknown", "pass"]


def test_no_verdict_is_not_a_pass(tmp_path):
    path = stored(tmp_path, H200, record(ADD, 200), record(MUL, 209, 190, 230))
    ran = run("--from", path, min=0.8)
    assert ran.code == 3
    check_message(ran.err)
    assert "every kernel must reach 80 % of the bound or --allow-unknown be given. Begin with mul" in ran.err
    ran = run("--from", path, "--allow-unknown", min=0.8)
    assert (ran.code, ran.err) == (0, "")
    assert "1 has no verdict, 1 passes." in ran.out


def test_a_check_without_any_verdict_does_not_pass(tmp_path):
    ran = run(
        "--from", stored(tmp_path, H200, {**ADD, "error": "it took longer than 60 s"}), "--allow-unknown", min=0.8
    )
    assert ran.code == 3
    check_message(ran.err)
    assert "--allow-unknown needs a kernel that passes. Begin with add numel=134217728 fp16: it took longer" in ran.err


def test_the_document(tmp_path):
    ran = run("--from", stored(tmp_path, H200, record(ADD, 200, 195, 220), record(MUL, 400)), min=0.8, format="json")
    assert ran.code == 3
    found = document(ran)
    assert (found["of"], found["min"], found["passed"], found["allow_unknown"]) == ("bound", 0.8, False, False)
    assert found["counts"] == {"fail": 1, "unknown": 1, "pass": 0}
    slow, noisy = found["kernels"]
    assert (slow["op"], slow["verdict"], noisy["op"], noisy["verdict"]) == ("mul", "fail", "add", "unknown")
    assert slow["bound"] == "memory"
    assert slow["headroom_s"] == pytest.approx((400 - BOUND_US) * 1e-6)
    assert noisy["limit_s"] == pytest.approx(BOUND_US / 0.8 * 1e-6)
    assert [noisy[f"reached{part}"] for part in ("_low", "", "_high")] == pytest.approx([BOUND_US / us for us in (220, 200, 195)])  # fmt: skip


def test_its_fields_are_documented_and_known_to_cases(tmp_path):
    found = document(run("--from", stored(tmp_path, H200, record(ADD, 200)), min=0.8, format="json"))
    named = set(re.findall(r"`([^`\s]+)`", pages.read("docs/json.md") + pages.read("docs/cases.md")))
    keys = {*found, *found["counts"], *(key for key in found["kernels"][0])}
    assert keys - named - {"n", "median_us", "p25_us", "p75_us"} == set()
    assert keys - {"passed", "counts"} >= {"reached", "limit_s", "headroom_s"}
    again = tmp_path / "again.jsonl"
    again.write_text(json.dumps(found["kernels"][0]))
    assert perfmodel("predict", "--cases", str(again), "--gpu", "h200").code == 0


@pytest.mark.parametrize("form", ["csv", "markdown"])
def test_other_formats_have_every_kernel(tmp_path, form):
    ran = run("--from", stored(tmp_path, H200, record(ADD, 200), record(MUL, 400)), min=0.8, format=form)
    assert ran.code == 3
    assert "add" in ran.out
    assert "mul" in ran.out


def test_kernels_may_be_selected(tmp_path):
    path = stored(tmp_path, H200, record(ADD, 200), record(MUL, 400))
    assert run("--from", path, "--only", "add", min=0.8).code == 0
    assert run("--from", path, "--only", "a*", "--only", "m?l", min=0.8).code == 3
    ran = run("--from", path, "--only", "softmax*", min=0.8)
    check_refused(ran, 1)
    assert (
        ran.err
        == "--only softmax*: no kernel matches; add, mul are here. Write one of these names, or its beginning and '*'.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--min", "0.8"),
            "perfmodel check: no measurements are named; one of --cases, --from and --trace is accepted.",
        ),
        (("--from", "x", "--trace", "y", "--min", "0.8"), "perfmodel check: --from and --trace are given; one of"),
        (("--from", "x"), "perfmodel check: option '--min' is missing;"),
        (("--from", "x", "--min", "0.8", "--of", "best"), "perfmodel check: "),
    ],
)
def test_bad_usage(arguments, told):
    ran = perfmodel("check", *arguments)
    check_refused(ran, 2)
    assert ran.err.startswith(told)


# --- stored measurements


def test_measurements_of_ones_own_need_no_environment_but_a_gpu(tmp_path):
    path = stored(tmp_path, {**ADD, "measured_us": 200}, {**MUL, "measured_us": 200, "p25_us": 190, "p75_us": 205})
    assert run("--from", path, min=0.8, gpu="h200").code == 0
    ran = run("--from", path, min=0.8)
    check_refused(ran, 1)
    assert ran.err == (
        f"{path}: it does not say on which GPU it was measured; a name from 'perfmodel gpus' is accepted. "
        "Name the GPU with --gpu.\n"
    )
    assert "Noise is unknown for 1 of 2 kernels" in run("--from", path, min=0.8, gpu="h200").out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"measured_us": 200, "p25_us": 190},
            "'p75_us' is missing; a measured time with both quartiles, or without, is",
        ),
        ({"p25_us": 190, "p75_us": 205}, "'measured_us' is missing;"),
        (
            {"measured_us": 200, "p25_us": 201, "p75_us": 205},
            "p25_us = 201, median_us = 200.0 and p75_us = 205 are not in",
        ),
        ({"measured_us": -1}, "measured_us: -1 is not accepted here;"),
        ({"measured_us": 200, "median_us": 300}, "measured_us and median_us give different times;"),
    ],
)
def test_their_times_are_checked(tmp_path, more, told):
    path = stored(tmp_path, ADD, {**ADD, **more})
    ran = run("--from", path, min=0.8, gpu="h200")
    check_refused(ran, 1)
    assert ran.err.startswith(f"{path}:2: {told}")
    with pytest.raises(InputError, match="does not begin with an environment line"):
        records.read(path)


def test_a_case_that_cannot_be_computed_has_no_verdict(tmp_path):
    path = stored(tmp_path, {**ADD, "measured_us": 200}, {"op": "added", "shape": {}, "measured_us": 5})
    ran = run("--from", path, min=0.8, gpu="h200", format="json")
    assert ran.code == 3
    assert document(ran)["kernels"][0]["reason"].startswith("case: op: 'added' is not known;")


def test_measurements_of_another_gpu_are_refused(tmp_path):
    path = stored(tmp_path, H200, record(ADD, 200))
    ran = run("--from", path, min=0.8, gpu="t4")
    check_refused(ran, 1)
    assert (
        ran.err
        == f"{path}:1: these kernels were measured on 'NVIDIA H200'; --gpu t4 describes Tesla T4. Use --gpu auto.\n"
    )
    assert run("--from", path, min=0.8, gpu="h200").code == run("--from", path, min=0.8, gpu="auto").code == 0


def test_an_empty_file_is_no_pass(tmp_path):
    for lines, told in (((H200,), "it contains no kernel;"), ((), ":1: it does not begin with an environment line;")):
        ran = run("--from", stored(tmp_path, *lines), "--allow-unknown", min=0.8, gpu="h200")
        check_refused(ran, 1)
        assert told in ran.err


# --- kernels that are measured now


@pytest.fixture
def measuring(monkeypatch):
    """A processor whose bandwidth is 8 GB/s. Returns the times that its kernels take, in microseconds."""
    from perfmodel.measure import session

    times = []

    def measured(here, cases, log, limit_s, held):
        log.begin({"environment": {"gpu": "A processor", "device": "cpu", "card": PROCESSOR}})
        for case, us in zip(cases, times, strict=True):
            log.keep(record(case, us))
            yield case

    monkeypatch.setattr(session, "processor", lambda note: session.Device("cpu", processor(), None, note, PROCESSOR))
    monkeypatch.setattr(session, "records", measured)
    return times


# 3 x 2^20 elements of 4 bytes are 12.6 MB, which pass memory in 1573 us at 8 GB/s.
SMALL = {"op": "add", "shape": {"numel": 1 << 20}, "dtype": "fp32", "protocol": "cold"}


def test_cases_are_measured_and_checked(tmp_path, measuring):
    path = stored(tmp_path, SMALL, {**SMALL, "op": "mul"})
    measuring[:] = 1700, 1800
    ran = run("--cases", path, min=0.8, gpu="cpu")
    assert (ran.code, ran.err) == (0, "This processor is measured, starting with its peak rates.\n")
    measuring[:] = 1700, 3200
    ran = run("--cases", path, min=0.8, gpu="cpu", format="json")
    assert ran.code == 3
    assert [one["op"] for one in document(ran)["kernels"]] == ["mul", "add"]
    assert document(ran)["kernels"][0]["reached"] == pytest.approx(12 * 2**20 / 8e9 / 3200e-6)


def test_without_a_gpu_nothing_is_measured_in_its_place(tmp_path, measuring, monkeypatch):
    monkeypatch.setattr("perfmodel.measure.environment.torch_with_gpu", lambda: None)
    ran = run("--cases", stored(tmp_path, SMALL), min=0.8)
    check_refused(ran, 4)
    assert ran.err.startswith(
        "perfmodel check: no usable GPU was found; measuring requires a GPU, its driver and torch."
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**SMALL, "op": "added"}, ":1: op: 'added' is not known;"),
        ({**SMALL, "protocol": "rotating"}, ":1: protocol: no run of this case replaces its weights;"),
    ],
)
def test_cases_that_cannot_be_measured_are_refused_before(tmp_path, measuring, line, told):
    ran = run("--cases", stored(tmp_path, line), min=0.8, gpu="cpu")
    check_refused(ran, 1)
    assert told in ran.err


# --- traces

KERNELS = [
    {"name": "void softmax<float>(float*)", "count": 12, "op": "softmax", "shape": {"rows": 8, "cols": 9}, "dtype": "fp32",
     "module": "model.layers.0.attention", "measured_s": 3e-4, "lower_s": 2.7e-4, "expected_s": 2.8e-4, "of_bound": 0.9},
    {"name": "sm90_gemm", "count": 1, "op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "dtype": "bf16", "module": "model.head",
     "measured_s": 5e-4, "lower_s": 1e-4, "expected_s": 2e-4, "of_bound": 0.2},
    {"name": "elsewhere", "count": 1, "op": "", "shape": {}, "dtype": "", "module": "", "measured_s": 1e-6, "lower_s": 0,
     "expected_s": 0, "of_bound": 0},
]  # fmt: skip
TRACE = {
    "schema": 2,
    "gpu": {"name": "h200-sxm-141gb", "file": "", "knowledge": "family"},
    "span_s": 1.0,
    "kernels": KERNELS,
}


def traced(tmp_path, found=TRACE):
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(found, indent=2))
    return str(path)


def test_the_kernels_of_a_trace_are_checked(tmp_path):
    found = checked(of_trace(TRACE, Limit(0.8), "trace.json"), Limit(0.8))
    assert [(one.verdict, one.line["name"]) for one in found.kernels] == [
        (FAIL, "sm90_gemm"), (UNKNOWN, "elsewhere"), (PASS, "void softmax<float>(float*)"),
    ]  # fmt: skip
    assert found.kernels[0].headroom_s == pytest.approx(4e-4)
    assert found.kernels[1].reason == "its work is not known"
    ran = run("--trace", traced(tmp_path), min=0.8)
    assert ran.code == 3
    assert "Begin with sm90_gemm matmul m=8 k=8 n=8: 20.0%, 400.0 µs above the bound." in ran.err
    assert "calls" in run("--trace", traced(tmp_path), min=0.8, format="markdown").out


def test_a_part_of_a_trace_may_be_checked(tmp_path):
    path = traced(tmp_path)
    assert run("--trace", path, "--only", "*softmax*", min=0.9).code == 0
    assert run("--trace", path, "--only", "model.layers.*", min=0.9).code == 0
    assert run("--trace", path, "--only", "model.*", min=0.9).code == 3
    assert run("--trace", path, "--only", "softmax", "--only", "elsewhere", "--allow-unknown", min=0.9).code == 0
    assert run("--trace", path, "--only", "softmax", min=0.92, of="expected").code == 0


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({**TRACE, "kernels": []}, "it has no list of kernels;"),
        ({**TRACE, "kernels": [1]}, "it has no list of kernels;"),
        ({**TRACE, "kernels": [{"measured_s": -1}]}, "kernels: measured_s: -1 is not a time; seconds are accepted."),
        ({**TRACE, "gpu": None}, "its GPU is not known; a name from 'perfmodel gpus' is accepted. Add --gpu."),
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path, found, told):
    path = traced(tmp_path, found)
    ran = run("--trace", path, min=0.8)
    check_refused(ran, 1)
    assert ran.err.startswith(f"{path}: {told}")


def test_bounds_of_another_gpu_are_refused(tmp_path):
    ran = run("--trace", traced(tmp_path), min=0.8, gpu="t4")
    check_refused(ran, 1)
    assert "its bounds are those of 'h200-sxm-141gb'; --gpu t4 is given. Create it again with --gpu." in ran.err
    assert run("--trace", traced(tmp_path), min=0.8, gpu="h200").code == 3
    assert run("--trace", traced(tmp_path, {**TRACE, "gpu": None}), min=0.8, gpu="t4").code == 3


def profiled(tmp_path, device="NVIDIA H200"):
    """A trace of one addition of 2^27 numbers in fp16, which took 200 us."""
    shape = {"Input Dims": [[1 << 27], [1 << 27], []], "Input type": ["c10::Half", "c10::Half", "Scalar"]}
    common = {"ph": "X", "pid": 1, "tid": 1}
    events = [
        {**common, "cat": "cpu_op", "name": "aten::add", "ts": 10.0, "dur": 20.0, "args": {"External id": 1, **shape}},
        {**common, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 15.0, "dur": 5.0, "args": {"correlation": 7, "External id": 1}},
        {**common, "cat": "kernel", "name": "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::Half> >(int)",
         "ts": 40.0, "dur": 200.0, "pid": 0, "tid": 7, "args": {"correlation": 7, "External id": 1, "device": 0, "stream": 7}},
    ]  # fmt: skip
    found = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": device}], "traceEvents": events}
    return traced(tmp_path, found)


def test_a_profiler_trace_is_read(tmp_path):
    """167.77 us of the 200 us at the bandwidth are 83.9 %; less what L2 may hold of 805 MB, 60 MiB or 7.8 %."""
    path = profiled(tmp_path)
    ran = run("--trace", path, "--only", "vectorized_elementwise_kernel*", min=0.75, format="json")
    (found,) = document(ran)["kernels"]
    assert (ran.code, document(ran)["gpu"]["name"]) == (0, "h200-sxm-141gb")
    assert (found["op"], found["count"], found["bound"]) == ("add", 1, "memory")
    assert BOUND_US / 200 * 0.92 < found["reached"] <= BOUND_US / 200
    assert run("--trace", path, min=0.75, gpu="h200").code == 0
    assert run("--trace", path, min=0.85).code == 3


def test_the_gpu_of_a_profiler_trace_is_known_or_asked_for(tmp_path):
    path = profiled(tmp_path)
    ran = run("--trace", path, min=0.8, gpu="t4")
    check_refused(ran, 1)
    assert (
        ran.err
        == f"{path}: these kernels were measured on 'NVIDIA H200'; --gpu t4 describes Tesla T4. Use --gpu auto.\n"
    )
    path = profiled(tmp_path, "A card of one's own")
    ran = run("--trace", path, min=0.8)
    check_refused(ran, 1)
    assert ran.err == f"{path}: its GPU is not known; a name from 'perfmodel gpus' is accepted. Add --gpu.\n"
