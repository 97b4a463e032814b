"""Many points at once have the times of single points: over all operations, implementations and protocols."""

from __future__ import annotations

import json
import random
import re

import drawn
import numpy as np
import pytest

from perfmodel.analysis import analyse
from perfmodel.bulk.files import predicted as predicted_file
from perfmodel.cases import case
from perfmodel.given import workload
from perfmodel.hardware import gpu
from perfmodel.prediction import FEW, predicted, predictions
from perfmodel.roofline import rates
from perfmodel.sweep import plan
from perfmodel.timing import arrays, parameters
from perfmodel.timing.branches import MixedError, SingleError, by_paths, by_points, uniform

CARDS = ("h100", "a100", "t4", "l40s", "rtx4090", "b200", "v100")
SAME = 1e-12
# Operations whose mechanisms take plain numbers on some cards, so that their points are evaluated one by one.
ALONE = {"expert_linear"}


def figures(total, time):
    return (*total[:6], *time[:3], time.unclamped_s, time.unmodelled_s)


@pytest.mark.parametrize("part", range(4))
def test_cases_that_are_predicted_together_are_predicted_alike(monkeypatch, part):
    draw = random.Random(f"{part}")
    together, alone_ops, one_by_one = 0, set(), arrays._one_by_one

    def recorded(function, sizes, found):
        if found.shape[1] > FEW:
            alone_ops.add(function.case.op)
        return one_by_one(function, sizes, found)

    monkeypatch.setattr(arrays, "_one_by_one", recorded)
    for name in drawn.NAMED[part::4]:
        card = gpu(draw.choice(CARDS))
        asked = [case(line) for line in drawn.alike(draw, name, 14)]
        assert len(asked) > FEW
        for one, found in zip(asked, predictions(asked, card), strict=True):
            alone = predicted(one, rates(card, one.dtype), parameters.card(card))
            assert found.total.bound == alone[0].bound
            assert figures(found.total, found.expected) == pytest.approx(figures(*alone), rel=SAME, abs=0.0), one
            assert [type(count) for count in found.total[:4]] == [int] * 4
            together += not found.expected.terms
    assert together > 0.9 * 14 * len(drawn.NAMED[part::4])
    assert alone_ops <= ALONE


@pytest.mark.parametrize("protocol", ["cold", "warm", "eager"])
@pytest.mark.parametrize("op", ["adam_step", "sgd_step", "foreach", "gradient_norm"])
def test_optimizer_steps_of_any_number_of_launches_are_timed_as_arrays(monkeypatch, op, protocol):
    """From one launch to thousands, with whole and with fractional last launches; no point is evaluated alone."""
    monkeypatch.delattr(arrays, "_one_by_one")
    monkeypatch.setattr(arrays, "FEW", 0)
    draw, card = random.Random(f"{op} {protocol}"), gpu("h100")
    shapes = [{"params": tensors * int(2 ** draw.uniform(0, 24)), "tensors": tensors} for tensors in (1, 3, 30, 400, 2000)
              for _ in range(6)]  # fmt: skip
    shapes += [{"params": 320 * 65536 * launches, "tensors": 1} for launches in (1, 2, 3, 600, 1024, 1025, 3000)]
    lines = [{"op": op, "shape": shape, "protocol": protocol} for shape in shapes]
    if op == "foreach":
        lines = [{**line, "shape": {**line["shape"], "reads": 1 + place % 6}} for place, line in enumerate(lines)]
    asked = [case(line) for line in lines]
    for one, found in zip(asked, predictions(asked, card), strict=True):
        alone = predicted(one, rates(card, one.dtype), parameters.card(card))
        assert figures(found.total, found.expected) == pytest.approx(figures(*alone), rel=SAME, abs=0.0), one


