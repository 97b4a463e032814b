"""The parameters of the time model: data with sources, read as the code reads them, and each with an effect."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest
from command import perfmodel
from many import for_each

import perfmodel as package
from perfmodel.case_files import read
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.prediction import influences, predicted
from perfmodel.roofline import rates
from perfmodel.timing import backends, blocks, families, parameters, registry, torch_rows
from perfmodel.timing.changes import changed
from perfmodel.timing.weights import FOLDER, GIVEN, Mechanism

TIMING = Path(package.__file__).parent / "timing"
NAMES = sorted(path.stem for path in Path(FOLDER).glob("*.yaml"))
# Fractions that are no fitted figures: nothing, half, one, two operations of a multiply-add, and powers of ten of units.
PLAIN = {0.0, 0.5, 1.0, 2.0, 1e-3, 1e-6, 1e-9, 1e-12, 1e3}
# Others that no measurement can tell: the step of a difference quotient, the tolerance of a search, and the bytes of a partial
# sum, which is written and read.
COMPUTING = {
    ("influences", 0.01),
    ("tiles", 1e-4),
    ("tiles", 8.0),
    ("picked_tiles", 8.0),
}
# Work of a thread in ``blocks.Launch``.
WORK = ("instructions", "waits", "barriers", "path", "near_waits")
FIRST = blocks.Launch._fields.index(WORK[0])
ATTENTION = {
    "op": "attention",
    "shape": {"B": 1, "H": 32, "N": 4096, "S": 4096, "d": 128},
    "dtype": "bf16",
    "impl": "flash",
}


def seconds(line, card):
    case = next(iter(read([json.dumps(line)], "case")))
    return predicted(case, rates(card, case.dtype), parameters.card(card))[1].expected_s


def fractions_of(source, file):
    """Yields the line and the value of each fraction in a module that is a fitted figure."""
    for node in ast.walk(ast.parse(source)):
        number = node.value if isinstance(node, ast.Constant) and type(node.value) is float else 0.0
        if number not in PLAIN and (file, number) not in COMPUTING:
            yield node.lineno, number


def work_of(source, most=2):
    """Yields the line and the value of each larger number in the work of a launch, which is a fit or a guess."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Launch":
            given = call.args[FIRST : FIRST + len(WORK)] + [one.value for one in call.keywords if one.arg in WORK]
            for node in (node for one in given for node in ast.walk(one)):
                if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value > most:
                    yield node.lineno, node.value


@for_each("file", sorted(path.stem for path in TIMING.glob("*.py")))
def test_code_holds_no_fitted_number(file):
    source = (TIMING / f"{file}.py").read_text(encoding="utf-8")
    assert list(fractions_of(source, file)) == []
    # PyTorch's row kernels have up to four barriers, and a warp adds 32 rows.
    assert list(work_of(source, 32 if file == "torch_rows" else 2)) == []


def test_the_search_for_fitted_numbers_finds_them():
    source = "def f(card):\n    x = 0.75 * card\n    return Launch('a', 1, 2, 3, 4, 60 + x, waits=4.0, resident=16)\n"
    assert list(fractions_of(source, "f")) == [(2, 0.75), (3, 4.0)]
    assert list(work_of(source)) == [(3, 60), (3, 4.0)]


@for_each("name", NAMES)
def test_every_constant_has_a_unit_a_meaning_and_a_source(name):
    found = registry.mechanism(name)
    assert found
    for one in found.values():
        assert one.unit
        assert one.means
        assert "the same" not in one.means, one.name  # it must be clear alone
        assert one.source
        if one.kind == "weight":
            assert one.date, one.name
            assert one.points == "unknown" or int(one.points) >= 0, one.name


