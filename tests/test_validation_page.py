"""The page of a validation: one file with the roofline, the errors and the cases of a stored run."""

from __future__ import annotations

import json
import re

import pytest
from command import perfmodel

ENVIRONMENT = {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "torch": "2.11.0", "date": "2026-11-26"}
CASES = [
    {"op": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "bf16", "impl": "torch", "protocol": "cold",
     "median_us": 210.0, "p25_us": 209.0, "p75_us": 211.0, "n": 9},
    {"op": "softmax", "shape": {"rows": 8192, "cols": 8192}, "dtype": "fp16", "impl": "torch", "protocol": "cold",
     "median_us": 230.0, "p25_us": 229.0, "p75_us": 231.0, "n": 9},
    {"op": "copy", "shape": {"numel": 1 << 24}, "dtype": "fp16", "impl": "torch", "protocol": "cold",
     "median_us": 30.0, "p25_us": 29.0, "p75_us": 31.0, "n": 9},
]  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "run.jsonl"
    lines = [{"schema": 1, "environment": ENVIRONMENT}, *({"schema": 1, **case} for case in CASES)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_page_has_every_case_and_loads_nothing(stored, tmp_path):
    target = tmp_path / "run.html"
    done = perfmodel("validate", "--from", str(stored), "--format", "html", "-o", str(target))
    assert done.code == 0, done.err
    assert done.out == f"Wrote {target}.\n"
    text = target.read_text(encoding="utf-8")
    table = text[text.index("id='kernel-table'") :]
    assert len(re.findall("<tr data-text=", table[: table.index("</table>")])) == len(CASES)
    assert all(case["op"] in table for case in CASES)
    assert "https://" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    # The copy computes nothing, so the roofline has two dots. 2 x 4096^3 FLOP in 210 us are 654.5 TFLOP/s.
    assert re.search(r"6544\d{11}|6\.544\d*e\+?14", text)


def test_the_table_is_printed_beside_a_page(stored, tmp_path):
    target = tmp_path / "run.html"
    done = perfmodel("validate", "--from", str(stored), "-o", str(target))
    assert done.code == 0
    assert "Errors of the expected time by operation" in done.out
    assert "Wrote " in done.err
    assert target.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--format", "html"), "perfmodel validate: --format html is given without -o; a page is written to a file. Add -o FILE.html."),
        (("-o", "run.png"), "perfmodel validate -o 'run.png': its ending is not .html; a page is written there. Use FILE.html."),
    ],
)  # fmt: skip
def test_a_page_needs_a_file_with_its_ending(stored, given, said):
    done = perfmodel("validate", "--from", str(stored), *given)
    assert done.code == 2
    assert said in done.err
