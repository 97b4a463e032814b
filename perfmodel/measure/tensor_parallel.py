"""Measures a prompt or a decoding step of decoder layers, on one rank or divided over all ranks by tensor parallelism.

The result of the first layer is compared with the undivided layer in float32. Then several layers with weights of their
own run one after another, and the time is divided by their number.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from perfmodel.measure.layers import Kernels, Layer, Turn, Width, plain_kernels, turn
from perfmodel.measure.ranks import Ranks
from perfmodel.measure.replays import graph, replays, sampled, wall
from perfmodel.step_cases import StepCase

CHAIN, CHAIN_ON_CPU = 4, 2  # layers that run one after another
WARM_UP = 3
BUDGET_S, FEWEST = 0.4, 5
# Largest relative difference of what a layer adds to its input, by data type.
AGREE = {"bf16": 3e-2, "fp16": 1e-2, "fp32": 1e-4}
CHECKED = 4  # sequences that are compared


class Layers:
    """Layers of one case on this rank, with their input and, in decoding, their caches."""

    def __init__(self, ranks: Ranks, case: StepCase, width: Width, kernels: Kernels) -> None:
        self.ranks, self.case, self.width = ranks, case, width
        torch, tp = ranks.torch, case.plan.tp
        B, S = case.shape.get("B", 1), case.shape.get("S", 0)
        decode = case.phase == "decode"
        N = 1 if decode else case.shape["N"]
        self.type = ranks.type_of(case.dtype)
        self.layers = [
            Layer(torch, width, number, self.type, ranks.device, kernels=kernels, tp=tp, rank=ranks.rank, dist=ranks.dist)
            for number in range(CHAIN if ranks.cuda else CHAIN_ON_CPU)
        ]  # fmt: skip
        self.source = torch.Generator(device=ranks.device)
        self.source.manual_seed(1)
        self.x = self._normal(B, N, width.D)
        self.turned = turn(torch, B, S - 1 if decode else 0, N, width.d, self.type, ranks.device)
        cache = self._normal(B, S, 2, width.H_kv, width.d) if decode else None  # of all heads
        self.whole = None if cache is None else cache[:CHECKED].clone()
        self.caches = [None if cache is None else self._own(cache) for _ in self.layers]

    def _normal(self, *shape: int) -> Any:
        torch, device = self.ranks.torch, self.ranks.device
        return torch.randn(*shape, generator=self.source, device=device, dtype=self.type)

    def _own(self, cache: Any) -> Any:
        """A copy of the heads of this rank."""
        tp, torch = self.case.plan.tp, self.ranks.torch
        part = cache.chunk(tp, 3)[self.ranks.rank] if tp > 1 else cache
        return part.clone(memory_format=torch.contiguous_format)

    def run(self) -> Any:
        """Runs all layers."""
        with self.ranks.torch.no_grad():
            x = self.x
            for layer, cache in zip(self.layers, self.caches, strict=True):
                x = layer.run(x, self.turned, cache)
            return x

    def wrong(self) -> str:
        """Compares the first layer with the undivided one in float32, on the first sequences. Returns the error, or nothing."""
        torch, device = self.ranks.torch, self.ranks.device
        with torch.no_grad():
            found = self.layers[0].run(self.x, self.turned, self.caches[0])[:CHECKED].float()
            x = self.x[:CHECKED].float()
            whole = Layer(torch, self.width, 0, self.type, device, kernels=plain_kernels(torch))
            wide = _in_float32(whole)
            cache = None if self.whole is None else self.whole.float()
            turned = Turn(*(rows[: x.shape[0] * x.shape[1]].float() for rows in self.turned))
            wanted = wide.run(x, turned, cache)
            difference = float((found - wanted).norm() / (wanted - x).norm())
        self.whole = None
        if difference <= AGREE[self.case.dtype]:
            return ""
        return f"wrong result: it differs by {difference:.2g} of the layer's change from the undivided layer"

    def measured(self) -> dict[str, Any]:
        """Returns the time of one layer, as fields of a record."""
        ranks, count = self.ranks, len(self.layers)
        for _ in range(WARM_UP):
            ranks.agreed(self.run)
        ranks.synchronize()
        if ranks.cuda and self.case.protocol == "warm":
            replay = ranks.agreed(lambda: graph(ranks, self.run, 1))
            times = partial(replays, ranks, replay, count)
        else:
            times = partial(self._walls, count)
        return dict(sampled(ranks, times, calls=count, budget_s=BUDGET_S, fewest=FEWEST).fields())

    def _walls(self, count: int, number: int) -> list[float]:
        """Returns microseconds of one of ``count`` layers, launched by the host, for each of ``number`` runs."""
        return [wall(self.ranks, self.run) / count for _ in range(number)]


def _in_float32(layer: Layer) -> Layer:
    """The same layer in float32. Its key-value heads are copied, because not every kernel in float32 shares them."""
    for name in ("qkv", "project", "gate_up", "down"):
        setattr(layer, name, getattr(layer, name).float())
    layer.norms = [norm.float() for norm in layer.norms]
    layer.shares_heads = False
    return layer
