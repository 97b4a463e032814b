"""Signals that stop a run: at any moment they leave a message, an exit code and a file that can be resumed."""

import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time

import given_rates
import pytest
from command import perfmodel

from perfmodel import records, stopping
from perfmodel.measure import environment, runner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

# Answers as the worker does, and measures nothing.
WORKER = """
import json, sys
print(json.dumps({"schema": 1, "environment": {"gpu": "AMD EPYC 7763 64-Core Processor", "device": "cpu", "date": "2026-11-26"}}), flush=True)
for text in sys.stdin:
    case = json.loads(text)
    own = {"byte": 1, "cpu_share": 1.0} if "probe" in case else {}
    print(json.dumps({"schema": 1, **case, **own, "median_us": 9e3, "p25_us": 9e3, "p75_us": 9e3}), flush=True)
"""
CASES = [{"op": "matmul", "shape": {"m": 32, "k": 32, "n": n}, "dtype": "fp32", "protocol": "warm"} for n in (32, 64)]
# The files in which a signal could leave a lock, a process or a half written file.
PLACES = ("running.py", "session.py", "runner.py", "writing.py", "stopping.py", "subprocess.py", "threading.py")
# The line that begins to wait for an answer of the worker.
WAIT = (
    "runner.py",
    next(n for n, line in enumerate(inspect.getsource(runner).splitlines(), 1) if "end = monotonic()" in line),
)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Returns a function that runs ``validate --save`` with a worker that answers at once."""
    text = given_rates.FILE.read_text("utf-8")
    monkeypatch.setattr("perfmodel.measure.processor.hardware_file", lambda: text)
    monkeypatch.setattr(environment, "torch_with_gpu", lambda: None)
    monkeypatch.setattr(runner, "command", lambda *_: [sys.executable, "-I", "-S", "-c", WORKER])
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    return lambda path: perfmodel(
        "validate", "--gpu", "cpu", "--suite", str(suite), "--save", str(path), "--format", "csv"
    )


def traced(call, reached):
    """Calls a function. ``reached`` is called before each line of the places, with file and line."""

    def trace(frame, event, _):
        name = os.path.basename(frame.f_code.co_filename)
        if event == "call":
            return trace if name in PLACES and frame.f_code.co_name != "raising" else None  # which ends after the run
        if event == "line":
            reached((name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)


def test_a_run_may_be_interrupted_at_any_line(tmp_path, measure):
    """A signal arrives when a line is reached for the first time, and again for the last time: every seventh line."""
    lines = {}
    whole = traced(lambda: measure(tmp_path / "whole.jsonl"), lambda line: lines.update({line: lines.get(line, 0) + 1}))
    assert whole.code == 0, whole
    assert len({name for name, _ in lines}) == len(PLACES)
    moments = [(line, often) for line, count in lines.items() for often in (1, count)]
    for moment in moments[::7]:
        _check_interrupted(tmp_path / "run.jsonl", measure, moment)


def _check_interrupted(path, measure, moment):
    (line, often), passed = moment, 0

    def reached(found):
        nonlocal passed
        passed += found == line
        if found == line and passed == often:
            signal.raise_signal(signal.SIGINT)

    path.unlink(missing_ok=True)
    ran = traced(lambda: measure(path), reached)
    if passed < often:  # lines that wait are passed more or less often
        return
    assert ran.code == 130, (moment, ran)
    assert "interrupted" in ran.err, moment
    assert "Traceback" not in ran.err, moment
    assert {file.name for file in path.parent.iterdir()} <= {"suite.jsonl", "whole.jsonl", path.name}, moment
    if path.exists():
        records.read(str(path))


def test_an_interrupted_run_is_resumed(tmp_path, measure):
    """The signal arrives while the second case waits for its answer."""
    path, answers = tmp_path / "run.jsonl", 0

    def reached(line):
        nonlocal answers
        answers += line == WAIT
        if line == WAIT and answers == 4:  # after the environment, a stream and the first case
            signal.raise_signal(signal.SIGINT)

    assert traced(lambda: measure(path), reached).code == 130
    assert len(records.read(str(path)).records) == 1
    resumed = measure(path)
    assert resumed.code == 0, resumed
    assert f"1 of 2 cases are already in {path}" in resumed.err
    assert len(records.read(str(path)).records) == 2


def test_an_exception_that_python_forgets_is_raised_again(capsys):
    """Python prints exceptions of ``__del__`` and goes on."""

    class Left:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stopping.raising():  # noqa: PT012 - the exception comes later
        Left()
        time.sleep(10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_held_signals_wait_for_the_end_of_the_block(number):
    passed = []

    def run():
        with stopping.Held() as held:
            signal.raise_signal(number)
            passed.append("the block goes on")
            with pytest.raises(KeyboardInterrupt):
                held.check()
        passed.append("never here")

    with pytest.raises((KeyboardInterrupt, stopping.Stopped)) as raised, stopping.raising() as received:
        run()
    assert passed == ["the block goes on"]
    assert received.number == number
    assert raised.type is (KeyboardInterrupt if number == signal.SIGINT else stopping.Stopped)


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stopping.raising(), stopping.Held():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_other_threads_set_no_handlers():
    found = []

    def run():
        with stopping.raising(), stopping.Held() as held:
            held.check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_an_error_that_a_signal_causes_is_no_error(monkeypatch):
    """An import that is interrupted can fail with an error of its own."""

    def converted(**_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise SyntaxError("(unicode error) can't load unicodedata module") from None

    monkeypatch.setattr("perfmodel.cli.cli.main", converted)
    ran = perfmodel("ops")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "perfmodel: interrupted; no partly written file is left.\n"


def test_no_worker_is_left(tmp_path, measure, monkeypatch):
    """An interruption while the worker starts also ends the worker."""
    started = []
    popen = subprocess.Popen

    def interrupted(*arguments, **options):
        started.append(popen(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    ran = measure(tmp_path / "run.jsonl")
    assert ran.code == 130
    assert [process.returncode for process in started] == [-signal.SIGKILL]
