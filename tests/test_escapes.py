"""Control characters in files: every text of every kind of file is sent with escape sequences, and none comes out."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path

import yaml
from command import perfmodel

import perfmodel as package
from perfmodel import paths
from perfmodel.errors import printable

SHIPPED = Path(paths.PACKAGED)
# OSC 52 writes the clipboard, OSC 8 is a link, then a C1 sequence, delete, a mark of direction and a lone surrogate.
EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://x\x1b\\\x9b31m\x7f\u202e\r\b"
FORMS = ("table", "json", "csv", "markdown")


def check(text):
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


def run(*arguments, stdin=""):
    """Runs a command, checks what it prints, and returns it."""
    ran = perfmodel(*map(str, arguments), stdin=stdin)
    assert ran.code in (0, 1, 2, 3), ran
    check(ran.out + ran.err)
    return ran


def spoiled(document):
    """Yields copies of a document, each with one more evil text: every value and every key in turn."""

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            value = node[key]
            if isinstance(value, (dict, list)):
                yield from walk(value)
            else:
                node[key] = f"{value}{EVIL}"
                yield copy.deepcopy(document)
                node[key] = value
            if isinstance(node, dict):
                node[f"{key}{EVIL}"] = node.pop(key)
                yield copy.deepcopy(document)
                node[key] = node.pop(f"{key}{EVIL}")

    return walk(document)


def words(node, but=()):
    """Returns the document with evil in every text that may be any text."""
    if isinstance(node, dict):
        return {key: value if key in but else words(value, but) for key, value in node.items()}
    if isinstance(node, list):
        return [words(item, but) for item in node]
    return f"{node}{EVIL}" if isinstance(node, str) else node


def plain(name):
    return yaml.safe_load((SHIPPED / name).read_text(encoding="utf-8"))


# YAML reads the escapes of JSON.
def written(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


CARD = plain("hardware/t4.yaml")
FIXED = ("value", "from", "clock", "per_sm_clock", "compute_capability", "capacity", "bandwidth", "one_way", "per_link")


def free(document):
    """Returns the card with evil in its descriptions."""
    found = words(document, FIXED)
    found["matches"] = [f"{name}{EVIL}" for name in document["matches"]]
    return found


def test_the_descriptions_of_a_card(tmp_path):
    path = written(tmp_path / f"card{EVIL.replace('/', '')}.yaml", free(CARD))
    workload = ("--config", "gpt2-124m", "--gpu", path)
    for form in FORMS:
        assert run("flops", *workload, "--verbose", "--format", form).code == 0
        assert run("compare", *workload, "--format", form).code == 0
        assert run("memory", *workload, "--format", form).code == 0
        assert run("predict", "--cases", "cases", "--gpu", path, "--format", form).code == 0
    assert run("roofline", *workload, "show").code == 0
    assert run("explain", "softmax", "--gpu", path).code == 0
    assert run("explain", "--time", '{"op": "softmax", "shape": {"rows": 8, "cols": 8}}', "--gpu", path).code == 0
    assert run("solve", "--op", "matmul", "--for", "m", "--gpu", path).code == 0
    assert run("gpus", "--hardware", tmp_path).code == 0
    for name in ("rows.csv", "rows.jsonl"):
        output = tmp_path / name
        assert run("sweep", "--op", "matmul", "--over", "m=1:4", "--gpu", path, "-o", output).code == 0
        check(output.read_text(encoding="utf-8"))


def test_every_value_and_key_of_a_card(tmp_path):
    for document in spoiled(CARD):
        run("flops", "--config", "mlp-4096", "--gpu", written(tmp_path / "card.yaml", document), "--verbose")


def test_labels_of_pictures(tmp_path):
    card = written(tmp_path / "card.yaml", free(CARD))
    workload = written(tmp_path / f"w{EVIL.replace('/', '')}.yaml", words(plain("configs/mlp-4096.yaml"), ("op", "sizes", "flow", "dtype", "dtypes", "count", "mask", "kernels", "repeat", "phases", "loss")))  # fmt: skip
    for arguments in (
        ("roofline", "--config", workload, "--gpu", card, "plot", "-o"),
        ("sweep", "--config", workload, "--gpu", card, "--over", "N=128:512:log", "--plot"),
    ):
        picture = tmp_path / "picture.svg"
        ran = run(*arguments, picture)
        assert ran.code == 0, ran
        check(picture.read_text(encoding="utf-8").replace("\t", "").replace("\xa0", ""))  # spaces of the chart itself


def test_every_value_and_key_of_a_workload(tmp_path):
    for document in spoiled(plain("configs/mlp-4096.yaml")):
        path = written(tmp_path / "own.yaml", document)
        run("flops", "--config", path, "--steps", "--verbose")
    for form in FORMS:
        run("flops", "--config", path, "--steps", "--format", form)


def test_every_value_and_key_of_a_config(tmp_path):
    config = json.loads((SHIPPED / "configs" / "llama-3-8b.json").read_text())
    config |= {"_name_or_path": "meta/llama", "architectures": ["LlamaForCausalLM"], "unheard_of": "word"}
    for document in spoiled(config):
        path = written(tmp_path / "config.json", document)
        run("flops", "--config", path, "--verbose")
        ran = run("flops", "--config", path, "--format", "json")
        if ran.code == 0:
            json.loads(ran.out)


CASE = {
    "op": "attention", "shape": {"B": 1, "H": 2, "H_kv": 1, "N": 8, "S": 8, "d": 8}, "dtype": "bf16",
    "dtypes": {"cache": "int8"}, "causal": True, "window": 4, "impl": "flash", "protocol": "cold", "torch": "2.4",
    "direction": "forward", "comment": "word", "measured_us": 5.0, "error": "word", "flags": ["word"],
}  # fmt: skip


def test_every_value_and_key_of_a_case(tmp_path):
    path = tmp_path / "cases.jsonl"
    lines = [json.dumps(document) for document in (CASE, *spoiled(CASE))]
    path.write_text("\n".join(lines), encoding="utf-8")
    for form in FORMS:
        ran = run("predict", "--cases", path, "--gpu", "t4", "--format", form)
        assert ran.code == 1
        if form == "json":  # its texts are safe for a program that prints them
            check(json.dumps(json.loads(ran.out), ensure_ascii=False))
    run("explain", "--time", lines[-1], "--gpu", "t4")


ENVIRONMENT = {
    "device": "cuda", "gpu": "Tesla T4", "driver": "550", "cuda": "12.4", "torch": "2.4", "date": "2026-01-01",
    "python": "3.12", "method": 2, "perfmodel": "0", "streams": [{"byte": 12, "median_us": 5.0, "p25_us": 4.0, "p75_us": 6.0}],
}  # fmt: skip
RECORD = {
    "schema": 1, "op": "softmax", "shape": {"rows": 64, "cols": 64}, "dtype": "fp16", "impl": "torch",
    "protocol": "cold", "median_us": 50.0, "p25_us": 49.0, "p75_us": 51.0, "n": 9, "flags": ["noisy"],
}  # fmt: skip


def test_every_value_and_key_of_a_measurement(tmp_path):
    first = {"schema": 1, "environment": ENVIRONMENT}
    failed = {key: value for key, value in RECORD.items() if not key.endswith("_us")} | {"error": "out of memory"}
    runs = [(one, RECORD) for one in spoiled(first)]
    runs += [(first, one) for record in (RECORD, failed) for one in spoiled(record) if unshaken(one)]
    path, sound = tmp_path / "run.jsonl", {**RECORD, "shape": {"rows": 128, "cols": 128}}
    for lines in runs:
        path.write_text("\n".join(map(json.dumps, (*lines, sound))), encoding="utf-8")
        run("validate", "--from", path, "--gpu", "t4")
    for form in FORMS:
        run("validate", "--from", path, "--gpu", "t4", "--format", form)


def unshaken(record):
    """Whether the types of a record are those that a run writes: records with others have tests of their own."""
    return all(type(record.get(key)) is type(value) for key, value in RECORD.items() if key not in ("median_us", "p25_us", "p75_us"))  # fmt: skip


def test_every_value_of_readings(tmp_path):
    name = f"h200-sxm-141gb{paths.MEASURED}"
    document = plain(f"hardware/{name}")
    document["measured"] = {key: f"{value}{EVIL}" for key, value in document["measured"].items()}
    written(tmp_path / name, document)
    call = ("flops", "--config", "mlp-4096", "--gpu", "h200", "--hardware", tmp_path, "--verbose")
    assert run(*call).code == 0
    for one in list(spoiled(document))[::7]:
        written(tmp_path / name, one)
        run(*call)


def test_texts_of_the_library(tmp_path):
    card = package.hardware.gpu(str(written(tmp_path / "card.yaml", free(CARD))))
    check(repr(card) + card.title + "".join(card.notes) + str(card.sources))
    answer = package.analyse("mlp-4096", str(tmp_path / "card.yaml"))
    check(repr(answer) + answer._repr_html_() + answer.to_json())


def test_only_one_module_of_the_commands_prints():
    """It escapes control characters; a second way out would not."""
    for path in (Path(package.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", ""))
            assert name not in ("print", "secho") or path.name == "screen.py", f"{path.name}:{node.lineno}"
            assert not (name == "echo" and isinstance(called, ast.Attribute)) or path.name == "screen.py", path.name


def test_escaped_characters_are_readable():
    assert printable("a\x1b[1m\x07\x9b\u202e\ud800\n") == r"a\x1b[1m\x07\x9b\u202e\ud800\n"
    assert printable("a\nb", "\n") == "a\nb"
    assert printable("µ → ≤ …") == "µ → ≤ …"