@for_each("name", NAMES)
def test_code_reads_every_constant_as_yaml_does(name):
    for place in ("timing", "programs", "traces"):
        for path in (TIMING.parent / place).glob("*.py"):
            if f'Mechanism("{name}")' in path.read_text(encoding="utf-8"):
                import_module(f"perfmodel.{place}.{path.stem}")
    stated, fast = registry.mechanism(name), Mechanism(name)
    numbers = {key: one.value for key, one in stated.items() if isinstance(one.value, float)}
    assert GIVEN[name] == numbers  # none is left that no code reads
    assert {key: fast.weight(key) for key in numbers} == numbers


def test_families_links_and_hosts_are_explained():
    found = [*registry.every()]
    assert {one.kind for one in found} == {"weight", "fact", "family", "link", "host"}
    assert all(one.means and one.source and one.unit for one in found)
    sources = {one.name: one.source for one in found if one.kind == "host"}
    assert "FSDP2" in sources["times.unit"]
    assert "FSDP2" not in sources["times.operator"]


def test_a_changed_constant_returns():
    card, line = gpu("h100-sxm"), ATTENTION
    before = seconds(line, card)
    share = registry.mechanism("backends")["flash share"]
    with changed(share, share.value / 2):
        assert backends.FLASH.share == backends.NAMED["flash"].share == share.value / 2
        assert backends.PAGED.share != share.value / 2
        assert seconds(line, card) > 1.5 * before
    assert backends.FLASH.share == share.value
    assert seconds(line, card) == before


def test_a_changed_constant_reaches_the_modules_that_import_it():
    barrier, warp = registry.mechanism("blocks")["barrier clocks"], registry.mechanism("blocks")["warp"]
    with changed(barrier, 7.0), changed(warp, 64.0):
        assert (torch_rows.BARRIER_CLOCKS, blocks.WARP) == (7.0, 64)
        assert import_module("perfmodel.timing.orders").WARP == 64
    assert (torch_rows.BARRIER_CLOCKS, blocks.WARP) == (150.0, 32)


def test_a_changed_figure_of_a_file_returns():
    card = gpu("t4")
    line = {"op": "softmax", "shape": {"rows": 65536, "cols": 1024}, "dtype": "fp32"}
    before = seconds(line, card)
    stream = next(one for one in registry.every() if (Path(one.file).stem, one.name) == ("turing", "stream.copy"))
    with changed(stream, stream.value / 2):
        assert seconds(line, card) > 1.9 * before
    assert seconds(line, card) == before


def test_a_time_owes_to_what_entered_it_alone():
    case = next(iter(read([json.dumps(ATTENTION)], "case")))
    found = {registry.place(one.parameter): one for one in influences(case, gpu("h100-sxm"))}
    # One percent more of the share of the peak: 0.9 % less time.
    assert -1.0 < found["kernels/backends: flash share"].share < -0.8
    assert not [name for name in found if "cudnn" in name or name.startswith(("kernels/torch_rows", "families/ampere"))]
    assert found["kernels/backends: flash share"].parameter.means.startswith("FlashAttention-2: efficiency")
    assert "h100-sxm5-80gb: peaks.tensor.bf16" in found
    assert [abs(one.share) for one in found.values()] == sorted(
        (abs(one.share) for one in found.values()), reverse=True
    )


def test_readings_replace_the_familys_figures():
    case = next(
        iter(read(['{"op": "elementwise", "kind": "add", "shape": {"numel": 100000000}, "dtype": "fp32"}'], "case"))
    )
    found = {registry.place(one.parameter): one for one in influences(case, gpu("h200"))}
    reading = found["h200-sxm-141gb.measured: stream.add"].parameter
    assert (reading.kind, reading.unit) == ("reading", "B/s")
    assert 0.0 < reading.spread < 0.1
    assert "families/hopper: stream.add" not in found


def test_the_page_tells_in_which_type_products_run():
    line = '{"op": "matmul", "shape": {"m": 64, "k": 512, "n": 512}, "dtype": "fp8", "impl": "static_scale"}'
    for card, told in (("a100", True), ("h100", False)):
        page = " ".join(perfmodel("explain", "--time", line, "--gpu", card).out.split())
        assert ("no tensor rate for fp8; that work runs at the rate of tensor fp16" in page) == told


