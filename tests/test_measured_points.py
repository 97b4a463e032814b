"""Measurements on a roofline: points by hand, records of a run, what is refused, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import check_refused, perfmodel
from many import for_each
from test_roofline import written

from perfmodel import chart, measured_points
from perfmodel.chart import MEASURED
from perfmodel.hardware import gpu
from perfmodel.records import read
from perfmodel.report.plot import figure

pytestmark = pytest.mark.usefixtures("small_pictures")

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
QUICK = RESULTS / "h100-quick.jsonl"
CASE = {"op": "softmax", "shape": {"rows": 8192, "cols": 8192}, "dtype": "fp16"}


def a100(*texts, dtypes=("fp16",)):
    return measured_points.given(chart.card(gpu("a100"), [], dtypes), texts)


def test_a_point_by_hand():
    """137 GFLOP and 100 MB: 1370 FLOP/B, right of the ridge at 153: the bound is 312 TFLOP/s. In 612 us 137e9 FLOP are
    223.9 TFLOP/s, 71.7 %. 335 MFLOP and 268 MB: 1.25 FLOP/B x 2039 GB/s = 2.549 TFLOP/s; in 160 us 2.094 TFLOP/s.
    """
    product, row = a100("mine:137G:100MB:612us", "row: a:335M:268MB:160 µs").points
    assert (product.name, product.intensity, product.bound, product.roof) == ("mine", 1370.0, "tensor", "tensor fp16")
    assert product.flop_per_s == 312e12
    assert product.height == pytest.approx(223.86e12, rel=1e-4)
    assert product.of_bound == pytest.approx(0.7175, abs=1e-4)
    assert (row.name, row.intensity, row.bound) == ("row: a", 1.25, "memory")
    assert row.flop_per_s == pytest.approx(2.54875e12)
    assert row.of_bound == pytest.approx(335 / 160 / 2.54875, rel=1e-9)
    assert {product.kind, row.kind} == {MEASURED}


@for_each(("time", "seconds"), [("2", 2.0), ("2s", 2.0), ("2 ms", 2e-3), ("2us", 2e-6), ("2µs", 2e-6), ("2ns", 2e-9), ("2e-6", 2e-6)])  # fmt: skip
def test_units_of_a_point(time, seconds):
    assert measured_points.read(f"x:1kFLOP:1 KiB:{time}") == ("x", 1000, 1024, pytest.approx(seconds))


def test_the_roofs_of_a_point_are_those_of_the_data_type():
    (point,) = a100("x:1T:1GB:100ms", dtypes=("fp64",)).points
    assert (point.flop_per_s, point.roof) == (19.5e12, "tensor fp64")
    assert point.of_bound == pytest.approx(10 / 19.5)


def test_a_point_above_its_bound_is_said():
    card = a100("fast:1T:1GB:1ms", "sound:1T:1GB:100ms")
    assert [note for note in card.notes if "faster than its bound" in note] == [
        "fast: faster than its bound. Check the FLOPs, the bytes, the time, the GPU and --dtype."
    ]
    assert chart.limits([card]).top > 1e15


# --- records


def records(tmp_path, *lines):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_record_by_hand(tmp_path):
    """8192 x 8192 scores: 5 FLOPs and 4 bytes each, 335,544,320 and 268,435,456: 131.65 us at 2039 GB/s."""
    run = read(records(tmp_path, {**CASE, "measured_us": 160.0}), bare=True)
    (found,) = measured_points.stored(chart.card(gpu("a100"), [], ("fp16",)), gpu("a100"), run).points
    assert (found.name, found.group, found.bound) == ("softmax 8192x8192", "softmax", "memory")
    assert found.intensity == 1.25
    assert found.height == pytest.approx(335_544_320 / 160e-6)
    assert found.of_bound == pytest.approx(131.65 / 160, rel=1e-4)
    assert found.named


def test_the_share_is_that_of_validate():
    document = json.loads(perfmodel("validate", "--from", str(QUICK), "--format", "json").out)
    card = gpu("h100")
    points = measured_points.stored(
        chart.card(card, [], ("bf16", "fp16", "fp32", "tf32")), card, read(str(QUICK))
    ).points
    shares = {
        round(one["measured_s"] * 1e9): one["of_bound"]
        for one in document["cases"]
        if one.get("of_bound") and one["flops"]
    }
    own = {round(point.measured_s * 1e9): point.of_bound for point in points if point.of_bound}
    assert len(own) > 30
    assert own == {key: pytest.approx(shares[key]) for key in own}
    names = [(point.group, point.name) for point in points]
    assert len(set(names)) == len(names)
    assert not any(point.named for point in points)


def test_records_without_a_time_are_counted(tmp_path):
    failed = {**CASE, "shape": {"rows": 1, "cols": 8}, "error": "out of memory"}
    unknown = {"op": "no_such_op", "shape": {"n": 8}, "dtype": "fp16", "measured_us": 3.0}
    path = records(tmp_path, {**CASE, "measured_us": 160.0}, failed, unknown)
    ran = perfmodel("roofline", "--gpu", "a100", "--from", path, "show")
    assert ran.code == 0, ran.err
    assert "2 of 3 records have no time or no formula and are not drawn." in ran.out.replace("\n", " ")


# --- the command


def test_show_has_the_achieved_rate_and_its_share(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ran = perfmodel("roofline", "--gpu", "a100", "--point", "mine:137G:100MB:612us", "show")
    assert "NVIDIA A100 SXM4 80 GB, fp16: measured kernels" in ran.out
    (row,) = [line.split() for line in ran.out.splitlines() if line.startswith("mine ")]
    assert row[-4:] == ["223.9", "TFLOP/s", "71.7", "%"]
    assert max(map(len, ran.out.splitlines())) <= 80


def test_points_join_a_workload_and_a_run_names_its_gpu():
    ran = perfmodel("roofline", "--gpu", "a100", "--config", "mlp-4096", "show", "--point", "mine:137G:100MB:612us")
    assert ran.out.startswith("NVIDIA A100 SXM4 80 GB, fp16: mlp-4096, prefill, measured kernels\n")
    assert "mlp.gelu" in ran.out
    assert "own measurement" in ran.out
    ran = perfmodel("roofline", "--from", str(QUICK), "show")
    assert ran.out.startswith("NVIDIA H100 SXM5 80 GB, ")


def test_the_picture_names_points_with_their_share():
    words = [text for text, _ in written(figure([a100("mine:137G:100MB:612us", "b:335M:268MB:160us")], "title"))]
    assert {"mine\n224 TFLOP/s, 72 %", "b\n2.09 TFLOP/s, 82 %", "measured, with its share of the bound"} <= set(words)
    assert "expected" not in words


def test_a_run_of_many_kernels_has_a_legend_instead_of_names(tmp_path):
    picture = tmp_path / "run.svg"
    ran = perfmodel("roofline", "--from", str(QUICK), "plot", "-o", str(picture))
    assert (ran.code, ran.out) == (0, f"{picture}\n")
    text = picture.read_text(encoding="utf-8")
    assert "softmax" in text
    assert "8192x8192" not in text


GIVEN = ("roofline", "--gpu", "a100", "show", "--point")


@for_each(("words", "code", "message"), [
        ((*GIVEN, "x:1:2"), 1, "--point 'x:1:2': it does not have four parts; NAME:FLOPS:BYTES:TIME, such as mine:137G:"),
        ((*GIVEN, ":1:2:3us"), 1, "--point ':1:2:3us': it does not have four parts; "),
        ((*GIVEN, "x:much:2:3us"), 1, "--point 'x:much:2:3us': FLOPS: 'much' is not a size; "),
        ((*GIVEN, "x:1:0:3us"), 1, "--point 'x:1:0:3us': BYTES: 0 is out of range; "),
        ((*GIVEN, "x:1:2:3h"), 1, "--point 'x:1:2:3h': TIME: '3h' is not a time; a number with s, ms, us or ns"),
        ((*GIVEN, "x:1:2:0us"), 1, "--point 'x:1:2:0us': TIME: "),
        ((*GIVEN, "x:1:2:3us", "--point", "x:1:2:4us"), 1, "--point 'x': the name is given twice; "),
        (("roofline", "show", "--point", "x:1:2:3us"), 1, "--point: it does not say which GPU was measured; "),
        (
            ("roofline", "--gpu", "t4", "--gpu", "a100", "show", "--point", "x:1:2:3us"),
            2,
            "perfmodel roofline: 2 GPUs are named with measurements; the GPU that was measured is accepted. Name one GPU.",
        ),
        (
            (*GIVEN, "x:1:2:3us", "--causal"),
            2,
            "perfmodel roofline: a measurement and --causal are both given; this option changes a workload of --config.",
        ),
        (("roofline", "--from", "no.jsonl", "show"), 1, "no.jsonl: "),
    ])  # fmt: skip
def test_messages(words, code, message):
    ran = perfmodel(*words)
    check_refused(ran, code)
    assert ran.err.startswith(message)
