"""How rows lie over threads, and the launch of the kernels of ``rows.cu``."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.measure.kernels.launch import (
    Array,
    blocks_per_multiprocessor,
    clusters,
    launch,
    module,
    multiprocessors,
    shared_at_most,
    stream,
    vector,
)

LONG_THREADS = 1024
FAMILIES = {"softmax": 1, "layernorm": 2, "rmsnorm": 2, "layernorm_backward": 3, "layernorm_long_backward": 3}
MOST_BLOCKS = 2**31 - 1
LEAST_STAGES = {"layernorm_backward": 3}  # a row that is summed, one that is finished, one on its way


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
        return inputs * self.stages * self.vectors * self.threads * 16

    def settings(self, mask: bool = False) -> dict[str, int]:
        """The macros of the source."""
        widths = {"VEC": self.wide, "TPR": self.row_threads, "VPT": self.vectors, "CLUSTER": self.cluster}
        flags = {"HELD": int(self.held), "FULL": int(self.full), "MASK": int(mask)}
        return {**widths, **flags, "STAGES": self.stages, "THREADS": self.threads}


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


def layout(name: str, rows: int, cols: int, inputs: int, *arrays: Array) -> Layout | None:
    """A kernel's layout for rows of a length; None where a row does not fit a block's registers.

    Where rows are too few for every multiprocessor, blocks are as small as a row allows.
    """
    wide = vector(cols, arrays[0].dtype, *arrays)
    accesses = -(-cols // wide)
    best = next((one for one in LAYOUTS[name] if accesses <= one.accesses), None)
    if best is None or (best.cluster > 1 and not clusters()):
        return None
    row_threads = 1
    while row_threads * best.of_thread * best.cluster < accesses:
        row_threads *= 2
    threads, turns = max(best.threads, row_threads), best.turns
    blocks = -(-rows * row_threads // threads)
    if blocks < 2 * multiprocessors() * turns:
        turns = 1
    if blocks < 2 * multiprocessors():
        threads = max(128 if rows * row_threads >= 128 * multiprocessors() else 32, row_threads)
    full = row_threads * best.of_thread * best.cluster * wide == cols
    held = best.held or row_threads <= 32
    found = Layout(wide, row_threads, best.of_thread, best.stages, threads, turns, best.cluster, held, full)
    fewest = LEAST_STAGES.get(name, 1)
    while found.shared_byte(inputs) > shared_at_most() - weights_byte(name, found):
        if found.stages <= fewest:
            return None
        found = found._replace(stages=found.stages - 1)
    return found


def weights_byte(name: str, found: Layout) -> int:
    """Shared memory for gamma: the backward pass keeps it there."""
    return found.vectors * found.threads * 16 if name == "layernorm_backward" else 0


def run(
    name: str, rows: int, cols: int, found: Layout, inputs: int, arguments: Any, like: Array, *, mask: bool = False,
    at_most: int = MOST_BLOCKS,
) -> int:  # fmt: skip
    """Launches a kernel with as many blocks as its turns or the card ask for; returns how many groups of blocks."""
    compiled = module("rows.cu", like.dtype, FAMILY=family(name), **found.settings(mask))
    shared = found.shared_byte(inputs) + weights_byte(name, found)
    if name == "layernorm_backward" and found.groups > 1:
        shared = max(shared, 8 * cols * found.groups)  # their sums at the end
    if found.turns:
        blocks = -(-rows // (found.groups * found.turns))
    else:
        held = blocks_per_multiprocessor(compiled, name, found.threads, shared)
        resident = held * multiprocessors() // found.cluster
        blocks = max(1, min(-(-rows // found.groups), resident, at_most))
    if found.stages:
        blocks_per_multiprocessor(compiled, name, found.threads, shared)
    launch(compiled, name, (blocks * found.cluster,), found.threads, arguments(blocks), stream(like), shared)
    return blocks


def family(name: str) -> int:
    """Which part of the source a kernel stands in."""
    return FAMILIES.get(name) or FAMILIES[name.partition("_")[0]]


def run_long(name: str, rows: int, cols: int, arguments: tuple[Any, ...], like: Array, *, mask: bool = False) -> None:
    """Launches a kernel whose rows are read twice: a block of the largest size for each."""
    launch(long_module(name, cols, like, mask), name, (min(rows, MOST_BLOCKS),), LONG_THREADS, arguments, stream(like))


def long_module(name: str, cols: int, like: Array, mask: bool = False) -> Any:
    """The source compiled for whole blocks."""
    wide = vector(cols, like.dtype, like)
    whole = Layout(wide, LONG_THREADS, 1, 1, LONG_THREADS)
    return module("rows.cu", like.dtype, FAMILY=family(name), **whole.settings(mask))
