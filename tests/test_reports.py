"""The default output of tables: one screen, grouped by block, few notes, within the width of the terminal."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import analyse
from perfmodel.grouping import blocks, percentages
from perfmodel.paths import files
from perfmodel.report.answer import BRIEF, chosen_sizes, notes, span
from perfmodel.report.sheet import Column, Sheet, table

STORED = Path(__file__).parent.parent / "benchmarks" / "results" / "h200-quick.jsonl"
SCREEN = 40  # lines of a terminal window


def shown(*arguments):
    ran = perfmodel(*arguments)
    assert ran.code == 0, ran.err
    return ran.out


def parts(text):
    """Splits a table into title, heading, body, total and notes."""
    title, body, *rest = text.split("\n\n")
    head, lines, total = re.split(r"\n?─+\n", body.rstrip("\n"))
    return " ".join(title.split()), head, lines.splitlines(), total, (rest[0].splitlines() if rest else [])


# --- blocks


def names(config, **options):
    return [block.name for block in blocks(analyse(config, **options))]


def test_the_blocks_of_models_follow_from_the_names_of_their_steps():
    assert names("llama-3-8b") == ["embed", "attention", "mlp", "head"]
    assert names("llama-2-7b-layer") == ["attention", "mlp"]
    assert names("gemma-2-2b") == [
        "embed", "sliding.attention", "sliding.mlp", "full.attention", "full.mlp", "head",
    ]  # fmt: skip
    assert names("mamba-130m") == ["embed", "norm", "mixer", "residual", "head"]
    assert names("t5-small")[-4:] == ["decoder.layers.attention", "decoder.layers.cross", "decoder.layers.mlp", "head"]
    assert names("bert-base-uncased")[-1] == "head"


def test_training_has_its_backward_pass_apart_and_the_loss_and_the_optimizer_by_name():
    assert names("gpt2", phase="train") == [
        "embed", "attention", "mlp", "head", "loss",
        "loss.backward", "head.backward", "mlp.backward", "attention.backward", "embed.backward", "optimizer",
    ]  # fmt: skip


@for_each("name", files("configs"))
def test_every_kernel_is_in_one_block_and_the_blocks_add_up(name):
    answer = analyse(name, gpu="a100")
    found = blocks(answer)
    assert [row for block in found for row in block.rows] != []
    assert sorted(id(row) for block in found for row in block.rows) == sorted(map(id, answer.rows))
    assert len({block.name for block in found}) == len(found)
    for figure in ("flops", "contraction_flops", "traffic_byte"):
        assert sum(getattr(block.total, figure) for block in found) == getattr(answer.total, figure)
    assert sum(block.total.lower_s for block in found) == pytest.approx(answer.total.lower_s, rel=1e-12)
    assert sum(block.share for block in found) == pytest.approx(1, rel=1e-12)


def test_a_block_in_numbers():
    """An MLP of GPT-2: a norm, two products of 2 x 1024 x 768 x 3072 FLOP, an activation and a residual, 12 times."""
    answer = analyse("gpt2", gpu="a100", settings={"N": 1024})
    mlp = next(block for block in blocks(answer) if block.name == "mlp")
    assert mlp.total.contraction_flops == 12 * 2 * (2 * 1024 * 768 * 3072)
    assert mlp.launches == 12 * 5
    own = sum(row.expected.expected_s * row.repeat for row in answer.rows if ".mlp." in row.name)
    assert mlp.total.expected.expected_s == pytest.approx(own, rel=1e-12)
    whole = sum(row.expected.expected_s * row.repeat for row in answer.rows)
    assert mlp.share == pytest.approx(own / whole, rel=1e-12)


@pytest.mark.parametrize(
    ("shares", "whole"),
    [
        ([1 / 3, 1 / 3, 1 / 3], [34, 33, 33]),
        ([0.005, 0.995], [1, 99]),
        ([0.004, 0.006, 0.99], [0, 1, 99]),
        ([1.0], [100]),
        ([], []),
    ],
)
def test_percentages_add_up_to_100(shares, whole):
    assert percentages(shares) == whole


def test_json_has_every_step_as_before_and_the_blocks_beside_them():
    found = json.loads(shown("flops", "--config", "gpt2", "--gpu", "t4", "--phase", "train", "--format", "json"))
    assert len(found["steps"]) == len(analyse("gpt2", phase="train").rows)
    grouped = [step for block in found["blocks"] for step in block["steps"]]
    assert sorted(grouped) == sorted(step["name"] for step in found["steps"])
    assert sum(block["flops"] for block in found["blocks"]) == found["total"]["flops"]
    assert sum(block["share"] for block in found["blocks"]) == pytest.approx(1)
    assert {"expected_s", "expected_low_s", "expected_high_s", "bound", "lower_s"} <= found["blocks"][0].keys()


# --- the default table of flops


@pytest.mark.parametrize("phase", ["prefill", "decode", "train"])
@pytest.mark.parametrize("name", ["llama-3-8b", "deepseek-v3", "t5-base", "gemma-2-9b", "gpt2-xl", "whisper-base"])
def test_the_default_answer_fits_on_a_screen(name, phase, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = shown("flops", "--config", name, "--gpu", "t4", "--phase", phase)
    assert len(text.splitlines()) <= SCREEN
    assert len(parts(text)[4]) <= BRIEF


def test_a_training_step_of_a_small_model_takes_half_a_screen():
    assert len(shown("flops", "--config", "gpt2-124m", "--gpu", "t4", "--phase", "train").splitlines()) <= 24
    assert len(shown("flops", "--config", "gpt2-124m", "--gpu", "t4", "--phase", "train", "--steps").splitlines()) > 40


@for_each("name", files("configs"))
@for_each("card", [None, "t4"])
def test_at_most_four_notes_unless_all_are_asked_for(name, card):
    answer = analyse(name, gpu=card, phase=None, settings=None)
    for steps in (False, True):
        brief = notes(answer, steps=steps, verbose=False)
        assert len(brief) <= BRIEF
        assert brief[-1].endswith("sources and conventions: --verbose.")
        assert len(notes(answer, steps=steps, verbose=True)) > len(brief)


def test_a_note_that_finds_no_room_is_counted():
    """Notes on uncounted features and unapplied windows are kept. The rates are dropped, and the hint says how many."""
    brief = notes(analyse("gemma-2-2b", gpu="h200", settings={"N": 40_000}), verbose=False)
    assert len(brief) == BRIEF
    assert brief[1].startswith("Not counted: ")
    assert brief[-1] == "1 more note, data sources and conventions: --verbose."
    assert not any(note.startswith("Time to first token") for note in brief)


def test_the_default_columns_tell_the_story(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    title, head, lines, total, below = parts(shown("flops", "--config", "llama-2-7b-layer", "--gpu", "a100"))
    assert head.split() == ["block", "FLOP", "traffic", "FLOP/B", "bottleneck", "at", "least", "expected", "share"]
    assert "prefill, B = 1, N = 2048, fp16, on NVIDIA A100" in title
    shares = [int(re.search(r"(\d+) %$", line)[1]) for line in lines]
    assert sum(shares) == 100
    assert not total.endswith("%")
    expected = analyse("llama-2-7b-layer", gpu="a100").total.expected
    assert span(expected.low_s, expected.high_s, "s") in below[0]
    assert "knowledge; protocol cold" in below[0]
    assert below[-1] == "Each kernel: --steps. Data sources and conventions: --verbose."


@pytest.mark.parametrize("config", ["llama-3-8b", "deepseek-v3", "t5-base"])
@pytest.mark.parametrize("steps", [(), ("--steps",)])
def test_the_shares_add_up_to_100_percent(config, steps):
    lines = parts(shown("flops", "--config", config, "--gpu", "h100", *steps))[2]
    assert sum(int(re.search(r"(\d+) %$", line)[1]) for line in lines) == 100


def test_no_overlap_is_shown_on_a_wide_terminal_or_when_it_is_asked_for(monkeypatch):
    arguments = ("flops", "--config", "llama-2-7b-layer", "--gpu", "a100")
    for width, there in (("80", False), ("120", False), ("160", True)):
        monkeypatch.setenv("COLUMNS", width)
        assert ("no overlap" in parts(shown(*arguments))[1]) is there
    monkeypatch.setenv("COLUMNS", "80")
    asked = parts(shown(*arguments, "--columns", "name,no_overlap_s"))
    assert asked[1].split() == ["block", "no", "overlap"]
    assert "no_overlap_s" in shown(*arguments, "--format", "csv").splitlines()[0]
    assert "no overlap" not in shown("predict", "--cases", "cases", "--gpu", "a100")
    assert "no overlap" in shown("predict", "--cases", "cases", "--gpu", "a100", "--columns", "op,no_overlap_s")
    both = ("compare", "--config", "gpt2", "--gpu", "t4")
    assert "no overlap" not in shown(*both)
    assert "no overlap" in shown(*both, "--columns", "no_overlap_s")


def test_columns_are_checked():
    arguments = ("flops", "--config", "gpt2", "--gpu", "t4", "--columns")
    found = check_refused(perfmodel(*arguments, "name,no_overlap"), 2)
    assert found["action"] == "Did you mean 'no_overlap_s'?"
    check_refused(perfmodel(*arguments, "name", "--format", "json"), 2)
    check_refused(perfmodel(*arguments, "name", "--symbolic"), 2)


def test_formulas_tell_which_sizes_follow_others():
    """Scores of cross-attention are N x S: 2 products of 2 B N S D FLOPs, and 6 B H N S for the scaled softmax."""
    arguments = ("flops", "--op", "cross_attention", "--symbolic")
    page = perfmodel(*arguments).out
    assert "By default, S = N; '--set S=S' keeps S as a symbol." in page
    assert "2 B N² (2 D + 3 H)" in page
    free = perfmodel(*arguments, "--set", "S=S").out
    assert "By default" not in free
    assert "2 B N S (2 D + 3 H)" in free
    assert "By default" not in perfmodel("flops", "--op", "softmax", "--symbolic").out
    check_refused(perfmodel(*arguments, "--set", "F=F"), 1)


def test_csv_has_a_line_for_each_kernel_with_raw_figures():
    rows = list(csv.DictReader(shown("flops", "--config", "gpt2", "--gpu", "t4", "--format", "csv").splitlines()))
    answer = analyse("gpt2", gpu="t4")
    assert [row["name"] for row in rows] == [row.name for row in answer.rows]
    assert [int(row["flops"]) for row in rows] == [row.flops for row in answer.rows]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, rel=1e-9)


def test_one_block_or_blocks_of_one_kernel_are_shown_kernel_by_kernel():
    assert parts(shown("flops", "--config", "attention-16x16384", "--unfused"))[1].startswith("step")
    _, head, lines, _, below = parts(shown("flops", "--config", "attention-stages"))
    assert head.startswith("step")
    assert [line.split()[0] for line in lines][:2] == ["qkv", "scores"]
    assert below == ["Data sources and conventions: --verbose."]


@for_each(
    ("config", "phase", "settings", "sizes"),
    [
        ("llama-2-7b-layer", "prefill", {}, ["B = 1", "N = 2048"]),
        ("llama-2-7b-layer", "decode", {"B": 4}, ["B = 4", "N = 1", "S = 2048"]),
        ("llama-2-7b-layer", "prefill", {"S": 4096}, ["B = 1", "N = 2048", "S = 4096"]),
        ("llama-2-7b-layer", "prefill", {"D": 8192}, ["B = 1", "D = 8192", "N = 2048"]),
        ("llama-3-8b", "decode", {}, ["B = 1", "N = 1", "S = 2048"]),
        ("attention-16x16384", "prefill", {}, ["B = 16", "N = 16384", "D = 4096", "H = 32"]),
    ],
)
def test_the_title_has_the_sizes_of_the_phase_and_those_that_were_set(config, phase, settings, sizes):
    assert chosen_sizes(analyse(config, phase=phase, settings=settings)) == sizes


def test_a_range_has_one_unit_where_both_ends_share_it():
    assert span(0.0033204, 0.0046353, "s") == "3.32 to 4.64 ms"
    assert span(0.0009, 0.0012, "s") == "900 µs to 1.20 ms"


# --- tables fit the width of the terminal

TABLES = [
    ("flops", "--config", "deepseek-v3", "--gpu", "a100", "--phase", "train"),
    ("flops", "--config", "deepseek-v3", "--gpu", "a100", "--phase", "train", "--steps"),
    ("flops", "--config", "whisper-base", "--gpu", "t4", "--dtype", "bf16", "--steps", "--verbose"),
    ("flops", "--config", "llama-2-7b-layer", "--symbolic"),
    ("roofline", "--gpu", "h100", "--config", "deepseek-v3", "show"),
    ("roofline", "--gpu", "t4", "show"),
    ("compare", "--config", "llama-3-8b", "--config", "gemma-2-9b", "--gpu", "h100", "--gpu", "a100"),
    ("predict", "--cases", "cases", "--gpu", "a100"),
    ("sweep", "--config", "llama-2-7b-layer", "--gpu", "a100", "--gpu", "h100", "--over", "N=128:32Ki:log"),
    ("memory", "--config", "gpt2-xl", "--phase", "train", "--gpu", "v100-32gb"),
    ("solve", "--op", "matmul", "--gpu", "a100", "--for", "m"),
    ("explain", "attention", "--gpu", "a100"),
    ("validate", "--from", str(STORED)),
    ("gpus",),
    ("models",),
    ("ops",),
    ("symbols",),
]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("arguments", TABLES, ids=lambda words: " ".join(map(str, words[:3])))
def test_no_table_is_wider_than_the_terminal(arguments, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, shown(*arguments).splitlines())) <= width


@pytest.mark.parametrize("width", [40, 50, 60, 72])
def test_a_table_gives_way_until_it_fits(width):
    columns = [
        Column("name", "name", lambda row: row[0], right=False, wraps=False),
        Column("text", "text", lambda row: row[1], right=False),
        Column("value", "value", lambda row: row[2]),
        Column("other", "other", lambda row: row[2], expendable=1),
    ]
    rows = [
        ("encoder.layers.attention.backward.weight", "a sentence of some words, some of them long", "123.45 TFLOP/s")
    ]
    text = table(Sheet(columns, rows), width)
    assert max(map(len, text.splitlines())) <= width
    if width < 60:
        assert "other: 123.45 TFLOP/s" in text
    else:
        assert "Hidden columns: other (widen the terminal)." in text.replace("\n", " ")
    assert "123.45 TFLOP/s" in text


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_size_is_never_split(width, monkeypatch):
    """At 80 columns, numel=1048576 was shown as 104857 and 6 below it."""
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (("predict", "--cases", "cases", "--gpu", "a100"),
                  ("sweep", "--op", "add", "--gpu", "t4", "--over", "numel=64Ki:1Mi:log")):  # fmt: skip
        text = shown(*words)
        assert "1048576" in text
        assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_lists_rows_line_by_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown("flops", "--config", "llama-2-7b-layer", "--gpu", "a100").splitlines()
    assert {"block: attention", "bottleneck: tensor", "block: total"} <= set(lines)


def test_words_are_not_broken_where_another_column_can_be_hidden(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "numel=1048576" in shown("predict", "--cases", "cases", "--gpu", "a100")


# --- the protocol beside every expected time


@pytest.mark.parametrize(
    "arguments",
    [
        ("flops", "--config", "gpt2", "--gpu", "t4"),
        ("compare", "--config", "gpt2", "--gpu", "t4"),
        ("roofline", "--gpu", "t4", "show"),
        ("sweep", "--op", "softmax", "--gpu", "t4", "--over", "rows=128:256:2", "--expected"),
        ("predict", "--cases", "cases", "--gpu", "t4"),
        ("explain", "softmax", "--gpu", "t4"),
        ("explain", "--gpu", "t4", "--time", '{"op": "softmax", "shape": {"rows": 8192, "cols": 1024}}'),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_protocol_is_printed_with_every_expected_time(arguments):
    assert re.search(r"protocol cold", shown(*arguments).replace("\n", " "), re.IGNORECASE)


def test_json_names_the_protocol_of_its_expected_times():
    assert json.loads(shown("flops", "--config", "gpt2", "--gpu", "t4", "--format", "json"))["protocol"] == "cold"
    assert "protocol" not in json.loads(shown("flops", "--config", "gpt2", "--format", "json"))
    cases = json.loads(shown("predict", "--cases", "cases", "--gpu", "t4", "--format", "json"))["cases"]
    assert {case["protocol"] for case in cases} == {"cold"}


# --- examples of lengths

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "README.md", *(ROOT / "perfmodel").glob("*.py"), *(ROOT / "perfmodel" / "cli").glob("*.py")]


def test_examples_of_lengths_are_powers_of_two():
    """A decimal prefix is shown only with its meaning: 8k (8000)."""
    assert any("8Ki" in path.read_text(encoding="utf-8") for path in SOURCES)
    for path in SOURCES:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"[=:]\d+k\b(?! \()", line), f"{path.name}: {line}"


# --- styles


def test_a_page_is_plain_text_outside_a_terminal_and_styled_inside(monkeypatch):
    import sys

    from perfmodel import ops
    from perfmodel.explanation import explain
    from perfmodel.report.explain import page

    found = explain(ops.find("softmax"))
    plain = page(found)
    assert "\x1b" not in plain
    assert plain.splitlines()[0] == "SOFTMAX: softmax of each row"
    assert "\n\nTensors\n  tensor" in plain

    class Terminal:
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, text): ...

        def flush(self): ...

    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    styled = page(found)
    assert "\x1b[1;36mTensors\x1b[0m" in styled
    assert re.sub(r"\x1b\[[\d;]*m", "", styled) == plain
