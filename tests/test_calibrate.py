"""Calibration: readings are written to the user's folder, found there first, and read again when the file changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import check_refused
from command import perfmodel as command

from perfmodel import hardware, measured, paths
from perfmodel.hardware import gpu
from perfmodel.measure import ceilings, session
from perfmodel.measured import Reading
from perfmodel.paths import MEASURED, PACKAGED, user_folder
from perfmodel.timing import parameters

SHEETS = Path(PACKAGED) / "hardware"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's folder of GPU files, in a temporary place."""
    monkeypatch.setattr(paths, "_user_data", lambda: str(tmp_path / "data" / "perfmodel"))
    return tmp_path / "data" / "perfmodel" / "hardware"


def written(folder, name, add, date="2026-01-01"):
    folder.mkdir(parents=True, exist_ok=True)
    made = {"date": date}
    readings = [("stream", way, Reading(add, add, add)) for way in ("read", "copy", "add", "write")]
    (folder / f"{name}{MEASURED}").write_text(measured.text(name, made, readings))


def test_the_rule_of_the_users_folder_is_that_of_platformdirs(monkeypatch):
    platformdirs = pytest.importorskip("platformdirs")
    for value in (None, "", "/elsewhere"):
        monkeypatch.delenv("XDG_DATA_HOME") if value is None else monkeypatch.setenv("XDG_DATA_HOME", value)
        expected = platformdirs.user_data_dir("perfmodel", appauthor=False)
        assert user_folder("hardware") == os.path.join(expected, "hardware")


def test_elsewhere_platformdirs_says_where(monkeypatch):
    monkeypatch.setattr(sys, "platform", "other")
    pytest.importorskip("platformdirs")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name, appauthor: f"/users/{name}")
    assert user_folder("configs") == os.path.join("/users/perfmodel", "configs")


PLATFORMDIRS_PROBE = (
    "import sys, perfmodel.hardware; perfmodel.hardware.gpu('t4'); print('platformdirs' in sys.modules)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="where the rule is platformdirs' own, it is loaded")
def test_a_card_is_found_without_loading_platformdirs():
    ran = subprocess.run(
        [sys.executable, "-c", PLATFORMDIRS_PROBE], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "False"


# --- which readings are found


def test_readings_are_taken_from_beside_a_given_file_then_the_users_folder_then_the_packaged_copy(own, tmp_path):
    name = "h200-sxm-141gb"
    card = gpu(name)
    packaged = measured.of(card)
    assert packaged is not None
    assert Path(packaged.file).parent.name == "hardware"
    written(own, name, 1.5e12)
    assert measured.of(card).file == str(own / f"{name}{MEASURED}")
    assert measured.of(card).value("stream", "add") == 1.5e12
    given = tmp_path / "cards" / f"{name}.yaml"
    written(given.parent, name, 1.25e12)
    assert measured.of(card._replace(file=str(given))).value("stream", "add") == 1.25e12
    assert measured.of(gpu("t4")) is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("gpu: t4", "gpu: l4", "the readings are of 'l4', the card is 't4'"),
        ("0.25 TB/s", "9e29 TB/s", "is out of range"),
        ("0.25 TB/s", "0.9 TB/s", "the data sheet gives 320.00 GB/s"),
    ],
)
def test_readings_that_cannot_be_of_this_card_are_refused(own, old, new, told):
    written(own, "t4", 2.5e11)
    path = own / f"t4{MEASURED}"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    ran = command("predict", "--cases", "cases", "--gpu", "t4")
    assert ran.code == 1
    assert told in ran.err


def test_readings_and_cards_follow_the_contents_of_their_files(own, tmp_path):
    written(own, "t4", 2.5e11)
    assert measured.of(gpu("t4")).value("stream", "add") == 2.5e11
    written(own, "t4", 2.75e11)
    assert measured.of(gpu("t4")).value("stream", "add") == 2.75e11
    card = tmp_path / "card.yaml"
    for name, rate in (("t4", 320e9), ("a100-sxm4-80gb", 2039e9)):
        card.write_text((SHEETS / f"{name}.yaml").read_text())
        assert gpu(str(card)).bandwidth_byte_per_s.value == rate


