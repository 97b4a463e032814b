"""How our own row kernels lie over threads: for the launcher, which asks with a card at hand, and for their expected time."""

from __future__ import annotations

from typing import NamedTuple

VECTOR_BYTE = 16  # of the widest access
LONG_THREADS = 1024  # of a block whose rows are read twice
LEAST_STAGES = {"layernorm_backward": 3}  # a row that is summed, one that is finished, one on its way
CHEAP_BYTE = 4 << 20  # of partial sums that never leave the cache
PART_ROWS = 16  # a part that leaves the cache stays small beside so many rows
LONG_PARTS = 1024


class Chip(NamedTuple):
    """What a layout depends on: multiprocessors, shared memory that a block may ask for, and whether blocks of a cluster
    reach one another's."""

    multiprocessors: int
    shared_byte: int
    clusters: bool


class Layout(NamedTuple):
    """Elements of an access, threads of a row in a block, accesses of a thread, rows in shared memory, threads of a block,
    turns of a block (0: as many blocks as fit walk over all rows), blocks of a row, whether rows stay in registers."""

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
        """Rows that a block works on at a time."""
        return self.threads // self.row_threads

    def shared_byte(self, inputs: int) -> int:
        """Shared memory of a block for the inputs' vectors of every stage, at 16 bytes of room each."""
        return inputs * self.stages * self.vectors * self.threads * VECTOR_BYTE

    def settings(self, mask: bool = False) -> dict[str, int]:
        """The macros of the source."""
        widths = {"VEC": self.wide, "TPR": self.row_threads, "VPT": self.vectors, "CLUSTER": self.cluster}
        flags = {"HELD": int(self.held), "FULL": int(self.full), "MASK": int(mask)}
        return {**widths, **flags, "STAGES": self.stages, "THREADS": self.threads}

    def blocks(self, rows: int, resident: int, at_most: int) -> int:
        """Groups of blocks that are launched, where so many blocks fit the card."""
        if self.turns:
            return -(-rows // (self.groups * self.turns))
        return max(1, min(-(-rows // self.groups), resident // self.cluster, at_most))


class Measured(NamedTuple):
    """The layout for rows of up to so many accesses: accesses of a thread, stages, turns of a block, and the rest."""

    accesses: int
    of_thread: int
    stages: int
    turns: int
    held: bool = True
    threads: int = 128
    cluster: int = 1


# Of some thousand layouts tried on an H200 those within 1 % of the best, with as few differences as that allows. The
# softmax's rows go straight to registers, two accesses a thread, more where a block would be too large for its neighbours to
# overlap it. Longer rows are normalised from shared memory, read there twice, since gamma and beta take the registers; sums
# of gamma's and beta's gradients take more still, and long rows are then shared by blocks. Longer rows than the last do not
# fit.
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
    """Elements of one access: as many as divide a row, and as the arrays are aligned to, up to 16 bytes."""
    wide = max(1, at_most // item)
    while wide > 1 and (elements % wide or any(pointer % (wide * item) for pointer in pointers)):
        wide //= 2
    return wide


def layout(name: str, rows: int, cols: int, wide: int, inputs: int, chip: Chip) -> Layout | None:
    """A kernel's layout for rows of a length in accesses of so many elements; None where a row does not fit a block's
    registers.

    Where rows are too few for every multiprocessor, blocks are as small as a row allows.
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
    """Shared memory for gamma: the backward pass keeps it there."""
    return found.vectors * found.threads * VECTOR_BYTE if name == "layernorm_backward" else 0


def asked_byte(name: str, found: Layout, cols: int, inputs: int) -> int:
    """Shared memory that a launch asks for."""
    shared = found.shared_byte(inputs) + weights_byte(name, found)
    if name == "layernorm_backward" and found.groups > 1:
        return max(shared, 8 * cols * found.groups)  # their sums at the end
    return shared


def most_parts(rows: int, cols: int, multiprocessors: int) -> int:
    """Parts at most that the rows are dealt into for the weights' gradients: each costs 8 bytes per column to write and
    read, so few enough that they stay small beside the rows."""
    cheap = min(2 * multiprocessors, CHEAP_BYTE // (8 * cols))
    return max(multiprocessors, rows // PART_ROWS, cheap)


def long_parts(rows: int, cols: int, multiprocessors: int) -> int:
    """The same where the rows are read twice, and a kernel of its own walks down the columns."""
    return min(most_parts(rows, cols, multiprocessors), rows, LONG_PARTS)
