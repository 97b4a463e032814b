"""A stored measurement of this example: its epochs, the row functions alone, and Amdahl's law with measured times."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from examples.fused_training.amdahl import Part

Line = dict[str, Any]
LAYERS = 6  # of encoder and of decoder


def read(path: Path | str) -> list[Line]:
    """Returns the lines of a record with a result, without the environment."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "kind" in line and "error" not in line]


def environment(path: Path | str) -> str:
    """Returns the GPU and the versions of a record as text."""
    with Path(path).open(encoding="utf-8") as file:
        found = json.loads(file.readline())["environment"]
    return f"{found['gpu']}, torch {found['torch']}, CUDA {found['cuda']}, driver {found['driver']}, {found['date']}"


def epochs(lines: Iterable[Line]) -> dict[tuple[str, int, int, str], dict[str, Line]]:
    """Returns the epochs of each setting (type, sentences, words, run), by way."""
    found: dict[tuple[str, int, int, str], dict[str, Line]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "epoch":
            found[line["dtype"], line["B"], line["N"], line["run"]][line["way"]] = line
    return dict(found)


Key = tuple[str, str, tuple[int, ...], str, str]


def alone(lines: Iterable[Line]) -> dict[Key, dict[str, float]]:
    """Returns the microseconds of each row function alone (op, direction, shape, type, protocol), by way."""
    found: dict[Key, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "kernel":
            key = line["op"], line["direction"], tuple(line["shape"]), line["dtype"], line["protocol"]
            found[key][line["way"]] = line["median_us"]
    return dict(found)


def parts(lines: Iterable[Line], dtype: str, B: int, N: int, heads: int = 8, width: int = 512) -> list[Part]:
    """Returns the row functions of a step, naive and fused: their times alone, times their calls."""
    calls = {"masked softmax": LAYERS, "softmax": 2 * LAYERS, "LayerNorm": 5 * LAYERS + 2}
    times = alone(lines)
    found = []
    for op, number in calls.items():
        shape = (B * N, width) if op == "LayerNorm" else (B, heads, N, N)
        for direction in ("forward", "backward"):
            ways = times[op, direction, shape, dtype, "warm"]
            found.append(Part(f"{op} {direction}", number * ways["naive"] * 1e-6, number * ways["fused"] * 1e-6))
    return found


def apart(one: Line, other: Line) -> float:
    """Returns the largest relative difference of the losses of two epochs."""
    return max(abs(a - b) / abs(b) for a, b in zip(one["losses"], other["losses"], strict=True))
