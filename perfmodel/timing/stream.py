"""Streams: the time to move bytes between memory and the multiprocessors.

A long stream runs at a rate that depends on its mix of reads and writes, because the memory bus switches direction
between them. The card's rates are known for reads alone, two reads per write, one to one, and writes alone; other mixes
are interpolated. Some of the last writes are still in L2 when the kernel ends: the next kernel waits for them. In a
warm run, inputs that fit are in L2 from the run before. Of a working set that exceeds the effective capacity, a smaller
share stays in L2. (The effective capacity is half of the chip's L2 where two partitions each keep a copy.)
"""

from typing import NamedTuple

from perfmodel.arithmetic import Size, anywhere, maximum, minimum, where
from perfmodel.timing.card import Card
from perfmodel.timing.weights import Mechanism

_data = Mechanism("stream")
NOTHING_LEFT, HELD_BACK, LAZY = _data.weights("nothing left", "held back", "lazy")
THROUGH = _data.group("through")  # of the read rate of L2, by generation
L2_WRITE, L2_FILL, NEAR = _data.weights("l2 write", "l2 fill", "near")


class Moved(NamedTuple):
    """Seconds that memory and L2 take for a kernel's bytes."""

    dram_s: Size
    l2_s: Size


def kept(card: Card, working_byte: Size) -> Size:
    """Returns the share of a working set that the next run finds in L2."""
    over = working_byte / card.l2_byte
    return minimum(1.0, maximum(0.0, (NOTHING_LEFT - over) / (NOTHING_LEFT - 1.0)))


def kept_between(card: Card, first_byte: float, last_byte: float) -> float:
    """Returns the mean of ``kept`` over working sets from ``first_byte`` to ``last_byte``."""
    low, high = sorted((first_byte / card.l2_byte, last_byte / card.l2_byte))
    if high - low < 1e-6:
        return float(kept(card, first_byte))
    return (_kept_up_to(high) - _kept_up_to(low)) / (high - low)


def _kept_up_to(over: float) -> float:
    """The integral of ``kept`` from 0, over working sets in effective capacities."""
    falling = min(NOTHING_LEFT, max(1.0, over))
    width = NOTHING_LEFT - 1.0
    return min(1.0, over) + (width**2 - (NOTHING_LEFT - falling) ** 2) / (2.0 * width)


def rate(card: Card, read_byte: Size, write_byte: Size) -> Size:
    """Bytes per second of a long stream with this mix of reads and writes."""
    share = write_byte / (read_byte + write_byte)
    reading = card.read_byte_per_s + (card.add_byte_per_s - card.read_byte_per_s) * share * 3
    adding = card.add_byte_per_s + (card.copy_byte_per_s - card.add_byte_per_s) * (share * 6 - 2)
    writing = card.copy_byte_per_s + (card.write_byte_per_s - card.copy_byte_per_s) * (share * 2 - 1)
    return where(share <= 1 / 3, reading, where(share <= 1 / 2, adding, writing))


def held_byte(card: Card, read_byte: Size, write_byte: Size, byte_per_s: Size) -> Size:
    """Bytes that are still in L2, not yet written back, when a stream of this rate ends.

    A stream passes through L2 faster than memory takes it, until L2 holds as many dirty lines as it may. Where its rate
    through L2 is unknown, a share of the writes is held.
    """
    behind = LAZY * write_byte
    if card.through_byte_per_s:
        share = maximum(0.0, 1.0 - byte_per_s / card.through_byte_per_s)
        behind = minimum(share * (read_byte + write_byte), write_byte)
    return minimum(behind, HELD_BACK * card.l2_byte)


def moved(card: Card, read_byte: Size, write_byte: Size, found: Size = 0.0) -> Moved:
    """Seconds for bytes read and written once, of which L2 holds the share ``found``."""
    if read_byte + write_byte <= 0:
        return Moved(0.0, 0.0)
    byte_per_s = rate(card, read_byte, write_byte)
    from_memory = (read_byte + write_byte - held_byte(card, read_byte, write_byte, byte_per_s)) * (1.0 - found)
    return Moved(from_memory / byte_per_s, (read_byte + write_byte) / card.l2_byte_per_s)


def first_latency_s(card: Card, found: Size) -> Size:
    """The latency of the level that a kernel's first access reads."""
    return where(found < NEAR, card.dram_latency_s, card.l2_latency_s)


def late_s(card: Card, read_byte: Size, write_byte: Size) -> Size:
    """DRAM time to write back the lines that are still dirty in L2 when the kernel ends."""
    return in_memory(card, read_byte, write_byte)[1]


def in_memory(card: Card, read_byte: Size, write_byte: Size) -> tuple[Size, Size]:
    """Seconds of memory for a stream, and those of them in which it writes back lines after the kernel's end."""
    some = read_byte + write_byte > 0
    if not anywhere(some):
        return 0.0, 0.0
    byte_per_s = rate(card, read_byte, write_byte)
    late_byte = held_byte(card, read_byte, write_byte, byte_per_s)
    return where(some, (read_byte + write_byte) / byte_per_s, 0.0), where(some, late_byte / byte_per_s, 0.0)


def through_l2(card: Card, read_byte: Size, write_byte: Size) -> tuple[Size, Size]:
    """Seconds for reads and for writes through L2; the write path is the narrower one."""
    share = L2_WRITE if read_byte else L2_FILL
    return read_byte / card.l2_byte_per_s, write_byte / (share * card.l2_byte_per_s)
