"""``predict``: the packaged file of cases, keys that distinguish cases, and invalid lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import perfmodel

from perfmodel.case_files import read
from perfmodel.hardware import gpu
from perfmodel.prediction import predictions
from perfmodel.report.predictions import case_document, case_texts
from perfmodel.vocabulary import NAMES

MATMUL = '{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}}'


def predicted(*arguments, form="json", stdin=""):
    ran = perfmodel("predict", *arguments, "--gpu", "a100", "--format", form, stdin=stdin)
    assert (ran.code, ran.err) == (0, ""), ran
    return json.loads(ran.out)["cases"] if form == "json" else ran.out


def test_the_shipped_cases_are_of_every_kind(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # its name is enough in any folder
    found = predicted("--cases", "cases")
    documented = NAMES[: NAMES.index("layer") + 1]
    assert len(documented) == 12
    assert set(documented) <= {case["op"] for case in found}
    product = next(case for case in found if case["op"] == "matmul")
    assert product["flops"] == 2 * 4096**3
    convolution = next(case for case in found if case["op"] == "conv1d")
    assert (convolution["flops"], convolution["traffic_byte"]) == (
        402_653_184,
        268_500_992,
    )  # 2 K a position; one kernel
    for case in found:
        assert 0 < case["lower_s"] <= case["no_overlap_s"]


def test_a_file_of_the_current_folder_is_taken_only_by_its_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("cases", "mine"):
        Path(name).write_text(MATMUL)
    assert len(predicted("--cases", "cases")) > 12
    for path in ("./cases", "mine"):
        assert [case["flops"] for case in predicted("--cases", path)] == [2 * 8**3]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_tells_every_case_apart(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, predicted("--cases", "cases", form="table").splitlines())) <= width
    rows = list(csv.DictReader(predicted("--cases", "cases", form="csv").splitlines()))
    assert len({(row["op"], row["shape"], row["how"]) for row in rows}) == len(rows)
    how = [row["how"] for row in rows if row["op"] == "attention"]
    assert how == ["causal, flash", "causal, flash, forward_backward", "naive"]


def test_without_words_there_is_no_column_for_them():
    assert " how " not in predicted("--cases", "-", form="table", stdin=MATMUL)


@pytest.mark.parametrize(
    "line", ['{"environment": {}}', '{"gpu": "NVIDIA A100", "driver": "550.54"}', '{"driver": "1"}']
)
def test_a_first_line_that_describes_the_card_is_passed_over(line):
    assert len(predicted("--cases", "-", stdin=f"{line}\n{MATMUL}\n")) == 1


@pytest.mark.parametrize(
    "lines", [('{"driver": "1"}', 2), ('{"config": "gpt2", "gpu": "t4"}', 1), ('{"dtype": "fp16"}', 1)]
)
def test_other_lines_without_an_operation_are_told(lines):
    line, place = lines
    text = f"{line}\n{MATMUL}\n" if place == 1 else f"{MATMUL}\n{line}\n"
    ran = perfmodel("predict", "--cases", "-", "--gpu", "a100", stdin=text)
    assert ran.code == 1
    assert ran.err.startswith(f"standard input:{place}: 'op' is missing; ")


def test_where_nothing_can_be_done_there_is_no_empty_table():
    ran = perfmodel("predict", "--cases", "-", "--gpu", "a100", stdin="{}")
    assert (ran.code, ran.out) == (1, "")


def test_a_case_that_comes_again_is_answered_as_before_and_refused_at_its_own_line():
    """Cases are cached. The cache must respect every word of a case and the place of an error."""
    other = MATMUL.replace("}}", '}, "protocol": "warm"}')
    layer = '{"op": "layer", "shape": {"B": 1, "N": 8, "D": 10, "H": 3}}'
    wide = '{"op": "attention", "shape": {"B": 1, "H": 3, "H_kv": 2, "N": 8, "d": 8}}'
    lines = [MATMUL, wide, other, layer, MATMUL, wide, layer]
    ran = perfmodel(
        "predict", "--cases", "-", "--gpu", "a100", "--format", "json", stdin="".join(f"{line}\n" for line in lines)
    )
    first, _, warm, _, again, *_ = json.loads(ran.out)["cases"]
    assert first == again
    assert first["expected_s"] != warm["expected_s"]
    assert [text.partition(": ")[0] for text in ran.err.splitlines()] == [f"standard input:{n}" for n in (2, 4, 6, 7)]


def test_sizes_may_be_written_as_on_the_command_line():
    line = '{"op": "matmul", "shape": {"m": "4k", "k": 4096, "n": "8Ki"}}'
    (found,) = predicted("--cases", "-", stdin=line)
    assert found["flops"] == 2 * 4000 * 4096 * 8192


@pytest.mark.parametrize(
    ("gpu", "words", "told"),
    [
        ("t4", '"impl": "flash"', "flash has no kernels for cards before Ampere"),
        ("a100", '"impl": "cudnn", "dtype": "fp32"', "cudnn takes no fp32"),
        ("a100", '"impl": "efficient", "dtype": "fp32"', ""),
        ("h100", '"impl": "flash"', ""),
    ],
)
def test_a_back_end_that_the_card_does_not_have_is_told(gpu, words, told):
    line = f'{{"op": "attention", "shape": {{"B": 1, "H": 8, "N": 512, "d": 64}}, {words}}}'
    ran = perfmodel("predict", "--cases", "-", "--gpu", gpu, "--format", "json", stdin=line)
    notes = " ".join(json.loads(ran.out)["cases"][0].get("roof_notes", []))
    assert (told in notes) if told else ("kernel" not in notes)


@pytest.mark.parametrize(
    ("gpu", "weights", "told"),
    [
        ("v100-sxm2-32gb", "awq", ""),  # its kernel is called serving too, but is no attention
        ("v100-sxm2-32gb", "fp8-static", "no tensor rate for fp8; quantised products run at the rate of tensor fp16"),
        ("h100", "fp8-static", ""),
    ],
)
def test_notes_on_quantised_products_are_about_their_type(gpu, weights, told):
    line = f'{{"op": "linear", "shape": {{"B": 1, "N": 8, "D_in": 64, "D_out": 64}}, "weights": "{weights}"}}'
    for lines in (line, line + "\n" + "\n".join(line.replace("64", str(n)) for n in range(128, 12800, 64))):
        ran = perfmodel("predict", "--cases", "-", "--gpu", gpu, "--format", "json", stdin=lines)
        for found in json.loads(ran.out)["cases"]:
            notes = found.get("roof_notes", [])
            assert [told in note for note in notes] == ([True] if told else [])


def test_the_table_tells_to_which_protocol_the_bottleneck_belongs():
    told = "The bottleneck is determined with an empty L2, whatever the protocol."
    for protocol in ("cold", "warm", "rotating", "eager"):
        line = MATMUL.replace("}}", f'}}, "protocol": "{protocol}"}}')
        page = predicted("--cases", "-", form="table", stdin=line)
        assert (told in " ".join(page.split())) == (protocol != "cold")


def test_the_text_of_a_case_is_that_of_its_document():
    """Cases with and without a protocol, of several bottlenecks, measured, with keys of an answer, and with an error."""
    product = {"op": "matmul", "shape": {"m": 64, "k": 64, "n": 64}, "dtype": "fp16"}
    sizes = (64, 65, 512, 4096)
    lines = [
        {**product, "shape": {"m": m, "k": m, "n": m}, **more} for m in sizes for more in ({}, {"protocol": "warm"})
    ]
    lines += [{"op": "softmax", "shape": {"rows": m, "cols": m}, "dtype": "fp64"} for m in sizes]
    lines += [{**product, "measured_us": 5.0}, {**product, "flops": 3, "comment": "50 %r"}, {**product, "dtype": "x"}]
    found = [*predictions(read([json.dumps(line) for line in lines], "cases"), gpu("t4"))]
    assert [json.loads(text) for text in case_texts(found)] == [case_document(one) for one in found]
    assert [*case_texts(found)] == [json.dumps(case_document(one)) for one in found]
