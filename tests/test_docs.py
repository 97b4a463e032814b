"""The pages of the documentation: commands and examples run, outputs are today's, and every accepted key is named."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import click
import pages
import pytest
import test_imports
import test_programs
from command import perfmodel
from many import for_each

from perfmodel import api, cases, hardware, planning, specfile, utilisation
from perfmodel.cli import cli
from perfmodel.cli import options as cli_options
from perfmodel.config_files import workload
from perfmodel.units import ITEM_BYTES
from perfmodel.vocabulary import COMPOSITES, ELEMENTWISE, NAMES, kind
from perfmodel.workload import PHASES

PAGES = {Path(page).stem: pages.read(page) for page in pages.PAGES if page.startswith("docs/")}
BLOCK = pages.BLOCK
NAMED = re.compile(r"`([^`\s]+)`")

SHOWN = [(page, line) for page in pages.PAGES for line, output in pages.shown(page) if pages.runs_here(line) and output]
# Commands of the text and of blocks without their output, each once. Those of the questions run with their chapters.
LINES = {
    line: page
    for page in pages.PAGES
    if page != "docs/questions.md"
    for line in (*(line for line, output in pages.shown(page) if not output), *pages.named(page))
    if pages.runs_here(line) and (page, line) not in SHOWN
}
PYTHON = [page for page in pages.PAGES if any(language == "python" for language, _, _ in pages.blocks(page))]


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_outputs_are_those_of_today(page, tmp_path):
    """If this fails after a change of what is printed: ``python tests/refresh_docs.py``."""
    with pages.inside(page, tmp_path):
        assert pages.refreshed(page) == pages.read(page)


@pytest.mark.parametrize(("line", "page"), LINES.items())
def test_every_command_runs(line, page, tmp_path, small_pictures):
    if missing := pages.missing(line):
        pytest.skip(f"{missing} is not installed")
    with pages.inside(page, tmp_path):
        ran = pages.run(line)
    assert ran.code == 0, ran.err
    assert ran.out


@pytest.mark.parametrize("page", PYTHON)
def test_the_examples_in_python_run(page, tmp_path):
    space: dict[str, object] = {}
    with pages.inside(page, tmp_path):
        for language, _, text in pages.blocks(page):
            if language == "python" and not pages.missing(text):
                exec(text, space)


def test_the_pages_show_and_name_commands():
    assert len(SHOWN) >= 8
    assert len(LINES) >= 30
    assert {"README.md", "docs/library.md", "docs/extending.md"} <= set(PYTHON)


@for_each("picture", pages.PICTURES)
def test_the_command_of_a_picture_is_documented(picture):
    text = "".join(pages.read(page) for page in pages.PAGES)
    assert pages.PICTURES[picture] in text
    assert (pages.ROOT / picture).stat().st_size < 150_000


def test_the_figures_of_the_conventions():
    """The three byte counts that the page states of a Llama layer."""
    fused, unfused = api.analyse("llama-2-7b-layer").total, api.analyse("llama-2-7b-layer", fused=False).total
    megabytes = [round(byte / 1e6) for byte in (fused.compulsory_byte, fused.traffic_byte, unfused.traffic_byte)]
    assert "{}, {} and {} MB".format(*megabytes) in PAGES["conventions"]


def test_the_table_of_layers_is_that_of_the_tests():
    """CONTRIBUTING.md lists the modules of each layer as test_imports holds them."""
    text = (pages.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    found = {int(number): {name.rstrip("/") for name in NAMED.findall(modules)} for number, modules in rows}
    assert found == {number: set(names) for number, names in enumerate(test_imports.LAYERS)}


def test_a_workload_of_the_page_runs_in_every_phase(tmp_path):
    _, _, text = next(block for block in BLOCK.findall(PAGES["workloads"]) if block[1] == "block.yaml")
    file = tmp_path / "block.yaml"
    file.write_text(text)
    assert tuple(workload(str(file)).phases) == PHASES
    assert all(api.analyse(file, "a100", phase=phase).total.lower_s for phase in PHASES)


@pytest.mark.parametrize("page", ["workloads", "cases", "gpu-files"])
def test_the_pages_name_every_data_type(page):
    assert set(ITEM_BYTES) - set(NAMED.findall(PAGES[page])) == set()


@pytest.fixture
def accepted(monkeypatch):
    """The keys that the strict reader has accepted so far, on whichever level they stand."""
    found: set[str] = set()
    finish = specfile.Mapping.finish

    def recorded(self):
        finish(self)
        found.update(self._asked)

    monkeypatch.setattr(specfile.Mapping, "finish", recorded)
    return found


def test_the_page_of_workloads_names_every_key(accepted, tmp_path):
    for _, name, text in BLOCK.findall(PAGES["workloads"]):
        if name:
            (tmp_path / name).write_text(text)
            workload(str(tmp_path / name))
    assert {"title", "op", "weight"} < accepted
    assert accepted - set(NAMED.findall(PAGES["workloads"])) == set()


def test_the_example_of_a_workload_uses_every_key(accepted, tmp_path):
    """Each key of the reader stands in the example, but for the one that another of them replaces, and quantised weights."""
    (text,) = (text for _, name, text in BLOCK.findall(PAGES["workloads"]) if name == "block.yaml")
    (tmp_path / "block.yaml").write_text(text)
    workload(str(tmp_path / "block.yaml"))
    assert {key for key in accepted if not re.search(rf"\b{key}:", text)} <= {"dtype", "weights"}


def test_the_page_of_cards_names_every_key(accepted, tmp_path):
    ((_, name, text),) = (block for block in BLOCK.findall(PAGES["gpu-files"]) if block[0] == "yaml")
    hardware.described(specfile.parse(text, name), name)
    assert {"title", "value", "l2", "page"} < accepted
    assert accepted - set(NAMED.findall(PAGES["gpu-files"])) == set()
    assert {key for key in accepted if not re.search(rf"\b{key}:", text)} == set()


def test_the_page_of_cases_names_every_key_and_word():
    kinds = [kind(name) for name in NAMES if name != ELEMENTWISE]
    keys = {*cases.COMMON, *cases.WORDS, *(key for one in kinds for key in one.words)}
    words = {word for one in kinds for choices in one.words.values() for word in choices} | set(cases.PROTOCOLS)
    assert {"op", "impl", "window"} < keys
    assert {"flash", "cold", "true", "swiglu", "forward_backward"} < words
    assert (keys | words | {ELEMENTWISE, *COMPOSITES}) - set(NAMED.findall(PAGES["cases"])) == set()


def test_the_example_of_cases_uses_every_key():
    (text,) = (text for _, name, text in BLOCK.findall(PAGES["cases"]) if name == "kernels.jsonl")
    used = {key for line in text.splitlines() for key in json.loads(line)}
    assert {*cases.COMMON, *cases.WORDS} - used == set()
    assert all(one.total for one in api.predict(text, "a100").cases)


# Commands whose documents have every field between them, and the fields whose own keys are names of the workload.
DOCUMENTS = (
    "flops --config deepseek-v2-lite --gpu a100 --phase decode",
    "flops --config gpt2-124m --gpu a100 --phase train",
    "flops --config gpt2-124m --gpu t4",
    "flops --config llama-2-7b-layer --gpu t4 --phase decode",
    "flops --config mlp-4096 --symbolic",
    "flops --config decoder-block --products",
    "memory --config gpt2 --gpu t4 --phase train --set B=64",
    "memory --config gpt2 --gpu t4 --solve B",
    "compare --config gpt2 --gpu t4 --speedup attention=2",
    "solve --op linear --gpu a100 --for N",
    "serve --config gpt2 --gpu a100 --output 64 --prompt 256 --rate 1 --ttft 1 --draft gpt2",
    "serve --config gpt2 --gpu a100 --output 64 --prompt 256 --rate 1 --chunk 64",
    "serve --config llama-2-7b --gpu a100 --rate 1 --disaggregated network",
    "predict --cases cases --gpu t4",
    "solve --op all_reduce --gpu a100 --for byte", "gpus", "systems", "models", "ops", "symbols",
    "occupancy --gpu a100 --threads 256 --registers 80",
)  # fmt: skip
OPEN = {"dims", "work", "tensors", "forms", "shape"}


def fields(value):
    """Every key of a document, on whichever level."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from fields({} if key in OPEN - {"forms"} else [*inner.values()] if key in OPEN else inner)
    for inner in value if isinstance(value, list) else ():
        yield from fields(inner)


