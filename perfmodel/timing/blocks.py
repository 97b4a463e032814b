"""Kernels as thread blocks: every multiprocessor runs a few blocks at once, until all have run.

Blocks run in turns. A block runs a chain of dependent steps: it waits for memory once for each load that depends on the
previous one, computes, and synchronises at barriers. All resident blocks share the resources of the card. The kernel's
time is the slowest of four, which overlap:

- Memory: bytes at the rate of their mix. A block that reads its row again finds it on the chip while the rows in flight
  fit there; otherwise memory delivers it again.
- L2: every byte passes through it, writes over a narrower path than reads.
- Instructions: four schedulers per multiprocessor, each issuing one warp instruction per clock (half of that for fp32
  where there are half as many lanes).
- Chain: turns of blocks times the duration of one block. Few or slow blocks cannot keep enough bytes in flight
  (Little's law).
"""

from functools import partial
from math import ceil
from typing import NamedTuple

from perfmodel.arithmetic import Size, floor_div, maximum, minimum, where
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.stream import in_memory, kept, through_l2
from perfmodel.timing.terms import Body, later, overlapped
from perfmodel.timing.weights import Mechanism

_data = Mechanism("blocks")
SCHEDULERS, WARP, MOST_RESIDENT, THREADS = _data.facts("schedulers", "warp", "most resident", "threads")
STREAM_THREADS, STREAM_BYTE, MOST_READ = _data.facts("stream threads", "stream byte", "most read")
FEW_TURNS = _data.fact("few turns")
TWO_CLOCKS = tuple(_data.words("two clocks"))
WAIT, CHAIN_CLOCKS, BARRIER_CLOCKS, BLOCK_CLOCKS = _data.weights(
    "wait", "chain clocks", "barrier clocks", "block clocks"
)
SHARPNESS, PHASED, CROWD, FP32 = _data.weights("sharpness", "phased", "crowd", "fp32")
NEAR_SHARE, RESULTS, NEAR_WAIT, FEW_WAITS = _data.weights("near share", "results", "near wait", "few waits")


class Launch(NamedTuple):
    """One kernel: its blocks, the bytes of all of them, and the instructions of a thread.

    ``path``: instructions of the busiest thread, where others idle. ``waits``: loads of a block that depend on one
    another. ``near_waits``: those for data that was read before; ``again_byte`` is that data of all blocks,
    ``held_byte`` of one block. ``resident``: resident blocks per multiprocessor where registers or shared memory allow
    fewer than threads do. ``sector_byte``: bytes that only L2 delivers, such as the unused rest of sectors of 32 bytes.
    ``sharpness``: the exponent of the overlap of the four times, 0 for the usual one. ``abreast``: independent elements
    that a thread computes at once. ``shared_waits``: dependent loads of data that all blocks read, such as a norm's
    weights. The first blocks of a multiprocessor wait for them; later ones read them from L1. ``phased``: blocks load,
    compute and store one after another, as those with barriers do. ``slow_lines``: further instructions where the
    load-store units serve a cache line in two clocks.
    """

    name: str
    blocks: Size
    threads: Size
    read_byte: Size
    write_byte: Size
    instructions: Size
    waits: Size = 1.0
    barriers: Size = 0.0
    path: Size = 0.0
    near_waits: Size = 0.0
    again_byte: Size = 0.0
    held_byte: Size = 0.0
    resident: Size = 0
    mechanism: str = "rows"
    sector_byte: Size = 0.0
    sharpness: float = 0.0
    abreast: int = 1
    shared_waits: Size = 0.0
    phased: bool = False
    slow_lines: Size = 0.0


def starting(threads: int) -> float:
    """Returns the instructions per thread that take as long as starting a block: the minimum of a short block."""
    return BLOCK_CLOCKS * SCHEDULERS * WARP / threads


def few(
    name: str, blocks: Size, threads: int, read_byte: Size, write_byte: Size, mechanism: str, more: Size = 0.0
) -> Launch:
    """A kernel of a few values per thread, which waits for them and has no other work: counts, sums of blocks. ``more``:
    further loads that depend on one another.
    """
    return Launch(name, blocks, threads, read_byte, write_byte, 0.0, FEW_WAITS + more, mechanism=mechanism)


def in_order(card: Card, *launches: Launch) -> tuple[Part, ...]:
    """Launches as parts of a sequence."""
    return tuple(
        Part(
            partial(body, card, launch),
            floor_div(launch.read_byte + launch.write_byte, 1),
            reads=launch.read_byte > 0.0,
        )
        for launch in launches
    )


