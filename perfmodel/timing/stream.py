"""Streams: what bytes cost between the memory and the multiprocessors.

A long stream runs at the rate that its mix of reads and writes leaves (memory turns its bus between them): the card's
rates for reads alone, two reads to a write, one to one, and writes alone, and between them in proportion. A part of the
last writes is still in L2 when the kernel ends: that costs it nothing, but whoever runs next. In a warm run inputs that fit are in L2 from the run
before; a working set that grows over the effective capacity (half of the chip's where it is two partitions that each
keep a copy) leaves less and less of itself behind.
"""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.timing.card import Card

# Where a working set has outgrown L2 so far that a next run over it finds nothing.
NOTHING_LEFT = 1.6
# Of L2's effective capacity, what dirty lines may hold back when a kernel ends.
HELD_BACK = 0.6
# Of the writes, the share that can be held back while the stream runs.
LAZY = 0.23
# Writes into L2 over reads from it, in bytes a second (an H200's warm elementwise kernels).
L2_WRITE = 0.39


class Moved(NamedTuple):
    """Seconds that the memory and the L2 take for a kernel's bytes."""

    dram_s: float
    l2_s: float


def kept(card: Card, working_byte: float) -> float:
    """The share of a working set that a next run still finds in L2."""
    over = working_byte / card.l2_byte
    return min(1.0, max(0.0, (NOTHING_LEFT - over) / (NOTHING_LEFT - 1.0)))


def rate(card: Card, read_byte: float, write_byte: float) -> float:
    """Bytes per second of a long stream of that mix."""
    share = write_byte / (read_byte + write_byte)
    if share <= 1 / 3:
        return card.read_byte_per_s + (card.add_byte_per_s - card.read_byte_per_s) * share * 3
    if share <= 1 / 2:
        return card.add_byte_per_s + (card.copy_byte_per_s - card.add_byte_per_s) * (share * 6 - 2)
    return card.copy_byte_per_s + (card.write_byte_per_s - card.copy_byte_per_s) * (share * 2 - 1)


def moved(card: Card, read_byte: float, write_byte: float, found: float = 0.0) -> Moved:
    """Bytes read and written once, of which the share ``found`` lies in L2."""
    if read_byte + write_byte <= 0:
        return Moved(0.0, 0.0)
    held = min(LAZY * write_byte, HELD_BACK * card.l2_byte)
    from_memory = (read_byte + write_byte - held) * (1.0 - found)
    return Moved(from_memory / rate(card, read_byte, write_byte), (read_byte + write_byte) / card.l2_byte_per_s)


# A kernel that finds so much of its bytes in L2 begins there.
NEAR = 0.5


def first_latency_s(card: Card, found: float) -> float:
    """Of the level that a kernel's first access goes to."""
    return card.dram_latency_s if found < NEAR else card.l2_latency_s


def late_s(card: Card, read_byte: float, write_byte: float) -> float:
    """What of a kernel's writes is still in L2 at its end, in seconds of memory."""
    held = min(LAZY * write_byte, HELD_BACK * card.l2_byte)
    return held / rate(card, read_byte, write_byte) if held else 0.0


def through_l2(card: Card, read_byte: float, write_byte: float) -> tuple[float, float]:
    """Seconds in and out: the way from the multiprocessors to L2 is the narrower one."""
    return read_byte / card.l2_byte_per_s, write_byte / (L2_WRITE * card.l2_byte_per_s)
