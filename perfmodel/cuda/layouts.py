"""Layouts of the row kernels over threads, for the launcher and for the time model."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from perfmodel.arithmetic import common_divisor

VECTOR_BYTE = 16  # widest access
LONG_THREADS = 1024  # threads of a block whose rows are read twice
LEAST_STAGES = {"layernorm_backward": 3}  # one row being summed, one being finished, one in flight
CHEAP_BYTE = 4 << 20  # partial sums that stay in L2
PART_ROWS = 16  # rows per part that keep a part in memory small
LONG_PARTS = 1024


class Chip(NamedTuple):
    """The figures that a layout depends on: multiprocessors, shared memory per block, and whether the card has thread
    block clusters.
    """

    multiprocessors: int
    shared_byte: int
    clusters: bool


class Layout(NamedTuple):
    """How rows are mapped to threads.

    Fields: elements per access, threads per row in a block, accesses per thread, and stages of rows in shared memory.
    Threads per block, turns per block (0 means persistent blocks that loop over all rows), and blocks per row. Whether
    rows stay in registers, and whether every thread has all of its vectors.
    """

    wide: int
    row_threads: int
    vectors: int
    stages: int
    threads: int
    turns: int = 0
    cluster: int = 1
    held: bool = True
    full: bool = False

    @property
    def groups(self) -> int:
        """Rows that a block processes at a time."""
        return self.threads // self.row_threads

    def shared_byte(self, inputs: int) -> int:
        """Shared memory per block in bytes for the vectors of all inputs and stages, 16 bytes each."""
        return inputs * self.stages * self.vectors * self.threads * VECTOR_BYTE

    def settings(self, mask: bool = False) -> dict[str, int]:
        """Macros for the CUDA source."""
        widths = {"VEC": self.wide, "TPR": self.row_threads, "VPT": self.vectors, "CLUSTER": self.cluster}
        flags = {"HELD": int(self.held), "FULL": int(self.full), "MASK": int(mask)}
        return {**widths, **flags, "STAGES": self.stages, "THREADS": self.threads}

    def blocks(self, rows: int, resident: int, at_most: int) -> int:
        """Returns the number of groups of blocks to launch. ``resident`` is the number of blocks that fit on the card."""
        if self.turns:
            return -(-rows // (self.groups * self.turns))
        return max(1, min(-(-rows // self.groups), resident // self.cluster, at_most))


class Measured(NamedTuple):
    """The best measured layout for rows of up to ``accesses`` accesses."""

    accesses: int
    of_thread: int
    stages: int
    turns: int
    held: bool = True
    threads: int = 128
    cluster: int = 1


# Chosen from about a thousand layouts measured on an H200: within 1 % of the best, with as few distinct layouts as
# possible. Softmax rows stay in registers, with two accesses per thread, or more if the block would be too large to
# overlap with others. Longer rows are normalised from shared memory and read there twice, because gamma and beta occupy
# registers. The sums of the weight gradients occupy more registers, so a cluster of blocks shares a long row. Rows
# longer than the last entry do not fit.

LAYOUTS = {
    "softmax_forward": (Measured(512, 2, 0, 1), Measured(2048, 4, 0, 1), Measured(4096, 8, 2, 2)),
    "softmax_backward": (Measured(512, 2, 0, 1), Measured(2048, 4, 0, 1), Measured(4096, 8, 0, 1)),
    "layernorm_forward": (
        Measured(64, 2, 2, 2),
        Measured(128, 4, 1, 1),
        Measured(2048, 4, 2, 1, held=False),
        Measured(4096, 8, 2, 0),
    ),
    "layernorm_backward": (
        Measured(32, 1, 3, 0, threads=256),
        Measured(128, 4, 3, 0),
        Measured(512, 2, 4, 0, threads=512),
        Measured(1024, 2, 4, 0),
        Measured(4096, 4, 3, 0, cluster=2),
    ),
}  # fmt: skip
LAYOUTS["rmsnorm_forward"] = LAYOUTS["layernorm_forward"]


def widest(elements: int, item: int, at_most: int = VECTOR_BYTE, pointers: tuple[int, ...] = ()) -> int:
    """Returns the elements per access: the largest power of two, up to 16 bytes, that divides a row and the alignment
    of the arrays.
    """
    wide: int = common_divisor(elements, max(1, int(at_most // item)))  # with a power of two, so it is one
    for pointer in pointers:
        wide = max(1, gcd(wide * item, pointer) // item)
    return wide


def layout(name: str, rows: int, cols: int, wide: int, inputs: int, chip: Chip) -> Layout | None:
    """Returns the layout of a kernel, or None if a row does not fit in the registers of a block.

    A row has ``cols`` elements, ``wide`` per access. With fewer rows than multiprocessors, blocks are as small as a row
    allows.
    """
    accesses = -(-cols // wide)
    best = next((one for one in LAYOUTS[name] if accesses <= one.accesses), None)
    if best is None or (best.cluster > 1 and not chip.clusters):
        return None
    row_threads = 1
    while row_threads * best.of_thread * best.cluster < accesses:
        row_threads *= 2
    threads, turns = max(best.threads, row_threads), best.turns
    blocks = -(-rows * row_threads // threads)
    if blocks < 2 * chip.multiprocessors * turns:
        turns = 1
    if blocks < 2 * chip.multiprocessors:
        threads = max(128 if rows * row_threads >= 128 * chip.multiprocessors else 32, row_threads)
    full = row_threads * best.of_thread * best.cluster * wide == cols
    held = best.held or row_threads <= 32
    found = Layout(wide, row_threads, best.of_thread, best.stages, threads, turns, best.cluster, held, full)
    fewest = LEAST_STAGES.get(name, 1)
    while found.shared_byte(inputs) > chip.shared_byte - weights_byte(name, found):
        if found.stages <= fewest:
            return None
        found = found._replace(stages=found.stages - 1)
    return found


def weights_byte(name: str, found: Layout) -> int:
    """Shared memory in bytes for gamma, which the backward pass keeps there."""
    return found.vectors * found.threads * VECTOR_BYTE if name == "layernorm_backward" else 0


def asked_byte(name: str, found: Layout, cols: int, inputs: int) -> int:
    """Shared memory in bytes that a launch requests."""
    shared = found.shared_byte(inputs) + weights_byte(name, found)
    if name == "layernorm_backward" and found.groups > 1:
        return max(shared, 8 * cols * found.groups)  # the sums at the end
    return shared


def most_parts(rows: int, cols: int, multiprocessors: int) -> int:
    """Returns the largest number of parts that rows are divided into for the gradients of the weights. Each part costs
    8 bytes of traffic per column, so the parts must be small compared with the rows.
    """
    cheap = min(2 * multiprocessors, CHEAP_BYTE // (8 * cols))
    return max(multiprocessors, rows // PART_ROWS, cheap)


def long_parts(rows: int, cols: int, multiprocessors: int) -> int:
    """Returns the number of parts for rows that are read twice, where a separate kernel sums the columns."""
    return min(most_parts(rows, cols, multiprocessors), rows, LONG_PARTS)
