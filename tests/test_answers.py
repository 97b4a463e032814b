"""Results of the library: repr, HTML table, LaTeX formulas, JSON of the command, pandas."""

from __future__ import annotations

import csv
import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import perfmodel as command

import perfmodel
from perfmodel.api import analyse, bounds, compare, crossings, find, formula, gpu, load, memory, predict, sweep_over
from perfmodel.errors import InputError, PerfmodelError

CASE = {"op": "softmax", "shape": {"rows": 8192, "cols": 1024}}
# Each kind of result, with the command that prints the same.
ANSWERS = {
    "analyse": (lambda: analyse("gpt2-124m", "t4", phase="decode"), "flops --config gpt2-124m --gpu t4 --phase decode"),
    "without a card": (lambda: analyse("mlp-4096"), "flops --config mlp-4096"),
    "memory": (lambda: memory("gpt2", "t4", zero=1, gpus=2), "memory --config gpt2 --gpu t4 --zero 1 --gpus 2"),
    "compare": (
        lambda: compare(["gpt2", "gpt2-124m"], ["t4", "a100"], speedup={"attention": 2}),
        "compare --config gpt2 --config gpt2-124m --gpu t4 --gpu a100 --speedup attention=2",
    ),
    "predict": (lambda: predict("cases", "t4"), "predict --cases cases --gpu t4"),
    "crossings": (
        lambda: crossings("gemm", "n", "textbook-a100", settings={"m": "n", "k": "n", "act": 8}),
        "solve --op gemm --gpu textbook-a100 --for n --set m=n --set k=n --set act=8",
    ),
    "formula": (lambda: formula("llama-2-7b-layer"), "flops --config llama-2-7b-layer --symbolic"),
    "formula of an operation": (lambda: formula("attention"), None),
    "bounds": (lambda: bounds("matmul", "a100", m=64, k=64, n=64), None),
    "sweep": (lambda: sweep_over("matmul", ["t4", "a100"], {"n": [8, 16]}, m=8, k=8), None),
}
PRINTED = {name: pair for name, pair in ANSWERS.items() if pair[1]}
every = pytest.mark.parametrize("make", [make for make, _ in ANSWERS.values()], ids=ANSWERS)
printed = pytest.mark.parametrize(("make", "line"), PRINTED.values(), ids=PRINTED)


