"""The page of every operation in the terminal and in LaTeX, and what solving prints about its sizes."""

from __future__ import annotations

import os
import re
from functools import cache

import pytest
from command import perfmodel
from many import for_each

from perfmodel import explanation, ops
from perfmodel.explanation import explain
from perfmodel.hardware import gpu
from perfmodel.report.explain import page
from perfmodel.report.latex import fragment
from perfmodel.symbolic import formulas, op_of, words

BROKEN = r"\b(nan|zoo|oo|inf)\b"
NAMES = [getattr(op, "name", op) for op in ops.every()]
# With a card every size is solved for as well, which takes up to a second: a choice of families, the experts' among them.
SOLVED = ("matmul", "attention", "flash_attention", "conv1d", "softmax", "expert_linear", "layernorm", "adam")


@cache
def explained(columns, *arguments):
    """Runs a command once at each width of the terminal."""
    return perfmodel(*arguments)


def shown(*arguments):
    ran = explained(os.environ.get("COLUMNS"), *arguments)
    assert (ran.code, ran.err) == (0, ""), ran
    assert not re.search(BROKEN, ran.out), ran.out
    return ran.out


def check_latex(text):
    """Checks for ASCII, balanced braces, and no LaTeX special characters outside mathematics."""
    assert text.isascii()
    text = re.sub(r"(?m)(?<!\\)%.*$", "", text)
    plain = re.sub(r"\\[\\{}]", "", text)
    assert plain.count("{") == plain.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\S+?)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    outside = re.sub(r"(?s)\\begin{(align\*|tabular)}.*?\\end{\1}", "", text)
    outside = re.sub(r"(?s)\$.*?\$", "", re.sub(r"\\[$_&%#{}^]", "", outside))
    assert not re.search(r"[$_&#^]", outside), outside


