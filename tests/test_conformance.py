"""Counts of other tools on common tasks: the stored records, and the tools themselves where they are installed.

No tool is a dependency. The module with the tasks is benchmarks/conformance.py.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache

import pages
import pytest
from many import for_each

PATH = pages.ROOT / "benchmarks" / "conformance.py"
B, N, D, F, K = 2, 128, 256, 1024, 3  # the sizes of the tasks


@cache
def conformance():
    spec = importlib.util.spec_from_file_location("conformance", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored():
    path = pages.ROOT / "benchmarks" / "results" / "tools" / "conformance.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


RECORDS = {(record["tool"], record["task"]): record for record in stored()}
TOOLS = list(dict.fromkeys(tool for tool, _ in RECORDS))
OURS = {
    "mlp": 2 * 2 * B * N * D * F,  # two products of B N by D and F
    "attention, fused": 2 * 2 * B * N * N * D,  # scores and weighted sum
    "attention, products": 2 * 2 * B * N * N * D,
    # Four projections of D by D, the two products of attention, the two of the MLP.
    "encoder layer": 4 * 2 * B * N * D * D + 4 * B * N * N * D + 4 * B * N * D * F,
    "depthwise convolution": 2 * B * N * D * K,
    "depthwise, with backward": 3 * 2 * B * N * D * K,  # once forward, twice backward
    "embedding": 0,
}
# The errors of the page, by the arithmetic of what the tool counts. ``torch`` is its own counter.
TORCH = "torch.utils.flop_counter"
PRODUCT = 2 * B * N * N * D
ERRORS = {
    # The gradient of the filters as that of a full convolution: D inputs for each of D outputs.
    (TORCH, "depthwise, with backward"): 2 * 2 * B * N * D * K + 2 * B * N * D * D * K,
    (TORCH, "attention, fused"): 0,
    (TORCH, "encoder layer"): OURS["encoder layer"] - 2 * PRODUCT,
    **{(tool, "attention, fused"): 0 for tool in ("calflops", "fvcore", "ptflops", "thop", "torchinfo")},
    **{(tool, "attention, products"): PRODUCT for tool in ("calflops", "ptflops")},
    **{(tool, "attention, products"): 0 for tool in ("thop", "torchinfo")},
    # Weights and biases once for each sequence, and not for each token.
    ("torchinfo", "mlp"): 2 * B * (2 * D * F + D + F),
    ("torchinfo", "embedding"): 2 * B * 1000 * D,  # the table of 1000 rows, for each sequence
    # The bias of each output as an addition, or as a multiply-add.
    ("calflops", "depthwise convolution"): 2 * B * N * D * K + B * N * D,
    **{(tool, "depthwise convolution"): 2 * B * N * D * K + 2 * B * N * D for tool in ("ptflops", "torchinfo")},
}  # fmt: skip


@for_each("name", OURS)
def test_our_counts_are_those_of_the_arithmetic(name):
    assert conformance().tasks()[name].ours == OURS[name]


@for_each(("tool", "task"), ERRORS)
def test_a_found_error_is_in_the_record(tool, task):
    assert RECORDS[tool, task]["flops"] == ERRORS[tool, task] != OURS[task]


def test_every_other_count_agrees_but_for_elementwise_work():
    partly = {
        ("calflops", "encoder layer"),
        ("fvcore", "encoder layer"),
        ("thop", "encoder layer"),
        ("torchinfo", "encoder layer"),
    }
    others = {key: record["flops"] for key, record in RECORDS.items() if key not in ERRORS and key not in partly}
    assert len(others) >= 20
    for (_, task), flops in others.items():
        assert OURS[task] <= flops <= 1.01 * OURS[task]
    assert all(RECORDS[key]["flops"] < 0.94 * OURS["encoder layer"] for key in partly)  # no products of attention


@pytest.mark.parametrize("tool", TOOLS)
def test_an_installed_tool_counts_what_the_record_says(tool):
    found = conformance()
    if found.installed(tool) != RECORDS[tool, "mlp"]["version"]:
        pytest.skip(f"{found.TOOLS[tool][0]} {RECORDS[tool, 'mlp']['version']} is not installed")
    records = list(found.records(tool)) if tool == "torch.utils.flop_counter" else found.alone(tool)  # replaces nothing
    assert records == [record for (name, _), record in RECORDS.items() if name == tool]
