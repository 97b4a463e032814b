"""Measures training steps of transformers: one GPU, DistributedDataParallel or FSDP2 over all ranks.

All ranks draw the same global batch and the same weights from one seed, and each takes its share of the batch. The first
loss of the divided model is compared with that of the plain model on the same share.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from perfmodel.measure.ranks import TORCH_TYPES, Ranks
from perfmodel.measure.replays import sampled, wall
from perfmodel.step_cases import StepCase

SEED = 0
WARM_UP = 2
BUDGET_S, FEWEST = 0.5, 5
AGREE = {"bf16": 1e-2, "fp16": 1e-2, "fp32": 1e-4}  # largest relative difference of losses

Builder = Callable[..., Callable[[], Any]]


class Training:
    """A training step on this rank. ``build`` is ``capture.models.step``."""

    def __init__(self, ranks: Ranks, case: StepCase, build: Builder) -> None:
        self.ranks, self.case = ranks, case
        self.plain_loss = 0.0
        self.model: Any = None
        torch, shape = ranks.torch, case.shape
        torch.manual_seed(SEED)
        self.step = build(
            case.file, "train", B=shape["B"], N=shape["N"], dtype=TORCH_TYPES[case.dtype], device=str(ranks.device),
            layers=shape.get("L"), wrap=self._divided,
        )  # fmt: skip

    def _divided(self, model: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Returns the model divided over the ranks, and this rank's share of the batch."""
        torch, dp = self.ranks.torch, self.case.plan.dp
        if dp > 1:
            given = {name: x.chunk(dp)[self.ranks.rank].contiguous() for name, x in given.items()}
        torch.manual_seed(SEED)  # dropout
        with torch.no_grad():
            self.plain_loss = float(model(**given).loss)
        if dp > 1:
            model = sharded(self.ranks, model) if self.case.plan.zero == 3 else replicated(self.ranks, model)
        self.model = model
        return model, given

    def wrong(self) -> str:
        """Runs a step and compares its loss with that of the plain model."""
        self.ranks.torch.manual_seed(SEED)
        found, wanted = float(self.step()), self.plain_loss
        if isfinite(found) and abs(found - wanted) <= AGREE[self.case.dtype] * abs(wanted):
            return ""
        return f"wrong result: the loss is {found:.6g}, and {wanted:.6g} without division"

    def measured(self) -> dict[str, Any]:
        """Returns the time of a step and the peak memory."""
        ranks = self.ranks
        for _ in range(WARM_UP):
            ranks.agreed(self.step)
        ranks.peak()
        found = sampled(ranks, lambda n: [wall(ranks, self.step) for _ in range(n)], budget_s=BUDGET_S, fewest=FEWEST)
        return {**found.fields(), **ranks.peak()}


def replicated(ranks: Ranks, model: Any) -> Any:
    """Returns the model under DistributedDataParallel."""
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model, device_ids=[ranks.device.index] if ranks.cuda else None)


def sharded(ranks: Ranks, model: Any) -> Any:
    """Returns the model under FSDP2, which shards every decoder block, and the rest together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(str(ranks.device.type), (ranks.size,))
    lists = [module for module in model.modules() if isinstance(module, ranks.torch.nn.ModuleList)]
    for block in max(lists, key=len, default=()):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model
