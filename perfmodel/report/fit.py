"""Whether a workload fits on its card, as a note below a table and as a part of a JSON document."""

from __future__ import annotations

from typing import Any

from perfmodel.analysis import Analysis
from perfmodel.memory.lines import KINDS
from perfmodel.memory.resident import Resident, resident


def fit_lines(answer: Analysis) -> list[str]:
    """The sentence that a card is too small; nothing where it is not, or where there is no card."""
    found = resident(answer) if answer.gpu else None
    return [f"NB {found.sentence}"] if found and found.sentence else []


def fit_document(answer: Analysis) -> dict[str, Any]:
    """The memory of a workload on its card, where it has one and an account."""
    found = resident(answer) if answer.gpu else None
    return {"memory": memory_document(found)} if found else {}


def memory_document(found: Resident) -> dict[str, Any]:
    """Bytes by kind, and with a card the verdict and its sentence."""
    sums: dict[str, Any] = {f"{kind}_byte": found.of(kind) for kind in KINDS}
    sums["total_byte"] = found.byte
    if found.fits is None:
        return sums
    verdict = {"capacity_byte": found.capacity_byte, "reserve_byte": found.reserve_byte, "fits": found.fits}
    return {**sums, **verdict, "spare_byte": found.spare_byte, "sentence": found.sentence}
