"""Steps at the sizes of one rank, each evaluated once: ranks of different plans run many of the same kernels.

A step before tensor and expert parallelism depends on the microbatch and the tokens of a rank alone. A step of one rank
also depends on the sizes that its plan changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.block import Kernel, Step
from perfmodel.expression import Constant, Expression
from perfmodel.footprint import activations
from perfmodel.footprint.activations import SQUARES, Page
from perfmodel.footprint.flow import layers, times
from perfmodel.op import Op
from perfmodel.plans.readers import Readers

At = tuple[int, int]  # the microbatch and the context-parallel degree, which give the sizes of a rank
Own = tuple[tuple[str, Any], ...]


class Whole(NamedTuple):
    """A step that no group divides: its values, the same with defaults, and the block's tensors that it reads."""

    given: dict[str, Any]
    values: dict[str, Any]
    reads: tuple[str, ...]


class Numbers(NamedTuple):
    """A step's kernels by the numbers of ``Prices``."""

    forward: tuple[int, ...]
    backward: tuple[int, ...]


class Piece:
    """A step with the sizes of one rank; figures are computed when asked for."""

    def __init__(self, number: int, step: Step, own: Own, dims: Mapping[str, Any], where: Pieces) -> None:
        self.number, self.step, self.own, self._dims, self._pieces = number, step, own, dims, where
        self.values = step.values(dims)
        self.op: Op = step.operation.function(**step.operation.checked(self.values, step.name))
        self.writes = tuple(
            (step.flow[tensor.name], int(tensor.size_byte))
            for tensor in self.op.tensors
            if tensor.writes and not tensor.spill and tensor.name in step.flow
        )
        self._numbers: Numbers | None = None

    @cached_property
    def whole(self) -> Kernel:
        """The forward step as one kernel."""
        step = self.step
        return Kernel(step.name, step.operation.name, times(step, self._dims), self.op, step)

    def numbers(self, number: Callable[[Kernel], int]) -> Numbers:
        """Returns the numbers that ``number`` gives to the kernels that run, in order."""
        if self._numbers is None:
            where = self._pieces
            running = tuple(
                block.running((self.whole,), (self.step,), self._dims, fused=where.fused, backward=where.train)
            )
            forward, backward = (tuple(k for k in running if k.forward is way) for way in (True, False))
            ahead, back = (tuple(map(number, own)) for own in (forward, backward))
            self._numbers = Numbers(ahead, back)
        return self._numbers

    @cached_property
    def drops(self) -> bool:
        """Whether the step is the dropout of the N x S probabilities."""
        if self.step.operation.name != "dropout" or "S" not in self._dims:
            return False
        return bool(self.values["numel"] % (self._dims["N"] * self._dims["S"]) == 0)

    @cached_property
    def square(self) -> bool:
        """Whether the step belongs to attention whose N x S tensors selective recomputation drops."""
        if self.drops:
            return True
        kernels = self.step.kernels
        if not (kernels == "apart" or (kernels == "either" and not self._pieces.fused)):
            return False
        return any(tensor.name in SQUARES and tensor.spill for tensor in self.op.tensors)

    @cached_property
    def page(self) -> Page:
        """Returns the tensors that the backward pass of the step reads."""
        return activations.page(self.step, self._dims, self._pieces.fused, self.step.group.rstrip("."), self.op)

    @cached_property
    def content(self) -> int:
        """A number that is the same for steps that keep the same activations."""
        page, flow = self.page, self.step.flow
        passed = tuple(
            (t.name, t.size_byte, bool(t.reads), bool(t.writes))
            for t in page.op.tensors
            if t.name in flow and not t.spill
        )
        kept = tuple((t.name, t.size_byte, t.spill) for t in page.remembered)
        key = self.number, passed, kept, page.gradient_byte
        return self._pieces.contents.setdefault(key, len(self._pieces.contents))


class Pieces:
    """The steps of a workload at all sizes that were asked for."""

    def __init__(self, steps: Sequence[Step], *, fused: bool = True, train: bool = False) -> None:
        self.steps, self.fused, self.train = tuple(steps), fused, train
        self.readers = Readers(self.steps)
        self.contents: dict[Any, int] = {}
        self.held: dict[Any, Any] = {}
        self._wholes: dict[tuple[int, At], Whole] = {}
        self._shares: dict[Any, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, At, Own], Piece] = {}
        self._groups: dict[At, tuple[tuple[str, int, int, int], ...]] = {}

    def whole(self, number: int, at: At, dims: Mapping[str, Any]) -> Whole:
        """A step at the sizes of a microbatch."""
        key = number, at
        if key not in self._wholes:
            step = self.steps[number]
            given = step.values(dims)
            op = step.operation.function(**step.operation.checked(given, step.name))
            routing = ("weights",) if step.operation.name == "combine_experts" else ()
            reads = tuple(step.flow[t.name] for t in op.tensors
                          if t.reads and not t.spill and t.name in step.flow and t.name not in routing)  # fmt: skip
            self._wholes[key] = Whole(given, {**step.operation.defaults, **given}, reads)
        return self._wholes[key]

    def values(self, number: int, key: Any, dims: Mapping[str, Any]) -> dict[str, Any]:
        """A step's values, with defaults, at divided sizes. ``key`` distinguishes them."""
        if (number, key) not in self._shares:
            step = self.steps[number]
            self._shares[number, key] = {**step.operation.defaults, **step.values(dims)}
        return self._shares[number, key]

    def piece(self, number: int, at: At, dims: Mapping[str, Any], own: Own) -> Piece:
        """A step with the values that a plan changes as numbers."""
        key = number, at, own
        if key not in self._pieces:
            step = self.steps[number]
            if own:
                fixed = {name: constant(value, step.name) for name, value in own}
                step = step._replace(sizes={**step.sizes, **fixed})
            self._pieces[key] = Piece(number, step, own, dims, self)
        return self._pieces[key]

    def groups(self, at: At, dims: Mapping[str, Any]) -> tuple[tuple[str, int, int, int], ...]:
        """Steps that repeat together: their name, the repeats, and the first step and the one after the last."""
        if at not in self._groups:
            found, start = [], 0
            for name, repeat, steps in layers(self.steps, dims):
                found.append((name, repeat, start, start + len(steps)))
                start += len(steps)
            self._groups[at] = tuple(found)
        return self._groups[at]


def constant(value: Any, where: str) -> Expression:
    """A value that a plan sets, as a size of a step: a number, or the shares of the experts of a rank."""
    return Expression(str(value), where) if isinstance(value, int) else Constant(value, where)