def test_one_relative_path_in_two_folders_is_two_cards(tmp_path, monkeypatch):
    for folder, name, rate in (("one", "t4", 320e9), ("two", "a100-sxm4-80gb", 2039e9)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "card.yaml").write_text((SHEETS / f"{name}.yaml").read_text())
        monkeypatch.chdir(tmp_path / folder)
        assert gpu("./card.yaml").bandwidth_byte_per_s.value == rate


def test_short_names_follow_their_file(own):
    own.mkdir(parents=True)
    (own / hardware.SHORT_NAMES).write_text("mine: t4\n")
    assert gpu("mine").name == "t4"
    (own / hardware.SHORT_NAMES).write_text("mine: l4\n")
    assert gpu("mine").name == "l4"


# --- the command


@pytest.fixture
def card_at_hand(monkeypatch):
    """A T4 with readings that need no device."""
    found = [
        ceilings.Ceiling("stream", way, Reading(2.5e11, 2.4e11, 2.6e11)) for way in ("read", "copy", "add", "write")
    ]
    found += [ceilings.Ceiling("launch", "replay warm", Reading(3e-6, 2.9e-6, 3.1e-6))]
    monkeypatch.setattr(session, "device", lambda name: session.Device("cuda", gpu("t4"), object()))
    monkeypatch.setattr(session, "made", lambda device: {"date": "2026-01-01", "method": "1"})
    monkeypatch.setattr(ceilings, "measure", lambda torch, told: iter(found))


def test_readings_go_to_the_users_folder_and_are_used_from_then_on(own, card_at_hand):
    shipped = sorted(SHEETS.iterdir())
    ran = command("calibrate")
    assert ran.code in (0, None)
    assert ran.err.endswith(f"written to {own / ('t4' + MEASURED)}\n")
    assert sorted(SHEETS.iterdir()) == shipped
    assert [file.name for file in own.iterdir()] == [f"t4{MEASURED}"]
    assert measured.of(gpu("t4")).value("stream", "copy") == 2.5e11
    assert parameters.best_knowledge(gpu("t4")) == "calibrated"
    again = command("calibrate")
    assert again.code in (0, None)


def test_a_path_given_is_written_and_nothing_else(own, card_at_hand, tmp_path):
    path = tmp_path / "mine.yaml"
    assert command("calibrate", "-o", str(path)).code in (0, None)
    assert measured.read(str(path)).gpu == "t4"
    assert not own.exists()


def test_a_users_folder_that_cannot_be_made_is_told(own, card_at_hand, tmp_path):
    (tmp_path / "data").write_text("a file stands where the folder should")
    found = check_refused(command("calibrate"), 1)
    assert found["where"] == str(own)
    assert found["action"] == "Choose a file with -o."


def test_what_cannot_be_written_or_read_is_refused_before_anything_is_measured(own, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "device", lambda name: pytest.fail("it was measured"))
    sheet = tmp_path / "sheet.yaml"
    sheet.write_text("title: a data sheet\n")
    check_refused(command("calibrate", "--gpu", "cpu", "-o", str(sheet)), 1)
    check_refused(command("validate", "--gpu", "cpu", "--suite", "missing.jsonl"), 1)
    sheet.write_text("nonsense\n")
    check_refused(command("validate", "--gpu", "cpu", "--suite", str(sheet)), 1)


def test_a_folder_is_no_file_for_readings(own, card_at_hand, tmp_path):
    ran = command("calibrate", "-o", str(tmp_path))
    check_refused(ran, 1)
    assert ran.err == f"perfmodel calibrate: '{tmp_path}' is a folder; a file is accepted. Name a file in the folder.\n"


def test_a_processor_becomes_a_card_of_the_users_folder(own, monkeypatch):
    text = (SHEETS / "epyc-7763.yaml").read_text()
    contents = f"# Measured in a moment\n{text}"
    monkeypatch.setattr(session, "device", lambda name: session.Device("cpu", gpu("epyc-7763"), None, "", contents))
    ran = command("calibrate", "--gpu", "cpu")
    assert ran.code in (0, None)
    assert ran.err == f"written to {own / 'cpu.yaml'}; use it as --gpu cpu\n"
    answer = json.loads(command("flops", "--config", "mlp-4096", "--gpu", "cpu", "--format", "json").out)
    assert answer["gpu"]["file"] == str(own / "cpu.yaml")
