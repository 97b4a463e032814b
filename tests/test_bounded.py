"""Nothing of the current folder runs, and inputs without an end are refused early."""

from __future__ import annotations

import ast
import json
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from command import check_refused, perfmodel

from perfmodel import api, limits, paths, specfile
from perfmodel.cli import options
from perfmodel.errors import InputError, NoDeviceError
from perfmodel.measure import child, environment, runner
from perfmodel.report.picture import COLOURS

CONFIGS = Path(paths.PACKAGED) / "configs"


# --- modules of the current folder


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A current folder in which every module that a worker may import leaves a mark."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("torch", "numpy", "statistics", "json", "cupy", "perfmodel"):
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(1)\n"
        )
    monkeypatch.chdir(folder)
    return tmp_path / "ran"


def test_the_measuring_process_imports_nothing_from_the_current_folder(trap):
    worker = runner.Worker("cpu")
    try:
        worker.start()
        case = {"op": "elementwise", "kind": "add", "shape": {"numel": 1024}, "dtype": "fp32", "protocol": "warm"}
        assert "median_us" in worker.measure(case, 60)
    finally:
        worker.stop()
    assert not trap.exists()


@pytest.mark.parametrize("module", ["perfmodel.measure.worker", "perfmodel.measure.counted"])
def test_processes_are_started_with_a_safe_path(module):
    python, *options = child.command(module, "x")
    assert python == sys.executable
    assert "-P" in options
    assert any(Path(option).is_absolute() and option.endswith("__init__.py") for option in options)


# --- a torch that does not work