def test_the_page_and_its_json_agree(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line = json.dumps(ATTENTION)
    page = perfmodel("explain", "--time", line, "--gpu", "h100-sxm")
    assert page.code == 0
    assert max(map(len, page.out.splitlines())) <= 80
    found = json.loads(perfmodel("explain", "--time", line, "--gpu", "h100-sxm", "--format", "json").out)
    assert found["most_uncertain"] == "kernels/backends: flash share"
    assert "known spread, is backends: flash share." in " ".join(page.out.split())
    for one in found["parameters"]:
        assert f"{one['influence']:+.2g}" in page.out
    assert {"file", "name", "kind", "value", "unit", "means", "source", "points", "date", "spread", "influence"} == set(
        found["parameters"][0]
    )


def test_json_is_for_cases():
    ran = perfmodel("explain", "softmax", "--format", "json")
    assert ran.code == 2
    assert "--time CASE is required" in ran.err


COVER = [json.loads(line) for line in (Path(__file__).parent / "cover.jsonl").read_text(encoding="utf-8").splitlines()]
# Constants that no case shows: those of programs and traces, of single calls of torch, and of data sheets without a figure.
# ``benchmarks/constants.py`` moves them, or fails with them.
ELSEWHERE = {
    f"kernels/{file}: {name}"
    for file, names in {
        "attention": ("few",),
        "backends": (
            "cudnn added",
            "cudnn drop",
            "cudnn masked stream",
            "cudnn masked decode",
            "older instruction blackwell",
        ),
        "blocks": ("threads",),
        "collectives": ("switched", "small"),
        "gemms": ("code",),
        "images": ("few channels", "depthwise tap"),
        "instructions": ("sequences sqrt", "sequences rsqrt"),
        "kernels": ("special random",),
        "movement": ("vector blocks", "strided cast", "fill sustained"),
        "factors": ("usual clock hz", "first call", "wider datasheet", "wider calibrated"),
        "programs": ("start s", "memory power", "recorded s"),
        "reductions": ("long row",),
        "tiles": ("odd",),
        "torch_rows": ("back byte",),
        "walks": ("enough", "good", "fewest steps", "counted"),
    }.items()
    for name in names
}


def covered():
    """Yields every constant of a mechanism with the cases that it should move, or with all cases if it is new."""
    cases = [(gpu(one["gpu"]), next(iter(read([json.dumps(one["case"])], "cover")))) for one in COVER]
    for name in NAMES:
        for one in registry.mechanism(name).values():
            if isinstance(one.value, float):
                known = [
                    case for case, line in zip(cases, COVER, strict=True) if registry.place(one) in line["constants"]
                ]
                yield one, known or cases


def test_every_constant_of_a_mechanism_moves_a_time():
    def times(cases):
        return [predicted(case, rates(card, case.dtype), parameters.card(card))[1][:3] for card, case in cases]

    idle = set()
    for one, cases in covered():
        if registry.place(one) not in ELSEWHERE:
            before = times(cases)
            with changed(one, 2.0 * one.value):
                if times(cases) == before:
                    idle.add(registry.place(one))
    assert not idle


def test_a_section_of_a_family_may_be_like_anothers(tmp_path, monkeypatch):
    folder = tmp_path / "hardware" / "families"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PERFMODEL_PATH", str(tmp_path))
    page = "generation: {0}\nsources:\n  own: a test\nlatency: {{like: {1}, from: own, l2: 99}}\n"
    (folder / "volta.yaml").write_text(page.format("volta", "hopper"))
    hopper = families.family("hopper").sections["latency"]
    assert families.family("volta").sections == {"latency": {**hopper, "l2": 99.0}}
    (folder / "turing.yaml").write_text(page.format("turing", "ada"))
    (folder / "ada.yaml").write_text(page.format("ada", "turing"))
    with pytest.raises(InputError, match="like that of a generation that is like this one"):
        families.family("turing")
