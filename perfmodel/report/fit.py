"""Whether a workload fits on its card, as a note below a table and as a part of a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfmodel.analysis import Analysis
from perfmodel.units import ITEM_BYTES

if TYPE_CHECKING:
    from perfmodel.footprint.resident import Resident


def fit_lines(answer: Analysis) -> list[str]:
    """The sentence that a card is too small; nothing where it is not, or where there is no card."""
    if answer.gpu is None or certainly_fits(answer):
        return []
    from perfmodel.footprint.resident import resident

    found = resident(answer)
    return [f"NB {found.sentence}"] if found and found.sentence else []


def certainly_fits(answer: Analysis) -> bool:
    """Whether the card holds all that its kernels ever move, so that no account need be drawn up.

    Whatever lies in memory while a phase runs is a parameter, or was read or written at least once. Half of the
    capacity less 1 GB is below what any default reserve leaves. Loading the account takes a tenth of a short command.
    """
    assert answer.gpu is not None
    item = answer.dims.get("weight", ITEM_BYTES[answer.workload.dtypes["weight"]])
    most_byte = answer.total.traffic_byte + item * answer.parameters.total
    return bool(most_byte <= answer.gpu.capacity_byte.value / 2 - 1e9)


def fit_document(answer: Analysis) -> dict[str, Any]:
    """The memory of a workload on its card, where it has one and an account."""
    if answer.gpu is None:
        return {}
    from perfmodel.footprint.resident import resident

    found = resident(answer)
    return {"memory": memory_document(found)} if found else {}


def memory_document(found: Resident) -> dict[str, Any]:
    """Bytes by kind, and with a card the verdict and its sentence."""
    from perfmodel.footprint.lines import KINDS

    sums: dict[str, Any] = {f"{kind}_byte": found.of(kind) for kind in KINDS}
    sums["total_byte"] = found.byte
    if found.fits is None:
        return sums
    verdict = {"capacity_byte": found.capacity_byte, "reserve_byte": found.reserve_byte, "fits": found.fits}
    return {**sums, **verdict, "spare_byte": found.spare_byte, "sentence": found.sentence}
