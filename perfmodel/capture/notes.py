"""Notes on a captured program: loops of small calls, and gradients that are not used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from perfmodel.programs.program import Step

MANY = 1000  # calls of one module


def remarks(steps: Iterable[Step], result: Any) -> Iterator[str]:
    """Yields one sentence for each."""
    steps = list(steps)
    if not steps:
        yield "Nothing runs on the card. Pass the tensors as arguments, or make them with device='cuda'."
    yield from _loops(steps)
    if _keeps_gradients(result) and not any(step.phase == "backward" for step in steps):
        yield "Gradients are enabled: intermediate results stay in memory. Capture inference under torch.no_grad()."


def _loops(steps: list[Step]) -> Iterator[str]:
    """Returns notes on modules that make many calls of few kinds. Modules with one name in all layers share a note."""
    calls, kinds = Counter(step.module for step in steps), {(step.module, step.call.name) for step in steps}
    found: dict[str, int] = {}
    for module, count in calls.items():
        if count > MANY and count > 10 * sum(name == module for name, _ in kinds):
            path = re.sub(r"\b\d+\b", "*", module) or "the program"
            found[path] = found.get(path, 0) + count
    for path, count in found.items():
        what = "experts" if re.search("expert|moe", path) else "parts"
        yield f"{count:,} calls in {path}: this implementation loops over {what}."


def _keeps_gradients(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.requires_grad)
    if isinstance(value, dict):
        return any(_keeps_gradients(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_keeps_gradients(item) for item in value)