@pytest.mark.parametrize("line", DOCUMENTS)
def test_the_page_of_documents_names_every_field(line):
    named = set(NAMED.findall(PAGES["json"])) | set(NAMED.findall(PAGES["cases"]))
    found = set(fields(json.loads(perfmodel(*line.split(), "--format", "json").out)))
    assert "name" in found
    assert found - named == set()


def test_the_page_of_documents_names_every_field_of_a_program():
    found = json.loads(test_programs.long(3).on("h100").to_json())
    names = set(fields(found | {"memory": found["memory"] | {"peak_byte_by_role": {}}})) - {
        "m",
        "k",
        "n",
        "batch",
        "numel",
    }
    assert {"l2_share", "peak_step", "unknown_s"} < names
    assert names - set(NAMED.findall(PAGES["json"])) == set()


def test_the_page_of_documents_names_the_fields_of_a_measured_case():
    (text,) = (text for _, name, text in BLOCK.findall(PAGES["cases"]) if name == "kernels.jsonl")
    measured = json.loads(api.predict([line for line in text.splitlines() if "measured_us" in line], "a100").to_json())
    found = set(fields(measured))
    assert {"of_bound", "of_expected"} < found
    assert found - set(NAMED.findall(PAGES["json"])) - set(NAMED.findall(PAGES["cases"])) == set()


