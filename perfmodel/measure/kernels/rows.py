"""Layouts of rows over threads, and the launch of the kernels of ``rows.cu``."""

from __future__ import annotations

from functools import lru_cache
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
    """Returns the layout of a kernel on the current device, or None if a row does not fit in a block's registers."""
    chip = layouts.Chip(multiprocessors(), shared_at_most(), clusters())
    return _layout(name, rows, cols, vector(cols, arrays[0].dtype, *arrays), inputs, chip)


_layout = lru_cache(1024)(layouts.layout)  # a program repeats its shapes


def run(
    name: str, rows: int, cols: int, found: Layout, inputs: int, arguments: Any, like: Array, *, mask: bool = False,
    at_most: int = MOST_BLOCKS,
) -> int:  # fmt: skip
    """Launches a kernel and returns the number of groups of blocks. The layout sets this number, or the occupancy if
    blocks are persistent.
    """
    compiled = module("rows.cu", like.dtype, FAMILY=family(name), **found.settings(mask))
    shared = layouts.asked_byte(name, found, cols, inputs)
    held = 0 if found.turns else blocks_per_multiprocessor(compiled, name, found.threads, shared)
    blocks = found.blocks(rows, held * multiprocessors(), at_most)
    if found.stages:
        blocks_per_multiprocessor(compiled, name, found.threads, shared)
    launch(compiled, name, (blocks * found.cluster,), found.threads, arguments(blocks), stream(like), shared)
    return blocks


def family(name: str) -> int:
    """Returns the value of FAMILY that compiles this kernel in the source."""
    return FAMILIES.get(name) or FAMILIES[name.partition("_")[0]]


def run_long(name: str, rows: int, cols: int, arguments: tuple[Any, ...], like: Array, *, mask: bool = False) -> None:
    """Launches a kernel that reads its rows twice, with one block of the largest size per row."""
    launch(long_module(name, cols, like, mask), name, (min(rows, MOST_BLOCKS),), LONG_THREADS, arguments, stream(like))


def long_module(name: str, cols: int, like: Array, mask: bool = False) -> Any:
    """Returns the source compiled for kernels with one block per row."""
    wide = vector(cols, like.dtype, like)
    whole = Layout(wide, LONG_THREADS, 1, 1, LONG_THREADS)
    return module("rows.cu", like.dtype, FAMILY=family(name), **whole.settings(mask))
