"""Which file a name stands for: never one of the current folder, unless its path or its folder is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import check_refused, perfmodel

from perfmodel import hardware, paths

SHIPPED = Path(paths.PACKAGED)
WORKLOAD = "title: own\nsizes: {m: 8, k: 8, n: 8}\nsteps: [{op: matmul}]\n"
COMMANDS = [
    ("flops", "--config", "mlp-4096"),
    ("compare", "--config", "mlp-4096"),
    ("memory", "--config", "mlp-4096"),
    ("solve", "--op", "matmul", "--for", "m"),
    ("sweep", "--op", "matmul", "--over", "m=1:4"),
    ("explain", "matmul"),
    ("predict", "--cases", "cases"),
    ("roofline", "show", "--config", "mlp-4096"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a T4 under the names of an A100, and a workload under a shipped name."""
    folder = tmp_path / "project"
    for kind in ("hardware", "configs"):
        (folder / kind).mkdir(parents=True)
    t4 = (SHIPPED / "hardware" / "t4.yaml").read_text()
    for name in ("a100", "a100-sxm4-80gb", "mine"):
        (folder / "hardware" / f"{name}.yaml").write_text(t4)
    (folder / "configs" / "mlp-4096.yaml").write_text(WORKLOAD)
    monkeypatch.chdir(folder)
    return folder


def card(*arguments):
    ran = perfmodel("flops", "--config", "mlp-4096", "--format", "json", *arguments)
    assert ran.code == 0, ran
    return json.loads(ran.out), ran.err


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_the_current_folder_is_not_searched(here, arguments):
    ran = perfmodel(*arguments, "--gpu", "a100")
    assert ran.code == 0, ran
    assert "T4" not in ran.out
    assert "not a shipped file" not in ran.err


def test_neither_cards_nor_workloads_of_the_current_folder_are_listed_or_found_by_name(here):
    document, err = card("--gpu", "a100")
    assert document["gpu"]["file"] == "hardware/a100-sxm4-80gb.yaml"
    assert document["total"]["flops"] > 10**9
    assert err == ""
    assert "mine" not in perfmodel("gpus", "--format", "csv").out
    found = check_refused(perfmodel("flops", "--config", "mlp-4096", "--gpu", "mine"), 1)
    assert found["action"] == "To use the file in the current folder, write hardware/mine.yaml."


def test_a_path_is_taken(here):
    for path in ("./hardware/mine.yaml", "hardware/mine.yaml", str(here / "hardware" / "mine.yaml")):
        assert card("--gpu", path)[0]["gpu"]["file"] == path
    assert perfmodel("flops", "--config", "./configs/mlp-4096.yaml").out.startswith("own")


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_named_folder_is_searched_first_and_the_answer_says_so(here, arguments):
    ran = perfmodel(*arguments, "--gpu", "a100", "--hardware", "hardware")
    assert ran.code == 0, ran
    assert "a100: hardware/a100.yaml is used, which is not a shipped file.\n" in ran.err
    assert hardware.gpu("a100").name == "a100-sxm4-80gb"  # the next command searches as before


def test_a_folder_is_named_before_or_after_show(here):
    for arguments in (("--hardware", "hardware", "show"), ("show", "--hardware", "hardware")):
        ran = perfmodel("roofline", "--gpu", "mine", *arguments)
        assert ran.code == 0, ran
        assert "mine: hardware/mine.yaml is used" in ran.err


def test_folders_of_the_environment_are_searched(here, monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, str(here))
    document, err = card("--gpu", "mine")
    assert document["gpu"]["file"] == str(here / "hardware" / "mine.yaml")
    assert document["total"]["flops"] == 2 * 8**3
    assert sorted(err.splitlines(), reverse=True) == [
        f"mlp-4096: {here / 'configs' / 'mlp-4096.yaml'} is used, which is not a shipped file.",
        f"mine: {here / 'hardware' / 'mine.yaml'} is used, which is not a shipped file.",
    ]
    assert "mine," in perfmodel("gpus", "--format", "csv").out


@pytest.mark.parametrize("arguments", [("--hardware", "nowhere"), ("--hardware", "mine.yaml")])
def test_a_folder_that_does_not_exist_is_refused(here, arguments):
    found = check_refused(perfmodel("flops", "--config", "mlp-4096", "--gpu", "t4", *arguments), 1)
    assert found["where"] == "--hardware"


def test_a_folder_of_the_environment_that_does_not_exist_is_refused(here, monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, "nowhere")
    assert check_refused(perfmodel("gpus"), 1)["where"] == "PERFMODEL_PATH"


def test_the_users_folder_comes_before_the_package_and_is_reported(here, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "_user_data", lambda: str(tmp_path / "data"))
    own = tmp_path / "data" / "hardware"
    own.mkdir(parents=True)
    (own / "t4.yaml").write_text((SHIPPED / "hardware" / "l4.yaml").read_text())
    document, err = card("--gpu", "t4")
    assert document["gpu"]["file"] == str(own / "t4.yaml")
    assert err == f"t4: {own / 't4.yaml'} is used, which is not a shipped file.\n"


def test_readings_of_the_user_are_reported(here, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "_user_data", lambda: str(tmp_path / "data"))
    own = tmp_path / "data" / "hardware"
    own.mkdir(parents=True)
    name = f"h200-sxm-141gb{paths.MEASURED}"
    (own / name).write_text((SHIPPED / "hardware" / name).read_text())
    _, err = card("--gpu", "h200")
    assert err == f"readings of h200-sxm-141gb: {own / name} is used, which is not a shipped file.\n"
