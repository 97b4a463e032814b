"""The pytest plugin: kernels of this processor that pass, fail and have no verdict for real, and what is not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_checking import PROCESSOR

from perfmodel import pytest_plugin
from perfmodel.measure import environment

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "no:perfmodel", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers")

# 2^22 elements of 4 bytes at 8 GB/s, three times: 6.3 ms. A kernel that sleeps 8 ms reaches at most 78.6 % of it.
TESTS = """
    import time, pytest, perfmodel

    ADD = {"op": "add", "shape": {"numel": 1 << 22}, "dtype": "fp32"}
    pytestmark = pytest.mark.perfmodel(gpu="cpu", case=ADD, protocol="warm")

    def test_passes(perfmodel_at_least):
        found = perfmodel_at_least(time.sleep, 8e-3, share=0.3)
        assert found.verdict == "pass" and 0.3 < found.reached < 0.79

    def test_fails(perfmodel_at_least):
        perfmodel_at_least(time.sleep, 8e-3, share=0.9)

    @pytest.mark.perfmodel(share=0.9)
    def test_fails_by_the_marker(perfmodel_at_least):
        perfmodel_at_least(lambda: time.sleep(8e-3))

    def noisy():
        noisy.calls += 1
        time.sleep(8e-3 if noisy.calls % 2 else 24e-3)
    noisy.calls = 0

    def test_has_no_verdict(perfmodel_at_least):
        perfmodel_at_least(noisy, share=0.4)

    def test_skips_without_a_verdict(perfmodel_at_least):
        perfmodel_at_least(noisy, share=0.4, allow_unknown=True)

    def test_below_the_bound(perfmodel_at_least):
        perfmodel_at_least(time.sleep, 1e-5)

    class Array:
        shape, dtype = (1 << 22,), "float32"

    @perfmodel.kernel(op="add", numel="x.shape[0]")
    def described(x, seconds):
        time.sleep(seconds)

    @perfmodel.kernel(flops="x.shape[0]", reads="2 * x.nbytes", writes="x.nbytes")
    def counted(x, seconds):
        time.sleep(seconds)

    @pytest.mark.parametrize("kernel", [described, counted], ids=["described", "counted"])
    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_decorated(perfmodel_at_least, kernel, share):
        found = perfmodel_at_least(kernel, Array(), 8e-3, share=share, case=None)
        assert found.reference.lower_s == pytest.approx(3 * 4 * 2**22 / 8e9, rel=1e-3)

    def test_other(): pass
"""


def run(session, *words):
    """Runs pytest with this plugin, which an installed perfmodel would bring by its entry point."""
    return session.runpytest_inprocess(*PLUGIN, *words, plugins=[pytest_plugin])


@pytest.fixture
def session(pytester, monkeypatch):
    """A folder for tests of this processor, which a file of the user describes."""
    folder = pytester.path / "data" / "perfmodel" / "hardware"
    folder.mkdir(parents=True)
    (folder / "cpu.yaml").write_text(PROCESSOR.replace("A processor", environment.processor_name()))
    monkeypatch.setenv("XDG_DATA_HOME", str(pytester.path / "data"))
    from perfmodel.measure import call

    call.meter.cache_clear()
    yield pytester
    call.meter.cache_clear()


def test_kernels_are_measured_for_real(session):
    session.makepyfile(TESTS)
    ran = run(session, "-rfs", "-v")
    assert ran.parseoutcomes() == {"passed": 4, "failed": 6, "skipped": 1}
    told = "\n".join(ran.outlines)
    for name, outcome in (
        ("passes", "PASSED"), ("fails", "FAILED"), ("fails_by_the_marker", "FAILED"), ("has_no_verdict", "FAILED"),
        ("skips_without_a_verdict", "SKIPPED"), ("below_the_bound", "FAILED"), ("decorated[0.3-described]", "PASSED"),
        ("decorated[0.3-counted]", "PASSED"), ("decorated[0.9-described]", "FAILED"), ("decorated[0.9-counted]", "FAILED"),
    ):  # fmt: skip
        assert f"::test_{name} {outcome}" in told
    assert "perfmodel_at_least: no verdict: the limit lies between its quartiles" in told


def test_a_failure_says_how_far_it_is_from_the_bound(session):
    session.makepyfile(TESTS)
    ran = run(session, "-k", "test_fails and not marker or has_no_verdict")
    ran.stdout.re_match_lines_random(
        [
            r"E +AssertionError: add numel=4194304 fp32 warm on .+: \d\d\.\d% of the bound, 90 % of the bound is required",
            r"E +measured  \d\S+ ms, quartiles \d\S+ ms to \d\S+ ms \(\d+\.\d% of the median, \d+ runs\)",
            r"E +limit     6.990 ms",
            r"E +bound     6.291 ms \(memory\); headroom \d\S+ ms",
            r"E +expected  \d\S+ ms",
            r"E +No verdict, which is not a pass: the limit lies between its quartiles.",
        ]
    )  # fmt: skip
    assert not any("pytest_plugin.py" in line for line in ran.outlines)  # the test alone is shown


def test_tests_that_measure_can_be_selected(session):
    session.makepyfile(test_more="def test_none(perfmodel_at_least): pass\ndef test_other(): pass")
    for words, outcome in ((("-m", "perfmodel"), {"passed": 1, "deselected": 1}), ((), {"passed": 2})):
        assert run(session, *words).parseoutcomes() == outcome


REFUSED = """
    import pytest
    CASE = {"op": "add", "shape": {"numel": 8}}

    def test_unknown(perfmodel_at_least): perfmodel_at_least(print, case=CASE, shar=1)
    def test_no_case(perfmodel_at_least): perfmodel_at_least(print)
    def test_share(perfmodel_at_least): perfmodel_at_least(print, case=CASE, share=80)
    def test_case(perfmodel_at_least): perfmodel_at_least(print, case={"op": "added", "shape": {}}, gpu="cpu")
    def test_protocol(perfmodel_at_least): perfmodel_at_least(print, case=CASE, protocol="rotating", gpu="cpu")
