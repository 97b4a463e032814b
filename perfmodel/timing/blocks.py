"""Blocks: a kernel as a crowd of blocks, of which each multiprocessor seats so many at once.

Blocks pass through the card in turns. While a block sits it goes through a chain that nothing shortens: it asks the
memory and waits, once for every load that depends on the one before; it computes; its threads meet at barriers.
Meanwhile all seated blocks share what is common. So four clocks run at once, and the slowest is the time:

- Memory: bytes at the rate of their mix. A block that goes over its row again finds it on the chip while the rows in
  work fit there; else the memory brings it once more.
- L2: every byte passes it, and written ones through a way that is narrower than the one for reads.
- Instructions: four schedulers a multiprocessor, one instruction of a warp a clock each (half of that for fp32 where
  the lanes are only half as many).
- Chain: turns of blocks times the life of a block. Few or slow blocks cannot ask for enough bytes: Little's law.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from perfmodel.timing.card import Card
from perfmodel.timing.stream import kept, late_s, rate, through_l2
from perfmodel.timing.terms import Body, overlapped

SCHEDULERS, WARP = 4, 32
SEATS = 32  # blocks of a multiprocessor at most
THREADS = 2048  # of a multiprocessor, where the sheet has no figure
# Fitted on an H200's row kernels of torch (2026-11): waits under load over a lonely one, clocks from an instruction to
# one that needs its result, clocks of a barrier, and how well the four clocks hide behind each other.
WAIT = 0.98
CHAIN_CLOCKS = 4.4
BARRIER_CLOCKS = 150.0
SHARPNESS, PHASED, CROWD = 6.0, 2.3, 0.032
# Of the instructions, the share that needs an fp32 lane.
FP32 = 0.2
# Of a multiprocessor's own cache, the share that rows in work find free; what a result pushes out of L2, in bytes of it;
# a wait for the own cache in waits for L2.
NEAR_SHARE, RESULTS, NEAR_WAIT = 0.9, 0.75, 0.21


class Launch(NamedTuple):
    """One kernel: its blocks, the bytes of all of them, the instructions of a thread.

    ``path``: instructions of the busiest thread, where others idle. ``waits``: loads of a block that depend on one
    another; ``near_waits`` those for what was read before, ``again_byte`` in all, ``held_byte`` a block. ``seats``:
    blocks of a multiprocessor where registers or shared memory allow fewer than threads do.
    """

    name: str
    blocks: int
    threads: int
    read_byte: float
    write_byte: float
    instructions: float
    waits: float = 1.0
    barriers: float = 0.0
    path: float = 0.0
    near_waits: float = 0.0
    again_byte: float = 0.0
    held_byte: float = 0.0
    seats: int = 0
    mechanism: str = "rows"


# torch's elementwise kernels: so many threads a block, and so many bytes of the result a thread;
# and the most tensors of a result's size that one reads.
STREAM_THREADS, STREAM_BYTE, MOST_READ = 128, 16, 3


def elementwise(card: Card, read_byte: float, write_byte: float, lanes: float, found: float, choice: str = "") -> Body:
    """An elementwise kernel of so many instructions in all: bytes once in and out, no block waits for another."""
    # Where the result is far smaller, as a truth value or a sum of each, threads are dealt out by what they read.
    dealt = write_byte if MOST_READ * write_byte >= read_byte else read_byte
    blocks = max(1, ceil(dealt / (STREAM_THREADS * STREAM_BYTE)))
    each = lanes / max(1.0, dealt / STREAM_BYTE)
    launch = Launch(choice, blocks, STREAM_THREADS, read_byte, write_byte, each, mechanism="stream")
    return body(card, launch, found)


def body(card: Card, launch: Launch, found: float) -> Body:
    """The time of a kernel of which L2 holds the share ``found`` of the bytes."""
    seats = seated(card, launch)
    at_once = min(launch.blocks, card.multiprocessors * seats)
    each = ceil(launch.blocks / card.multiprocessors)
    near, lost = _again(card, launch, at_once, each, seats)
    read, write = launch.read_byte * (1.0 - found), launch.write_byte * (1.0 - found)
    more = launch.again_byte * lost
    late = late_s(card, read + more, write)
    dram_s = (read + more + write) / rate(card, read + more, write) if read + more + write else 0.0
    into_s, out_s = through_l2(card, launch.read_byte + (0.0 if near else launch.again_byte), launch.write_byte)
    warps = ceil(launch.threads / WARP)
    slots = launch.instructions * warps / SCHEDULERS * slowness(card)
    latency_s = WAIT * ((1.0 - found) * card.dram_latency_s + found * card.l2_latency_s)
    again_s = WAIT * card.l2_latency_s * NEAR_WAIT
    if not near:
        again_s = WAIT * ((1.0 - lost) * card.l2_latency_s + lost * card.dram_latency_s)
    life_s = (
        launch.waits * latency_s
        + launch.near_waits * again_s
        + (max(max(launch.path, launch.instructions) * CHAIN_CLOCKS, slots) + launch.barriers * BARRIER_CLOCKS)
        / card.clock_hz
    )
    turns = max(1.0, each / seats)
    clocks = (
        ("L2", into_s + out_s if each <= seats else max(into_s, out_s)),
        ("instructions", each * slots / card.clock_hz),
        ("chain of a block", life_s * (ceil(turns) if turns < FEW_TURNS else turns)),
    )
    sharpness = PHASED + CROWD * seats if launch.barriers else SHARPNESS
    seconds, terms = overlapped((("memory", dram_s - late), *clocks), sharpness)
    all_s = overlapped((("memory", dram_s), *clocks), sharpness)[0] if late else seconds
    return Body(seconds, terms, launch.mechanism, launch.name, all_s - seconds)


FEW_TURNS = 4


def seated(card: Card, launch: Launch) -> int:
    """Blocks of this kernel on a multiprocessor at once."""
    seats = max(1, min(SEATS, int(card.of_each("threads", THREADS)) // launch.threads))
    return max(1, min(seats, launch.seats)) if launch.seats else seats


def slowness(card: Card) -> float:
    """Clocks of a scheduler for an instruction of a warp."""
    lanes = SCHEDULERS * WARP * card.multiprocessors * card.clock_hz
    return 1.0 + FP32 * max(0.0, lanes / card.lane_per_s - 1.0) if card.lane_per_s < 0.75 * lanes else 1.0


def _again(card: Card, launch: Launch, at_once: int, each: int, seats: int) -> tuple[bool, float]:
    """Whether what is read again lies on the multiprocessor, and the share that even L2 has lost."""
    if not launch.again_byte:
        return False, 0.0
    if min(each, seats) * launch.held_byte <= NEAR_SHARE * card.near_byte:
        return True, 0.0
    # Their results pass through L2 too, and push some of it out.
    return False, 1.0 - kept(card, (launch.held_byte + RESULTS * launch.write_byte / launch.blocks) * at_once)