@for_each("name", NAMES)
def test_every_operation_has_its_page(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = explain(ops.find(name))
    text = page(found)
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(BROKEN, text)
    assert not re.search(NEEDLESS_MINUS, formulas_of(text))
    check_latex(fragment(found))


@pytest.mark.parametrize("name", SOLVED)
def test_with_a_card_every_size_is_solved_for(name):
    found = explain(ops.find(name), gpu=gpu("t4"))
    text = page(found)
    assert "From memory-bound to compute-bound" in text
    assert not re.search(BROKEN, text)
    check_latex(fragment(found))


def test_the_on_chip_memory_is_the_cards():
    # A T4's block has 64 KiB.
    assert "M = 65536 is the shared memory per block in " in shown("explain", "flash_attention", "--gpu", "t4")


def section(text, heading):
    """The rows of a section's table, each as its cells, and the text below it."""
    inside = text.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()
    rows = [re.split(r" {2,}", line.strip()) for line in inside[2:]]
    return [row for row in rows if len(row) > 3], " ".join(" ".join(row) for row in rows if len(row) <= 3)


def test_the_tiles_of_a_product_that_fit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows, note = section(shown("explain", "tiled_matmul", "--gpu", "a100"), "Traffic against tile size")
    # Tiles of t: A and B of 4096 x 4096 are read 4096 / t times, C is written once; 2 bytes each.
    for size, row in zip((1, 16, 32, 64, 128, 256), rows, strict=True):
        assert row[0] == str(size)
        assert float(row[3].split()[0]) == pytest.approx(
            (2 * 4096 / size + 1) * 4096**2 * 2 / {"G": 1e9}[row[3].split()[1][0]], rel=1e-3
        )
    # 256 KiB of registers hold 65,536 sums of 4 bytes: 256 x 256.
    assert "tile_m = tile_n = 256: its 256 x 256 sums of 4 B fill the registers of a multiprocessor, 262,144 B." in note


def test_the_tiles_of_flash_attention_that_fit():
    rows, note = section(shown("explain", "flash_attention", "--gpu", "t4"), "Traffic against tile size")
    # 64 KiB / (4 x 128 x 2) = 64 rows. q and out of 32 x 2048 x 128 elements once, k and v 2048 / r times; 2 bytes.
    assert [row[0] for row in rows] == ["1", "16", "32", "64"]
    assert rows[-1][2] == "1.107 GB"  # (2 + 2 x 32) x 8,388,608 x 2 = 1,107,296,256
    assert "rows r = 64: four tiles of 64 x d = 128 elements need 65,536 of 65,536 B on chip." in note
    small = section(
        shown("explain", "flash_attention", "--gpu", "t4", "--set", "N=32", "--set", "S=N"), "Traffic against tile size"
    )
    assert small[0][-1][0] == "32"
    assert "it covers all N queries" in small[1]


@pytest.mark.parametrize("name", ["tiled_matmul", "flash_attention", "flash_attention_backward"])
@pytest.mark.parametrize("card", [None, "t4", "h200", "mi300x"])
def test_larger_tiles_move_less_and_the_next_one_does_not_fit(name, card, monkeypatch):
    monkeypatch.setattr(explanation, "_crossings", lambda *_: ())  # they take longest, and tiles do not depend on them
    page = explain(ops.find(name), gpu=gpu(card) if card else None)
    found, dims = page.tiles, page.fused.dims
    assert [tile.traffic_byte for tile in found.tiles] == sorted((t.traffic_byte for t in found.tiles), reverse=True)
    most, registers = found.tiles[-1], gpu(card).multiprocessor["registers"].value if card else float("inf")
    assert most.chip_byte <= dims["M"]
    if name == "tiled_matmul":
        next_ = most.size + 1
        assert 2 * next_ * 32 * 2 > dims["M"] or 4 * next_**2 > registers
    else:
        assert 4 * (most.size + 1) * dims["d"] * 2 > dims["M"]


def test_an_operation_without_tiles_has_no_table():
    for name in ("matmul", "attention", "softmax"):
        found = explain(ops.find(name))
        assert found.tiles is None
        assert "tile size" not in page(found)


def test_the_scores_of_a_head_against_the_context():
    """2 N² bytes in fp16. A T4: 65,536 B of a block, 40 of them, 4 MiB of L2, and 14 to 16 GB of memory."""
    text = shown("explain", "attention", "--gpu", "t4")
    inside = text.partition("\nScores against context\n")[2].partition("\n\n")[0]
    rows = [re.split(r" {2,}", line.strip()) for line in inside.splitlines()[2:12]]
    assert [row[0] for row in rows][:4] == ["256", "512", "1,024", "2,048"]
    for tokens, byte, level in rows:
        needed = 2 * int(tokens.replace(",", "")) ** 2
        value, unit = byte.split()
        assert float(value) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[unit] == pytest.approx(needed, rel=1e-3)
        assert level == (
            "shared memory of all multiprocessors"
            if needed <= 40 * 65_536
            else "device memory"
            if needed < 14e9
            else "none"
        )
    # 2 x 181² = 65,522 and 2 x 182² = 66,248; 2 x 1144² = 2,617,472 and 2 x 1145² = 2,622,050.
    note = " ".join(inside.split())
    assert "181 in the shared memory of a block (65,536 B), 1,144 in the shared memory of all multiprocessors" in note
    assert "1,448 in L2 (4,194,304 B)" in note  # 2 x 1448² = 4,193,408 and 2 x 1449² = 4,199,202


@pytest.mark.parametrize("name", ["softmax", "flash_attention", "attention_decode", "route", "matmul"])
def test_an_operation_without_a_square_of_scores_has_no_table_of_contexts(name):
    assert "Scores against context" not in shown("explain", name)


def test_the_figures_in_the_prose_of_the_convolution():
    """B = 1, N = D = 8192, K = 3: 67,108,864 outputs, a filter of 24,576 and a bias of 8,192 elements, 2 bytes each."""
    prose = " ".join(shown("explain", "conv1d").split())
    signal, parameters = 8192 * 8192 * 2, (3 * 8192 + 8192) * 2
    padded = (8192 + 4) * 8192 * 2
    fused, unfused = 2 * signal + parameters, 2 * signal + 2 * padded + parameters
    found = ops.find("conv1d")(B=1, N=8192, D=8192, K=3)
    assert (found.traffic_byte(), sum(kernel.traffic_byte() for _, kernel in found.kernels())) == (fused, unfused)
    figures = (fused, unfused, found.flops(), 4 * signal + parameters, 8192**2, 40 * 1024, 8192**2 // (40 * 1024))
    assert all(f"{figure:,}" in prose for figure in figures), figures
    assert "1.0156 times for T = 128" in prose  # 1 + 2 / 128
    assert gpu("t4").multiprocessors.value * gpu("t4").multiprocessor["threads"].value == 40 * 1024


def test_a_decoded_token_of_wide_layers_reaches_the_ridge_at_208_sequences():
    # Per byte of fp16 weights a batch of B does B FLOPs; 312 TFLOP/s over 1.5 TB/s are 208.
    out = shown("solve", "--op", "linear", "--gpu", "textbook-a100", "--for", "B", "--set", "N=1")
    assert "-> b I / (2 N) = 208.000 for wide layers (large D_in and D_out)" in out


def test_a_card_gives_the_expected_time_and_what_it_rests_on():
    ran = perfmodel("explain", "softmax", "--gpu", "a100", "--set", "rows=8192", "--set", "cols=8192")
    assert ran.code == 0
    assert "at least   expected\n" in ran.out
    assert "family knowledge: factors fitted on Ampere" in " ".join(ran.out.split())


SQUARE = ("--set", "m=512", "--set", "k=512", "--set", "n=512")


def test_each_size_is_solved_for_though_all_are_set():
    """2 m k n FLOP and 2 (m k + k n + m n) bytes are balanced at I = 65 T / 320 G = 203.125 FLOP/B on a T4.

    With two sizes of 512 the third is 512 x 512 I / (512 x 512 - 2 x 512 I) = 983.45.
    """
    out = shown("explain", "matmul", "--gpu", "t4", *SQUARE)
    for letter in "mkn":
        assert re.search(rf"(?m)^  {letter}: {letter} = .* = 983.45, memory to tensor", out), (letter, out)
    held = shown("explain", "matmul", "--gpu", "t4", *SQUARE[:2])
    assert re.search(r"(?m)^  m: m = ", held)


def test_tiles_are_ceilings_in_every_form():
    out = shown("explain", "tiled_matmul")
    assert "× ⌈n / tile_n⌉" in out
    assert "b (m k ⌈n / tile_n⌉ + k n ⌈m / tile_m⌉ + m n)" in out
    latex = shown("explain", "tiled_matmul", "--latex")
    assert r"\left\lceil{\frac{n}{t_n}}\right\rceil" in latex
    assert "lfloor" not in latex
    assert "ceiling(n/tile_n)" in words(formulas(op_of(ops.find("tiled_matmul"))).traffic_byte)


NEEDLESS_MINUS = r"-\s*[⌊⌈]-|[⌊⌈]-|- -|\(-|-m(ax|in)\(-?"


def formulas_of(text):
    return text[text.index("\nTensors") : text.index("\nGrowth")]


@pytest.mark.parametrize("flags", [{"causal": 1}, {"causal": 1, "W": 64}], ids=str)
@pytest.mark.parametrize("name", ["scores", "attention", "mla_attention"])
def test_no_masked_formula_shows_a_minus_that_it_could_do_without(name, flags):
    """No rounding of a negative number, no factor or maximum of negative terms only."""
    assert not re.search(NEEDLESS_MINUS, formulas_of(page(explain(ops.find(name), flags))))


def test_tiles_under_a_mask_show_no_needless_minus():
    assert not re.search(NEEDLESS_MINUS, formulas_of(page(explain(ops.find("flash_attention"), {"causal": 1}))))
