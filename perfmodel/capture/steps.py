"""Programs of step cases: the code of transformers on one rank."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from perfmodel.errors import InputError, PerfmodelError, one_line
from perfmodel.measure.environment import installed_torch
from perfmodel.programs.program import Program
from perfmodel.step_cases import StepCase

TORCH_TYPES: Mapping[str, str] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def program(case: StepCase) -> Program:
    """Returns the program of one rank: its share of the batch, without communication."""
    if installed_torch() is None:
        raise InputError(
            f"{case.where}: impl", "torch is not installed", "a program of transformers is captured by torch",
            "Run 'pip install torch transformers'.",
        )  # fmt: skip
    sizes = {**case.shape, "B": case.shape["B"] // case.plan.dp}
    try:
        return _captured(case.file, case.config, case.phase, tuple(sorted(sizes.items())), case.dtype)
    except PerfmodelError:
        raise
    except Exception as error:  # code of transformers raises any type
        raise InputError(
            f"{case.where}: config", one_line(f"transformers cannot run it: {type(error).__name__}: {error}", 200),
            "a model that runs on tensors without data is accepted",
        ) from None  # fmt: skip


@lru_cache(maxsize=8)
def _captured(file: str, config: str, phase: str, sizes: tuple[tuple[str, int], ...], dtype: str) -> Program:
    """A step on the meta device; data parallelism in other forms shares it."""
    from perfmodel.capture import capture
    from perfmodel.capture.models import step

    given: dict[str, Any] = dict(sizes)
    layers = given.pop("L", None)
    run = step(file, phase, **given, dtype=TORCH_TYPES[dtype], layers=layers)
    words = ", ".join(f"{name} = {value}" for name, value in sizes)
    return capture(run, name=f"{config}: {phase}, {words}, {dtype}")
