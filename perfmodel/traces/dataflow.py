"""Sizes of kernels whose operators are missing in a trace, inferred from one kernel to the next.

A network's kernels work on the same rows (tokens), which those that work by row tell. The tensor before a product has its
rows and its inner dimension, the tensors after it have its columns. Where several column counts are possible, as among
the projections of a query and its keys, the one whose expected time is nearest the measured time is taken; such sizes
are marked as inferred, and their expected time proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import log

from perfmodel.aten.calls import Launched
from perfmodel.traces.events import Activity
from perfmodel.traces.inference import Seen, chained, computed, seen
from perfmodel.traces.kernel_names import attention_tile, function, layout, tile
from perfmodel.traces.pricing import UNPRICED, Price
from perfmodel.traces.sized import Kernels, attended, multiplied, repeated

# Prices kernels.
Pricer = Callable[[Sequence[Launched]], Price]
AHEAD = 14  # kernels after a product among which its result may appear again
USUAL = 12  # column counts of the whole trace that are tried where none nearby fits
NEAR = 0.25  # of the natural logarithm of expected by measured time
MOST_BATCHES = 1024
WIDEST = 1 << 18  # columns of a product
IMPOSSIBLE = 10.0  # distance of sizes whose lower bound is above the measured time
LEAST_WIDTH = 16  # columns of a tensor that a product reads
INTEGERS = ("int64", "int32")
CHAINED = (2, 1, 3, 4)  # tensors of a fused kernel; one may be broadcast, so that only its result counts
TENSORS = ("elementwise", "fused", "random")


class Flow:
    """The calls of a step in order, each one or more kernels, with the sizes that are known of each. ``known`` are the
    kernels of calls with shapes.

    ``size`` is that of the tensor written last, ``inputs`` are the sizes of the tensors that products may read: it,
    and those that the product before it read and wrote.
    """

    def __init__(
        self, calls: Sequence[Sequence[Activity]], price: Pricer | None, known: Sequence[Kernels] = ()
    ) -> None:
        self.known = known
        self.seen = _without_sums([_seen(one) for one in calls])
        self.price = price
        self.rows = _rows(self.seen)
        self.size = 0
        self.inputs: tuple[int, ...] = ()
        self.usual = self._usual()
        kinds = Counter(one.dtype for one in self.seen if one.family == "product" and one.dtype in ("bf16", "fp16"))
        self.number = kinds.most_common(1)[0][0] if kinds else "bf16"

    def _usual(self) -> list[int]:
        """The most frequent column counts of all tensors."""
        widths = Counter(
            one.elements // rows for one, rows in zip(self.seen, self.rows, strict=True)
            if rows and one.elements % rows == 0 and one.elements >= LEAST_WIDTH * rows and one.dtype not in INTEGERS
            and one.family in TENSORS
        )  # fmt: skip
        return [width for width, _ in widths.most_common(USUAL)]

    def launched(self) -> list[Kernels]:
        """Returns the computation of each kernel, as far as it can be inferred."""
        return repeated([self._known(place) or self._one(place, one) for place, one in enumerate(self.seen)])

    def _known(self, place: int) -> Kernels:
        """Returns the computation of a call from its shapes, if it has any. The kernels after it read its results."""
        found = self.known[place] if self.known else ()
        sizes = [
            int(tensor.elements) for one in found for tensor in one.op.tensors if tensor.writes and not tensor.spill
        ]
        if sizes:
            self._written(max(sizes))
        return found

    def _one(self, place: int, one: Seen) -> Kernels:
        """Returns the computation of one call; nothing if its grid does not fit."""
        try:
            return self._told(place, one)
        except UNPRICED:
            return ()

    def _told(self, place: int, one: Seen) -> Kernels:
        if one.family == "product" and "splitKreduce" not in one.activity.name:
            return self._product(place, one)
        if one.family in ("attention", "attention_backward"):
            return self._attention(place, one)
        rows = one.rows or self.rows[place]
        if one.family in ("norm", "softmax"):
            cols = self._cols(place, one, rows)
            self._written(rows * cols or self.size)
            return computed(one, rows * cols, cols)
        if one.family in TENSORS and one.elements >= LEAST_WIDTH * max(1, rows) and one.dtype not in INTEGERS:
            self._written(one.elements)
        if one.family == "fused":
            size = one.elements or self.size
            return self._nearest([chained(one, size, tensors) for tensors in CHAINED], one) if size else ()
        return computed(one, self.size or self._next(place), self.size // rows if rows else 0)

    def _written(self, size: int) -> None:
        self.size = size
        self.inputs = (size, *self.inputs[-2:])

    def _next(self, place: int) -> int:
        return next((one.elements for one in self.seen[place + 1 : place + 4] if one.elements), 0)

    def _cols(self, place: int, one: Seen, rows: int) -> int:
        """The length of a row: of a normalisation, that of the weight's gradient beside it, where there is one."""
        if one.family == "norm":
            near = self.seen[max(0, place - 1) : place + 3]
            grid = next((x.activity for x in near if "GammaBeta" in x.activity.name), None)
            if grid:
                return grid.grid[0] * grid.block[0]
        sizes = [size for size in (self.size, self._next(place)) if rows and size >= rows and size % rows == 0]
        return sizes[0] // rows if sizes else 0

    def _product(self, place: int, one: Seen) -> Kernels:
        rows = self.rows[place] or _least(one)
        inner = [size // rows for size in dict.fromkeys(self.inputs) if rows and LEAST_WIDTH <= size // rows <= WIDEST]
        if not inner:
            return ()
        near = (size // rows for size in self._after(place) if LEAST_WIDTH <= size // rows <= WIDEST)
        tiled = tuple(_tiled(one, rows))
        columns = list(tiled if len(tiled) == 1 else dict.fromkeys((*tiled, *near)))
        best = self._nearest([self._call(one, rows, k, n) for k in inner for n in columns], one)
        if not best or self._distance(best, one) > NEAR:
            inner, columns = [*inner, *self.usual], [*columns, *self.usual]
            best = self._nearest(
                [*filter(None, (best,)), *(self._call(one, rows, k, n) for k in inner for n in columns)], one
            )
        if best and layout(one.activity.name) != "NT":
            self.inputs = (self.size, rows * best[0].sizes["k"], rows * best[0].sizes["n"])
        return best

    def _after(self, place: int) -> Iterable[int]:
        """Sizes of tensors in the kernels after a product, up to the next attention."""
        for one in self.seen[place + 1 : place + 1 + AHEAD]:
            if one.family.startswith("attention"):
                return
            if one.elements and one.dtype not in INTEGERS and one.family in TENSORS:
                yield one.elements

    def _call(self, one: Seen, rows: int, inner: int, width: int) -> Kernels:
        kind = one.dtype if one.dtype in ("bf16", "fp16", "fp32", "fp64", "tf32") else "bf16"
        return multiplied(kind, rows, inner, width, layout(one.activity.name) == "NT")

    def _attention(self, place: int, one: Seen) -> Kernels:
        width, rows = attention_tile(one.activity.name), self.rows[place]
        if not width:
            return ()
        sizes = self._attended_sizes(place, one, width, rows)
        choices = [
            attended(
                one,
                self.number,
                batch,
                heads,
                queries,
                width,
                self._keys(place, batch * heads * width, queries),
                masked=bool(self._masks(place, rows)),
            )
            for batch, heads, queries in sizes
        ]
        best = self._nearest(choices, one)
        if sizes:
            self._written(sizes[0][0] * sizes[0][1] * sizes[0][2] * width)
        return best

    def _attended_sizes(self, place: int, one: Seen, width: int, rows: int) -> list[tuple[int, int, int]]:
        """Possible batches, heads and queries of an attention kernel."""
        grid = one.activity.grid
        if grid[1] > 1 and grid[2] > 1:  # (tiles of queries, heads, batches); FlashAttention has the batches first
            batch, heads = (grid[1], grid[2]) if "pytorch_flash" in one.activity.name else (grid[2], grid[1])
            return [(batch, heads, max(1, (rows or batch) // batch))]
        sums = next((x.activity.grid for x in self.seen if "compute_dot_do_o" in x.activity.name), None)
        if sums and sums[1] and rows % sums[1] == 0:
            return [(sums[1], sums[2], rows // sums[1])]
        heads = next((size // width for size in self.usual if size % width == 0), 0)
        queries = next((x.elements // rows for x in self._masks(place, rows) if rows % (x.elements // rows) == 0), 0)
        if not heads:
            return []
        if queries:
            return [(rows // queries, heads, queries)]
        return [(b, heads, rows // b) for b in range(1, MOST_BATCHES) if rows % b == 0 and rows // b >= LEAST_WIDTH]

    def _masks(self, place: int, rows: int) -> list[Seen]:
        """Kernels just before attention that make a mask of its scores."""
        near = self.seen[max(0, place - 4) : place]
        return [x for x in near if rows and x.elements >= rows and function(x.activity.name) == "where"]

    def _keys(self, place: int, per_key: int, queries: int) -> int:
        """The number of keys: that of the largest tensor of keys copied just before, else that of the queries."""
        copies = [one.elements for one in self.seen[max(0, place - 8) : place] if one.elements % per_key == 0]
        return max(max(copies, default=0) // per_key, queries)

    def _nearest(self, choices: Sequence[Kernels], one: Seen) -> Kernels:
        if len(choices) < 2 or self.price is None:
            return choices[0] if choices else ()
        return min(choices, key=lambda made: self._distance(made, one))

    def _distance(self, made: Kernels, one: Seen) -> float:
        """How far the expected time of kernels is from a measured time, as the logarithm of their ratio."""
        if not made or self.price is None:
            return 0.0 if made else 1e9
        try:
            found, took_s = self.price(made), max(one.activity.seconds, 1e-9)
        except UNPRICED:
            return 1e9
        apart = abs(log(max(found.expected_s, 1e-12) / took_s))
        return apart if found.lower_s <= took_s else apart + IMPOSSIBLE


def _seen(kernels: Sequence[Activity]) -> Seen:
    """The longest kernel of a call; one that divides its tensors among several kernels has the elements of all."""
    main = seen(max(kernels, key=lambda one: one.seconds))
    if main.family != "optimizer" or len(kernels) == 1:
        return main
    return main._replace(elements=sum(seen(one).elements for one in kernels))


def _without_sums(kernels: Sequence[Seen]) -> list[Seen]:
    """The kernels without the sizes of sums of weight gradients, which follow the product that makes one."""
    found, summing = [], False
    for one in kernels:
        if one.family == "product":
            summing = layout(one.activity.name) == "NT" or (summing and "splitKreduce" in one.activity.name)
        elif one.family in ("norm", "softmax", "attention", "attention_backward") or _computes(one):
            summing = False
        sums = summing and one.family == "elementwise" and function(one.activity.name) == "add"
        found.append(one._replace(family="gradient_sum") if sums else one)
    return found


def _computes(one: Seen) -> bool:
    return one.family == "elementwise" and function(one.activity.name) not in ("add", "copy_", "fill_")


def _rows(kernels: Sequence[Seen]) -> list[int]:
    """The rows that each kernel works on: those of the nearest kernel by row before it, else after it."""
    own = [one.rows if one.family in ("norm", "reduction") else 0 for one in kernels]
    found, last = [], next((rows for rows in own if rows), 0)
    for rows in own:
        last = rows or last
        found.append(last)
    return found


def _tiled(one: Seen, rows: int) -> Iterable[int]:
    """The columns of a product of few rows, by its blocks and their tiles, unless its blocks stay for several tiles."""
    found, grid = tile(one.activity.name), one.activity.grid
    if not found:
        return
    # cuBLAS's own kernels name the columns first; of others the longer side is assumed to be the columns.
    wide, high = found if one.activity.name.startswith("nvjet") else (max(found), min(found))
    if rows <= high and min(found) < max(found):
        columns = grid[0] * grid[1] * wide
        yield from (columns // parts for parts in ((2, 4, 8) if "splitK" in one.activity.name else (1,)))


def _least(one: Seen) -> int:
    """The rows of a product whose tile is as small as its rows are few."""
    found = tile(one.activity.name)
    return min(found) if found and min(found) <= 16 else 0
