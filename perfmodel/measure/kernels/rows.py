"""How rows lie over threads, and the launch of the kernels of ``rows.cu``."""

from __future__ import annotations

from typing import Any

from perfmodel.cuda import layouts
from perfmodel.cuda.layouts import LONG_THREADS, Layout
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

FAMILIES = {"softmax": 1, "layernorm": 2, "rmsnorm": 2, "layernorm_backward": 3, "layernorm_long_backward": 3}
MOST_BLOCKS = 2**31 - 1


def layout(name: str, rows: int, cols: int, inputs: int, *arrays: Array) -> Layout | None:
    """A kernel's layout on the card at hand; None where a row does not fit a block's registers."""
    chip = layouts.Chip(multiprocessors(), shared_at_most(), clusters())
    return layouts.layout(name, rows, cols, vector(cols, arrays[0].dtype, *arrays), inputs, chip)


def run(
    name: str, rows: int, cols: int, found: Layout, inputs: int, arguments: Any, like: Array, *, mask: bool = False,
    at_most: int = MOST_BLOCKS,
) -> int:  # fmt: skip
    """Launches a kernel with as many blocks as its turns or the card ask for; returns how many groups of blocks."""
    compiled = module("rows.cu", like.dtype, FAMILY=family(name), **found.settings(mask))
    shared = layouts.asked_byte(name, found, cols, inputs)
    held = 0 if found.turns else blocks_per_multiprocessor(compiled, name, found.threads, shared)
    blocks = found.blocks(rows, held * multiprocessors(), at_most)
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
