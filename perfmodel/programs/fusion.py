"""Fusion as a compiler does it: chains of elementwise and reduction calls become one kernel each.

Rules, like those of torch's Inductor:

- Matrix products, convolutions, attention, sorting, running sums and sums into a table are kernels of their own.
- Everything else is elementwise or a reduction. Such a call joins the kernel of one of its inputs if both run over the
  same elements, or if it runs over the rows that the kernel has reduced, and if no other kernel lies between them.
- A tensor that only its own kernel uses is neither written nor read. Others are read once and written once.
- A product whose rows are not aligned to 16 bytes is padded where that is quicker, at the cost of a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from perfmodel.aten import launched
from perfmodel.aten.calls import Call, Operand
from perfmodel.aten.views import VIEWS
from perfmodel.programs.program import Program, Step
from perfmodel.runs import (
    Cumulative, Convolution2d, Depthwise, Gemm, GroupedGemm, Heads, Normalised, Picked, Scan, Scatter, Sort, Stage, TopK,
    Update, Windows,
)  # fmt: skip
from perfmodel.runs import each as each_fact

# Facts of kernels that are never fused with others.
ALONE = (
    Gemm, GroupedGemm, Heads, Stage, Depthwise, Convolution2d, Scan, Scatter, Sort, TopK, Cumulative, Update, Windows, Normalised,
    Picked,
)  # fmt: skip


@dataclass
class Group:
    """One kernel in the making: its steps, the elements that it runs over, the rows that it has reduced."""

    number: int
    numel: Any
    fusible: bool
    steps: list[Step] = field(default_factory=list)
    rows: set[Any] = field(default_factory=set)
    after: set[int] = field(default_factory=set)  # groups that must run before it


def fused(program: Program) -> Program:
    """The program with its chains fused. The memory and the order of the remaining calls stay."""
    groups = _grouped(program)
    used = _users(groups)
    steps = [step for group in groups if group.steps for step in _steps(group, used)]
    return program._replace(steps=tuple(steps))


def _grouped(program: Program) -> list[Group]:
    """All groups, in the order of their first calls."""
    groups: list[Group] = []
    writer: dict[int, int] = {}
    for step in program.steps:
        if step.call.name in VIEWS:
            continue
        numel, rows, fusible = _space(step.call)
        before = {writer[x.storage] for x in step.call.operands if x.storage in writer}
        group = _joined(groups, before, numel, fusible)
        if group is None:
            group = Group(len(groups), numel, fusible)
            groups.append(group)
        group.steps.append(step)
        group.rows |= rows
        for other in before - {group.number}:
            group.after |= groups[other].after | {other}
        for result in (*step.call.results, *_changed(step.call)):
            writer[result.storage] = group.number
    return groups


def _space(call: Call) -> tuple[Any, set[Any], bool]:
    """The elements that a call runs over, those of its reduced result, and whether it can be fused."""
    kernels = launched(call)
    facts = [fact for kernel in kernels for fact in each_fact(kernel.op.runs)]
    alone = any(isinstance(fact, ALONE) for fact in facts) or not all(kernel.known for kernel in kernels)
    outside = [x.numel for x in call.results] or [x.numel for x in call.operands[:1]] or [1]
    inside = [x.numel for x in call.operands] or [1]
    shrinks = max(inside) > max(outside) and all(kernel.operation.startswith(REDUCING) for kernel in kernels)
    numel = max(inside) if shrinks else max(outside)
    rows = {outside[0]} if shrinks else set()
    for kernel in kernels:
        if "rows" in kernel.sizes and "cols" in kernel.sizes and kernel.operation not in GATHERING:
            rows.add(kernel.sizes["rows"])
    return numel, rows, not alone


REDUCING = ("reduce", "argmax", "softmax", "log_softmax", "layernorm", "rmsnorm")
GATHERING = ("gather", "scatter", "scatter_add")


def _joined(groups: list[Group], before: set[int], numel: Any, fusible: bool) -> Group | None:
    """The group of an input that a call may join: the latest whose elements agree and that nothing stands between."""
    if not fusible:
        return None
    for number in sorted(before, reverse=True):
        group = groups[number]
        agrees = group.numel == numel or numel in group.rows
        between = any(number in groups[other].after for other in before if other != number)
        if group.fusible and agrees and not between:
            return group
    return None


def _changed(call: Call) -> Iterable[Operand]:
    """Operands that a call changes in place."""
    if call.name.endswith("_") and not call.name.endswith("__"):
        first = call.arguments[0] if call.arguments else None
        yield from (x for x in (first if isinstance(first, tuple) else (first,)) if isinstance(x, Operand))


def _users(groups: list[Group]) -> dict[int, set[int]]:
    """The groups that use each storage."""
    found: dict[int, set[int]] = {}
    for group in groups:
        for step in group.steps:
            for operand in (*step.call.operands, *step.call.results):
                found.setdefault(operand.storage, set()).add(group.number)
    return found


def _steps(group: Group, used: dict[int, set[int]]) -> Iterable[Step]:
    """The fused call of a group, or its only call, or a padded product."""
    if len(group.steps) == 1:
        yield from _padded(group.steps[0])
        return
    frees = {storage for step in group.steps for storage in step.frees}
    made = {result.storage for step in group.steps for result in step.call.results}
    reads: dict[tuple[int, Any], Operand] = {}
    writes: dict[int, Operand] = {}
    for step in group.steps:
        for operand in step.call.operands:
            if operand.storage not in made or operand.storage in _given(group):
                reads.setdefault((operand.storage, operand.numel), operand)
        for result in (*step.call.results, *_changed(step.call)):
            if used.get(result.storage, set()) - {group.number} or result.storage not in frees:
                writes[result.storage] = result
    calls = tuple(step.call for step in group.steps)
    last = group.steps[-1]
    call = Call("fused", tuple(reads.values()), {"calls": calls}, tuple(writes.values()))
    inside = made - set(writes)
    yield last._replace(call=call, frees=tuple(frees - inside), source=f"fused {_words(calls)}")


def _given(group: Group) -> set[int]:
    """Storages that the group reads before it writes them."""
    seen: set[int] = set()
    given: set[int] = set()
    for step in group.steps:
        given |= {operand.storage for operand in step.call.operands if operand.storage not in seen}
        seen |= {result.storage for result in step.call.results}
    return given


def _words(calls: tuple[Call, ...]) -> str:
    """The operators of a fused kernel, each named once."""
    return ", ".join(dict.fromkeys(call.name for call in calls))


WIDE = 16  # bytes to which a compiler pads the rows of a product


def _padded(step: Step) -> Iterable[Step]:
    """A product with misaligned rows: its operands copied to aligned rows first, if they are 2-byte numbers."""
    call = step.call
    found = launched(call) if call.name in ("mm", "addmm", "bmm", "baddbmm") else ()
    fact = found[0].op.runs if found else None
    if not isinstance(fact, Gemm) or fact.aligned in (0, WIDE) or found[0].dtype not in ("fp16", "bf16"):
        yield step
        return
    yield step._replace(call=call._replace(name="padded", keywords={"call": call}), source=f"{step.source} padded")
