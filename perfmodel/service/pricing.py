"""Prices of a serving stack's kernels: its attention kernel, one kernel per normalisation, its own all-reduce."""

from __future__ import annotations

from perfmodel.block import Kernel
from perfmodel.hardware import Gpu
from perfmodel.plans.plan import Plan
from perfmodel.plans.pricing import PROTOCOL, Prices, group
from perfmodel.runs import Heads, Rows
from perfmodel.systems import System
from perfmodel.timing.collectives import SERVING, collective_s
from perfmodel.timing.launch import first_launch_s, gap_s, ramp_s

# Calls of the host between two steps, one after another: read the sampled tokens; copy token ids, positions, slots and
# block tables to the card; launch the step.
HOST_CALLS = 6


class StackPrices(Prices):
    """Prices of one GPU in one system, with the kernels of a serving stack.

    ``host_gap_s``: the time between two steps in which the host prepares the next one, by default its calls one after
    another.
    """

    def __init__(
        self, gpu: Gpu, system: System | None, dtype: str, knowledge: str | None = None, host_gap_s: float | None = None
    ) -> None:
        super().__init__(gpu, system, dtype, knowledge)
        self.host_gap_s = HOST_CALLS * self.card.host_s["any"] if host_gap_s is None else host_gap_s

    def back_end(self, kernel: Kernel) -> str:
        if isinstance(kernel.op.runs, Heads):
            return "serving"
        return "ours" if isinstance(kernel.op.runs, Rows) else ""

    def collective(self, kind: str, byte: int, axis: str, plan: Plan) -> tuple[float, float]:
        """Seconds of one collective: by the data sheet, and expected. Small tensors take the stack's own kernel."""
        ranks, local = group(axis, plan, self.system)
        if ranks == 1 or self.system is None or not byte:
            return 0.0, 0.0
        key = kind, byte, ranks, local
        if key not in self._collectives:
            found = collective_s(self.system, self.gpu, kind, byte, ranks, ranks_per_node=local, library=SERVING)
            self._collectives[key] = found.lower_s, found.expected_s
        return self._collectives[key]

    @property
    def launch_s(self) -> float:
        """The launch of a step as a CUDA graph."""
        return float(first_launch_s(self.card, PROTOCOL, "", 0.0))

    @property
    def between_s(self) -> float:
        """Returns the part of a launch that is saved where two kernels become one."""
        return float(gap_s(self.card, PROTOCOL, 0.0) + ramp_s(self.card, far=False))
