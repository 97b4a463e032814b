"""A data type without tensor rate: which rate replaces it, that the result is a bound, and that a note says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import perfmodel
from many import for_each

from perfmodel import api
from perfmodel.hardware import gpu
from perfmodel.op import Engine
from perfmodel.roofline import rates

HARDWARE = Path(__file__).parent.parent / "hardware"
WIDENED = [
    # llama-2-7b-layer, 2048 tokens: in fp8 its products run as fp16 products and are not faster.
    ("a100", "fp8", "tensor fp16", 312e12),
    ("t4", "fp8", "tensor fp16", 65e12),
    ("v100-sxm2-32gb", "int8", "tensor fp16", 125e12),
    ("b300-sxm", "int8", "tensor fp16", 2250e12),  # its int8 rate of 150 TOP/s is lower
    ("t4", "bf16", "vector fp32", 8.1e12),
    ("v100-sxm2-32gb", "bf16", "vector fp32", 15.7e12),
    ("a100", "fp32", "vector fp32", 19.5e12),
    ("epyc-7763", "fp16", "vector fp32", 7.17e12),
]


@for_each(("name", "dtype", "roof", "flop_per_s"), WIDENED)
def test_products_run_at_the_rate_of_a_type_that_holds_theirs(name, dtype, roof, flop_per_s):
    found = rates(gpu(name), dtype).roofs[Engine.TENSOR]
    assert (found.name, found.flop_per_s) == (roof, flop_per_s)


def test_a_shorter_type_takes_no_longer_than_the_one_that_it_is_widened_to():
    """1024 x 1024 x 1024 in fp8 on an A100: 2 x 1024^3 / 312 TFLOP/s = 6.883 us, not the 27.5 us of the vector engine."""
    at = {"m": 1024, "k": 1024, "n": 1024}
    assert api.bounds("matmul", "a100", dtype="fp8", **at).lower_s == pytest.approx(2 * 1024**3 / 312e12)
    for card in map(
        gpu,
        (
            path.stem
            for path in sorted(HARDWARE.glob("*.yaml"))
            if path.stem != "short-names" and not path.stem.endswith(".measured")
        ),
    ):
        for short, wide in (("fp8", "fp16"), ("int8", "fp16"), ("bf16", "fp32"), ("tf32", "fp32")):
            lower = [api.bounds("matmul", card, dtype=dtype, **at).lower_s for dtype in (short, wide)]
            assert lower[0] <= lower[1], (card.name, short)


CASE = '{"op": "matmul", "shape": {"m": 64, "k": 64, "n": 64}, "dtype": "fp8"}\n'
FP8 = ("--gpu", "a100", "--dtype", "fp8")
TIMED = [
    ("flops", "--config", "mlp-4096", *FP8),
    ("predict", "--cases", "-", "--gpu", "a100"),
    ("sweep", "--op", "matmul", *FP8, "--over", "n=64:128:2"),
    ("compare", "--config", "mlp-4096", *FP8),
    ("solve", "--op", "matmul", *FP8, "--for", "n"),
    ("explain", "matmul", *FP8),
    ("explain", "matmul", *FP8, "--latex"),
    ("roofline", *FP8, "show"),
]
STANDS_IN = "no tensor rate for fp8; that work runs at the rate of tensor fp16, a type that holds every fp8 value."


@for_each("arguments", TIMED)
def test_every_command_with_times_says_which_roof_stands_in(arguments):
    ran = perfmodel(*arguments, stdin=CASE)
    assert STANDS_IN in " ".join(ran.out.split())


@pytest.mark.parametrize("arguments", [a for a in TIMED if a[0] in ("flops", "predict", "compare", "solve")], ids=str)
def test_and_so_do_the_documents(arguments):
    found = json.loads(perfmodel(*arguments, "--format", "json", stdin=CASE).out)
    inner = found["cases"][0] if "cases" in found else found
    assert [note.partition(": ")[2] for note in inner["roof_notes"]] == [STANDS_IN]


def test_rows_in_a_file_are_told_on_stderr(tmp_path):
    ran = perfmodel(*TIMED[2], "-o", str(tmp_path / "rows.csv"))
    assert STANDS_IN in ran.err


def test_the_peak_whose_use_is_told_is_the_one_that_is_used():
    used = {"epyc-7763": "vector fp32", "a100": "tensor fp16"}
    for card, name in used.items():
        assert f"utilisation of the {name} peak" in perfmodel(
            "flops", "--config", "mlp-4096", "--gpu", card, "-v"
        ).out.replace("\n", " ")
