"""Steps: operations with their sizes, repeats and the tensors that join them; a model is a list of them.

A step gives each argument of its operation as an expression of the workload's sizes. Its ``flow`` says which tensor of
the block each of the operation's tensors is, so that the block's own inputs and outputs can be told from what passes
between its steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from perfmodel import ops
from perfmodel.expression import Expression
from perfmodel.op import Kind, Op
from perfmodel.operation import Operation, checked_value


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a block. ``apart`` runs its kernels one by one even in the fused form."""

    name: str
    operation: Operation
    sizes: Mapping[str, Expression] = field(default_factory=dict)
    repeat: Expression | None = None
    flow: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False
    tied: bool = False

    def values(self, dims: Mapping[str, Any]) -> dict[str, Any]:
        """The operation's arguments: as the step says, else the block's size of that name, else the default."""
        found: dict[str, Any] = {}
        for name in self.operation.arguments:
            if name in self.sizes:
                found[name] = self.sizes[name](dims)
            elif name in dims:
                found[name] = dims[name]
        return found


class Kernel(NamedTuple):
    """A kernel that runs: its name, the operation it belongs to, its repeats and what it does."""

    name: str
    operation: str
    repeat: Any
    op: Op
    step: Step
    forward: bool = True


def kernels(
    steps: Iterable[Step], dims: Mapping[str, Any], *, fused: bool = True, backward: bool = False, checked: bool = True
) -> Iterator[Kernel]:
    """Every kernel in running order: the steps forward, then their gradients in reverse."""
    steps = tuple(steps)
    for step in steps:
        values = _evaluated(step.operation, step.values(dims), step.name, checked)
        yield from _split(step.name, step.operation, values, _repeat(step, dims, checked), step, fused, forward=True)
    for step in reversed(steps) if backward else ():
        forward = {**step.operation.defaults, **step.values(dims)}
        for gradient in step.operation.backward:
            operation = ops.find(gradient.operation)
            given = {name: Expression(text, step.name)(forward) for name, text in gradient.sizes}
            values = {name: value for name, value in {**forward, **given}.items() if name in operation.arguments}
            values = _evaluated(operation, values, step.name, checked)
            name = f"{step.name}.backward"
            if len(step.operation.backward) > 1:
                name += f".{gradient.operation.removesuffix('_backward')}"
            yield from _split(name, operation, values, _repeat(step, dims, checked), step, fused, forward=False)


def _evaluated(operation: Operation, values: dict[str, Any], where: str, checked: bool) -> dict[str, Any]:
    return operation.checked(values, where) if checked else {**operation.defaults, **values}


def _repeat(step: Step, dims: Mapping[str, Any], checked: bool) -> Any:
    repeat = step.repeat(dims) if step.repeat else 1
    return checked_value("L", repeat, f"{step.name}: repeat") if checked else repeat


def _split(
    name: str, operation: Operation, values: dict[str, Any], repeat: Any, step: Step, fused: bool, forward: bool
) -> Iterator[Kernel]:
    op = operation.function(**values)
    parts = () if fused and not step.apart else op.kernels()
    if not parts:
        yield Kernel(name, operation.name, repeat, op, step, forward)
    for part, kernel in parts:
        yield Kernel(f"{name}.{part}", part, repeat, kernel, step, forward)


def parameters(steps: Iterable[Step], dims: Mapping[str, Any]) -> tuple[int, int]:
    """Trained numbers of the block, and those of its embedding tables; a tied step shares another's."""
    count = embedding = 0
    for kernel in kernels(steps, dims):
        if not kernel.step.tied:
            held = kernel.op.parameters() * kernel.repeat
            count += held
            embedding += held if kernel.operation == "embedding" else 0
    return count, embedding


def cache_byte_per_token(steps: Iterable[Step], dims: Mapping[str, Any]) -> int:
    """Bytes of keys and values that one token of one sequence leaves behind, over all repeats."""
    found = 0
    for kernel in kernels(steps, dims):
        for tensor in kernel.op.tensors:
            if tensor.kind is Kind.CACHE:
                batch, heads, _, width = tensor.shape
                found += heads * width * tensor.item * kernel.repeat if batch else 0
    return found


def compulsory_byte(steps: Iterable[Step], dims: Mapping[str, Any], keeps: Iterable[str] = ()) -> int:
    """Bytes of the block's outer tensors alone: read before any step wrote them, or written and not read afterwards.

    ``keeps`` names those that are outputs although a later step reads them, such as keys and values for the cache. A
    tensor that a step does not place in the flow is its own and outer.
    """
    kept, moved = frozenset(keeps), 0
    size: dict[str, int] = {}
    written: set[str] = set()
    unread: set[str] = set()
    for kernel in kernels(steps, dims):
        flow, repeat = kernel.step.flow, kernel.repeat
        for tensor in kernel.op.tensors:
            if tensor.name not in flow:
                moved += tensor.compulsory_byte * repeat
            elif tensor.reads:
                name = flow[tensor.name]
                unread.discard(name)
                moved += 0 if name in written or tensor.spill else tensor.size_byte * repeat
        for tensor in kernel.op.tensors:
            if tensor.name in flow and tensor.writes and not tensor.spill:
                name = flow[tensor.name]
                size[name] = tensor.size_byte * repeat
                written.add(name)
                unread.add(name)
    return moved + sum(size[name] for name in unread | (kept & written))
