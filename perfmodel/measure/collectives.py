"""Measures collectives between the ranks of torchrun: each result is checked, then the call is timed.

A time is that of the slowest rank. ``warm`` replays a CUDA graph of several calls back to back and divides by their
number. ``eager`` times one call of torch.distributed at a time, after all ranks have met.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

from perfmodel import patterns
from perfmodel.measure.ranks import Ranks
from perfmodel.measure.replays import between_events, graph, replays, sampled

Line = dict[str, Any]

BYTES = tuple(4**i << 10 for i in range(11))  # 1 KiB to 1 GiB
FEW_BYTES = (1 << 10, 1 << 16, 1 << 20)  # on a processor
TILE = 1024  # largest period of the test values, in elements
MANY_CALLS, FEW_CALLS = 16, 4  # calls of one graph, for tensors up to 1 MiB and for larger ones
WARM_UP = 3


def suite(ranks: int, *, cuda: bool) -> list[Line]:
    """Returns every collective at all sizes: under both protocols on GPUs, eager on a processor."""
    words = {"dtype": "bf16", "impl": "nccl"} if cuda else {"dtype": "fp32", "impl": "gloo"}
    return [
        {"op": kind, "shape": {"byte": _whole(byte, ranks), "gpus": ranks}, **words, "protocol": protocol}
        for kind in patterns.KINDS
        for protocol in (("warm", "eager") if cuda else ("eager",))
        for byte in (BYTES if cuda else FEW_BYTES)
    ]


def _whole(byte: int, ranks: int) -> int:
    """The bytes, rounded up to equal parts of whole elements."""
    unit = 16 * ranks
    return -(-byte // unit) * unit


class Call:
    """One collective: its tensors, and the function that runs it.

    Test values are whole numbers, so that sums are exact in every data type: part j of rank r's tensor has the values
    (i + 3 r + 5 j) mod m at element i, repeated.
    """

    def __init__(self, ranks: Ranks, line: Mapping[str, Any]) -> None:
        torch = ranks.torch
        self.ranks, self.kind, self.protocol = ranks, str(line["op"]), str(line.get("protocol", "warm"))
        self.type = ranks.type_of(line["dtype"])
        self.byte = int(line["shape"]["byte"])
        n = self.byte // self.type.itemsize
        self.parts = 1 if self.kind == patterns.ALL_GATHER else ranks.size
        self.tile = gcd(n // self.parts, TILE)
        self.most = max(2, min(11, 200 // ranks.size))
        self.x = torch.empty(n, dtype=self.type, device=ranks.device)
        sizes = {patterns.REDUCE_SCATTER: n // ranks.size, patterns.ALL_GATHER: n * ranks.size}
        self.out = torch.empty(sizes.get(self.kind, n), dtype=self.type, device=ranks.device)
        self.fill()

    def _values(self, rank: int, part: int) -> Any:
        i = self.ranks.torch.arange(self.tile, device=self.ranks.device)
        return ((i + 3 * rank + 5 * part) % self.most).to(self.type)

    def fill(self) -> None:
        """Gives the tensor its test values."""
        view = self.x.view(self.parts, -1, self.tile)
        for part in range(self.parts):
            view[part] = self._values(self.ranks.rank, part)

    def run(self) -> None:
        """Makes the call of torch.distributed."""
        dist, x, out = self.ranks.dist, self.x, self.out
        if self.kind == patterns.ALL_REDUCE:
            dist.all_reduce(x)
        elif self.kind == patterns.REDUCE_SCATTER:
            _named(dist, "reduce_scatter_single", "reduce_scatter_tensor")(out, x)
        elif self.kind == patterns.ALL_GATHER:
            _named(dist, "all_gather_single", "all_gather_into_tensor")(out, x)
        elif self.kind == patterns.ALL_TO_ALL:
            dist.all_to_all_single(out, x)
        elif self.kind == patterns.BROADCAST:
            dist.broadcast(x, 0)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        dist, rank, size = self.ranks.dist, self.ranks.rank, self.ranks.size
        sends = dist.P2POp(dist.isend, self.x, (rank + 1) % size)
        receives = dist.P2POp(dist.irecv, self.out, (rank - 1) % size)
        for work in dist.batch_isend_irecv([sends, receives]):
            work.wait()

    def wrong(self) -> str:
        """Runs the call once and returns what is wrong with its result; empty if nothing is."""
        self.run()
        self.ranks.synchronize()
        in_place = self.kind in (patterns.ALL_REDUCE, patterns.BROADCAST)
        wanted = self._wanted()
        view = (self.x if in_place else self.out).view(len(wanted), -1, self.tile)
        bad = sum(int((one != tile).sum()) for one, tile in zip(view, wanted, strict=True))
        return f"wrong result: {bad} of {view.numel()} elements differ" if bad else ""

    def measured(self) -> Line:
        """Returns the times of the record."""
        ranks = self.ranks
        for _ in range(WARM_UP):
            ranks.agreed(self.run)
        ranks.synchronize()
        if ranks.cuda and self.protocol != "eager":
            calls = MANY_CALLS if self.byte <= 1 << 20 else FEW_CALLS
            replay = ranks.agreed(lambda: graph(ranks, self.run, calls))
            found = sampled(ranks, lambda number: replays(ranks, replay, calls, number), calls=MANY_CALLS)
        else:
            found = sampled(ranks, lambda n: [between_events(ranks, self.run) for _ in range(n)], calls=MANY_CALLS)
        return dict(found.fields())

    def _wanted(self) -> list[Any]:
        """The values of each part of the result."""
        here, ends = self.ranks.rank, range(self.ranks.size)

        def total(part: int) -> Any:
            return sum(self._values(r, part) for r in ends)

        return {
            patterns.ALL_REDUCE: lambda: [total(j) for j in ends],
            patterns.REDUCE_SCATTER: lambda: [total(here)],
            patterns.ALL_GATHER: lambda: [self._values(r, 0) for r in ends],
            patterns.ALL_TO_ALL: lambda: [self._values(r, here) for r in ends],
            patterns.BROADCAST: lambda: [self._values(0, j) for j in ends],
            patterns.SEND_RECV: lambda: [self._values((here - 1) % self.ranks.size, j) for j in ends],
        }[self.kind]()


def _named(dist: Any, new: str, old: str) -> Any:
    """A function of torch.distributed, which renamed it."""
    return getattr(dist, new, None) or getattr(dist, old)
