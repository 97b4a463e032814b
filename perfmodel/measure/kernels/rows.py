"""How rows lie over threads, and the launch of the kernels of ``rows.cu``."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.measure.kernels.launch import (
    Array,
    blocks_per_multiprocessor,
    launch,
    module,
    multiprocessors,
    stream,
    vector,
)

SHARED_BYTE = 160 * 1024  # of a multiprocessor's shared memory, what rows on their way may take
LONG_THREADS = 1024
MOST_BLOCKS = 2**31 - 1


class Layout(NamedTuple):
    """Elements of an access, threads of a row, accesses of a thread, rows on their way, threads of a block."""

    wide: int
    row_threads: int
    vectors: int
    stages: int
    threads: int

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


def layout(rows: int, cols: int, inputs: int, *arrays: Array, most: int = 4, many: int = 4) -> Layout | None:
    """A layout for rows of a length; None where a row does not fit a block's registers.

    Measured on an H200: four accesses a thread keep enough in flight with few threads to synchronise, eight where only
    one input takes registers (``many``) and a row would otherwise need more than two warps; small blocks overlap one
    another's phases. ``most`` is what the kernel's registers hold with 1024 threads.
    """
    wide = vector(cols, arrays[0].dtype, *arrays)
    vectors = -(-cols // wide)
    per_thread = 1 if vectors <= 32 else 2 if vectors <= 64 else many if 256 < vectors <= 1024 else 4
    per_thread = min(per_thread, max(most, 4)) if vectors <= 512 * 4 else most
    row_threads = 1
    while row_threads * per_thread < vectors:
        row_threads *= 2
    if row_threads > 1024:
        return None
    threads = max(128, row_threads)
    if -(-rows * row_threads // threads) < multiprocessors():
        threads = max(32, row_threads)
    stages = 3
    while stages > 1 and inputs * stages * per_thread * threads * 16 > SHARED_BYTE:
        stages -= 1
    return Layout(wide, row_threads, per_thread, stages, threads)


def run(
    name: str, rows: int, found: Layout, inputs: int, arguments: Any, like: Array, *, mask: bool = False,
    at_most: int = MOST_BLOCKS, crowd: int = 1,
) -> int:  # fmt: skip
    """Launches a kernel with as many blocks as the card holds at once, or as there is work for; returns how many.

    ``crowd`` divides what the card holds: some kernels move more with half of it.
    """
    compiled = module("rows.cu", like.dtype, **found.settings(mask))
    shared = found.shared_byte(inputs)
    held = blocks_per_multiprocessor(compiled, name, found.threads, shared)
    resident = -(-held // crowd) * multiprocessors()
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
