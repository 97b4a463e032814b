"""GPU files: every figure agrees with the others of its file, or a note explains the difference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from many import for_each

from perfmodel import hardware
from perfmodel.errors import InputError
from perfmodel.figures import Figure
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.paths import SHORT_NAMES

FOLDER = Path(__file__).parent.parent / "hardware"
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name != SHORT_NAMES and ".measured." not in path.name]
GEFORCE = ("rtx-3090", "rtx-4090", "rtx-5090")

TERA, GIGA = 1e12, 1e9


def card(name: str) -> Gpu:
    return hardware.gpu(str(FOLDER / f"{name}.yaml"))


@cache
def cards() -> list[Gpu]:
    return [hardware.gpu(str(path)) for path in FILES]


every_card = for_each("gpu", cards)


def peaks(gpu: Gpu) -> Iterator[tuple[str, Figure]]:
    for kind, table in gpu.peaks.items():
        for dtype, figure in table.items():
            yield f"{kind} {dtype}", figure


def figures(gpu: Gpu) -> Iterator[Figure]:
    yield from (gpu.multiprocessors, gpu.capacity_byte, gpu.bandwidth_byte_per_s)
    for table in (gpu.clocks, gpu.memory, gpu.caches, gpu.multiprocessor, gpu.links):
        yield from table.values()
    yield from (figure for _, figure in peaks(gpu))
    yield from (figure for figure in (gpu.special, gpu.power) if figure)


# --- every file


def test_there_are_files() -> None:
    assert {"t4", "a100-sxm4-80gb", "h100-sxm5-80gb", "mi300x", "epyc-7763", "textbook-a100"} <= {p.stem for p in FILES}


@every_card
def test_it_loads_and_carries_what_a_roofline_needs(gpu: Gpu) -> None:
    assert gpu.knowledge == "datasheet"
    assert "fp32" in gpu.peaks["vector"]
    assert gpu.caches["l2"].value < gpu.capacity_byte.value
    assert all(figure.value > 0 for figure in figures(gpu))


@every_card
def test_a_peak_is_multiprocessors_times_width_times_clock(gpu: Gpu) -> None:
    for name, figure in peaks(gpu):
        derived = gpu.derived_peak(figure)
        if derived is None:
            assert figure.note, f"{name}: neither a width per clock nor a note"
        else:
            assert derived == pytest.approx(figure.value, rel=0.05 if figure.note else 0.005), name


@every_card
def test_a_clock_that_a_peak_names_is_in_the_file(gpu: Gpu) -> None:
    for name, figure in peaks(gpu):
        assert figure.per_sm_clock is None or figure.clock in gpu.clocks, name


@every_card
def test_clocks_rise_from_base_over_tensor_to_boost(gpu: Gpu) -> None:
    clocks = [gpu.clocks[name].value for name in ("base", "tensor", "boost") if name in gpu.clocks]
    assert clocks == sorted(clocks)


@every_card
def test_memory_bandwidth_is_bus_times_pin_rate(gpu: Gpu) -> None:
    if {"bus", "pin_rate"} <= gpu.memory.keys():
        derived = gpu.memory["bus"].value * gpu.memory["pin_rate"].value / 8
        bandwidth = gpu.bandwidth_byte_per_s
        assert derived == pytest.approx(bandwidth.value, rel=0.05 if bandwidth.note else 0.005)


CAPACITIES = [
    # bytes that the driver reports, and the data sheet's
    ("t4", 15_843_721_216, 16e9),  # 15110 MiB, deviceQuery
    ("l4", 23_612_293_120, 24e9),  # 22518.4 MiB, deviceQuery
    ("h100-sxm5-80gb", 85_017_493_504, 80e9),  # own reading
    ("h200-sxm-141gb", 150_109_880_320, 141e9),  # own reading
    ("mi300x", 206_141_652_992, 192e9),  # 196592 MiB: 192 GiB less 16 MiB
]


@pytest.mark.parametrize(("name", "driver_byte", "sheet_byte"), CAPACITIES)
def test_capacity_is_what_the_driver_reports(name: str, driver_byte: int, sheet_byte: float) -> None:
    gpu = card(name)
    assert (gpu.capacity_byte.value, gpu.memory["sheet_capacity"].value) == (driver_byte, sheet_byte)
    assert gpu.capacity_byte.source != gpu.memory["sheet_capacity"].source


@every_card
def test_a_capacity_is_the_drivers_or_says_that_it_is_not(gpu: Gpu) -> None:
    sheet = gpu.memory.get("sheet_capacity")
    if sheet is None:
        assert gpu.capacity_byte.note
    else:
        # A sheet's GB is 10^9 or 2^30 bytes, and a driver keeps some of them.
        assert 0.97 * sheet.value < gpu.capacity_byte.value <= 1.08 * sheet.value


def test_the_stored_measurements_agree_with_the_capacities() -> None:
    files = sorted((FOLDER.parent / "benchmarks" / "results").glob("*.jsonl"))
    assert files
    for path in files:
        with path.open(encoding="utf-8") as lines:
            read = json.loads(next(lines)).get("environment", {})
        if read.get("device", "cpu") == "cpu":  # a processor, or no measurement of a device
            continue
        (gpu,) = [found for found in map(hardware.gpu, map(str, FILES)) if read["gpu"] in found.matches]
        assert gpu.capacity_byte.value == read.get("memory_byte", gpu.capacity_byte.value)


@every_card
def test_a_pin_moves_two_bits_per_memory_clock(gpu: Gpu) -> None:
    if {"clock", "pin_rate"} <= gpu.memory.keys():
        assert gpu.memory["pin_rate"].value == pytest.approx(2 * gpu.memory["clock"].value, rel=0.001)


@every_card
@for_each("kind", ["tensor", "tensor_fp16_accumulate"])
def test_a_sparse_peak_is_twice_the_dense_one(gpu: Gpu, kind: str) -> None:
    for dtype, sparse in gpu.peaks[f"{kind}_sparse"].items():
        dense = gpu.peaks[kind][dtype]
        assert sparse.value == pytest.approx(2 * dense.value, rel=0.01) or sparse.note, f"{dtype}: {sparse.value:.4g}"


@every_card
def test_the_tensor_engine_is_no_slower_than_the_vector_engine(gpu: Gpu) -> None:
    for dtype, tensor in gpu.peaks["tensor"].items():
        if dtype in gpu.peaks["vector"]:
            assert tensor.value >= gpu.peaks["vector"][dtype].value, dtype


@every_card
def test_a_narrower_type_is_no_slower(gpu: Gpu) -> None:
    for kind in ("tensor", "vector"):
        rates = [
            gpu.peaks[kind][dtype].value for dtype in ("fp32", "tf32", "fp16", "fp8", "fp4") if dtype in gpu.peaks[kind]
        ]
        assert rates == sorted(rates), kind


@every_card
def test_every_source_is_used_and_dated(gpu: Gpu) -> None:
    assert {figure.source for figure in figures(gpu)} == set(gpu.sources)
    for source in gpu.sources.values():
        assert re.search(r"\bread 20\d\d-\d\d$", source), source


@every_card
def test_a_block_fits_its_multiprocessor(gpu: Gpu) -> None:
    limits = {name: figure.value for name, figure in gpu.multiprocessor.items()}
    if limits:
        assert limits["threads"] == limits["warps"] * limits["warp"]
        assert limits["shared_memory_per_block"] <= limits["shared_memory"]
        assert limits["shared_memory"] <= limits.get("l1_and_shared", limits["shared_memory"])


@pytest.mark.parametrize("name", GEFORCE)
def test_geforce_halves_the_rate_with_fp32_accumulation(name: str) -> None:
    gpu = card(name)
    for dtype, figure in gpu.peaks["tensor_fp16_accumulate"].items():
        assert figure.value == pytest.approx(2 * gpu.peaks["tensor"][dtype].value, rel=0.002), dtype


def test_only_geforce_has_a_rate_of_its_own_for_fp16_accumulation() -> None:
    listed = {path.stem for path in FILES if hardware.gpu(str(path)).peaks["tensor_fp16_accumulate"]}
    assert listed == set(GEFORCE)


def test_no_device_name_stands_in_two_files() -> None:
    names = [name for path in FILES for name in hardware.gpu(str(path)).matches]
    assert len(names) == len(set(names))


# --- figures computed by hand

RIDGES = [
    # dense fp16 tensor peak over memory bandwidth, in FLOP per byte
    ("a100-sxm4-80gb", 153.0),  # 312e12 / 2039e9
    ("a100-sxm4-40gb", 200.6),  # 312e12 / 1555e9
    ("textbook-a100", 208.0),  # 312e12 / 1.5e12, and 16 x 208 = 3328
    ("h100-sxm5-80gb", 295.2),  # 989.4e12 / 3352e9; with the sparse peak it would be 590
    ("h200-sxm-141gb", 206.1),  # 989.4e12 / 4800e9
    ("t4", 203.1),  # 65e12 / 320e9
    ("l4", 403.3),  # 121e12 / 300e9
    ("v100-sxm2-16gb", 138.9),  # 125e12 / 900e9
    ("rtx-4090", 163.9),  # 165.2e12 / 1008e9; with fp16 accumulation 327.7
    ("b200-sxm-180gb", 292.2),  # 2250e12 / 7700e9
    ("mi300x", 246.7),  # 1307.4e12 / 5300e9
]


@for_each(("name", "ridge"), RIDGES)
def test_fp16_ridge(name: str, ridge: float) -> None:
    gpu = card(name)
    assert gpu.peaks["tensor"]["fp16"].value / gpu.bandwidth_byte_per_s.value == pytest.approx(ridge, abs=0.06)


DERIVED = [
    ("a100-sxm4-80gb", "tensor", "fp16", 311.869),  # 108 x 2048 x 1.410 GHz
    ("h100-sxm5-80gb", "tensor", "fp16", 989.430),  # 132 x 4096 x 1.830 GHz, not the boost clock's 1070.5
    ("h100-sxm5-80gb", "vector", "fp32", 66.908),  # 132 x 256 x 1.980 GHz
    ("t4", "tensor", "fp16", 65.126),  # 40 x 1024 x 1.590 GHz
    ("l4", "tensor", "fp16", 121.160),  # 58 x 1024 x 2.040 GHz
    ("rtx-4090", "tensor", "bf16", 165.151),  # 128 x 512 x 2.520 GHz
    ("rtx-4090", "tensor_fp16_accumulate", "fp16", 330.301),  # 128 x 1024 x 2.520 GHz
    ("l40s", "tensor", "fp16", 362.063),  # 142 x 1024 x 2.490 GHz
    ("b200-sxm-180gb", "tensor", "fp16", 2250.244),  # 148 x 8192 x 1.856 GHz
    ("mi300x", "tensor", "fp16", 1307.443),  # 304 x 2048 x 2.100 GHz
    ("epyc-7763", "vector", "fp32", 7.168),  # 64 cores x 2 pipes x 8 lanes x 2 x 3.5 GHz
]


@for_each(("name", "kind", "dtype", "tflop_per_s"), DERIVED)
def test_derived_peak(name: str, kind: str, dtype: str, tflop_per_s: float) -> None:
    gpu = card(name)
    assert gpu.derived_peak(gpu.peaks[kind][dtype]) == pytest.approx(tflop_per_s * TERA, rel=1e-5)


def test_the_dense_peak_serves_and_not_the_sparse_one() -> None:
    assert card("h100-sxm5-80gb").peak(Engine.TENSOR, "fp16") == (989.4 * TERA, "tensor fp16")
    assert card("h100-sxm5-80gb").peaks["tensor_sparse"]["fp16"].value == 1978.9 * TERA
    assert card("rtx-4090").peak(Engine.TENSOR, "bf16") == (165.2 * TERA, "tensor bf16")


def test_a_type_that_an_engine_lacks_runs_on_the_next_wider_vector_rate() -> None:
    assert card("t4").peak(Engine.TENSOR, "bf16") == (8.1 * TERA, "vector fp32")  # no bf16 before Ampere
    assert card("a100-sxm4-80gb").peak(Engine.TENSOR, "fp8") == (312 * TERA, "tensor fp16")  # no fp8 before Ada
    assert card("t4").peak(Engine.TENSOR, "fp8") == (65 * TERA, "tensor fp16")
    assert card("v100-sxm2-32gb").peak(Engine.TENSOR, "int8") == (125 * TERA, "tensor fp16")  # no int8 before Turing
    assert card("a100-sxm4-80gb").peak(Engine.TENSOR, "fp32") == (19.5 * TERA, "vector fp32")  # tf32 would round
    assert card("epyc-7763").peak(Engine.TENSOR, "fp16") == (7.17 * TERA, "vector fp32")  # no matrix engine


def test_special_functions() -> None:
    special = card("h100-sxm5-80gb").special
    assert special is not None
    assert special.value == pytest.approx(4.18176e12)  # 132 x 16 x 1.980 GHz
    assert card("mi300x").peak(Engine.SPECIAL, "fp32") is None  # AMD does not publish it: unknown, not zero


def test_caches_are_binary_and_memories_decimal() -> None:
    gpu = card("a100-sxm4-80gb")
    assert gpu.caches["l2"].value == 41_943_040  # 40 x 2^20, what the driver reports
    assert gpu.memory["sheet_capacity"].value == 80 * GIGA


# --- names


@for_each(
    ("short", "name"),
    [
        ("t4", "t4"),
        ("a100", "a100-sxm4-80gb"),
        ("h100", "h100-sxm5-80gb"),
        ("H100", "h100-sxm5-80gb"),
        ("h200", "h200-sxm-141gb"),
        ("b200", "b200-sxm-180gb"),
        ("gh200", "gh200-96gb"),
        ("4090", "rtx-4090"),
    ],
)
def test_short_name(short: str, name: str) -> None:
    assert hardware.gpu(short).name == name


def test_every_short_name_leads_to_a_file() -> None:
    assert set(hardware.short_names().values()) <= {path.stem for path in FILES}


def test_a_short_name_that_is_a_file_name_means_that_file() -> None:
    stems = {path.stem for path in FILES}
    assert all(short == name for short, name in hardware.short_names().items() if short in stems)


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match="no file has this name"):
        hardware.gpu("a1000")


# --- errors of the loader, with the line

CARD = """\
title: A card
vendor: None
architecture: None
form: None
sources:
  sheet: {title: A sheet, read: 2026-08}