class Tables(HTMLParser):
    """Collects the cells of each table, and checks that every element is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tables, self.text = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def notebook(answer):
    """Returns every representation that a notebook displays for a value."""
    kinds = {"text/plain": repr, "text/html": "_repr_html_", "text/latex": "_repr_latex_"}
    found = {kind: way(answer) if callable(way) else getattr(answer, way)() for kind, way in kinds.items()}
    return {kind: text for kind, text in found.items() if text is not None}


@every
def test_a_notebook_shows_one_line_and_a_table(make):
    answer = make()
    shown = notebook(answer)
    assert shown["text/plain"].startswith(f"<{type(answer).__name__} ")
    assert "\n" not in shown["text/plain"]
    assert len(shown["text/plain"]) < 300
    assert "expected" not in shown["text/plain"]  # no expected time without its protocol
    tables = Tables(shown["text/html"]).tables
    assert tables
    assert all(len(row) == len(table[0]) for table in tables for row in table)


@printed
def test_html_has_the_cells_of_the_commands_table(make, line):
    if line.startswith("solve"):
        pytest.skip("solve prints sentences, no table")
    ran = command(*line.split(), "--format", "markdown")
    rows = [row.strip("|").split("|") for row in ran.out.splitlines() if row.startswith("|") and "---" not in row]
    cells = [[cell.strip() for cell in row] for row in rows]
    shown = [row for table in Tables(make()._repr_html_()).tables for row in table]
    # Memory of one GPU drops a column in the terminal; each table is compared by its own rows.
    assert [[cell.strip() for cell in row] for row in shown] == cells


@printed
def test_to_json_is_the_commands_document(make, line):
    ran = command(*line.split(), "--format", "json")
    assert make().to_json() == ran.out
    assert json.loads(ran.out)["schema"] == 2


@every
def test_json_is_sound(make):
    for line in make().to_json().splitlines() if "sweep_over" in make.__code__.co_names else [make().to_json()]:
        assert json.loads(line)


def test_a_sweeps_json_is_the_file_that_the_command_writes(tmp_path):
    out = tmp_path / "rows.jsonl"
    ran = command(
        *[
            "sweep",
            "--op",
            "matmul",
            "--gpu",
            "t4",
            "--gpu",
            "a100",
            "--over",
            "n=8:16:2",
            "--set",
            "m=8",
            "--set",
            "k=8",
            "-o",
        ],
        str(out),
    )
    assert ran.code == 0
    answer = sweep_over("matmul", ["t4", "a100"], {"n": "8:16:2"}, m=8, k=8)
    assert answer.to_json() == out.read_text()


@pytest.mark.parametrize("name", ["analyse", "memory", "compare", "formula"])
def test_a_dataframe_has_the_rows_of_the_csv(name):
    pytest.importorskip("pandas", reason="pandas is not installed")
    make, line = ANSWERS[name]
    ran = command(*line.split(), "--format", "csv")
    heading, *rows = csv.reader(io.StringIO(ran.out))
    frame = make().to_pandas()
    assert list(frame.columns) == heading
    assert len(frame) == len(rows)
    assert [str(value) for value in frame[heading[0]]] == [row[0] for row in rows]


def test_dataframes_of_the_other_answers():
    pytest.importorskip("pandas", reason="pandas is not installed")
    # 2 x 8 x 8 x n FLOPs on two cards, exact integers.
    frame = ANSWERS["sweep"][0]().to_pandas()
    assert frame[["gpu", "n", "flops", "bound"]].values.tolist() == [
        [card, n, 128 * n, "memory"] for card in ("t4", "a100-sxm4-80gb") for n in (8, 16)
    ]
    assert frame["flops"].dtype.kind == "i"
    assert list(ANSWERS["bounds"][0]().to_pandas()["name"])[:2] == ["memory", "tensor"]
    # gemm reads a, b, c and writes c, 4 n^2 elements of 8 bytes, for 2 n^3 FLOPs: n / 16 FLOP/B, and the ridge is 208.
    assert ANSWERS["crossings"][0]().to_pandas()["largest_below"].tolist() == [16 * 208]
    cases = predict([CASE, {"op": "nope"}], "t4").to_pandas()
    assert cases["op"].tolist() == ["softmax", "nope"]
    assert cases["error"].notna().tolist() == [False, True]


def test_a_dataframe_of_a_sweep_has_exact_counts():
    pytest.importorskip("pandas", reason="pandas is not installed")
    size = 10**6 + 1  # 2 x 10^18 and more FLOPs, which float64 rounds
    frame = sweep_over("matmul", "t4", {"m": [size]}, k=size, n=size).to_pandas()
    assert int(frame["flops"][0]) == 2 * size**3


def test_without_pandas_the_message_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pandas is not installed; .* Run 'pip install pandas', or use to_json"):
        analyse("mlp-4096").to_pandas()


def test_formulas_are_latex_and_numbers_are_not():
    found = formula("matmul", m=2, k=3)._repr_latex_()
    assert found.startswith("$$\\begin{aligned}")
    assert "\\text{FLOP} &= 12 n" in found  # 2 x 2 x 3 x n
    assert found.count("{") == found.count("}")
    assert "I" in ANSWERS["crossings"][0]()._repr_latex_()
    assert analyse("mlp-4096")._repr_latex_() is None
    nowhere = crossings("stream_copy", "numel", "t4")
    assert nowhere._repr_latex_() is None
    assert "memory-bound" in repr(nowhere)


def test_html_escapes_what_a_file_says(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "title: '<script>alert(1)</script> & more'\nsizes: {m: 8, k: 8, n: 8}\n"
        "notes: ['<img src=x>']\nsteps: [{op: matmul, name: '<b>a</b>'}]\n"
    )
    for answer in (analyse(file), memory(file), bounds(file, "t4"), formula(file), compare(file)):
        html = answer._repr_html_()
        assert "<script>" not in html
        assert "<b>" not in html
        assert "<img" not in html
    shown = Tables(analyse(file)._repr_html_())
    assert any("<script>alert(1)</script> & more" in text for text in shown.text)
    assert shown.tables[0][1][0] == "<b>a</b>"
    refused = predict(json.dumps({"op": "<i>"}), "t4")._repr_html_()
    assert "<i>" not in refused


def test_answers_are_the_results_themselves():
    answer = analyse("mlp-4096", "a100")
    assert answer.total == answer[list(answer._fields).index("total")]
    for one in (answer, ANSWERS["bounds"][0](), ANSWERS["sweep"][0](), ANSWERS["predict"][0]()):
        with pytest.raises((AttributeError, TypeError)):
            one.extra = 1
        with pytest.raises(AttributeError):
            setattr(one, "plan" if hasattr(one, "plan") else one._fields[0], 1)
    assert type(answer._replace(fused=False)) is type(answer)


def test_cards_workloads_and_operations_have_a_short_line_too():
    assert repr(gpu("a100")).startswith("<Gpu a100-sxm4-80gb: NVIDIA A100 SXM4 80 GB, ")
    assert repr(load("mlp-4096")).startswith("<Workload mlp-4096: ")
    assert repr(find("matmul")) == "<operation matmul(m, k, n, batch, act)>"


# --- what the functions take

SUBJECTS = ("matmul", "mlp-4096")
CALLS = {
    "analyse": lambda what: analyse(what, "t4").total.flops,
    "bounds": lambda what: bounds(what, "t4").lower_s,
    "formula": lambda what: str(formula(what).flops),
    "crossings": lambda what: [answer.name for answer in crossings(what, SWEPT[load(what).name], "t4").answers],
    "sweep_over": lambda what: [
        chunk.flops.tolist() for chunk in sweep_over(what, "t4", {SWEPT[load(what).name]: [4, 8]})
    ],
    "memory": lambda what: memory(what).byte,
    "compare": lambda what: compare(what).cases[0].answer.total.flops,
}
SWEPT = {"matmul": "n", "mlp-4096": "N"}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_names_files_workloads_and_operations_are_taken_everywhere(call):
    path = Path(perfmodel.__file__).parent.parent / "configs" / "mlp-4096.yaml"
    file = load("mlp-4096").file
    assert call("mlp-4096") == call(load("mlp-4096")) == call(Path(file)) == call(str(file))
    assert call("matmul") == call(find("matmul"))
    assert not path.exists() or call(str(path)) == call("mlp-4096")
    with pytest.raises(PerfmodelError, match="there is no operation or configuration with this name"):
        call("mlp4096")


def test_a_name_that_is_both_means_the_operation(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs" / "softmax.yaml"
    file.write_text("title: own\nsizes: {m: 8, k: 8, n: 8}\nsteps: [{op: matmul}]\n")
    monkeypatch.chdir(tmp_path)
    assert load("softmax").steps[0].operation is find("softmax")
    for path in ("configs/softmax.yaml", "./configs/softmax.yaml", file):
        assert load(path).steps[0].operation is find("matmul")


def test_sizes_are_keywords_or_settings():
    wanted = analyse("llama-2-7b-layer", settings={"N": 8192, "S": 8192}).total
    assert analyse("llama-2-7b-layer", N="8Ki", S="N").total == wanted
    assert analyse("llama-2-7b-layer", settings={"S": "N"}, N=8192).total == wanted
    assert bounds("attention", "a100", H_KV=2)[:5] == bounds("attention", "a100", settings={"H_kv": 2})[:5]
    with pytest.raises(InputError, match="it is set twice"):
        analyse("gpt2-124m", settings={"N": 8}, N=8)
    with pytest.raises(InputError, match="fase='decode': it is neither an option nor a size"):
        analyse("gpt2-124m", fase="decode")


def test_an_option_that_changes_nothing_is_refused():
    for call in (analyse, formula, lambda config, **option: bounds(config, "t4", **option)):
        for config in SUBJECTS:
            with pytest.raises(InputError, match="its prefill phase has no form of that name"):
                call(config, form="absorbed")


def test_whole_numbers_of_numpy_are_whole_numbers():
    numpy = pytest.importorskip("numpy")
    assert analyse("gpt2-124m", N=numpy.int64(512)).total == analyse("gpt2-124m", N=512).total
    shape = {name: numpy.int32(64) for name in "mkn"}
    assert predict({"op": "matmul", "shape": shape}, "t4").cases[0].total.flops == 2 * 64**3
    with pytest.raises(InputError, match="cannot be written as JSON"):
        predict({"op": "matmul", "shape": {"m": 1.5j}}, "t4")


def test_one_data_type_for_all():
    # Twice the bytes of fp16 for every tensor.
    assert analyse("mlp-4096", dtype="fp32").total.traffic_byte == 2 * analyse("mlp-4096").total.traffic_byte
    assert memory("gpt2", dtype="fp32").byte == 2 * memory("gpt2").byte
    for call in (analyse, memory, compare, lambda c, **k: bounds(c, "t4", **k)):
        for config in SUBJECTS:
            with pytest.raises(InputError, match="dtype 'fp17': it is not a data type"):
                call(config, dtype="fp17")


def test_a_cards_sizes_are_an_operations():
    """Without a given size, a fused attention uses the on-chip memory of the card."""
    card = gpu("a100")
    assert (
        analyse("flash_attention", card).dims["M"]
        == card.sizes()["M"]
        == bounds("flash_attention", card).analysis.dims["M"]
    )
    assert analyse("flash_attention", card, M=65536).dims["M"] == 65536


def test_memory_means_training_where_only_training_has_the_option():
    assert memory("gpt2").phase == "prefill"
    assert {
        memory("gpt2", **option).phase for option in ({"zero": 1}, {"recompute": "full"}, {"optimizer": "sgd"})
    } == {"train"}


def test_an_optimizer_belongs_to_training():
    with pytest.raises(PerfmodelError, match="a decode phase has no optimizer states"):
        memory("gpt2", phase="decode", optimizer="sgd")


def test_the_reserve_is_written_as_the_command_takes_it():
    # All of a T4's 15,843,721,216 bytes, and 4e9 fewer.
    free = [memory("gpt2", "t4", reserve=text).verdict.spare_byte for text in ("0", "4 GB")]
    assert free[0] - free[1] == 4 * 10**9
    with pytest.raises(InputError, match="reserve"):
        memory("gpt2", "t4", reserve="much")


@pytest.mark.parametrize(
    "given", [CASE, json.dumps(CASE), [CASE], [json.dumps(CASE)], f"{json.dumps(CASE)}\n{json.dumps(CASE)}"],
    ids=["mapping", "line", "mappings", "lines", "text"],
)  # fmt: skip
def test_cases_as_mappings_lines_and_files(given, tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(CASE) + "\n")
    wanted = predict(file, "t4").cases[0].total
    assert predict(given, "t4").cases[-1].total == wanted
    assert predict(str(file), "t4").cases[0].total == wanted
    assert wanted.traffic_byte == 2 * 2 * 8192 * 1024  # read and written once, 2 bytes each


def test_a_refused_case_names_its_place_and_stops_no_other():
    found = predict([{"op": "nope"}, CASE], "t4")
    assert found.cases[0].total is None
    assert found.cases[0].error.startswith("cases:1: op: 'nope' is not known")
    assert found.cases[1].total
    with pytest.raises(InputError, match="it contains no case"):
        predict([], "t4")
    with pytest.raises(InputError, match="no file has this name"):
        predict("nope", "t4")