@pytest.mark.parametrize("phase", ["prefill", "train"])
def test_a_layer_of_any_width_is_timed_as_arrays(monkeypatch, phase):
    """Head sizes, parameters and launches of the optimizer differ; no point is evaluated alone."""
    over, card, layer = {"D": range(512, 16385, 512), "N": (1, 100, 4096)}, gpu("a100"), workload("llama-2-7b-layer")
    (wanted,) = plan(layer, [card], over, phase=phase, expected=True).chunks()
    with monkeypatch.context() as patch:
        patch.delattr(arrays, "_one_by_one")
        patch.setattr(arrays, "FEW", 0)
        (found,) = plan(layer, [card], over, phase=phase, expected=True).chunks()
    assert found.flops.size > 50
    assert found.expected_s == pytest.approx(wanted.expected_s, rel=SAME, abs=0.0)
    for i in range(0, found.flops.size, 17):
        settings = {name: int(values[i]) for name, values in found.at.items()}
        alone = analyse(layer, gpu=card, settings=settings, phase=phase).total.expected
        assert found.expected_s[i] == pytest.approx(alone.expected_s, rel=SAME, abs=0.0)


def test_cases_that_an_operation_refuses_are_told_beside_the_others():
    shapes = [{"B": 1, "H": 8, "H_kv": heads, "N": 64 * heads, "d": 64} for heads in range(1, 12)]
    asked = [case({"op": "attention", "shape": shape}, f"line {shape['H_kv']}") for shape in shapes]
    found = list(predictions(asked, gpu("a100")))
    for shape, one in zip(shapes, found, strict=True):
        assert (one.total is None) == bool(8 % shape["H_kv"])
        assert ("H % H_kv == 0 does not hold" in one.error) == bool(8 % shape["H_kv"])


def test_counts_beyond_2_to_the_53_stay_exact():
    sizes = [2**21 + step for step in range(20)]
    asked = [case({"op": "matmul", "shape": {"m": size, "k": size, "n": size}}) for size in sizes]
    for size, one in zip(sizes, predictions(asked, gpu("a100")), strict=True):
        assert one.total.flops == 2 * size**3  # 1.8e19 is beyond 2^63 as well


