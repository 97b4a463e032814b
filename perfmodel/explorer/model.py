"""The model behind the page: from the state of the controls to all figures that it shows.

The page runs these functions as JavaScript. Tests run them as Python and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import block, chart, systems
from perfmodel.analysis import Analysis, analyse
from perfmodel.errors import InputError
from perfmodel.footprint.resident import Resident, resident
from perfmodel.hardware import Gpu
from perfmodel.plans.asking import plan_of
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.step import Model
from perfmodel.report.answer import expected_line, left_out, speed_lines, title
from perfmodel.report.breakdown import step_sheet
from perfmodel.report.fit import warned
from perfmodel.roofline import bounds, rates, together
from perfmodel.workload import Workload


class State(NamedTuple):
    """The state of the controls. ``sizes`` are symbols and numbers, ``dtypes`` the data type by role, ``plan`` the
    fields of a plan that differ from a single GPU.
    """

    workload: Workload
    gpu: Gpu
    phase: str
    sizes: Mapping[str, int]
    dtypes: Mapping[str, str]
    fused: bool
    causal: bool
    plan: Mapping[str, Any]
    form: str | None = None


class Table(NamedTuple):
    """The table of ``flops --steps`` as text: title, headings, a line for each kernel, the total and notes."""

    title: str
    headings: list[str]
    lines: list[list[str]]
    total: list[str]
    notes: list[str]


class Shown(NamedTuple):
    """The figures of a state: kernels and totals of one GPU, their points on the roofline, memory, and the plan."""

    analysis: Analysis
    table: Table
    card: chart.Card
    memory: Resident | None
    estimate: Estimate | None


def typed(state: State) -> Workload:
    """The workload with the data types of the state."""
    return state.workload._replace(dtypes={**state.workload.dtypes, **state.dtypes})


def shown(state: State) -> Shown:
    """All figures of a state."""
    workload = typed(state)
    answer = analyse(
        workload, phase=state.phase, gpu=state.gpu, settings=state.sizes, fused=state.fused,
        causal=state.causal, form=state.form,
    )  # fmt: skip
    run = chart.Run(workload, state.phase, state.sizes, state.fused, state.causal)
    held = resident(answer)
    return Shown(answer, table(answer, held), chart.drawn(state.gpu, [run], [answer]), held, estimate(state))


def table(answer: Analysis, held: Resident | None) -> Table:
    """The table of an analysis, with the memory that it needs."""
    found = step_sheet(answer)
    notes = [*expected_line(answer), *speed_lines(answer), *warned(held), *left_out(answer)]
    headings = [column.heading for column in found.columns]
    return Table(title(answer), headings, [found.cells(row) for row in found.rows], found.cells(found.total), notes)


def estimate(state: State) -> Estimate | None:
    """The step under the plan; None for a single GPU."""
    plan = plan_of(state.plan)
    if plan.gpus == 1:
        return None
    model = Model(
        typed(state), state.phase, state.gpu, systems.default(state.gpu), state.sizes, fused=state.fused,
        causal=state.causal, form=state.form,
    )  # fmt: skip
    return model.estimate(plan)


class Crossing(NamedTuple):
    """The smallest size at which the bottleneck differs from that of the size 1, and the bottlenecks before and from it.

    ``size`` is None where it does not change up to ``most``.
    """

    symbol: str
    size: int | None
    before: str
    after: str
    most: int


MOST = 1 << 20  # sizes beyond are not searched


def crossing(state: State, symbol: str, step: str = "") -> Crossing | None:
    """Returns the size at which the bottleneck of a step, or of the total, changes; None where no size is accepted.

    Powers of two are tried, then the interval of the first change is halved.
    """
    before, low, high = "", 0, 1
    while high <= MOST:
        found = bottleneck(state, symbol, high, step)
        if found and before and found != before:
            return _between(state, symbol, step, before, low, high)
        before, low = found or before, high if found else low
        high *= 2
    return Crossing(symbol, None, before, before, MOST) if before else None


def _between(state: State, symbol: str, step: str, before: str, low: int, high: int) -> Crossing:
    """The change between two sizes. A size that the model does not accept counts as the one before it."""
    while high - low > 1:
        middle = (low + high) // 2
        found = bottleneck(state, symbol, middle, step)
        if found in ("", before):
            low = middle
        else:
            high = middle
    return Crossing(symbol, high, before, bottleneck(state, symbol, high, step), MOST)


def bottleneck(state: State, symbol: str, size: int, step: str = "") -> str:
    """The bottleneck with another size; empty where the model does not accept it."""
    workload, train = typed(state), state.phase == "train"
    card = rates(state.gpu, workload.dtypes["activation"])
    try:
        dims = {"causal": int(state.causal), **workload.dims(state.phase, {**state.sizes, symbol: size})}
        running = list(
            block.kernels(
                workload.steps_in(state.phase, state.form), dims, fused=state.fused, backward=train, optimizer=train
            )
        )
    except InputError:
        return ""
    own = [kernel for kernel in running if step in ("", kernel.name)]
    return together((bounds(kernel.op, card), kernel.repeat) for kernel in own).bound if own else ""
