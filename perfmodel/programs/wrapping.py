"""Functions that the wrappers of data parallelism share: gradients of a program, and steps added between its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.arithmetic import ceil_div
from perfmodel.aten.calls import ITEMS, Call, Operand
from perfmodel.programs.program import Program, Resident, Step

COMMUNICATION = 1  # the stream of collectives
PHASE = "replicas"


class Gradient(NamedTuple):
    """A gradient that remains after the backward pass: its tensor, the step that completes it, and its module."""

    tensor: Operand
    step: int
    module: str


def gradients(program: Program) -> list[Gradient]:
    """Returns the tensors that the backward pass makes and leaves behind, in the order in which they are complete."""
    made: dict[int, Gradient] = {}
    for number, step in enumerate(program.steps):
        if step.phase == "optimizer":
            break
        for result in step.call.results:
            if step.phase == "backward" and result.storage and result.storage not in program.resident:
                made[result.storage] = Gradient(result, number, step.module)
        for storage in step.frees:
            made.pop(storage, None)
    return sorted(made.values(), key=lambda one: one.step)


class Wrapped:
    """A program with steps added before and after its own."""

    def __init__(self, source: Program, ranks: int) -> None:
        self.source, self.ranks = source, ranks
        self.before: dict[int, list[Step]] = {}
        self.after: dict[int, list[Step]] = {}
        self.resident: dict[int, Resident] = dict(source.resident)
        known = [x.storage for step in source.steps for x in (*step.call.operands, *step.call.results)]
        self._newest = max([*known, *source.resident], default=0)

    def storage(self) -> int:
        """Returns the number of a new storage."""
        self._newest += 1
        return self._newest

    def flat(self, byte: Any, dtype: str) -> Operand:
        """Returns a new tensor of one dimension, of at least ``byte`` bytes."""
        number = ceil_div(int(byte), int(ITEMS[dtype]))
        return Operand((number,), dtype, (1,), self.storage(), int(number * ITEMS[dtype]))

    def collective(self, kind: str, given: Operand, made: Operand, module: str = "") -> Step:
        """A collective that reads one tensor and writes another, or the same."""
        call = Call(kind, (given,), {"gpus": self.ranks}, (made,))
        return Step(call, module, PHASE, COMMUNICATION, source=kind)

    def program(self) -> Program:
        """Returns the program with the added steps."""
        steps = list[Step]()
        for number, step in enumerate(self.source.steps):
            steps += [*self.before.get(number, ()), self.changed(step), *self.after.get(number, ())]
        return self.source._replace(steps=tuple(steps), resident=self.resident)

    def changed(self, step: Step) -> Step:
        """Returns one of the program's own steps as the wrapper runs it."""
        return step


def dense(x: Operand) -> Operand:
    """Returns a dense tensor as a tensor of one dimension."""
    return x._replace(shape=(x.numel,), strides=(1,))