"""


def test_what_is_refused(session):
    session.makepyfile(REFUSED)
    ran = run(session)
    assert ran.parseoutcomes() == {"failed": 5}
    ran.stdout.fnmatch_lines_random(
        [
            "*UsageError: perfmodel_at_least: 'shar' is not a keyword; share, of, case, * Did you mean 'share'?",
            "*UsageError: perfmodel_at_least: case= is missing; a case, or a kernel with the decorator perfmodel.kernel, is*",
            "*InputError: share: 80 is not a share; * Write 0.8 for 80 %.",
            "*InputError: case: op: 'added' is not known; *",
            "*InputError: protocol: 'rotating' is not measured; one of cold, warm, eager is accepted. Choose one.",
        ]
    )


def test_without_a_gpu_it_skips_with_the_reason_or_fails(session, monkeypatch):
    monkeypatch.setattr(environment, "torch_with_gpu", lambda: None)
    session.makepyfile(
        'def test_it(perfmodel_at_least): perfmodel_at_least(print, case={"op": "add", "shape": {"numel": 8}})'
    )
    ran = run(session, "-rs")
    assert ran.parseoutcomes() == {"skipped": 1}
    ran.stdout.fnmatch_lines(["*perfmodel_at_least: gpu auto: no usable GPU was found*"])
    ran = run(session, "--perfmodel-require-gpu")
    assert ran.parseoutcomes() == {"failed": 1}
    ran.stdout.fnmatch_lines(["*NoDeviceError: gpu auto: no usable GPU was found; *"])


def test_a_processor_that_nobody_described_is_measured_first(session, monkeypatch):
    from perfmodel.measure import call, processor

    (session.path / "data" / "perfmodel" / "hardware" / "cpu.yaml").unlink()
    monkeypatch.setattr(processor, "hardware_file", lambda: PROCESSOR)
    assert call.meter("cpu").card.title == "A processor"


def test_the_figures_are_properties_of_the_test(session):
    session.makepyfile(TESTS)
    report = session.path / "report.xml"
    run(session, "-k", "test_passes", f"--junitxml={report}")
    text = report.read_text()
    assert all(
        f'<property name="perfmodel_{name}" value="0.' in text for name in ("reached", "measured_s", "headroom_s")
    )


def test_nothing_is_loaded_before_a_test_measures():
    code = "import sys, perfmodel.pytest_plugin; print(sorted(name for name in sys.modules if name.startswith(('perfmodel', 'torch', 'numpy', 'yaml'))))"  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "['perfmodel', 'perfmodel.pytest_plugin']"


def test_pytest_finds_it_by_its_entry_point():
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"pytest11": {"perfmodel": "perfmodel.pytest_plugin"}}