def elementwise(card: Card, read_byte: Size, write_byte: Size, lanes: Size, found: Size, choice: str = "") -> Body:
    """Returns the time of an elementwise kernel of so many instructions in all; no block waits for another."""
    # Where the result is far smaller than the input (a boolean, a sum), threads are assigned by the input.
    dealt = where(MOST_READ * write_byte >= read_byte, write_byte, read_byte)
    blocks = maximum(1, ceil(dealt / (STREAM_THREADS * STREAM_BYTE)))
    each = lanes / maximum(1.0, dealt / STREAM_BYTE)
    waits = 1.0 if read_byte else 0.0
    launch = Launch(choice, blocks, STREAM_THREADS, read_byte, write_byte, each, waits, mechanism="stream")
    return body(card, launch, found)


@by_paths
def body(card: Card, launch: Launch, found: Size) -> Body:
    """Returns the time of a kernel of whose bytes L2 holds the share ``found``."""
    resident = resident_blocks(card, launch)
    at_once = minimum(launch.blocks, card.multiprocessors * resident)
    each = ceil(launch.blocks / card.multiprocessors)
    near, lost = _again(card, launch, at_once, each, resident)
    read, write = launch.read_byte * (1.0 - found), launch.write_byte * (1.0 - found)
    more = launch.again_byte * lost
    dram_s, late = in_memory(card, read + more, write)
    into_byte = launch.read_byte + launch.sector_byte + (0.0 if near else launch.again_byte)
    into_s, out_s = through_l2(card, into_byte, launch.write_byte)
    warps = ceil(launch.threads / WARP)
    issued = launch.instructions + (launch.slow_lines if card.generation in TWO_CLOCKS else 0.0)
    slots = issued * warps / SCHEDULERS * slowness(card)
    latency_s = WAIT * ((1.0 - found) * card.dram_latency_s + found * card.l2_latency_s)
    again_s = WAIT * card.l2_latency_s * NEAR_WAIT
    if not near:
        again_s = WAIT * ((1.0 - lost) * card.l2_latency_s + lost * card.dram_latency_s)
    life_s = (
        launch.waits * latency_s
        + launch.near_waits * again_s
        + (
            maximum(where(launch.path > 0, launch.path, launch.instructions) / launch.abreast * CHAIN_CLOCKS, slots)
            + launch.barriers * BARRIER_CLOCKS
        )
        / card.clock_hz
    )
    turns = maximum(1.0, each / resident)
    first_s = launch.shared_waits * maximum(0.0, latency_s - again_s)
    clocks = (
        ("L2", where(each <= resident, into_s + out_s, maximum(into_s, out_s))),
        ("instructions", each * slots / card.clock_hz),
        ("block latency", life_s * where(turns < FEW_TURNS, ceil(turns), turns) + first_s),
    )
    sharpness = where((launch.barriers > 0) | (launch.phased > 0), PHASED + CROWD * resident, SHARPNESS)
    sharpness = where(launch.sharpness > 0, launch.sharpness, sharpness)
    seconds, terms = overlapped((("memory", dram_s - late), *clocks), sharpness)
    return Body(
        seconds,
        terms,
        launch.mechanism,
        launch.name,
        later((("memory", dram_s - late), *clocks), sharpness, seconds, late),
    )


def resident_blocks(card: Card, launch: Launch) -> Size:
    """Resident blocks of this kernel per multiprocessor."""
    resident = maximum(1, minimum(MOST_RESIDENT, int(card.of_each("threads", THREADS)) // launch.threads))
    return maximum(1, minimum(resident, launch.resident)) if launch.resident else resident


def slowness(card: Card) -> float:
    """Returns the clocks that a scheduler needs for one warp instruction."""
    lanes = SCHEDULERS * WARP * card.multiprocessors * card.clock_hz
    return 1.0 + FP32 * (max(1, round(lanes / card.lane_per_s)) - 1)


def _again(card: Card, launch: Launch, at_once: Size, each: Size, resident: Size) -> tuple[bool, Size]:
    """Returns whether data that is read again is still in L1, and the share of it that is no longer in L2 either."""
    if not launch.again_byte:
        return False, 0.0
    if minimum(each, resident) * launch.held_byte <= NEAR_SHARE * card.near_byte:
        return True, 0.0
    # The results pass through L2 too and evict part of it.
    return False, 1.0 - kept(card, (launch.held_byte + RESULTS * launch.write_byte / launch.blocks) * at_once)
