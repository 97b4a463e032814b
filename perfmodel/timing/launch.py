"""Launches: what a kernel costs before its first byte and after its last.

A graph's replay has a floor of its own, higher where the kernel's instructions must come from memory too (``cold``);
from one kernel of a graph to the next there is a gap. A kernel then fills its pipeline: addresses, a first access that
nothing hides, blocks that end. That is counted as some latencies of the memory that its first access goes to.
Launched one by one by the host (``eager``), a kernel starts no sooner than the host gets to it; by Python that takes
longer the more an operation checks and allocates (a module's call, a number beside a tensor: ``wrapped``), and the
host's way back hides a part of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.timing.card import Card
from perfmodel.timing.terms import Term

# Latencies of the level that a kernel's first access goes to, from its start to its full stream and back.
RAMP = 3.0
# What the host launches of a product: the library's own preparation leaves less for after the launch (``product``).
PRODUCTS = ("linear", "batch")


def ramp_s(card: Card, cold: bool) -> float:
    """The filling of a kernel's pipeline."""
    return RAMP * (card.dram_latency_s if cold else card.l2_latency_s)


def starts(card: Card, bodies: Sequence[float], protocol: str, kind: str = "any", *, far: int = 0) -> tuple[Term, ...]:
    """Launches and ramps around kernels of so many seconds each, ``far`` of which after the first begin with what memory
    holds; ``kind`` is what the host launches."""
    cold = protocol == "cold"
    between = len(bodies) - 1
    ramps = ramp_s(card, cold) + far * ramp_s(card, True) + (between - far) * ramp_s(card, False)
    if protocol == "eager":
        # While a kernel runs the host prepares the next: it shows only where a kernel is shorter than its launch.
        host_s = card.host_s.get(kind, card.host_s["any"])
        between_s = card.host_s.get("between", card.host_s["any"])
        waits = sum(max(card.node_s, between_s - seconds) for seconds in bodies[:-1])
        behind_s = card.host_s.get("product", card.host_hidden_s) if kind in PRODUCTS else card.host_hidden_s
        hidden_s = min(behind_s, ramps + sum(bodies))
        return Term("launch by the host", host_s + waits - hidden_s), Term("ramp", ramps)
    floor = Term("launch", card.cold_s if cold else card.warm_s)
    return (floor, *((Term("from kernel to kernel", between * card.node_s),) if between else ()), Term("ramp", ramps))
