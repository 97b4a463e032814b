"""Numbers out of their range and files out of their form: each is refused in one line, or answered with finite figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import check_refused
from command import perfmodel as command
from many import for_each

from perfmodel import plain, records
from perfmodel.errors import InputError
from perfmodel.measure import session
from perfmodel.strictjson import dumped

ROOT = Path(__file__).parent.parent
STEPS = "title: x\nsizes: {{B: 2, N: 16, D: 8}}\nsteps:\n  - op: linear\n{sizes}"
NEGATIVE = STEPS.format(sizes="    sizes: {D_in: D, D_out: D - 2*D}\n")
MISSING = STEPS.format(sizes="")


def file(folder, name, text):
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("text", ["N==N", "N<S", "(N==N)*2"])
@pytest.mark.parametrize(
    "asked", [("sweep", "--over", "N=1:8"), ("flops",), ("flops", "--symbolic"), ("solve", "--for", "N")]
)
def test_a_comparison_is_no_size(asked, text):
    gpu = () if "--symbolic" in asked else ("--gpu", "t4")
    ran = command(*asked, "--op", "attention", *gpu, "--set", f"H_kv={text}")
    assert "is not an expression of sizes" in check_refused(ran)["found"]


@pytest.mark.parametrize("asked", [("flops",), ("flops", "--symbolic"), ("solve", "--gpu", "t4", "--for", "N")])
@pytest.mark.parametrize(("text", "found"), [(NEGATIVE, "-8 is out of range"), (MISSING, "D_in, D_out not given")])
def test_a_step_with_a_negative_or_missing_size_is_refused(tmp_path, asked, text, found):
    ran = command(*asked, "--config", file(tmp_path, "x.yaml", text))
    assert found in check_refused(ran)["found"]


def test_a_comparison_as_repeat_is_refused(tmp_path):
    text = NEGATIVE.replace("- 2*D", "+ D").replace("op: linear", "op: linear\n    repeat: N == N")
    ran = command("flops", "--config", file(tmp_path, "x.yaml", text))
    assert "'N == N' is not an expression" in check_refused(ran)["found"]


@pytest.mark.parametrize("factor", ["1e-320", "1e300", "nan", "-1"])
def test_a_factor_has_a_range(factor):
    ran = command("compare", "--config", "gpt2-124m", "--gpu", "t4", f"--speedup=attention={factor}", "--format=json")
    check_refused(ran)


def test_an_element_has_at_most_16_bytes():
    ran = command("flops", "--op", "matmul", "--set", "act=1000")
    assert "16" in check_refused(ran)["accepted"]


def test_tiles_of_half_byte_elements_are_counted_in_whole_numbers():
    ran = command("flops", "--config", "flash-table-flash", "--dtype", "int4", "--format", "json")
    total = json.loads(ran.out)["total"]
    assert [type(total[key]) for key in ("flops", "traffic_byte")] == [int] * 2


def test_a_layer_of_gpt_neo_is_named_by_a_word(tmp_path):
    config = json.loads((ROOT / "configs" / "gpt-neo-2.7b.json").read_text())
    config["attention_types"] = [[["global", [2048]], 16]]
    check_refused(command("flops", "--config", file(tmp_path, "config.json", json.dumps(config))))


# --- GPU files

CARD = (ROOT / "hardware" / "t4.yaml").read_text()


@for_each(
    ("old", "new", "told"),
    [
        ("value: 1590 MHz", "value: 1e-300 MHz", "is out of range; 1.0000 Hz to 1.0000 THz is accepted"),
        ("value: 1590 MHz", "value: 1000 Hz", "1000 Hz is too slow for a clock"),
        ("value: 320 GB/s", "value: 1e-310 B/s", "is out of range"),
        ("value: 1590 MHz", "value: 3180 MHz", "x the boost clock = "),
        ("value: 585 MHz", "value: 1595 MHz", "the base clock is above the boost clock"),
        ('compute_capability: "7.5"', "compute_capability: fp16", "'fp16' is not a compute capability"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(tmp_path, old, new, told):
    assert old in CARD
    ran = command("flops", "--config", "mlp-4096", "--gpu", file(tmp_path, "t4.yaml", CARD.replace(old, new)))
    check_refused(ran)
    assert told in ran.err


def test_a_card_with_fp16_alone_is_answered(tmp_path):
    lines = CARD.split("vector:\n")[0] + "vector:\n  fp16: {value: 16.2 TFLOP/s, from: datasheet, note: made up}\n"
    source = CARD.split("sources:\n  ")[1].split(":")[0]
    card = file(tmp_path, "half.yaml", lines.replace("from: datasheet, note: made", f"from: {source}, note: made"))
    ran = command("flops", "--config", "mlp-4096", "--gpu", card, "--format", "json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)["total"]["expected_s"] > 0


# --- records

ENVIRONMENT = {"schema": 1, "environment": {"gpu": "NVIDIA H200", "device": "cuda"}}
RECORD = {"op": "matmul", "shape": {"m": 512, "k": 512, "n": 512}, "dtype": "fp16", "median_us": 20.0, "p25_us": 20.0, "p75_us": 20.0}  # fmt: skip


STREAM = {"byte": 1e9, "median_us": 300.0, "p25_us": 300.0, "p75_us": 300.0, "n": 12}


def run_of(folder, *lines):
    return file(folder, "run.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@for_each(
    ("change", "told"),
    [
        ({"flags": "abc"}, "flags: 'abc' is not a list"),
        ({"flags": [1]}, "flags: 1 is not text"),
        ({"kernels": [{"name": "x"}]}, "kernels: 'registers' is missing"),
        ({"p25_us": 30.0}, "p25_us = 30.0, median_us = 20.0 and p75_us = 20.0 are not in order"),
        ({"median_us": None}, "median_us: null is not accepted here"),
        ({"shape": None}, "shape: null is not an object"),
        ({"shape": {"m": [1]}}, "shape: m: [1] is not a single value"),
        ({"dtype": 3}, "dtype: 3 is not text"),
        ({"stream_us": -1.0}, "stream_us: -1.0 is not accepted here"),
        ({"impl": "\ud800"}, "half of a surrogate pair"),
        ({"note": float("nan")}, "the number NaN was found"),
    ],
)
def test_a_malformed_record_is_refused(tmp_path, change, told):
    ran = command("validate", "--from", run_of(tmp_path, ENVIRONMENT, {**RECORD, **change}))
    check_refused(ran)
    assert told in ran.err


def test_null_flags_are_no_flags(tmp_path):
    path = run_of(tmp_path, ENVIRONMENT, {**RECORD, "stream_us": None})
    assert command("validate", "--from", path).code == 0
    for streams in (None, [], [{"cpu_share": None}], [{**STREAM, "cpu_share": None}, STREAM]):
        line = {**ENVIRONMENT["environment"], "streams": streams, "driver": None}
        assert command("validate", "--from", run_of(tmp_path, {"environment": line}, RECORD)).code == 0
    with pytest.raises(InputError, match="'byte' is missing"):
        records.read(run_of(tmp_path, {"environment": {"streams": [{"median_us": 1.0}]}}, RECORD))


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_run_without_usable_records_is_shown(tmp_path, form, count):
    """An environment line alone passes; a run whose cases all failed does not."""
    failed = [{"op": "matmul", "shape": {"m": 8}, "error": "out of memory"}] * count
    ran = command("validate", "--from", run_of(tmp_path, ENVIRONMENT, *failed), "--format", form)
    assert ran.code == (3 if count else 0)
    assert ran.out


def test_a_validation_fails_when_many_cases_fail(tmp_path):
    """7 of 10 cases have no time: more than 10 %."""
    sizes = ({"m": m, "k": 512, "n": 512} for m in range(1, 11))
    lines = [{**RECORD, "shape": shape} if i < 3 else {"op": "matmul", "shape": shape, "error": "it died"} for i, shape in enumerate(sizes)]  # fmt: skip
    ran = command("validate", "--from", run_of(tmp_path, ENVIRONMENT, *lines))
    assert ran.code == 3
    assert "7 of 10 cases have no time, more than 10%" in ran.err


# --- JSON


def test_json_holds_no_nan():
    with pytest.raises(InputError, match="a figure of the answer is not finite"):
        dumped({"x": float("inf")})


def test_json_is_written_in_one_place():
    """No module but strictjson calls json.dumps."""
    callers = {path.name for path in (ROOT / "perfmodel").rglob("*.py") if "json.dumps(" in path.read_text()}
    assert callers == {"strictjson.py"}


# --- the output and the file of a run


def started(*arguments, **options):
    asked = [sys.executable, "-m", "perfmodel", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(asked, stderr=subprocess.PIPE, text=True, timeout=60, env=environment, check=False, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_output_is_an_error_of_one_line():
    with open("/dev/full", "w") as full:
        ran = started("ops", stdout=full)
    assert ran.returncode == 1
    assert ran.stderr.startswith("stdout: it cannot be written (No space left on device)")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="a shell closes the output")
def test_a_closed_output_and_a_narrow_encoding_cause_no_traceback():
    asked = f"{sys.executable} -m perfmodel explain softmax >&-"
    ran = subprocess.run(asked, shell=True, stderr=subprocess.PIPE, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    asked = ("flops", "--symbolic", "--op", "attention", "--set", "causal=1")
    ran = started(*asked, env={"PYTHONIOENCODING": "cp1252"}, stdout=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "?" not in ran.stdout
    assert "---" in ran.stdout


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "⌈N / 16⌉ ≤ 2 → N⁴", "ceil(N / 16) <= 2 -> N^4"),
        ("ascii", "10⁻⁸, Q Kᵀ, ½", "10^-8, Q K^T, 1/2"),
        ("ascii", "Ł ż 漢", "\\u0141 z \\u6f22"),
        ("cp1252", "──┴⣀ N⁴ ≤ 2 µs × 3²", "--+* N^4 <= 2 µs × 3²"),
        ("cp437", "── N⁴ ≤ 2 µs × 3²", "── N^4 ≤ 2 µs x 3²"),
    ],
)
def test_characters_that_an_encoding_lacks_are_shown_in_ascii(encoding, text, shown):
    assert text.encode(encoding, plain.NAME).decode(encoding) == shown


def test_every_character_of_the_program_has_a_readable_form():
    """No escape stands for a character that the program, a config or a GPU file uses."""
    folders = ("perfmodel", "configs", "hardware")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".json")
    ]
    used = {c for path in files for c in path.read_text(encoding="utf-8") if ord(c) > 127}
    assert {c for c in used if not plain.plain(c).isascii() or "\\" in plain.plain(c)} == set()


def test_a_folder_is_no_file_to_calibrate_into():
    ran = command("calibrate", "-o", ".")
    assert check_refused(ran)["found"] == "'.' is a folder"


def test_two_runs_do_not_write_to_one_file(tmp_path):
    here = session.Device("cpu", session.gpu("epyc-7763"))
    path = str(tmp_path / "run.jsonl")
    log = session.Log(path, here)
    with pytest.raises(InputError, match="another run writes to this file"):
        session.Log(path, here)
    log.close()
    session.Log(path, here).close()
    assert list(tmp_path.iterdir()) == []


def test_resuming_in_a_read_only_folder_is_refused(shared_folder, without_rights):
    path = run_of(shared_folder, {"environment": {"gpu": "x"}})
    here = session.Device("cpu", session.gpu("epyc-7763"))
    with without_rights(), pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        session.Log(path, here)
    assert [one.name for one in shared_folder.iterdir()] == ["run.jsonl"]
