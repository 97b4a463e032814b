"""A sweep as rows: CSV or JSON Lines, written chunk by chunk and whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from perfmodel.report import files
from perfmodel.sweep import Chunk, Plan
from perfmodel.sweep.digits import Lines, Slot
from perfmodel.symbols import SYMBOLS
from perfmodel.vocabulary import ELEMENTWISE_KINDS, splits

ENDINGS = (".csv", ".jsonl")

# The figures of a row after its GPU and its symbols, and what they are made of.
FIGURES = {
    "flops": "whole",
    "contraction_flops": "whole",
    "traffic_byte": "whole",
    "intensity_flop_per_byte": "real",
    "bound": "bound",
    "lower_s": "real",
    "no_overlap_s": "real",
}
# Those of a sweep that was asked for expected times.
EXPECTED = {"expected_s": "real", "expected_low_s": "real", "expected_high_s": "real"}


def figures(plan: Plan) -> dict[str, str]:
    """The figures of this sweep's rows."""
    return {**FIGURES, **EXPECTED} if plan.expected else FIGURES


def checked(path: str, where: str) -> str:
    """The path, where rows can be written to it; asked before any work is done."""
    return files.checked(path, where, ENDINGS, "rows")


def write(path: str, plan: Plan, chunks: Iterable[Chunk], where: str) -> int:
    """Writes every row of the chunks as the ending says, and counts them."""
    rows, card, lines = 0, None, Lines(())
    as_json = checked(path, where).lower().endswith(".jsonl")
    parts = _json_parts if as_json else _csv_parts
    with files.replacing(path, where) as file:
        file.write(b"" if as_json else _csv_line(["gpu", *plan.symbols, *figures(plan)]).encode() + b"\n")
        for chunk in chunks:
            if chunk.gpu is not card:
                card, lines = chunk.gpu, Lines(parts(plan, chunk.gpu.name))
            file.write(lines.filled(columns(plan, chunk)))
            rows += chunk.flops.size
    return rows


def columns(plan: Plan, chunk: Chunk) -> dict[str, Any]:
    """The swept symbols, the sizes that are tied to them and the figures, by name."""
    sizes = {name: chunk.size(name) for name in plan.varying}
    return {**sizes, **{name: getattr(chunk, name) for name in figures(plan)}}


def _csv_parts(plan: Plan, gpu: str) -> Iterator[str | Slot]:
    yield _csv_line([gpu])
    for name, kind in (*((symbol, "whole") for symbol in plan.symbols), *figures(plan).items()):
        yield ","
        yield Slot(name, kind)
    yield "\n"


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _json_parts(plan: Plan, gpu: str) -> Iterator[str | Slot]:
    yield "{"
    yield from _case(plan)
    yield f'"gpu": {json.dumps(gpu)}'
    for symbol in plan.symbols:
        yield f', "{symbol}": '
        yield Slot(symbol, "whole")
    for name, kind in figures(plan).items():
        quote = '"' if kind == "bound" else ""
        yield f', "{name}": {quote}'
        yield Slot(name, kind)
        yield quote
    yield "}\n"


def _case(plan: Plan) -> Iterator[str | Slot]:
    """What a row is about: an operation as a case that ``predict`` reads, or a workload and its phase."""
    workload, operation = plan.workload, plan.workload.steps[0].operation
    if workload.file != operation.name:
        yield f'"config": {json.dumps(workload.name)}, "phase": "{plan.phase}", '
        return
    elementwise = operation.name in ELEMENTWISE_KINDS
    yield f'"op": "elementwise", "kind": "{operation.name}"' if elementwise else f'"op": "{operation.name}"'
    first = {one.symbol: one.first for one in plan.axes}
    sizes = workload.dims(plan.phase, {**plan.settings, **first}, checked=False)
    before = ', "shape": {'
    for symbol in filter(lambda symbol: _stated(plan, symbol, sizes), operation.arguments):
        yield f'{before}"{symbol}": '
        yield Slot(symbol, "whole") if symbol in plan.varying else str(sizes[symbol])
        before = ", "
    words: dict[str, Any] = {"dtype": workload.dtypes["activation"]}
    words |= {"causal": True} if plan.causal and "causal" in operation.arguments else {}
    words |= {"direction": "forward_backward"} if plan.phase == "train" else {}
    words |= {"impl": "naive"} if not plan.fused and splits(operation, plan.phase == "train") else {}
    yield f"}}, {json.dumps(words)[1:-1]}, "


def _stated(plan: Plan, symbol: str, sizes: Mapping[str, Any]) -> bool:
    """Whether a row gives the size: a window with its mask, and an item size where it is not its data type's."""
    kind = SYMBOLS[symbol].kind
    if kind == "item":
        return symbol in plan.varying or symbol in plan.settings
    return kind != "flag" and sizes.get(symbol) is not None and (kind == "size" or plan.causal)
