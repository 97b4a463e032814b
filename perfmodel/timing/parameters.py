"""The figures of a card in three states of knowledge.

``datasheet``: the data sheet, and rounded factors that hold for most cards. ``family``: factors and library behaviour
fitted on cards of the same generation (``families``). ``calibrated``: the card's own measured ceilings; all other
figures, such as the tiles of a library, are those of the family.
"""

from perfmodel import measured
from perfmodel.errors import InputError, did_you_mean, shown
from perfmodel.hardware import Gpu
from perfmodel.paths import label, report
from perfmodel.timing.card import Card
from perfmodel.timing.factors import from_family, with_readings
from perfmodel.timing.families import ANY, family, generation

KNOWLEDGE = ("datasheet", "family", "calibrated")


def best_knowledge(gpu: Gpu) -> str:
    """The best state of knowledge that a card has."""
    if measured.of(gpu) is not None:
        return "calibrated"
    return "family" if generation(gpu) != ANY else "datasheet"


def card(gpu: Gpu, knowledge: str | None = None) -> Card:
    """Returns the card at a state of knowledge, by default the best."""
    best = best_knowledge(gpu)
    if knowledge is not None and knowledge not in KNOWLEDGE:
        raise InputError(
            f"knowledge {shown(knowledge)}", "it is not a state", f"{', '.join(KNOWLEDGE)} are accepted",
            did_you_mean(knowledge, KNOWLEDGE),
        )  # fmt: skip
    chosen = knowledge or best
    if KNOWLEDGE.index(chosen) > KNOWLEDGE.index(best):
        raise InputError(
            f"{label(gpu.file)}: knowledge {chosen}",
            f"the card is known by its {best} alone",
            f"{', '.join(KNOWLEDGE[: KNOWLEDGE.index(best) + 1])} are accepted",
            "Measure it with 'perfmodel calibrate'." if chosen == "calibrated" else "Leave the option out.",
        )
    return _card(chosen, gpu)


_CARDS: list[tuple[Gpu, str, measured.Measured | None, Card]] = []
REMEMBERED = 64


def _card(knowledge: str, gpu: Gpu) -> Card:
    """Returns the card, made once for equal contents: a path may hold different files over time."""
    readings = measured.of(gpu) if knowledge == "calibrated" else None
    if readings is not None:
        report(f"readings of {gpu.name}", readings.file)
    for known in _CARDS:
        if known[1] == knowledge and known[0] == gpu and known[2] == readings:
            return known[3]
    found = from_family(gpu, knowledge, family(ANY if knowledge == "datasheet" else generation(gpu)))
    found = with_readings(found, readings) if readings else found
    del _CARDS[: len(_CARDS) + 1 - REMEMBERED]
    _CARDS.append((gpu, knowledge, readings, found))
    return found