@pytest.mark.parametrize("raised", ["ImportError('libcudart.so.13')", "OSError('cannot open')", "RuntimeError('x')"])
def test_a_torch_that_raises_is_an_error_and_not_replaced_by_numpy(tmp_path, monkeypatch, raised):
    (tmp_path / "torch.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(NoDeviceError, match="torch: it is installed but cannot be imported"):
        environment.torch_with_gpu()
    check_refused(perfmodel("validate", "--suite", "quick"), 4)
    check_refused(perfmodel("calibrate", "--gpu", "cpu", "-o", str(tmp_path / "cpu.yaml")), 4)


def test_the_measuring_process_reports_a_torch_that_raises(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NoDeviceError, match="libcudart"):
        runner.Worker("cpu").start()


# --- inputs without an end


@pytest.fixture
def memory_limit():
    """Fails an input that is read without a limit, instead of using up the memory of the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--gpu", "t4", "--cases"),
        ("explain", "--gpu", "t4", "--time"),
        ("validate", "--from"),
        ("validate", "--gpu", "cpu", "--suite"),
        ("flops", "--config"),
        ("flops", "--config", "mlp-4096", "--gpu"),
        ("calibrate", "--gpu", "cpu", "-o"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("ending", ["jsonl", "yaml"])
def test_a_device_without_an_end_is_refused(tmp_path, memory_limit, monkeypatch, arguments, ending):
    link = tmp_path / f"zero.{ending}"
    link.symlink_to("/dev/zero")
    if arguments[0] == "calibrate":
        card = CONFIGS.parent / "hardware" / "epyc-7763.yaml"
        monkeypatch.setattr("perfmodel.measure.processor.hardware_file", card.read_text)
        assert perfmodel(*arguments, str(link)).code == 0  # written to, and not read
        return
    found = check_refused(perfmodel(*arguments, str(link)), 1)
    assert "larger than 1 MB" in found["found"] or "longer than 1 MB" in found["found"]


def test_the_number_of_lines_is_limited(monkeypatch):
    monkeypatch.setattr(specfile, "MOST_LINES", 3)
    ran = perfmodel("predict", "--cases", "-", "--gpu", "t4", stdin="{}\n" * 4)
    assert check_refused(ran, 1)["found"] == "it has more than 3 lines"


@linux
@pytest.mark.parametrize(
    "changes",
    [
        ("llama-3-8b", {"num_hidden_layers": 10**8}),
        ("gpt2", {"n_layer": 10**8}),
        ("gpt-neo-2.7b", {"num_layers": 10**8}),
        ("gpt-neo-2.7b", {"attention_types": [[["global", "local"], 10**8]]}),
        ("deepseek-v3", {"num_hidden_layers": 10**8}),
        ("mamba-130m", {"n_layer": 10**8, "num_hidden_layers": 10**8}),
    ],
    ids=str,
)
def test_layers_in_the_digits_of_a_config_are_limited(tmp_path, memory_limit, changes):
    name, more = changes
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads((CONFIGS / f"{name}.json").read_text()), **more}))
    with pytest.raises(InputError, match="layers"):
        api.load(str(path))


def test_ten_thousand_layers_are_accepted(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads((CONFIGS / "llama-3-8b.json").read_text()), "num_hidden_layers": 10**4}))
    assert api.analyse(str(path)).total.flops > 10**12


# --- work limits


def _steps(number):
    return "title: t\nsteps:\n" + "  - {op: gelu}\n" * number


CASE = '{"op": "softmax", "shape": {"rows": 8, "cols": 8}}\n'
ROOT = CONFIGS.parent


@pytest.mark.parametrize(
    ("limit", "arguments", "contents", "found"),
    [
        (limits.STEPS, ("flops", "--config", "{}.yaml"), _steps(2001), "2,001 steps"),
        (limits.CASES, ("predict", "--gpu", "t4", "--cases", "{}.jsonl"), CASE * 100_001, "more than 100,000 cases"),
        (limits.CASES, ("validate", "--from", "{}.jsonl"), "{}\n" * 100_001, "more than 100,000 cases"),
        (limits.POINTS, ("sweep", "--op", "matmul", "--gpu", "t4", "--over", "m=1:1e15:1e12"), "", "1,000,000,000,000 points"),
        (limits.POINTS, ("sweep", "--op", "matmul", "--gpu", "t4", "--gpu", "a100", "--over", "m=1:6e8:6e8"), "",
         "1,200,000,000 points"),
        (limits.EXPECTED, ("sweep", "--op", "matmul", "--gpu", "t4", "--expected", "--over", "m=1:1e8:1e8"), "",
         "100,000,000 points with expected times"),
        (limits.PAIRS, ("compare", *(f"--config={path}" for path in sorted(CONFIGS.glob("*.json"))[:20]),
                        *(f"--gpu={path}" for path in sorted((ROOT / "hardware").glob("[a-g]*0*.yaml"))[:7])), "",
         "140 pairs of a workload and a GPU"),
        (limits.CHART, ("roofline", *(f"--gpu={path}" for path in sorted((ROOT / "hardware").glob("[a-g]*0*.yaml"))[:9]), "plot"),
         "", "9 GPUs"),
    ],
    ids=lambda value: value.noun if isinstance(value, limits.Limit) else "",
)  # fmt: skip
def test_work_limits(tmp_path, monkeypatch, limit, arguments, contents, found):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "given"
    for ending in (".yaml", ".jsonl"):
        path.with_suffix(ending).write_text(contents)
    refused = check_refused(perfmodel(*(text.format(path) for text in arguments)), 1)
    assert refused["found"].endswith(found)
    assert refused["accepted"] == f"at most {limit.most:,} are accepted"
    assert refused["action"] == limit.action


@pytest.mark.parametrize(
    ("limit", "option", "found"), [("GPUS", "--gpu", "GPUs"), ("WORKLOADS", "--config", "workloads")]
)
def test_the_number_of_named_files_is_limited(monkeypatch, limit, option, found):
    monkeypatch.setattr(options, limit, getattr(limits, limit)._replace(most=1))
    ran = perfmodel("compare", "--config", "mlp-4096", "--config", "gpt2", "--gpu", "t4", "--gpu", "a100")
    assert check_refused(ran, 1).group("where", "found") == (option, f"2 {found}")


def test_every_limit_is_documented():
    """Each row of the table: the number, what it is, where it applies."""
    guide = (Path(__file__).parent.parent / "docs" / "guide.md").read_text(encoding="utf-8")
    for limit in limits.COUNTED:
        assert f"| {limit.most:,} {limit.noun} | {limit.applies} |" in guide
    assert f"| {limits.ALGEBRA_S:g} s | symbolic algebra: " in guide
    assert limits.CHART.most == len(COLOURS)
    assert set(limits.COUNTED) == {value for value in vars(limits).values() if isinstance(value, limits.Limit)}


def _endless(*_, **__):
    while True:
        pass


@pytest.mark.parametrize(
    ("algebra", "arguments"),
    [
        ("perfmodel.solve.solve", ("solve", "--op", "softmax", "--gpu", "t4", "--for", "rows")),
        ("perfmodel.explanation.explain", ("explain", "softmax")),
        ("perfmodel.formulas.of_workload", ("flops", "--symbolic", "--op", "softmax")),
    ],
)
def test_algebra_ends_after_its_longest_time(monkeypatch, algebra, arguments):
    monkeypatch.setattr(algebra, _endless)
    monkeypatch.setattr(limits, "ALGEBRA_S", 0.05)
    before = signal.getsignal(signal.SIGINT)
    found = check_refused(perfmodel(*arguments), 1)
    assert found["found"] == "the formulas of these sizes take longer than 0.05 s"
    assert signal.getsignal(signal.SIGINT) is before


def test_algebra_in_time_is_not_interrupted(monkeypatch):
    monkeypatch.setattr(limits, "ALGEBRA_S", 0.05)
    with limits.algebra("x"):
        pass
    time.sleep(0.1)


def test_an_interrupt_of_the_user_is_not_taken_for_the_end_of_the_time():
    with pytest.raises(KeyboardInterrupt), limits.algebra("x"):
        signal.raise_signal(signal.SIGINT)


# --- what the program never does

# Modules that open connections, run what they load, or start a shell.
NEVER = {
    "socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "httpx", "asyncio", "pickle", "marshal", "shelve",
    "dill", "joblib", "code", "codeop", "pty",
}  # fmt: skip
CALLED = {"subprocess", "runpy", "eval", "exec", "compile", "__import__", "shell", "sympify"}
STARTERS = {"measure/child.py", "measure/runner.py", "measure/counters.py"}  # the processes that measure


def test_no_network_no_pickle_and_no_code_from_data():
    root = Path(paths.__file__).parent
    named = re.compile(rf"\b({'|'.join(NEVER | CALLED)})\b")  # a file with none of these words is not parsed
    for path in root.rglob("*.py"):
        module, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if named.search(text) else ():
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                imported = {name.partition(".")[0] for name in names}
                assert not imported & NEVER, f"{module}:{node.lineno}"
                assert not imported & {"subprocess", "runpy"} or module in STARTERS, f"{module}:{node.lineno}"
            elif isinstance(node, ast.Call):
                place, keywords = f"{module}:{node.lineno}", {keyword.arg for keyword in node.keywords}
                assert getattr(node.func, "id", "") not in ("eval", "exec", "compile", "__import__"), place
                assert "shell" not in keywords, place
                # sympify evaluates text, unless it is strict
                assert getattr(node.func, "attr", "") != "sympify" or "strict" in keywords, place
