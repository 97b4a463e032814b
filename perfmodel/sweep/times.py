"""The expected time at each point of a chunk: one point after the other, since its mechanisms choose as a library does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfmodel import block
from perfmodel.roofline import bounds
from perfmodel.sweep.totals import Chunk
from perfmodel.timing import parameters as known
from perfmodel.timing.sequence import expected

if TYPE_CHECKING:
    from perfmodel.roofline import Rates
    from perfmodel.sweep import Plan

# Points between which a bar may move; what one kernel of one point takes, about, on one core.
POINTS = 256
SECONDS_A_KERNEL = 150e-6


class Clock:
    """A card as the time model knows it, which tells the times of a sweep's chunks."""

    def __init__(self, plan: Plan, card: Rates) -> None:
        self.plan, self.card = plan, card
        self.known = known.card(card.gpu, None)

    def timed(self, chunk: Chunk) -> Chunk:
        """The chunk with the time that an analysis of each of its points expects, and its range."""
        found = np.empty((3, chunk.flops.size))
        for i in range(chunk.flops.size):
            found[:, i] = self._expected({name: int(values[i]) for name, values in chunk.at.items()})
        return chunk._replace(expected_s=found[0], expected_low_s=found[1], expected_high_s=found[2])

    def _expected(self, at: dict[str, int]) -> tuple[float, float, float]:
        plan, train = self.plan, self.plan.phase == "train"
        dims = {"causal": int(plan.causal), **plan.workload.dims(plan.phase, {**plan.settings, **at})}
        taken = plan.workload.steps_in(plan.phase, plan.form or None)
        running = block.kernels(taken, dims, fused=plan.fused, backward=train, optimizer=train)
        judged = [(kernel, bounds(kernel.op, self.card).lower_s) for kernel in running]
        return expected(self.known, judged, self.card.dtype)[1][:3]


def seconds(plan: Plan) -> float:
    """How long the times of the whole grid take, about: every step once, in training its gradients too."""
    kernels = len(plan.workload.steps_in(plan.phase, plan.form or None)) * (3 if plan.phase == "train" else 1)
    return plan.points * len(plan.cards) * kernels * SECONDS_A_KERNEL
