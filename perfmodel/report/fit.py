"""Whether a workload fits on its card, as a note below a table and as part of a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfmodel.analysis import Analysis
from perfmodel.units import ITEM_BYTES

if TYPE_CHECKING:
    from perfmodel.footprint.resident import Resident


def fit_lines(answer: Analysis) -> list[str]:
    """Returns a sentence if the card is too small; otherwise, or without a card, an empty list."""
    if answer.gpu is None or certainly_fits(answer):
        return []
    from perfmodel.footprint.resident import resident

    return warned(resident(answer))


def warned(found: Resident | None) -> list[str]:
    """Returns the sentence of a memory estimate that does not fit."""
    return [f"Warning: {found.sentence}"] if found and found.sentence else []


def certainly_fits(answer: Analysis) -> bool:
    """Returns whether the card is certainly large enough, without a memory estimate.

    Everything in memory during a phase is a parameter, or was read or written at least once. Half of the capacity minus
    1 GB is less than any default reserve leaves. Importing the memory model would take 10 % of a short command.
    """
    assert answer.gpu is not None
    item = answer.dims.get("weight", ITEM_BYTES[answer.workload.dtypes["weight"]])
    most_byte = answer.total.traffic_byte + item * answer.parameters.total
    return bool(most_byte <= answer.gpu.capacity_byte.value / 2 - 1e9)


def fit_document(answer: Analysis) -> dict[str, Any]:
    """Returns the memory estimate of a workload on its card; empty if there is none."""
    if answer.gpu is None:
        return {}
    from perfmodel.footprint.resident import resident

    found = resident(answer)
    return {"memory": memory_document(found)} if found else {}


def memory_document(found: Resident) -> dict[str, Any]:
    """Returns bytes by kind and, with a card, the verdict and its sentence."""
    from perfmodel.footprint.lines import KINDS

    sums: dict[str, Any] = {f"{kind}_byte": found.of(kind) for kind in KINDS}
    sums["total_byte"] = found.byte
    if found.fits is None:
        return sums
    verdict = {"capacity_byte": found.capacity_byte, "reserve_byte": found.reserve_byte, "fits": found.fits}
    return {**sums, **verdict, "spare_byte": found.spare_byte, "sentence": found.sentence}