@by_paths
def halves(size):
    if size % 2:
        return "odd", 3 * size + 1
    return ("even", size // 2) if size > 4 else ("even", 0)


def test_a_function_that_chooses_by_a_size_is_divided():
    sizes = arrays.points(range(1, 12))
    with pytest.raises(MixedError):
        halves(sizes)  # different texts have no common form
    joined = by_paths(lambda size: halves(int(size))[1] if isinstance(size, int) else _chosen(size))(sizes)
    assert list(joined) == [halves(size)[1] for size in range(1, 12)]


def _chosen(size):
    return 3 * size + 1 if size % 2 else size // 2 if size > 4 else 0


def test_a_function_of_plain_numbers_is_called_once_per_value():
    calls = []

    @by_points
    def bits(size, more):
        calls.append(size)
        return len(f"{int(size):b}") + more

    assert list(bits(arrays.points([3, 8, 3, 3]), 1)) == [3, 5, 3, 3]
    assert sorted(calls[-2:]) == [3, 8]


def test_a_number_of_launches_divides_the_points():
    launches = by_paths(lambda count: 10 * uniform(count))
    assert launches(3) == 30
    assert list(launches(arrays.points([1, 4, 2, 4, 1]))) == [10, 40, 20, 40, 10]
    with pytest.raises(SingleError):  # each of many numbers would have its own path
        launches(arrays.points(range(1, 100)))


LINES = (
    '{"op": "matmul", "shape": {"m": 512, "k": 64, "n": 128}, "dtype": "fp16", "protocol": "warm"}',
    '{"op": "attention", "shape": {"B": 2, "H": 8, "N": 512, "d": 64}, "dtype": "bf16", "causal": true, "window": 256}',
    '{"op": "layer", "shape": {"B": 2, "N": 512, "D": 1024, "H": 16}}',
    '{"op": "conv2d", "shape": {"B": 2, "C": 8, "C_out": 8, "h": 16, "w": 16, "K_h": 3, "K_w": 3}, "comment": "3 x 3"}',
)
CHANGES = (
    ("512", "768"), ("512", "0512"), ("512", "-512"), ("512", "512.0"), ("512", "0"), ("512", '"8Ki"'), ("512", "1e3"),
    ("512", str(10**15)), ("512", str(10**15 + 1)), ("512", str(10**400)), ("512", "true"), ("16", "32"), ("true", "1"),
    ("256", "128"), ('"B": 2', '"B": 2, "B": 3'), ('"op"', '"o\\u0070"'), ("3 x 3", "5 x 5"), ("512", "NaN"), ("}", "}}"),
    ('"k": 64', '"k": 64, "q": 3'), ("64", "63"), ('"H": 16', '"H": 48'), ("512", "512, "), (": 2", ":3"),
)  # fmt: skip


def alone(text, card):
    """The prediction of a line in a file of its own, with the number of its line in the message."""
    return [*predicted_file([text], "file", card)]


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_form_is_read_as_carefully_as_any_other(line):
    """Every change, between lines that differ in a size alone, gives what it gives in a file of its own."""
    card = gpu("h100")
    alike = [re.sub("(?<=: )[0-9]+", str(size), line, count=1) for size in range(512, 512 * 2 * FEW, 512)]
    changed = [line.replace(old, new, 1) for old, new in CHANGES if old in line]
    texts = [text for pair in zip(alike, [*changed, *alike], strict=False) for text in pair] + changed
    found = predicted_file(texts, "file", card)
    assert sum(table.alike.places.size for table in found.tables) > FEW
    assert len(found) == len(texts)
    for text, one in zip(texts, found, strict=True):
        (wanted,) = alone(text, card)
        if wanted.total is None:
            assert one.error.split(": ", 1)[1] == wanted.error.split(": ", 1)[1]
            continue
        assert json.dumps(one.line) == json.dumps(wanted.line)
        assert figures(one.total, one.expected) == pytest.approx(
            figures(wanted.total, wanted.expected), rel=SAME, abs=0.0
        )
        assert (one.total.bound, one.roof_notes) == (wanted.total.bound, wanted.roof_notes)


def test_lines_of_several_forms_keep_their_places():
    """Blank lines, an environment line, errors and numbers outside the shape, between lines of two forms."""
    product = '{{"op": "matmul", "shape": {{"m": {0}, "k": 64, "n": 128}}, "dtype": "fp{1}", "comment": "{0} x {0}"}}'
    rows = '{{"op": "softmax", "shape": {{"cols": 8, "rows": {0}}}, "dtype": "fp{1}"}}'
    lines = ['{"gpu": "NVIDIA A100", "driver": "550"}', "", '{"op": "softmax"}']
    lines += [text.format(size, item) for size in range(1, 40) for item in (16, 32) for text in (product, rows)]
    lines += ["{]", rows.format("0", 16), rows.format("007", 16), rows.format(10**15 + 1, 16), rows.format(7, 64)]
    found = predicted_file([f"{text}\r\n" for text in lines], "file", gpu("a100"))
    assert sorted(table.alike.places.size for table in found.tables) == [39, 39]
    assert [one.error.partition(":")[0] for one in found if one.error] == ["file"] * 5
    assert [int(one.error.split(":")[1]) for one in found if one.error] == [3, *range(len(lines) - 4, len(lines))]
    shapes = [json.loads(text)["shape"] for text in lines[3:-5]]
    assert [one.line["shape"] for one in [*found][1:-5]] == shapes
    for one in found:
        if one.total and one.line["op"] == "matmul":
            assert one.total.flops == 2 * one.line["shape"]["m"] * 64 * 128
            assert one.line["comment"] == "{m} x {m}".format(**one.line["shape"])


def test_points_behave_as_integers():
    sizes = [1, 2, 3, 7, 8, 1023, 1024, 10**9 + 7]
    points = arrays.points(sizes)
    for told, wanted in (
        (points // 3, [size // 3 for size in sizes]),
        (-(-points // 128), [-(-size // 128) for size in sizes]),
        (points % 16, [size % 16 for size in sizes]),
        (100 % points, [100 % size for size in sizes]),
        (5000 // points, [5000 // size for size in sizes]),
        (points.bit_length(), [size.bit_length() for size in sizes]),
        (1 << points.bit_length(), [1 << size.bit_length() for size in sizes]),
        (512 >> points.bit_length(), [512 >> size.bit_length() for size in sizes]),
        (divmod(points, 5)[1], [size % 5 for size in sizes]),
    ):
        assert list(np.asarray(told)) == wanted
    for change in (int, float, range):
        with pytest.raises(SingleError):
            change(points)
