"""Which module may import which: the layers, read from the source, and the packages that a process has loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from many import for_each

import perfmodel

ROOT = Path(perfmodel.__file__).parent

# Imports go down only, or stay in their layer. A package represents its modules.
LAYERS = (
    ("errors", "units", "symbols", "arithmetic", "expression", "paths", "writing", "limits", "stopping", "plain", "routing"),
    ("runs", "op", "operation", "mixes", "cuda", "formats", "patterns"),
    ("ops",),
    ("block", "boundary", "eager", "specfile", "strictjson"),
    ("figures", "hardware", "systems", "workload", "config_files", "quantisation", "vocabulary", "case_values", "cases", "records", "measured", "importers", "aten", "kernels"),
    (
        "step_cases", "case_files", "step_prediction", "totals", "roofline", "analysis", "prediction", "validation", "timing", "footprint", "plans", "serving", "service", "comparison", "sweep", "symbolic", "solve",
        "formulas", "explanation", "chart", "grouping", "model_flops", "programs", "traces", "checking", "residency", "measured_points", "tile_tables", "expert_tables", "products", "context_tables", "bulk",
    ),
    ("report", "measure", "explorer"),
    ("cli", "api", "planning", "answers", "capture", "given", "utilisation", "pytest_plugin", "__main__"),
)  # fmt: skip
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# Each package that is not Python's own, and the modules that may know it.
THIRD_PARTY = {
    "yaml": {"specfile"},
    "platformdirs": {"paths"},
    "numpy": {"bulk", "sweep", "timing", "measure"},
    "sympy": {"symbolic", "solve", "explorer"},
    "matplotlib": {"report"},
    "PIL": {"report"},
    "rich": {"report"},
    "pandas": {"report"},
    "torch": {"measure", "capture"},
    "transformers": {"capture"},
    "cupy": {"measure"},
    "pynvml": {"measure"},
    "click": {"cli", "__main__"},
    "pytest": {"pytest_plugin"},
}

FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
# The package's own face names everything and loads nothing: it is held by what is loaded, below.
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items() if name != "__init__"}

HEAVY = {"torch", "cupy", "matplotlib", "PIL", "sympy", "numpy", "rich", "pandas"}


def top(module):
    return module.partition(".")[0]


@cache
def imports(path):
    """Returns every module that a file imports, anywhere in the file: (dotted name, line)."""
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            source = node.module or ""
            if source == "perfmodel" or f"{source}.".startswith("perfmodel."):
                inner = source.removeprefix("perfmodel").removeprefix(".")
                for alias in node.names:
                    name = f"{inner}.{alias.name}".removeprefix(".")
                    yield f"perfmodel.{name if name in MODULES else inner}", node.lineno
            else:
                yield source, node.lineno


def own(path):
    """Returns those that are modules of the package."""
    found = ((name.removeprefix("perfmodel."), line) for name, line in imports(path) if top(name) == "perfmodel")
    return [(name, line) for name, line in found if name]


def test_every_module_has_its_layer():
    placed = {name for name in MODULES if top(name) in LAYER}
    assert placed == set(MODULES), f"place these in LAYERS: {', '.join(sorted(set(MODULES) - placed))}"


@for_each("module", MODULES)
def test_imports_go_down_only(module):
    upwards = [
        f"{MODULES[module].name}:{line} imports {name}"
        for name, line in own(MODULES[module])
        if LAYER.get(top(name), -1) > LAYER.get(top(module), len(LAYERS))
    ]
    assert upwards == []


@for_each("module", [name for name in MODULES if name.startswith("ops.")])
def test_an_operations_file_imports_no_other(module):
    assert [name for name, _ in own(MODULES[module]) if name == "ops" or name.startswith("ops.")] == []


@for_each("module", MODULES)
def test_third_party_packages_stay_in_their_modules(module):
    foreign = {top(name) for name, _ in imports(MODULES[module])} - {"perfmodel"} - sys.stdlib_module_names
    astray = {name for name in foreign if top(module) not in THIRD_PARTY.get(name, set())}
    assert astray == set()


def test_the_walk_sees_imports_inside_functions_and_under_conditions(tmp_path):
    """Tests the reader of imports: it must find late imports."""
    file = tmp_path / "late.py"
    file.write_text(
        "import os.path\n"
        "from perfmodel import ops, __version__\n"
        "from perfmodel.report.sheet import table\n"
        "def late():\n"
        "    if True:\n"
        "        import numpy as np\n"
    )
    found = {name for name, _ in imports(file)}
    assert found == {"os.path", "perfmodel.ops", "perfmodel.", "perfmodel.report.sheet", "numpy"}


# --- what a process has loaded in the end

PROBE = """
import json, sys
try:
    {code}
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded(code):
    """Returns the top-level packages that a fresh interpreter has loaded after running the code."""
    found = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(found.stdout.splitlines()[-1]))


def command(*arguments):
    return f"sys.argv = ['perfmodel', *{arguments!r}]; from perfmodel.__main__ import main; main()"


def test_importing_perfmodel_loads_nothing_heavy():
    assert loaded("import perfmodel") & (HEAVY | {"click", "yaml"}) == set()


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (("--help",), {"yaml"}),
        (("flops", "--help"), set()),
        (("flops", "--config", "llama-2-7b-layer", "--gpu", "a100"), set()),
        (("flops", "--config", "gpt2-124m", "--gpu", "t4", "--set", "N=512", "--causal", "--format", "json"), set()),
        (("gpus",), set()),
        (("ops", "--format", "json"), set()),
        (("roofline", "--gpu", "t4", "show"), set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_on_numbers_loads_nothing_heavy(arguments, also):
    assert loaded(command(*arguments)) & (HEAVY | also) == set()


def test_the_library_on_numbers_loads_nothing_heavy():
    code = "import perfmodel; perfmodel.analyse('llama-2-7b-layer', gpu='a100', phase='decode').total.traffic_byte"
    assert loaded(code) & (HEAVY | {"click"}) == set()


def test_utilisation_loads_nothing_heavy():
    code = "import perfmodel; perfmodel.mfu('gpt2-124m', tokens_per_s=1e5, gpu='a100', dtype='bf16').mfu"
    assert loaded(code) & (HEAVY | {"click"}) == set()


def test_a_page_of_formulas_loads_algebra_but_no_arrays():
    found = loaded(command("explain", "attention"))
    assert "sympy" in found
    assert found & {"numpy", "matplotlib", "torch"} == set()
