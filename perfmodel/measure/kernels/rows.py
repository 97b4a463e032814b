"""How rows lie over threads, and the launch of the kernels of ``rows.cu``."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.measure.kernels.launch import (
    Array,
    blocks_per_multiprocessor,
    launch,
    module,
    multiprocessors,
    shared_at_most,
    stream,
    vector,
)

LONG_THREADS = 1024
MOST_BLOCKS = 2**31 - 1


class Layout(NamedTuple):
    """Elements of an access, threads of a row, accesses of a thread, rows on their way, threads of a block; and blocks of
    a multiprocessor, or 0 for as many as it holds."""

    wide: int
    row_threads: int
    vectors: int
    stages: int
    threads: int
    crowd: int = 0

    @property
    def groups(self) -> int:
        """Rows that a block works on at a time."""
        return self.threads // self.row_threads

    def shared_byte(self, inputs: int) -> int:
        """Shared memory of a block: every input's vectors of every stage, at 16 bytes of room each."""
        return inputs * self.stages * self.vectors * self.threads * 16

    def settings(self, mask: bool = False) -> dict[str, int]:
        """The macros of the source."""
        widths = {"VEC": self.wide, "TPR": self.row_threads, "VPT": self.vectors}
        return {**widths, "STAGES": self.stages, "THREADS": self.threads, "MASK": int(mask)}


class Measured(NamedTuple):
    """The layout that moved most for rows of up to so many accesses, of some hundred tried on an H200."""

    accesses: int
    of_thread: int
    threads: int
    stages: int
    crowd: int


# Few large blocks hide the loads of short rows; rows of 2048 elements and more want four to eight accesses in flight a
# thread and blocks small enough that one computes while another loads. Longer rows than the last do not fit registers.
LAYOUTS = {
    "softmax_forward": (
        Measured(16, 1, 1024, 2, 1), Measured(32, 1, 1024, 2, 1), Measured(64, 4, 256, 3, 1), Measured(128, 4, 256, 1, 3),
        Measured(256, 8, 128, 1, 4), Measured(512, 8, 128, 3, 2), Measured(1024, 8, 128, 3, 2), Measured(2048, 2, 1024, 3, 1),
        Measured(4096, 8, 512, 3, 1),
    ),
    "softmax_backward": (
        Measured(16, 2, 256, 1, 3), Measured(32, 2, 128, 1, 6), Measured(128, 4, 128, 4, 1), Measured(256, 2, 512, 2, 1),
        Measured(512, 4, 256, 2, 1), Measured(1024, 2, 512, 2, 1), Measured(2048, 4, 512, 3, 1), Measured(4096, 8, 512, 1, 1),
    ),
    "layernorm_forward": (
        Measured(32, 1, 1024, 2, 1), Measured(64, 2, 128, 3, 3), Measured(128, 4, 256, 3, 1), Measured(256, 8, 256, 2, 1),
        Measured(512, 4, 512, 2, 1), Measured(1024, 4, 256, 3, 1), Measured(2048, 4, 512, 2, 1),
    ),
    "layernorm_backward": (
        Measured(16, 1, 128, 2, 8), Measured(128, 2, 128, 2, 5), Measured(512, 4, 128, 2, 3), Measured(1024, 2, 512, 2, 1),
        Measured(2048, 2, 1024, 2, 1),
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
    if best is None:
        return None
    row_threads = 1
    while row_threads * best.of_thread < accesses:
        row_threads *= 2
    threads, crowd = max(best.threads, row_threads), best.crowd
    if -(-rows * row_threads // threads) < 2 * multiprocessors():
        threads, crowd = max(128 if rows * row_threads >= 128 * multiprocessors() else 32, row_threads), 0
    stages = best.stages
    while stages > 1 and inputs * stages * best.of_thread * threads * 16 > shared_at_most():
        stages -= 1
    return Layout(wide, row_threads, best.of_thread, stages, threads, crowd)


def run(
    name: str, rows: int, found: Layout, inputs: int, arguments: Any, like: Array, *, mask: bool = False,
    at_most: int = MOST_BLOCKS,
) -> int:  # fmt: skip
    """Launches a kernel with as many blocks as its layout wants at once, or as there is work for; returns how many."""
    compiled = module("rows.cu", like.dtype, **found.settings(mask))
    shared = found.shared_byte(inputs)
    held = blocks_per_multiprocessor(compiled, name, found.threads, shared)
    resident = min(held, found.crowd or held) * multiprocessors()
    blocks = max(1, min(-(-rows // found.groups), resident, at_most))
    launch(compiled, name, (blocks,), found.threads, arguments(blocks), stream(like), shared)
    return blocks


def run_long(name: str, rows: int, cols: int, arguments: tuple[Any, ...], like: Array, *, mask: bool = False) -> None:
    """Launches a kernel whose rows are read twice: a block of the largest size for each."""
    launch(long_module(cols, like, mask), name, (min(rows, MOST_BLOCKS),), LONG_THREADS, arguments, stream(like))


def long_module(cols: int, like: Array, mask: bool = False) -> Any:
    """The source compiled for whole blocks."""
    wide = vector(cols, like.dtype, like)
    return module(
        "rows.cu", like.dtype, VEC=wide, TPR=LONG_THREADS, VPT=1, STAGES=1, THREADS=LONG_THREADS, MASK=int(mask)
    )
