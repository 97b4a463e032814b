"""JSON schemas of the documents that ``--format json`` prints: docs/schema/NAME.schema.json.

A schema is derived from real documents: the types of every field, and the fields that all of them have. Descriptions come from
the tables of docs/json.md. ``python tests/refresh_docs.py`` writes the files again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pages
from command import perfmodel

FOLDER = pages.ROOT / "docs" / "schema"
CASE = '{"op": "softmax", "shape": {"rows": 8192, "cols": 1024}, "dtype": "fp16", "measured_us": 40}'
UNTIMED = '{"op": "matmul", "shape": {"m": 64, "k": 64, "n": 64}, "dtype": "bf16"}'
WRONG = '{"op": "softmax", "shape": {"rows": 0, "cols": 1}}'
TRACES = "benchmarks/results/traces"
# A schema, and the commands whose documents it describes. ``CASES`` stands for a file of cases, ``UNTIMED`` for one case.
COMMANDS = {
    "flops": (
        "flops --config gpt2-124m", "flops --config deepseek-v2-lite --gpu a100 --phase decode",
        "flops --config gpt2-124m --gpu a100 --phase train", "flops --config llama-2-7b-layer --gpu t4 --phase decode --unfused",
        "flops --op softmax --gpu h200", "flops --config llama-3-70b --gpu t4",
    ),
    "flops-symbolic": ("flops --config mlp-4096 --symbolic", "flops --config gpt2 --symbolic"),
    "flops-products": ("flops --config decoder-block --products", "flops --config llama-3-8b --products"),
    "flops-plan": (
        "flops --config gpt2 --gpu a100 --tp 2", "flops --config gpt2 --gpu a100 --pp 2 --phase train --set B=4",
    ),
    "compare": ("compare --config gpt2 --config gpt2-xl --gpu t4 --gpu a100", "compare --config gpt2 --gpu t4 --speedup attention=2",
        "compare --config mlp-4096 --gpu t4"),
    "memory": (
        "memory --config gpt2 --gpu t4 --phase train --set B=64", "memory --config gpt2 --gpu t4 --solve B", "memory --config gpt2",
        "memory --config gpt2 --phase train --gpu a100 --gpus 4 --zero 3 --recompute full",
    ),
    "solve": ("solve --op linear --gpu a100 --for N", "solve --op all_reduce --gpu a100 --for byte", "solve --config mlp-4096 --gpu t4 --for N"),
    "predict": ("predict --cases CASES --gpu t4", "predict --cases cases --gpu h200"),
    "explain-time": ("explain --time CASES --gpu t4", "explain --time CASES --gpu h200", "explain --time UNTIMED --gpu t4"),
    "check": ("check --from CASES --gpu a100 --min 0.5", f"check --trace {TRACES}/llama-decode-graph.json.gz --min 0.1"),
    "validate": ("validate --from benchmarks/results/h100-quick.jsonl", "validate --from benchmarks/results/h200-drawn.jsonl"),
    "trace": (f"trace {TRACES}/bert-inference.json.gz", f"trace {TRACES}/llama-decode-graph.json.gz"),
    "scale": (
        "scale --config gpt2 --gpu a100 --over gpus=1:4:x2 --strong --phase train --set B=4",
        "scale --config gpt2 --gpu a100 --over gpus=1:4:x2 --weak",
    ),
    "plan": ("plan --config gpt2 --gpu a100 --gpus 2 --phase train --set B=4",),
    "serve": (
        "serve --config gpt2 --gpu a100 --output 64 --prompt 256 --rate 1 --ttft 1 --draft gpt2", "serve --config gpt2 --gpu a100",
        "serve --config llama-2-7b --gpu a100 --rate 1 --disaggregated network",
    ),
    "occupancy": ("occupancy --gpu a100 --threads 256 --registers 80", "occupancy --gpu h100 --threads 32 --registers 16 --shared 48Ki"),
    "gpus": ("gpus",), "systems": ("systems",), "models": ("models",), "ops": ("ops",), "symbols": ("symbols",),
}  # fmt: skip
# Fields whose keys are names: of sizes, tensors, primitives, forms or figures, or the keys of a case.
OPEN = {"dims", "work", "tensors", "forms", "shape", "sizes", "dtypes", "figures", "formulas", "terms", "plan", "differs",
        "engines", "peak_byte_by_role", "environment", "words", "request"}  # fmt: skip


def path(name: str) -> Path:
    """The file of a schema."""
    return FOLDER / f"{name}.schema.json"


def documents(name: str, folder: Path) -> Iterator[Any]:
    """The documents that the commands of a schema print; ``folder`` takes the file of cases."""
    cases = folder / "schema-cases.jsonl"
    cases.write_text("\n".join((CASE, UNTIMED, WRONG)) + "\n", encoding="utf-8")
    timed = folder / "schema-timed.jsonl"
    timed.write_text(CASE + "\n", encoding="utf-8")
    for line in COMMANDS[name]:
        file = cases if name == "predict" else timed
        words = [{"CASES": str(file), "UNTIMED": UNTIMED}.get(word, word) for word in line.split()]
        ran = perfmodel(
            *(str(pages.ROOT / word) if word.startswith("benchmarks/") else word for word in words), "--format", "json"
        )
        if not ran.out:
            raise SystemExit(f"{line}: {ran.err}")
        yield json.loads(ran.out)


def schema(name: str, found: Iterable[Any]) -> dict[str, Any]:
    """The schema of documents, with the descriptions of the fields."""
    meanings = described(name.partition("-")[0])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"perfmodel {name.replace('-', ' --', 1) if name.startswith(('flops-', 'explain-')) else name} --format json",
        **_merged(list(found), meanings),
    }  # fmt: skip


def described(command: str) -> dict[str, str]:
    """The meanings of fields in docs/json.md: those that several documents have, and those of the sections of a command."""
    found: dict[str, str] = {}
    for section in pages.read("docs/json.md").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        if not heading.startswith("Fields") and f"`{command}" not in heading:
            continue
        for names, meaning in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|$", body, re.MULTILINE):
            plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", meaning).replace("`", "")
            for name, own in _shared(re.findall(r"`(\w+)`", names), plain):
                found.setdefault(name, own)
    return found


def _shared(names: list[str], meaning: str) -> Iterator[tuple[str, str]]:
    """A row of several fields lists their meanings in order, or has one for all of them."""
    parts = next(
        (parts for mark in ("; ", ", ") if len(parts := meaning.split(mark)) == len(names)), [meaning] * len(names)
    )
    yield from zip(names, parts, strict=True)


def _merged(values: list[Any], meanings: dict[str, str], name: str = "") -> dict[str, Any]:
    """The schema of a field from all its values."""
    types = sorted({_type(value) for value in values})
    if "integer" in types and ("number" in types or name.endswith(("_s", "_share", "_per_hour"))):
        types = sorted({*types, "number"} - {"integer"})
    if types == ["null"]:  # no document shows what else it can be
        types = []
    found: dict[str, Any] = {"type": types[0] if len(types) == 1 else types} if types else {}
    if name in meanings:
        found["description"] = meanings[name]
    objects = [value for value in values if isinstance(value, dict)]
    inner = [item for value in values if isinstance(value, list) for item in value]
    if objects and name in OPEN:
        found["additionalProperties"] = _merged([item for value in objects for item in value.values()], meanings)
    elif objects:
        keys = dict.fromkeys(key for value in objects for key in value)
        inside = {} if name == "gpu" else meanings  # its fields have the names of others
        found["properties"] = {
            key: _merged([value[key] for value in objects if key in value], inside, key) for key in keys
        }
        found["required"] = [key for key in keys if all(key in value for value in objects)]
    if inner:
        found["items"] = _merged(inner, meanings)
    return found


def _type(value: Any) -> str:
    names = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
        type(None): "null",
    }
    return names[type(value)]


def errors(value: Any, rule: dict[str, Any], where: str = "$") -> Iterator[str]:
    """The places at which a document breaks a schema."""
    types = rule.get("type", [])
    types = [types] if isinstance(types, str) else types
    kind = _type(value)
    if types and kind not in types and not (kind == "integer" and "number" in types):
        yield f"{where}: {kind} in place of {types}"
        return
    if isinstance(value, dict):
        yield from (f"{where}.{key}: missing" for key in rule.get("required", ()) if key not in value)
        for key, item in value.items():
            yield from errors(
                item, rule.get("properties", {}).get(key, rule.get("additionalProperties", {})), f"{where}.{key}"
            )
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from errors(item, rule.get("items", {}), f"{where}[{at}]")


def text(name: str, folder: Path) -> str:
    """The file of a schema as it should be today."""
    return json.dumps(schema(name, documents(name, folder)), indent=1, ensure_ascii=False) + "\n"
