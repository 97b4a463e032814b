"""The library as used from another program: a few lines, names and sizes in, data out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from many import for_each

import perfmodel
from perfmodel.api import analyse, bounds, crossings, find, formula, gpu, load, sweep_over
from perfmodel.errors import InputError


def test_three_lines_give_an_answer():
    answer = analyse("llama-2-7b-layer", gpu="a100", phase="decode")
    assert answer.total.bound == "memory"
    # Weights of 202,383,360 numbers and a cache of 2 x 2048 x 4096, 2 bytes each, and small activations.
    assert 2 * (202_383_360 + 16_777_216) < answer.total.traffic_byte < 1.001 * 2 * (202_383_360 + 16_777_216)
    assert answer.total.lower_s == pytest.approx(215.1e-6, rel=1e-3)


def test_every_exported_name_can_be_called_whatever_was_used_before():
    """Importing a submodule of the same name must not replace a function."""
    code = (
        "import perfmodel; from perfmodel import api; api.crossings(api.find('matmul'), 'n', 't4'); "
        "list(api.sweep_over('mlp-4096', 't4', {'N': [8]})); "
        "print([name for name in perfmodel.__all__ if not callable(getattr(perfmodel, name))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_no_exported_name_is_a_submodule():
    """Importing a submodule binds its name in the package and replaces what was there. ``capture`` can be called itself."""
    names = [name for name in perfmodel.__all__ if importlib.util.find_spec(f"perfmodel.{name}")]
    assert [name for name in names if not callable(importlib.import_module(f"perfmodel.{name}"))] == []


def test_the_package_lists_its_names():
    assert set(perfmodel.__all__) <= set(dir(perfmodel))
    assert perfmodel.__version__.count(".") == 2


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'analyze'"):
        _ = perfmodel.analyze


def test_an_operation_is_called_with_sizes():
    # 2 x 3 x 4 multiply-adds; 6 + 12 + 8 elements of 2 bytes.
    op = find("matmul")(m=2, k=3, n=4)
    assert (op.flops(), op.traffic_byte(), op.compulsory_byte()) == (48, 52, 52)
    assert find("matmul").summary


@for_each(
    ("sizes", "found"),
    [
        ({"m": 2, "k": 3}, "n not given; it needs m, k, n"),
        ({"m": 2, "k": 3, "n": 4, "z": 5}, "'z' is not a size of it; it takes m, k, n, batch, act"),
        ({"m": 2, "k": 3, "n": 0}, "n: 0 is out of range"),
        ({"m": 2, "k": 3, "n": 4.0}, "n: 4.0 is not a whole number"),
        ({"m": 2, "k": 3, "n": True}, "n: True is not a whole number"),
        ({"m": 2, "k": 3, "n": float("nan")}, "n: nan is not a whole number"),
        ({"m": 2, "k": 3, "n": "4"}, "n: '4' is not a whole number"),
        ({"m": 2, "k": 3, "n": 10**30}, "is out of range"),
    ],
)
def test_bad_sizes_are_refused_where_they_enter(sizes, found):
    with pytest.raises(InputError, match=r"^matmul: ") as caught:
        find("matmul")(**sizes)
    assert found in str(caught.value)


@for_each(
    ("name", "sizes", "because"),
    [
        ("attention", {"B": 1, "H": 3, "H_kv": 2, "N": 4, "S": 4, "d": 8}, "H_kv must divide H"),
        ("attention", {"B": 1, "H": 2, "H_kv": 1, "N": 5, "S": 4, "d": 8, "causal": 1}, "N may not exceed S"),
        ("multi_head_attention", {"B": 1, "N": 4, "D": 10, "H": 4}, "H must divide D"),
        ("rope", {"B": 1, "N": 4, "H": 2, "H_kv": 2, "d": 3}, "d must be even"),
        ("flash_attention", {"B": 1, "H": 1, "H_kv": 1, "N": 4, "S": 4, "d": 64, "M": 511}, "4 d b may not exceed M"),
        ("attention", {"B": 1, "H": 2, "H_kv": 1, "N": 4, "S": 4, "d": 8, "causal": 2}, "0 or 1 is accepted"),
    ],
)
def test_sizes_outside_a_formulas_domain_are_refused_with_the_reason(name, sizes, because):
    with pytest.raises(InputError, match=because):
        find(name)(**sizes)


def test_a_symbols_other_spelling_is_the_same_symbol():
    sizes = {"B": 1, "H": 4, "N": 3, "S": 3, "d": 8}
    assert find("attention")(**sizes, H_KV=2) == find("attention")(**sizes, H_kv=2)


def test_bounds_of_one_operation():
    # 2 x 4096^3 FLOPs at 312 TFLOP/s are 440.5 us; 3 x 4096^2 x 2 bytes at 2039 GB/s 49.4 us.
    found = bounds("matmul", "a100", m=4096, k=4096, n=4096)
    assert found.bound == "tensor"
    assert found.lower_s == pytest.approx(2 * 4096**3 / 312e12)
    assert found.no_overlap_s == pytest.approx(2 * 4096**3 / 312e12 + 3 * 4096**2 * 2 / 2039e9)
    # Twice the bytes and a quarter of the rate.
    slower = bounds("matmul", "a100", dtype="fp32", m=4096, k=4096, n=4096)
    assert slower.memory_s == pytest.approx(2 * found.memory_s)
    assert slower.lower_s == pytest.approx(2 * 4096**3 / 19.5e12)


def test_a_card_by_short_name_name_and_file():
    short, full = gpu("a100"), gpu("a100-sxm4-80gb")
    assert short is full is gpu("A100")
    assert gpu(short) is short
    assert gpu(short.file).bandwidth_byte_per_s.value == 2039e9
    with pytest.raises(InputError, match=r"gpu 'a1000': no file has this name"):
        gpu("a1000")


def test_a_workload_by_name_by_file_and_from_an_operation(tmp_path):
    named = load("mlp-4096")
    assert (named.name, named.default_phase, set(named.phases)) == (
        "mlp-4096",
        "prefill",
        {"prefill", "decode", "train"},
    )
    file = tmp_path / "own.yaml"
    file.write_text("title: own\nsizes: {m: 8, k: 8, n: 8}\nsteps: [{op: matmul}]\n")
    assert analyse(str(file)).total.flops == 2 * 8**3
    single = load(find("matmul"))
    assert analyse(single, settings={"m": 8, "k": 8, "n": 8}).total.flops == 2 * 8**3
    assert load(named) is named


def test_settings_are_numbers_or_text():
    typed = analyse("gpt2-124m", settings={"N": 512, "B": 2}).total
    assert analyse("gpt2-124m", settings={"N": "512", "B": "2"}).total == typed
    assert analyse("gpt2-124m", settings={"N": "D-256", "B": 2}).total == typed
    with pytest.raises(InputError, match="it is not a symbol of this workload"):
        analyse("gpt2-124m", settings={"K": 3})
    with pytest.raises(InputError, match="is out of range"):
        analyse("gpt2-124m", settings={"N": 0})


@pytest.mark.parametrize("config", ["llama-2-7b-layer", "gpt2-124m", "decoder-block"])
@pytest.mark.parametrize("form", [{}, {"fused": False}, {"causal": True}, {"count": "all"}, {"phase": "train"}])
def test_totals_are_the_sums_of_rows(config, form):
    answer = analyse(config, gpu="a100", **form)
    assert answer.total.flops == sum(row.flops * row.repeat for row in answer.rows)
    assert answer.total.traffic_byte == sum(row.traffic_byte * row.repeat for row in answer.rows)
    assert answer.total.lower_s == pytest.approx(sum(row.bounds.lower_s * row.repeat for row in answer.rows))
    assert answer.total.lower_s <= answer.total.no_overlap_s
    for row in answer.rows:
        assert row.traffic_byte == row.read_byte + row.write_byte == sum(row.tensors.values())
        assert row.contraction_flops <= row.flops
        assert row.bounds.lower_s <= row.bounds.no_overlap_s
        assert row.compulsory_byte <= row.traffic_byte


def test_without_a_card_there_are_no_times():
    answer = analyse("mlp-4096")
    assert answer.gpu is None
    assert answer.total.lower_s is answer.total.no_overlap_s is answer.total.bound is None
    assert {row.bounds for row in answer.rows} == {None}


def test_forms_of_a_workload():
    fused, unfused = (analyse("conv1d-8192", fused=form) for form in (True, False))
    assert len(fused.rows) == 1
    assert [row.name for row in unfused.rows] == ["conv1d.pad", "conv1d.convolve"]
    assert fused.total.flops == unfused.total.flops
    assert analyse("gpt2-124m", causal=True).total.flops < analyse("gpt2-124m", causal=False).total.flops


def test_train_runs_forward_and_then_backward_in_reverse():
    names = [row.name for row in analyse("mlp-4096", phase="train").rows]
    assert names[:3] == ["mlp.up", "mlp.gelu", "mlp.down"]
    # Two gradients of each product and one of the GELU, the last product's first.
    backward = [name.removeprefix("mlp.backward.") for name in names if name.startswith("mlp.backward")]
    product = ["linear_input_gradient", "linear_weight_gradient"]
    assert backward == [*product, "gelu", *product] == [name.removeprefix("mlp.backward.") for name in names[3:8]]


def test_a_formula_has_the_symbols_of_its_sizes():
    found = formula("matmul")
    assert {str(symbol) for symbol in found.flops.free_symbols} >= {"m", "k", "n"}
    half = formula("matmul", m=2, k=3).flops
    assert "m" not in {str(symbol) for symbol in half.free_symbols}


def test_solve_and_sweep_are_reached_from_the_top():
    found = crossings(find("gemm"), "n", "textbook-a100", settings={"m": "n", "k": "n", "act": 8})
    places = [place for answer in found.answers for place in answer.crossings]
    assert any(place.below == 3328 for place in places)  # n / 16 = 208
    chunks = list(sweep_over(find("matmul"), "t4", {"n": [8, 16]}, settings={"m": 8, "k": 8}))
    assert [value for chunk in chunks for value in chunk.flops] == [2 * 8**3, 2 * 2 * 8**3]


def test_results_are_frozen():
    answer = analyse("mlp-4096")
    with pytest.raises(AttributeError):
        answer.total.flops = 0
    with pytest.raises(AttributeError):
        find("matmul")(m=2, k=3, n=4).work = ()


def test_one_exception_class_catches_all():
    for call in (
        lambda: gpu("nope"),
        lambda: load("nope"),
        lambda: find("nope"),
        lambda: analyse("mlp-4096", phase="decod"),
        lambda: bounds("matmul", "t4", m=0, k=1, n=1),
    ):
        with pytest.raises(perfmodel.PerfmodelError):
            call()


def test_an_unknown_count_or_data_type_is_refused():
    with pytest.raises(InputError):
        analyse("mlp-4096", count="some")
    with pytest.raises(InputError):
        bounds("matmul", "t4", dtype="fp17", m=1, k=1, n=1)