# --- the library has what the commands have

FUNCTIONS = {
    "flops": api.analyse,
    "solve": api.crossings,
    "sweep": api.sweep_over,
    "memory": api.memory,
    "compare": api.compare,
    "predict": api.predict,
    "scale": planning.scale,
    "plan": planning.plan,
    "occupancy": utilisation.occupancy,
}
# What an option is called as an argument, where a word of Python or the other way to name a thing is in the way.
ARGUMENTS = {"set": "settings", "op": "config", "for": "symbol", "over": "over", "weak": "strong"}
# Options that say how and where an answer is printed, and where files are searched.
PROGRAM = {"module", "input", "via", "run"}  # for ``capture`` and ``on``
# Options of a plan, which ``divide`` takes as a mapping.
PLAN = {"system", *(name.replace("_", "-") for name in cli_options.PLAN_FIELDS)}
PRINTING = {"hardware", "format", "output", "plot", "symbolic", "products", "steps", "verbose", "columns", "help"}


@for_each("command", FUNCTIONS)
def test_every_option_of_a_command_is_an_argument_of_its_function(command):
    options = {
        option.removeprefix("--")
        for parameter in cli.get_command(click.Context(cli), command).params
        for option in parameter.opts
        if option.startswith("--")
    }
    arguments = set(inspect.signature(FUNCTIONS[command]).parameters)
    taken = PLAN if command in ("flops", "scale", "plan") else set()
    assert {ARGUMENTS.get(option, option) for option in options - PRINTING - PROGRAM - taken} - arguments == set()


def test_the_page_of_the_library_names_every_function_and_option():
    prose = BLOCK.sub("", PAGES["library"])
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", prose))))
    functions = (*FUNCTIONS.values(), api.formula, api.bounds, planning.divide, api.gpu, api.load, api.find)
    assert {function.__name__ for function in functions} - words == set()
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert arguments - words - {"sizes", "name"} == set()
