"""Every way of writing a file: complete or not at all, through links, with the mode of the old file, never over a
device.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from functools import cache
from pathlib import Path
from threading import Thread

import pytest
from command import check_refused, perfmodel
from matplotlib.figure import Figure

import perfmodel as package
from perfmodel import writing
from perfmodel.errors import InputError
from perfmodel.measure import session
from perfmodel.records import Stored
from perfmodel.report import picture

SWEEP = ("sweep", "--op", "matmul", "--gpu", "t4", "--over", "m=1:4")
ROOFLINE = ("roofline", "--gpu", "t4", "--config", "mlp-4096", "plot")
ENVIRONMENT = {"schema": 1, "environment": {"gpu": "Tesla T4", "method": 2}}
RECORD = {
    "schema": 1, "op": "softmax", "shape": {"rows": 64, "cols": 64}, "dtype": "fp16",
    "median_us": 50.0, "p25_us": 49.0, "p75_us": 51.0, "n": 9,
}  # fmt: skip
# Commands that write a file, with the ending of its name.
WRITERS = [
    ((*SWEEP, "-o"), "csv"), ((*SWEEP, "-o"), "jsonl"), ((*SWEEP, "--plot"), "svg"), ((*ROOFLINE, "-o"), "png"),
    ((*ROOFLINE, "-o"), "pdf"), (("validate", "--from", "run.jsonl", "--plot"), "png"),
    (("calibrate", "--gpu", "cpu", "-o"), "yaml"),
]  # fmt: skip
writers = pytest.mark.parametrize(
    ("command", "ending"), WRITERS, ids=lambda one: one if isinstance(one, str) else one[0]
)


draw = picture.drawn


@cache
def empty(ending):
    """Returns the contents of a small picture of nothing."""
    return draw(Figure(figsize=(1, 1)), ending)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a stored run, a processor that needs no measuring, and pictures that are drawn at once."""
    monkeypatch.chdir(tmp_path)
    Path("run.jsonl").write_text(f"{json.dumps(ENVIRONMENT)}\n{json.dumps(RECORD)}\n")
    card = (Path(package.paths.PACKAGED) / "hardware" / "epyc-7763.yaml").read_text()
    monkeypatch.setattr("perfmodel.measure.processor.hardware_file", lambda: f"# Measured in a moment\n{card}")
    monkeypatch.setattr(picture, "drawn", lambda _, ending: empty(ending))
    return tmp_path


def wrote(command, path, code=0):
    ran = perfmodel(*command, str(path))
    assert ran.code == code, ran
    return ran


@writers
def test_a_link_is_followed_and_the_mode_kept(folder, command, ending):
    (folder / "real").mkdir()
    target, link = folder / "real" / f"out.{ending}", folder / f"link.{ending}"
    target.write_text("# Measured before\n")
    target.chmod(0o640)
    link.symlink_to(target)
    wrote(command, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert len(target.read_bytes()) > 100
    assert [file.name for file in target.parent.iterdir()] == [target.name]  # no temporary file is left


def test_a_new_file_has_the_mode_that_the_user_set(folder):
    before = os.umask(0o027)
    try:
        wrote((*SWEEP, "-o"), folder / "rows.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "rows.csv").stat().st_mode) == 0o640


@writers
def test_a_device_is_written_to_and_stays(folder, command, ending):
    """A link to the null device: with the rights of root, replacing its target would remove the device."""
    link = folder / f"null.{ending}"
    link.symlink_to(os.devnull)
    before = os.stat(os.devnull)
    wrote(command, link)
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert link.is_symlink()


@writers
def test_a_pipe_is_written_to_and_stays(folder, command, ending):
    pipe, found = folder / f"pipe.{ending}", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    wrote(command, pipe)
    reader.join(10)
    assert len(found[0]) > 100
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@writers
@pytest.mark.parametrize("kind", ["folder", "socket"])
def test_what_is_no_file_is_refused(folder, command, ending, kind):
    import socket

    path = folder / f"odd.{ending}"
    if kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    check_refused(perfmodel(*command, str(path)), 1)
    assert path.is_dir() if kind == "folder" else path.is_socket()


@pytest.mark.parametrize(("command", "ending"), WRITERS[:-1])
def test_a_file_of_the_user_is_replaced_with_a_note_and_an_own_one_without(folder, command, ending):
    path = folder / f"out.{ending}"
    path.write_text("my notes\n")
    note = f"'{path}' exists and was not written by perfmodel; it is replaced.\n"
    assert note in wrote(command, path).err
    assert "was not written by perfmodel" not in wrote(command, path).err


def test_readings_do_not_replace_a_file_of_the_user(folder):
    path = folder / "out.yaml"
    path.write_text("my notes\n")
    check_refused(perfmodel(*WRITERS[-1][0], str(path)), 1)
    assert path.read_text() == "my notes\n"


def test_a_saved_run_is_a_regular_file(folder):
    link = folder / "null.jsonl"
    link.symlink_to(os.devnull)
    found = check_refused(perfmodel("validate", "--gpu", "cpu", "--save", str(link)), 1)
    assert found["found"] == f"'{link}' is a device or a pipe"


def test_a_saved_run_is_rewritten_through_its_link_with_its_mode(folder):
    link, target = folder / "link.jsonl", folder / "run.jsonl"
    link.symlink_to(target)
    target.chmod(0o600)
    session.rewrite(str(link), Stored(str(link), ENVIRONMENT["environment"], (RECORD,)))
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(target.read_text().splitlines()) == 2


def test_a_failure_leaves_the_old_file_and_nothing_else(folder):
    path = folder / "out.csv"
    path.write_text("before")

    def fail(error):
        with writing.replacing(str(path), "here") as file:
            file.write(b"half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    with pytest.raises(InputError, match="No space left"):
        fail(OSError(28, "No space left on device"))
    assert path.read_text() == "before"
    assert sorted(file.name for file in folder.iterdir()) == ["out.csv", "run.jsonl"]


def test_only_one_module_writes_files_that_the_user_names():
    """``open`` with a mode that writes and the like stand in ``writing`` alone. ``counters`` writes to
    a temporary folder.
    """
    root = Path(package.__file__).parent
    for path in root.rglob("*.py"):
        module, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        named = re.search(r"\b(open|write_text|write_bytes|rename)\b", text)  # other files need no parsing
        for node in ast.walk(ast.parse(text)) if named else ():
            if not isinstance(node, ast.Call) or module in ("writing.py", "measure/counters.py"):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name == "open" and node.args and ast.unparse(node.args[0]) == "os.devnull":
                continue
            modes = [arg.value for arg in [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")] if isinstance(arg, ast.Constant)]  # fmt: skip
            written = name == "open" and any(set(str(mode)) & set("wax+") for mode in modes)
            assert not written, f"{module}:{node.lineno}"
            assert name not in ("write_text", "write_bytes", "rename"), f"{module}:{node.lineno}"
