"""Kernels grouped by the operator call that launched them, with the computation of each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfmodel import aten
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call, Launched
from perfmodel.traces import calls, fused
from perfmodel.traces.dataflow import Flow, Pricer
from perfmodel.traces.events import Activity
from perfmodel.traces.inference import seen
from perfmodel.traces.kernel_names import dtype, family, is_communication
from perfmodel.traces.linking import Formulas, Tied
from perfmodel.traces.nesting import Nesting, Place
from perfmodel.traces.pricing import NAME, SHAPES, Group

if TYPE_CHECKING:
    from perfmodel.programs.program import Program

# Operators whose indices the profiler leaves out.
UNLISTED = frozenset(("index", "index_put_", "_index_put_impl_"))


def groups(
    ties: Sequence[Tied],
    nesting: Nesting,
    formulas: Formulas,
    price: Pricer | None = None,
    program: Program | None = None,
) -> list[Group]:
    """The kernels other than communication, grouped, in the order of each group's first kernel."""
    found: dict[Place | int, list[Tied]] = {}
    for number, one in enumerate(ties):
        if not is_communication(one.activity.name):
            found.setdefault(number if one.owner is None else one.owner, []).append(one)
    made = [_group(tuple(kernels), nesting, formulas) for kernels in found.values()]
    if program is not None:
        from perfmodel.traces.aligning import aligned

        made = aligned(made, program)
    return _inferred(made, price)


def _inferred(found: list[Group], price: Pricer | None) -> list[Group]:
    """Adds the computations of groups without shapes, inferred from the names and grids of their kernels."""
    if all(group.launched for group in found):
        return found
    calls = [tuple(one.activity for one in group.kernels) for group in found]
    made = Flow(calls, price, [group.launched for group in found]).launched()
    return [
        group if group.launched or not guessed else group._replace(launched=guessed, source=NAME)
        for group, guessed in zip(found, made, strict=True)
    ]


def _group(kernels: tuple[Tied, ...], nesting: Nesting, formulas: Formulas) -> Group:
    main = max(kernels, key=lambda one: one.activity.seconds)
    if main.owner is None:
        return _unshaped(kernels, main)
    operator = nesting.operator(main.owner)
    if operator.name.startswith(fused.PREFIX):
        return Group(kernels, operator.name, fused.launched(operator, main.activity))
    found = formulas.of(operator, calls.item_hint(main.activity.name))
    if found is None:
        return _unshaped(kernels, main)
    call, launched = found
    if call.name in UNLISTED:
        launched = _by_index(call, main.activity) or launched
    return Group(kernels, operator.name, tuple(_in_type(one, main.activity.name) for one in launched), call, SHAPES)


def _by_index(call: Call, activity: Activity) -> tuple[Launched, ...]:
    """Indexing with tensors, whose shapes the profiler leaves out: the kernel's grid has the number of elements."""
    first = call.operands[0]
    cols = first.shape[-1] if first.shape else 1
    x = compact((max(1, first.numel // max(1, cols)), cols), first.dtype)
    elements = seen(activity).elements or activity.grid[0] * cols
    if call.name != "index":
        elements = next((one.numel for one in call.operands[1:]), elements)
    index = compact((max(1, elements // max(1, cols)),), "int64")
    if call.name == "index":
        return aten.launched(Call("index_select", (x, 0, index)))
    rows = compact((max(1, elements // max(1, cols)), cols), x.dtype)
    return aten.launched(Call("index_add_", (x, 0, index, rows)))


def _unshaped(kernels: tuple[Tied, ...], main: Tied) -> Group:
    return Group(kernels, main.operator.name if main.operator else family(main.activity.name), source=NAME)


def _in_type(one: Launched, kernel: str) -> Launched:
    """The kernel in the type of its products: torch may multiply fp32 tensors as tf32, as the kernel's name says."""
    return one._replace(dtype="tf32") if one.dtype == "fp32" and dtype(kernel) == "tf32" else one
