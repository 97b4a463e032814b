"""The page of every operation in the terminal and in LaTeX, and what solving prints about its sizes."""

from __future__ import annotations

import re

import pytest
from command import perfmodel

from perfmodel import ops
from perfmodel.explanation import explain
from perfmodel.report.explain import page
from perfmodel.report.latex import fragment
from perfmodel.symbolic import formulas, op_of, words

BROKEN = r"\b(nan|zoo|oo|inf)\b"
NAMES = [getattr(op, "name", op) for op in ops.every()]
# With a card every size is solved for as well, which takes up to a second: a choice of families, the experts' among them.
SOLVED = ("matmul", "attention", "flash_attention", "conv1d", "softmax", "expert_linear", "layernorm", "adam")


def shown(*arguments):
    ran = perfmodel(*arguments)
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


@pytest.mark.parametrize("name", NAMES)
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
    assert "From memory-bound to compute-bound" in shown("explain", name, "--gpu", "t4")
    check_latex(shown("explain", name, "--gpu", "t4", "--latex"))


def test_the_on_chip_memory_is_the_cards():
    # A T4's block has 64 KiB.
    assert "M = 65536 is the shared memory per block in " in shown("explain", "flash_attention", "--gpu", "t4")


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
