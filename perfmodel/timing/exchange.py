"""A collective as one kernel of a sequence: its time without the launch, which the sequence adds."""

from __future__ import annotations

from perfmodel import systems
from perfmodel.op import Op
from perfmodel.runs import Collective
from perfmodel.timing.card import Card
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.launch import ramp_s
from perfmodel.timing.part import Part
from perfmodel.timing.terms import Body, Term


def exchange(card: Card, fact: Collective, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One kernel of the library. NB memory and L2 do not limit it, because they are faster than any link."""
    system = card.system or systems.default(card.gpu)
    forced = "" if fact.chosen else fact.algorithm
    found = collective_s(system, card.gpu, fact.kind, int(fact.byte), int(fact.gpus), algorithm=forced)
    around_s = card.graph_s + ramp_s(card, far=False)
    terms = tuple(
        Term("collective kernel", max(0.0, term.seconds - around_s)) if term.name == "launch" else term
        for term in found.terms
    )
    seconds = sum(term.seconds for term in terms)
    choice = " ".join(filter(None, (found.algorithm, found.protocol)))
    body = Body(seconds, terms, "collective", choice)
    return (Part(lambda _: body, op.traffic_byte()),)


MECHANISMS = {Collective: exchange}
