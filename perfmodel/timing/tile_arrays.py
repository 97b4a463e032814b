"""The fastest tile and split of many products at once.

The times of one tile and split are those of ``tiles``, here for arrays. A stream that is alone as long as the fastest
tile found so far excludes a tile, so the overlap is computed for few of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing.arrays import Points, taken
from perfmodel.timing.card import Card
from perfmodel.timing.terms import at_once_s
from perfmodel.timing.tile_sizes import Choice
from perfmodel.timing.tiles import FEWEST_STEPS, SHARPNESS, SPLITS, Grid, Limits, Product, grid_of, tiled_s, too_large

BLOCK = 8192  # points, so that the arrays of a tile stay in the cache of the CPU
_PARTS = np.array([[split] for split in SPLITS[1:]], np.float64).view(Points)


def least_s(card: Card, size: Product, dtype: str, given: Limits) -> Points:
    """The time of every product by its fastest tile and split."""
    grid = grid_of(card, size, dtype, given)
    points = next(one.size for one in (*size, *given) if isinstance(one, np.ndarray))
    found, shared = np.empty(points).view(Points), grid._replace(choices=())
    for low in range(0, points, BLOCK):
        part: Any = slice(low, low + BLOCK)
        own_size, own_grid, own_given = taken((size, shared, given), part)
        found[part] = _of_block(card.multiprocessors, grid.choices, own_size, own_grid, own_given, found[part].size)
    return found


def _of_block(count: int, choices: tuple[Choice, ...], size: Product, grid: Grid, given: Limits, points: int) -> Points:
    """The least times of a block of points."""
    least = np.full(points, np.inf).view(Points)
    down = {tile_m: np.ceil(size.m / tile_m) for tile_m in {choice.tile_m for choice in choices}}
    across = {tile_n: np.ceil(size.n / tile_n) * size.batch for tile_n in {choice.tile_n for choice in choices}}
    again = np.any(grid.left_s)
    for choice in choices:
        large = too_large(choice, size.m, size.n) if grid.choosy else False
        if np.all(large):
            continue
        tiles = down[choice.tile_m] * across[choice.tile_n]
        memory_s = given.compulsory_s + grid.again_s(choice, size.m, size.n) if again else given.compulsory_s
        times = _times(choice, grid, given, tiles, 1, count)
        _lower(least, (*times, memory_s), np.logical_not(large) if np.any(large) else None)
        fits = (tiles <= count) & (grid.steps >= 2 * FEWEST_STEPS) & np.logical_not(large)
        few = np.flatnonzero(np.broadcast_to(fits, points))
        if few.size and not grid.whole:
            _split(least, choice, grid, given, few, tiles, memory_s, count)
    return least


def _times(choice: Choice, grid: Grid, given: Limits, tiles: Size, split: Size, count: int) -> tuple[Size, Size]:
    """Seconds of the multiplications with the edges of the waves, and of L2."""
    work_s, edges_s, l2_s = tiled_s(choice, tiles * split, np.ceil(grid.steps / split), count)
    return maximum(work_s, given.powered_s) + edges_s, l2_s


def _lower(least: Points, streams: tuple[Size, ...], usable: Any) -> None:
    """Lower the least times to those of a tile where it is faster."""
    busy_s, l2_s, memory_s = streams
    better = np.maximum(np.maximum(busy_s, l2_s), memory_s) < least
    near = np.flatnonzero(better if usable is None else better & usable)
    if near.size:
        some = [one[near] if np.ndim(one) else one for one in streams]
        least[near] = np.minimum(least[near], at_once_s((some[0], some[2], some[1]), SHARPNESS))


def _split(
    least: Points, choice: Choice, grid: Grid, given: Limits, few: Any, tiles: Size, memory_s: Size, count: int
) -> None:
    """Lower the least times of few tiles by splitting k: one row for each number of parts."""
    own, some, tiles, memory_s, before = taken((grid, given, tiles, memory_s, least), few)
    busy_s, l2_s = _times(choice, own, some, tiles, _PARTS, count)
    sum_s = own.sum_s + own.part_s * _PARTS
    fits = (own.steps >= FEWEST_STEPS * _PARTS) & (tiles * _PARTS <= 2 * count)
    better = fits & (np.maximum(np.maximum(busy_s, l2_s), memory_s) + sum_s < before)
    near = np.nonzero(better)
    if near[0].size:
        pairs = [np.broadcast_to(one, better.shape)[near].view(Points) for one in (busy_s, memory_s, l2_s, sum_s)]
        whole_s = np.full(better.shape, np.inf)
        whole_s[near] = at_once_s(pairs[:3], SHARPNESS) + pairs[3]
        least[few] = np.minimum(before, whole_s.min(axis=0))
