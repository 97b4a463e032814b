"""Models and plans from the arguments of commands and library functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perfmodel import systems
from perfmodel.errors import InputError, did_you_mean
from perfmodel.hardware import Gpu
from perfmodel.plans.plan import INTERLEAVED, Plan
from perfmodel.plans.step import Model
from perfmodel.workload import Workload


def plan_of(fields: Mapping[str, Any]) -> Plan:
    """The plan of the given fields; several chunks per stage select the interleaved schedule."""
    unknown = next((name for name in fields if name not in Plan._fields), None)
    if unknown is not None:
        raise InputError(f"plan: {unknown}", "it is not a field of a plan", f"{', '.join(Plan._fields)} are accepted",
                         did_you_mean(unknown, Plan._fields))  # fmt: skip
    chunks = {"schedule": INTERLEAVED} if fields.get("virtual", 1) > 1 and "schedule" not in fields else {}
    return Plan(**{**fields, **chunks})


def model(
    workload: Workload, gpu: Gpu, system: str | None, phase: str | None, settings: Mapping[str, Any], **options: Any
) -> Model:
    """The model of a workload on a GPU, in the system of that name or the GPU's first."""
    return Model(workload, phase or workload.default_phase, gpu, systems.of(gpu, system), settings, **options)


def models(
    workload: Workload, gpu: Gpu, system: str | None, phase: str | None, settings: Mapping[str, Any], **options: Any
) -> Callable[[int], Model]:
    """A function from a global batch to the model with it, 0 for the given batch. Prices are shared."""
    first = model(workload, gpu, system, phase, settings, **options)

    def at(batch: int) -> Model:
        if batch in (0, first.shape.batch):
            return first
        return Model(workload, first.phase, gpu, first.system, {**settings, "B": batch}, prices=first.prices, **options)

    return at