multiprocessors: {value: 10, from: sheet}
clocks:
  boost: {value: 1000 MHz, from: sheet}
memory:
  type: HBM
  capacity: {value: 40 GB, from: sheet}
  bandwidth: {value: 1555 GB/s, from: sheet}
vector:
  fp32: {value: 2.56 TFLOP/s, per_sm_clock: 256, from: sheet}
"""


def read(folder: Path, text: str) -> Gpu:
    path = folder / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return hardware.gpu(str(path))


def test_a_small_card_is_accepted(tmp_path: Path) -> None:
    gpu = read(tmp_path, CARD)
    assert gpu.derived_peak(gpu.peaks["vector"]["fp32"]) == 2.56 * TERA  # 10 x 256 x 1 GHz
    assert gpu.special is None
    assert gpu.power is None
    assert gpu.peak(Engine.VECTOR, "fp64") is None


@for_each(
    ("old", "new", "line", "message"),
    [
        ("form: None\n", "form: None\nform: SXM\n", 5, "the key 'form' is repeated"),
        ("  type: HBM\n", "  type: HBM\n  type: DDR\n", 12, "the key 'type' is repeated"),
        ("form: None\n", "form: None\nfrom: None\n", 5, "'from' is not a key here"),
        ("GB/s, from: sheet}", "GB/s, from: sheet, unit: GB}", 13, "'unit' is not a key here"),
        ("  fp32:", "  fp31:", 15, "'fp31' is not a key here"),
        ("1555 GB/s", "1555 Gb/s", 13, "'1555 Gb/s' is not in B/s"),
        ("1555 GB/s", "1555 GB", 13, "'1555 GB' is not in B/s"),
        ("1555 GB/s", "1555", 13, "'1555' is not in B/s"),
        ("1555 GB/s", "-1555 GB/s", 13, "'-1555 GB/s' is not positive and finite"),
        ("1555 GB/s", "0 GB/s", 13, "'0 GB/s' is not positive and finite"),
        ("2.56 TFLOP/s", "2.56 TB/s", 15, "'2.56 TB/s' is not in OP/s"),
        ("40 GB, from: sheet", "40 GB, from: shet", 12, "'shet' is not known"),
        ("40 GB, from: sheet", "40 GB", 12, "'from' is missing"),
        ("per_sm_clock: 256", "per_sm_clock: 256, clock: turbo", 15, "'turbo' is not known"),
        (", read: 2026-08", "", 6, "'read' is missing"),
        ("  bandwidth: {value: 1555 GB/s, from: sheet}\n", "", 11, "'bandwidth' is missing"),
        ("vector:\n", "special: {per_sm_clock: 16, clock: tensor, from: sheet}\nvector:\n", 14, "'tensor' is not"),
    ],
)
def test_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in CARD
    with pytest.raises(InputError) as error:
        read(tmp_path, CARD.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path / 'card.yaml'}:{line}")
    assert message in str(error.value)


def test_special_functions_need_a_clock(tmp_path: Path) -> None:
    text = CARD.replace("  boost:", "  base:") + "special: {per_sm_clock: 16, from: sheet}\n"
    with pytest.raises(InputError, match=r"card.yaml:16.*'clock' is missing"):
        read(tmp_path, text)
