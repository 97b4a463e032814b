"""The expected time at each point of a chunk.

All points of a chunk are evaluated at once (see ``timing.arrays``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perfmodel import block, ops
from perfmodel.arithmetic import Size
from perfmodel.block import Kernel, Step
from perfmodel.roofline import bounds
from perfmodel.sweep import work
from perfmodel.sweep.totals import Chunk
from perfmodel.timing import parameters as known
from perfmodel.timing.arrays import at_points, varies
from perfmodel.timing.kernels import parts
from perfmodel.timing.sequence import Bodies, Launched, time_s

if TYPE_CHECKING:
    from perfmodel.roofline import Rates
    from perfmodel.sweep import Plan

# Points per chunk: many, because each path of the model takes a fixed time, and few enough for the cache of the CPU.
# Approximate time per kernel and point on one core.
POINTS = 65_536
SECONDS_A_KERNEL = 0.5e-6
MOST_PIECES = 16_384  # evaluated steps, and times of launches, that are kept


class Piece(NamedTuple):
    """A step at one set of sizes: its kernels, those of its gradients, and its trained parameters with all repeats."""

    forward: tuple[Launched, ...]
    backward: tuple[Launched, ...]
    parameters: int


class Clock:
    """The time model of a card, which adds expected times to the chunks of a sweep.

    Kernels are built once for each set of sizes of a step: at most points few steps have sizes of their own.
    """

    def __init__(self, plan: Plan, card: Rates) -> None:
        self.plan, self.card = plan, card
        self.known = known.card(card.gpu, None)
        self._steps = plan.workload.steps_in(plan.phase, plan.form or None)
        alike: dict[tuple[Any, ...], int] = {}
        self._places = [alike.setdefault(work(step), place) for place, step in enumerate(self._steps)]
        self._pieces: dict[tuple[Any, ...], Piece] = {}
        self._bodies = Bodies()

    def timed(self, chunk: Chunk) -> Chunk:
        """The chunk with the expected time of each point and its range."""
        found = at_points(self._expected, chunk.sizes, chunk.flops.size, 3)
        return chunk._replace(expected_s=found[0], expected_low_s=found[1], expected_high_s=found[2])

    def _expected(self, dims: dict[str, Any]) -> tuple[Size, Size, Size]:
        if max(len(self._pieces), len(self._bodies.lasting)) > MOST_PIECES:
            self._pieces.clear()
            self._bodies = Bodies()
        known: dict[int, Piece] = {}  # of arrays, which no point shares with a later chunk
        pieces = [self._piece(step, place, dims, known) for step, place in zip(self._steps, self._places, strict=True)]
        running = [one for piece in pieces for one in piece.forward]
        if self.plan.phase == "train":
            running += (one for piece in reversed(pieces) for one in piece.backward)
            running += self._optimizer(sum(piece.parameters for piece in pieces), dims)
        return time_s(self.known, running, self.card.dtype, self._bodies)

    def _piece(self, step: Step, place: int, dims: dict[str, Any], known: dict[int, Piece]) -> Piece:
        """The kernels of a step at these sizes. ``place`` is that of the first step that does the same work."""
        sizes = step.values(dims)
        if step.operation.per_token:
            sizes["B"], sizes["N"] = 1, sizes["B"] * sizes["N"]
        repeat = step.repeat(dims) if step.repeat else 1
        key = (place, repeat, *sizes.values())
        if varies(key):
            if place not in known:
                known[place] = self._built(step, sizes, repeat)
            return known[place]
        if key not in self._pieces:
            self._pieces[key] = self._built(step, sizes, repeat)
        return self._pieces[key]

    def _built(self, step: Step, sizes: dict[str, Any], repeat: int) -> Piece:
        """The kernels of a step whose arguments are these sizes; the chunk has checked them."""
        train = self.plan.phase == "train"
        step = step._replace(sizes={}, repeat=None)
        whole = tuple(block.wholes((step,), sizes, checked=False))
        running = block.running(whole, (step,), sizes, fused=self.plan.fused, backward=train, checked=False)
        launched = [self._launched(kernel._replace(repeat=repeat)) for kernel in running]
        return Piece(
            tuple(one for one in launched if one.kernel.forward),
            tuple(one for one in launched if not one.kernel.forward),
            sum(one.op.parameters() * repeat for one in whole if train and not step.tied),
        )

    def _optimizer(self, parameters: int, dims: dict[str, Any]) -> tuple[Launched, ...]:
        """The optimizer step over so many parameters."""
        key = ("optimizer", parameters, *(dims.get(name) for name in ops.find("adam").arguments))
        if varies(key):
            return (self._launched(block.update(parameters, dims, checked=False)),)
        if parameters and key not in self._pieces:
            self._pieces[key] = Piece((self._launched(block.update(parameters, dims)),), (), 0)
        return self._pieces[key].forward if parameters else ()

    def _launched(self, kernel: Kernel) -> Launched:
        """A kernel with its bound and its launches on the card."""
        flops, lower_s = kernel.op.contraction_flops() * kernel.repeat, bounds(kernel.op, self.card).lower_s
        return Launched(
            kernel,
            lower_s,
            parts(self.known, kernel.op, kernel.op.computes or kernel.dtype or self.card.dtype, ""),
            flops,
        )


def seconds(plan: Plan) -> float:
    """Estimated seconds to compute the times of the whole grid: every step once, in training 3 kernels per step."""
    kernels = len(plan.workload.steps_in(plan.phase, plan.form or None)) * (3 if plan.phase == "train" else 1)
    return plan.points * len(plan.cards) * kernels * SECONDS_A_KERNEL
