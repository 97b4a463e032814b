"""Measured limits of the links between the ranks of torchrun, for the file of ``perfmodel calibrate``."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from perfmodel import patterns
from perfmodel.measure.ceilings import Ceiling
from perfmodel.measure.collectives import Call
from perfmodel.measure.ranked import records
from perfmodel.measure.ranks import Ranks
from perfmodel.measured import Reading

SMALL = 1 << 10
LARGE = (1 << 28, 1 << 30)  # two sizes, so that the latency cancels
LARGE_OF_HOSTS = (1 << 22, 1 << 24)


def measure(ranks: Ranks) -> Iterator[Ceiling]:
    """Yields the launch and hop latency and the rates of a ring and of a message, on all ranks alike.

    A small all-gather takes launch + (p - 1) hops, a small all-reduce launch + 2 (p - 1) hops. Rates are the bytes that
    a rank sends more for the larger tensor, divided by the time that it takes longer. The ring is the all-reduce's.
    """
    p = ranks.size
    gather, reduce = _times(ranks, patterns.ALL_GATHER, SMALL), _times(ranks, patterns.ALL_REDUCE, SMALL)
    hops = [max(1e-9, (two - one) / (p - 1)) for one, two in zip(gather, reduce, strict=True)]
    launches = [max(1e-9, one - (p - 1) * hop) for one, hop in zip(gather, hops, strict=True)]
    note = f"{p} ranks"
    yield Ceiling("links", "ring", _rate(ranks, patterns.ALL_REDUCE, 2 * (p - 1) / p, note))
    yield Ceiling("links", "message", _rate(ranks, patterns.SEND_RECV, 1.0, note))
    yield Ceiling("link latency", "launch", _reading(launches, note))
    yield Ceiling("link latency", "hop", _reading(hops, note))


def _reading(values: list[float], note: str) -> Reading:
    return Reading(median(values), min(values), max(values), note)


def _rate(ranks: Ranks, kind: str, sent: float, note: str) -> Reading:
    """The rate of one rank, if it sends ``sent`` bytes per byte of its tensor."""
    sizes = LARGE if ranks.cuda else LARGE_OF_HOSTS
    low, high = (_times(ranks, kind, byte) for byte in sizes)
    more = sent * (sizes[1] - sizes[0])
    return _reading([more / max(1e-9, b - a) for a, b in zip(low, high, strict=True)], note)


def _times(ranks: Ranks, kind: str, byte: int) -> list[float]:
    """Median and quartiles of a collective in seconds, warm on GPUs."""
    unit = 16 * ranks.size
    words = {"dtype": "bf16", "protocol": "warm"} if ranks.cuda else {"dtype": "fp32", "protocol": "eager"}
    line: dict[str, Any] = {"op": kind, "shape": {"byte": -(-byte // unit) * unit, "gpus": ranks.size}, **words}
    (found,) = records(ranks, [line], Call)
    if "error" in found:
        raise RuntimeError(f"{kind}: {found['error']}")
    return [found[name] * 1e-6 for name in ("median_us", "p25_us", "p75_us")]
