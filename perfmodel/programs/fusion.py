"""Fusion as a compiler does it: chains of elementwise and reduction calls become one kernel each.

Rules, like those of torch's Inductor:

- Matrix products, convolutions, attention, sorting, running sums and sums into a table are kernels of their own.
- The result of an elementwise call is not stored: whatever reads it computes it again. Exceptions are a result that a
  kernel of its own reads, that changes memory which existed before, that outlives the program, or that reads more than
  ``MOST_READS`` tensors.
- The result of a reduction is stored.
- Calls that store go into one kernel on two conditions. They run over the same elements, or one runs over the rows that
  the other has reduced. One reads what the other writes, or both read the same tensor of at least ``SHARED_BYTE`` bytes.
  No other kernel may lie between them. A call that writes rows of a table by index joins only a kernel whose results it
  reads.
- A product whose rows are not aligned to 16 bytes is padded where that is quicker, at the cost of a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from perfmodel.aten import launched
from perfmodel.aten.calls import Call, Launched, Operand
from perfmodel.aten.views import VIEWS
from perfmodel.programs.program import Program, Step
from perfmodel.runs import (
    Convolution2d,
    Cumulative,
    Depthwise,
    Fact,
    Gather,
    Gemm,
    GroupedGemm,
    Heads,
    Normalised,
    Picked,
    Scan,
    Scatter,
    Sort,
    Stage,
    TopK,
    Update,
    Windows,
)  # fmt: skip
from perfmodel.runs import each as each_fact

# Facts of kernels that are never fused with others.
ALONE = (
    Gemm, GroupedGemm, Heads, Stage, Depthwise, Convolution2d, Scan, Sort, TopK, Cumulative, Update, Windows, Normalised, Picked,
)  # fmt: skip
REDUCING = ("reduce", "argmax", "softmax", "log_softmax", "layernorm", "rmsnorm", "nll")
MOST_READS = 8
SHARED_BYTE = 10  # least bytes that two calls must both read to go into one kernel
WIDE = 16  # bytes to which a compiler pads the rows of a product


class Form(NamedTuple):
    """The properties of a call that decide whether it is fused: its elements, those of its reduced rows, and its kind.

    ``scatters`` stands for the rows that it writes to a table.
    """

    numel: Any
    rows: frozenset[Any]
    alone: bool
    reduces: bool
    scatters: Operand | None = None


@dataclass
class Group:
    """One kernel in the making. ``after``: the groups that must run before it."""

    number: int
    form: Form
    step: Step
    calls: list[Call] = field(default_factory=list)
    reads: dict[int, Operand] = field(default_factory=dict)
    writes: dict[int, Operand] = field(default_factory=dict)
    rows: set[Any] = field(default_factory=set)
    after: set[int] = field(default_factory=set)


class Inline(NamedTuple):
    """A result that is computed where it is read: the calls that compute it, and what they read."""

    step: Step
    operand: Operand
    form: Form
    calls: tuple[Call, ...]
    reads: dict[int, Operand]


def fused(program: Program) -> Program:
    """The program with its chains fused. Memory is freed where the last kernel that uses it ends."""
    groups = Fusing(program).groups()
    last: dict[int, int] = {}
    for group in groups:
        for storage in (*group.reads, *group.writes):
            last[storage] = group.number
    gone = {storage for step in program.steps for storage in step.frees}
    frees: dict[int, list[int]] = {}
    for storage, number in last.items():
        if storage in gone:
            frees.setdefault(number, []).append(storage)
    steps = [step for group in groups for step in _steps(group, tuple(frees.get(group.number, ())))]
    return program._replace(steps=tuple(steps))


class Fusing:
    """The state while a program is gone through once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.lasting = _lasting(program)
        self.inline: dict[int, Inline] = {}
        self.writer: dict[int, int] = {}
        self.reader: dict[int, int] = {}
        self.found: list[Group] = []

    def groups(self) -> list[Group]:
        """All kernels, in the order in which they begin."""
        for step in self.program.steps:
            if step.call.name not in VIEWS and launched(step.call):
                self._take(step)
        return self.found

    def _take(self, step: Step) -> None:
        form = _form(step.call)
        changed = {x.storage: x for x in _changed(step.call)}
        if len(changed) == 1 and form.scatters is not None:  # only the rows of the index are written
            changed = dict.fromkeys(changed, form.scatters)
        if form.alone:
            for operand in step.call.operands:
                self._store(operand.storage)
            self._alone(step, form, changed)
            return
        reads, calls = self._inlined(step)
        results = {**{x.storage: x for x in step.call.results}, **changed}
        stores = (
            form.reduces
            or len(reads) > MOST_READS
            or any(storage in self.lasting or storage not in self.inline for storage in changed)
            or any(storage in self.lasting for storage in results)
        )
        if not stores and len(results) == 1:
            ((storage, operand),) = results.items()
            self.inline[storage] = Inline(step, operand, form, calls, reads)
            return
        for storage in results:
            self.inline.pop(storage, None)
        self._place(step, form, calls, reads, results)

    def _inlined(self, step: Step) -> tuple[dict[int, Operand], tuple[Call, ...]]:
        """What a call reads once results that are not stored are computed in it, and all calls that it then does."""
        reads: dict[int, Operand] = {}
        calls: list[Call] = []
        gathered, target = _gathered(step.call), _form(step.call).scatters is not None
        for operand in step.call.operands[1:] if target else step.call.operands:
            inner = self.inline.get(operand.storage)
            if inner is not None:
                reads.update(inner.reads)
                calls.extend(call for call in inner.calls if call not in calls)
            elif operand.storage:
                reads[operand.storage] = (
                    gathered if gathered is not None and operand is step.call.operands[0] else operand
                )
        return reads, (*calls, step.call)

    def _store(self, storage: int) -> None:
        """Stores a result that was to be computed where it is read."""
        inner = self.inline.pop(storage, None)
        if inner is not None:
            self._place(inner.step, inner.form, inner.calls, inner.reads, {storage: inner.operand})

    def _alone(self, step: Step, form: Form, changed: dict[int, Operand]) -> None:
        group = Group(len(self.found), form, step, [step.call])
        group.reads = {x.storage: x for x in step.call.operands}
        group.writes = {**{x.storage: x for x in step.call.results}, **changed}
        self.found.append(group)
        self._linked(group, group.reads, group.writes)

    def _place(
        self, step: Step, form: Form, calls: Iterable[Call], reads: dict[int, Operand], writes: dict[int, Operand]
    ) -> None:
        """Puts calls into a group that they may join, else into a new one."""
        before = {self.writer[storage] for storage in reads if storage in self.writer}
        near = before | {self.reader[s] for s, x in reads.items() if s in self.reader and x.byte >= SHARED_BYTE}
        group = next(
            (self.found[n] for n in sorted(near, reverse=True) if self._fits(self.found[n], form, before)), None
        )
        if group is None:
            group = Group(len(self.found), form, step)
            self.found.append(group)
        group.step = step
        group.calls.extend(call for call in calls if call not in group.calls)
        group.rows |= form.rows
        group.reads.update({storage: x for storage, x in reads.items() if storage not in group.writes})
        group.writes.update(writes)
        self._linked(group, reads, writes)

    def _fits(self, group: Group, form: Form, before: set[int]) -> bool:
        if group.number not in before and (form.scatters or group.form.scatters):
            return False
        same = group.form.numel == form.numel or form.numel in group.rows or group.form.numel in form.rows
        return same and not group.form.alone and not any(group.number in self.found[other].after for other in before)

    def _linked(self, group: Group, reads: dict[int, Operand], writes: dict[int, Operand]) -> None:
        for storage in reads:
            other = self.writer.get(storage)
            if other is not None and other != group.number:
                group.after |= self.found[other].after | {other}
            self.reader[storage] = group.number
        for storage in writes:
            self.writer[storage] = group.number


