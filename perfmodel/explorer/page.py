"""The program of the page: the translated functions, and the values that Python computes when the page is written."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence
from typing import Any

import perfmodel
from perfmodel import arithmetic, chart, errors, expression, ops, paths, systems, units
from perfmodel.block import Step
from perfmodel.explorer import charting, controls, model
from perfmodel.explorer.compiler.program import Program
from perfmodel.explorer.formulas import Collector, case_of
from perfmodel.hardware import Gpu
from perfmodel.operation import Operation
from perfmodel.report import html
from perfmodel.timing import kernels, links, parameters
from perfmodel.workload import Workload, last_position

# Functions whose results the page holds, or whose translation is in the runtime.
REPLACED = {
    arithmetic._own: "$nothing",
    errors.did_you_mean: "$nothing",
    errors.near_or_known: "$nothing",
    errors.printable: "$str",
    expression._parse: "$parsed",
    parameters.card: "$card",
    systems.default: "$system",
    ops.find: "$operation",
    kernels.family: "$family",
    links.link: "$link",
    paths.label: "$label",
    links.known: "$links",
}
# What the interface calls, and the attributes that it reads.
ENTRIES = {
    "State": model.State, "shown": model.shown, "crossing": model.crossing, "controls": controls.controls,
    "case_of": case_of, **charting.FUNCTIONS, "short": chart.short, "scaled": units.scaled, "significant": units.significant, "item_bytes": units.ITEM_BYTES,
    "dict": dict, "InputError": errors.InputError, "UsageError": errors.UsageError,
}  # fmt: skip
_READ_TEXT = """
default_phase fits byte room_byte memory_byte tokens_per_s gpus bound title
"""
READ = (*_READ_TEXT.split(), *charting.READ)
INTERFACE = ("state.js", "formulas.js", "chart.js", "panels.js", "controls.js", "main.js")
ABSENT = frozenset({"perfmodel.timing.arrays", "perfmodel.timing.tile_arrays"})
OMITTED = frozenset({(expression.Expression, "at")})


def every_step(workload: Workload) -> Iterable[Step]:
    """The steps of all phases and forms of a workload."""
    return (*workload.steps, *workload.loss, *(step for steps in workload.decode.values() for step in steps))


def operations(workloads: Iterable[Workload]) -> dict[str, Operation]:
    """The operations of workloads, with those of their gradients and of the optimizer."""
    found = {name: ops.find(name) for name in ("adam", "add")}
    waiting = [step.operation for workload in workloads for step in every_step(workload)]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found[one.name] = one
            for gradient in one.backward:
                waiting += [ops.find(name) for name in (gradient.operation, gradient.fused) if name]
    return found


def program(workloads: Sequence[Workload], gpus: Sequence[Gpu], *, every: bool = False) -> str:
    """The JavaScript of the page's model: with the operations of the workloads, or with ``every`` one."""
    made = Program(REPLACED, OMITTED, ABSENT)
    known = {one.name: one for one in ops.every()} if every else operations(workloads)
    texts = _texts(known.values(), workloads)
    joined = {gpu.name: systems.default(gpu) for gpu in gpus}
    levels = [(level, gpu) for gpu in gpus for level in (joined[gpu.name].scale_up, joined[gpu.name].network) if level]
    for name in READ:
        made.uses(name)
    made.share(*gpus, *workloads, *joined.values(), *(level for level, _ in levels))
    tables = {
        "$cards": tuple(((gpu, None), parameters.card(gpu)) for gpu in gpus),
        "$systems": tuple((gpu, joined[gpu.name]) for gpu in gpus),
        "$linkOf": {level.link: links.link(level.link) for level, _ in levels},
        "$linksOf": tuple(((level, gpu), links.known(level, gpu)) for level, gpu in levels),
        "$operations": known,
        "$trees": texts,
        "$families": {name: kernels.family(name) for name in sorted(set(kernels._FAMILIES.values()))},
    }
    return made.text(ENTRIES | {"workloads": tuple(workloads), "gpus": tuple(gpus)}, tables)


def _texts(known: Iterable[Operation], workloads: Iterable[Workload]) -> dict[str, Any]:
    """The syntax trees of the expressions that operations state as text, and of logits of the last position."""
    known = tuple(known)
    texts = {rule.condition for one in known for rule in one.valid}
    trees = {text: expression.Expression(text, "", condition=True)._tree for text in sorted(texts)}
    sizes = {text for one in known for gradient in one.backward for _, text in gradient.sizes}
    steps = [step for workload in workloads for step in every_step(workload)]
    sizes |= {size.text for step in map(last_position, steps) for size in step.sizes.values()}
    return trees | {text: expression.Expression(text, "")._tree for text in sorted(sizes)}


def page(workloads: Sequence[Workload], gpus: Sequence[Gpu]) -> str:
    """The page as one HTML text, which loads nothing."""
    collector = Collector()
    for workload in workloads:
        collector.add(workload)
    body = html.read(_path("page.html")).replace("{{version}}", perfmodel.__version__)
    data, made = collector.found._asdict(), charting.wrapped(program(workloads, gpus))
    return html.document(
        "perfmodel explorer", [body], data, map(_path, INTERFACE), [_path("style.css"), charting.STYLE], program=made
    )


def _path(name: str) -> str:
    return os.path.join(os.path.dirname(__file__), "app", name)
