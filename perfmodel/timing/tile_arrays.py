"""The fastest tile and split of many products at once: a minimum over an axis of tiles.

The times of one tile and split are those of ``tiles``, here for arrays of one row per tile. A tile is excluded if one of its
streams alone takes as long as a known tile, so the overlap is computed for few tiles.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing import picked_tiles
from perfmodel.timing.arrays import Points, blocks, points
from perfmodel.timing.card import Card
from perfmodel.timing.picked_tiles import Pick
from perfmodel.timing.products import Limits, Product
from perfmodel.timing.terms import at_once_s
from perfmodel.timing.tile_sizes import Choice
from perfmodel.timing.tiles import FEWEST_STEPS, SPLITS, Grid, filled, grid_of, tiled_s, too_large

AT_ONCE = 65536  # tiles times points: few blocks, each of whose arrays stays in the cache of the CPU
_PARTS = points([[split] for split in SPLITS[1:]])


@lru_cache(maxsize=1024)
def _column(choices: tuple[Choice, ...]) -> Choice:
    """All tiles as one, whose figures are arrays of one row per tile."""
    return Choice._make(points(figure)[:, np.newaxis] for figure in zip(*choices, strict=True))


def least_s(card: Card, size: Product, dtype: str, kind: str, given: Limits) -> Any:
    """Returns the time of every product with its fastest tile and split."""
    grid = grid_of(card, size, dtype, kind, given)
    every, shared, count = _column(grid.choices), grid._replace(choices=()), card.multiprocessors
    length = next(one.size for one in (*size, *given) if isinstance(one, np.ndarray))
    found = np.empty(length).view(Points)
    for part, (own_size, own_grid, own_given) in blocks((size, shared, given), length, AT_ONCE // len(grid.choices)):
        found[part] = _of_block(count, every, own_size, own_grid, own_given, found[part].size)
    return found


def _of_block(count: int, every: Choice, size: Product, grid: Grid, given: Limits, length: int) -> Any:
    """The least times of a block of points."""
    tiles = np.ceil(size.m / every.tile_m) * (np.ceil(size.n / every.tile_n) * size.batch)
    again = np.any(grid.left_s)
    memory_s = given.compulsory_s + grid.again_s(every, size.m, size.n) if again else given.compulsory_s
    held_s = given.powered_s * filled(every, tiles, size.batch * size.m * size.n)
    busy_s, l2_s = _times(every, tiles, grid.steps, held_s, count, grid.wait_s)
    longest_s = _each(np.maximum(np.maximum(busy_s, l2_s), memory_s), length)
    large = too_large(every, size.m, size.n) if grid.choosy else False
    if np.any(large):
        longest_s = np.where(large, np.inf, longest_s).view(Points)
    # The tile with the shortest longest stream is nearly the fastest.
    first = np.arange(length)
    first += length * np.argmin(longest_s, axis=0)
    streams = busy_s, memory_s, l2_s
    least = at_once_s([_at(one, first, length) for one in streams], grid.overlap)
    near = np.flatnonzero(longest_s < least)
    if near.size:
        least = _lowered(least, near, at_once_s([_at(one, near, length) for one in streams], grid.overlap))
    if np.all(grid.whole):
        return least
    # With k in parts, no stream is shorter than with all tiles spread over the card, and the sum of two parts is added.
    shortest_s = np.maximum(np.maximum(tiles * grid.steps * every.step_s / count, l2_s), memory_s)
    fits = (shortest_s + (grid.sum_s + 2 * grid.part_s) < least) & (tiles <= count) & (grid.steps >= 2 * FEWEST_STEPS)
    pairs = np.flatnonzero(_each(fits & np.logical_not(large | grid.whole), length))
    if not pairs.size:
        return least
    own = [_at(one, pairs, length) for one in (tiles, grid.steps, held_s, grid.part_s, memory_s, least, grid.wait_s)]
    figures: Any = every
    choice = Choice._make(figure[pairs // length, 0] for figure in figures)
    return _lowered(least, pairs, _split(choice, own, grid, count))


def _each(value: Any, length: int) -> Points:
    """Returns the value at every tile and point, as an array of one row per tile."""
    if np.shape(value)[-1:] == (length,) and np.ndim(value) == 2:
        return value  # type: ignore[no-any-return]
    tiles = len(value) if np.ndim(value) == 2 else 1
    return np.ascontiguousarray(np.broadcast_to(value, (tiles, length))).view(Points)


def _at(value: Any, places: Any, length: int) -> Any:
    """The value at some pairs of a tile and a point, counted row by row."""
    if np.ndim(value) < 2:
        return value[places % length] if np.ndim(value) else value
    return value.take(places) if value.shape[1] == length else value[places // length, 0]


def _times(choice: Choice, units: Size, steps: Size, powered_s: Size, count: int, wait_s: Size) -> tuple[Size, Size]:
    """Seconds of the multiplications with the edges of the waves, and of L2."""
    work_s, edges_s, l2_s = tiled_s(choice, units, steps, count, wait_s)
    return maximum(work_s, powered_s) + edges_s, l2_s


def _lowered(least: Points, places: Any, times: Any) -> Points:
    """The least times, or those of tiles at some places where they are shorter."""
    columns = places % least.size
    order = np.argsort(columns, kind="stable")
    starts = np.flatnonzero(np.diff(columns[order], prepend=-1))
    own = columns[order][starts]
    found = least.copy()
    found[own] = np.minimum(found[own], np.minimum.reduceat(np.asarray(times)[order], starts))
    return found


def _split(choice: Choice, own: list[Any], grid: Grid, count: int) -> Any:
    """The least times of tiles whose sum along k is split: one row for each number of parts."""
    tiles, steps_all, held_s, part_s, memory_s, before, wait_s = own
    busy_s, l2_s = _times(choice, tiles * _PARTS, np.ceil(steps_all / _PARTS), held_s, count, wait_s)
    sum_s = grid.sum_s + part_s * _PARTS
    fits = (steps_all >= FEWEST_STEPS * _PARTS) & (tiles * _PARTS <= 2 * count)
    better = fits & (np.maximum(np.maximum(busy_s, l2_s), memory_s) + sum_s < before)
    near, length = np.flatnonzero(better), before.size
    found = np.full(better.shape, np.inf)
    if near.size:
        some = [_at(one, near, length) for one in (busy_s, memory_s, l2_s, sum_s)]
        found.reshape(-1)[near] = at_once_s(some[:3], grid.overlap) + some[3]
    return found.min(axis=0).view(Points)


@lru_cache(maxsize=1)
def _tiles() -> Any:
    """Rows, columns and assumed work of the tiles of ``picked_tiles``: one row of an array for each tile."""
    return points(picked_tiles.tiles()).T[:, :, np.newaxis]


def picked(m: Size, n: Size, batch: Size, steps: Size, count: int) -> Pick:
    """The tile and the parts that the library picks for each of many products, as ``picked_tiles.pick``."""
    given: list[Any] = [points(one) for one in np.broadcast_arrays(m, n, batch, steps)]
    found = np.empty((3, given[0].size))
    block = max(1, AT_ONCE // len(picked_tiles.tiles()))
    for low in range(0, found.shape[1], block):
        part = slice(low, low + block)
        found[:, part] = _picked(count, *(one[part] for one in given))
    return Pick(*(row.view(Points) for row in found))


def _picked(count: int, m: Points, n: Points, batch: Points, steps: Points) -> Any:
    """Rows, columns and parts of the picks of a block of products."""
    rows, columns, work = _tiles()
    tiles = np.ceil(m / rows) * (np.ceil(n / columns) * batch)
    waves_work = np.ceil(tiles / count) * work
    first = np.argmin(np.asarray(waves_work), axis=0)
    least = waves_work[first, np.arange(m.size)] * steps
    parts = np.ones(m.size)
    split = (least > picked_tiles.SPLIT) & (steps >= 4) & (batch == 1)
    pairs = np.flatnonzero((2 * tiles <= count) & split)
    if pairs.size:
        at, own = pairs % m.size, pairs // m.size
        needed, best = _split_work(count, tiles.take(pairs), work[own, 0], steps[at], (m * n * batch)[at])
        for pair in np.flatnonzero(needed < least[at]):  # in the order of tiles
            if needed[pair] < least[at[pair]]:
                least[at[pair]], first[at[pair]], parts[at[pair]] = needed[pair], own[pair], best[pair]
    return rows[first, 0], columns[first, 0], parts


def _split_work(count: int, tiles: Any, work: Any, steps: Any, results: Any) -> tuple[Any, Any]:
    """The least work of each tile over the numbers of parts, and that number."""
    several = points(picked_tiles.SPLITS)[:, np.newaxis]
    needed = picked_tiles.split_work(work, steps, several, results, count)
    fits = (tiles * several <= count) & (steps >= 2 * several)
    needed = np.where(np.asarray(fits), np.asarray(needed), np.inf)
    best = np.argmin(needed, axis=0)
    return needed[best, np.arange(best.size)], np.asarray(several)[best, 0]