def _lasting(program: Program) -> set[int]:
    """Storages that exist before the program, or after it."""
    made = {x.storage for step in program.steps for x in step.call.results}
    gone = {storage for step in program.steps for storage in step.frees}
    return set(program.resident) | (made - gone)


def _form(call: Call) -> Form:
    kernels = launched(call)
    facts = [fact for kernel in kernels for fact in each_fact(kernel.op.runs)]
    alone = any(isinstance(fact, ALONE) for fact in facts) or not all(kernel.known for kernel in kernels)
    reduces = any(kernel.operation.startswith(REDUCING) for kernel in kernels)
    results = [x.numel for x in call.results] or [x.numel for x in call.operands[:1]] or [1]
    if not reduces:
        scatters = _scattered(call, facts)
        numel = scatters.numel if scatters is not None else _moved(facts) or max(results)
        return Form(numel, frozenset(), alone, False, scatters)
    rows = {kernel.sizes["rows"] * kernel.sizes.get("inner", 1) for kernel in kernels if "rows" in kernel.sizes}
    return Form(max(*results, *(x.numel for x in call.operands)), frozenset(rows), alone, True)


def _moved(facts: Iterable[Fact]) -> Any:
    """Elements that a gather moves: not those of its table."""
    return next(
        (fact.rows * fact.cols for fact in facts if isinstance(fact, Gather) and not isinstance(fact.rows, tuple)), None
    )


def _scattered(call: Call, facts: Iterable[Fact]) -> Operand | None:
    """The rows that a call writes to its first operand by index."""
    if any(isinstance(fact, Scatter) for fact in facts) and len(call.operands) > 1:
        return call.operands[-1]._replace(storage=call.operands[0].storage)
    return None


def _gathered(call: Call) -> Operand | None:
    """The rows that a gather reads, in the place of its table."""
    kernels: Iterable[Launched] = launched(call) if call.results else ()
    if any(isinstance(fact, Gather) for kernel in kernels for fact in each_fact(kernel.op.runs)):
        return call.results[0]._replace(dtype=call.operands[0].dtype)
    return None


def _changed(call: Call) -> Iterator[Operand]:
    """Operands that a call changes in place."""
    if call.name.endswith("_") and not call.name.endswith("__"):
        first = call.arguments[0] if call.arguments else None
        yield from (x for x in (first if type(first) is tuple else (first,)) if isinstance(x, Operand))


def _steps(group: Group, frees: tuple[int, ...]) -> Iterator[Step]:
    """The call of a group: its only one, a padded product, or the fused call."""
    step = group.step._replace(frees=frees)
    if group.form.alone:
        yield _padded(step)
        return
    call = Call("fused", tuple(group.reads.values()), {"calls": tuple(group.calls)}, tuple(group.writes.values()))
    yield step._replace(call=call, source=f"fused {', '.join(dict.fromkeys(one.name for one in group.calls))}")


def _padded(step: Step) -> Step:
    """A product with misaligned rows of two-byte numbers becomes one with padded rows."""
    call = step.call
    kernels = launched(call) if call.name in ("mm", "addmm", "bmm", "baddbmm") else ()
    fact = kernels[0].op.runs if kernels else None
    if not isinstance(fact, Gemm) or fact.aligned in (0, WIDE) or kernels[0].dtype not in ("fp16", "bf16"):
        return step
    return step._replace(call=call._replace(name="padded", keywords={"call": call}), source=f"{step.source} padded")
