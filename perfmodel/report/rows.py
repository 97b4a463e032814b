"""Rows of a sweep as CSV or JSON Lines, written in chunks; the file is written completely or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from perfmodel import writing
from perfmodel.strictjson import dumped
from perfmodel.sweep import Chunk, Plan, exact
from perfmodel.sweep.digits import Lines, Slot, slot
from perfmodel.symbols import SYMBOLS
from perfmodel.vocabulary import ELEMENTWISE_KINDS, STAGES, splits

ENDINGS = (".csv", ".jsonl")

# Figures of a row, after its GPU and symbols, with the kind of their values.
FIGURES = {
    "flops": "whole",
    "contraction_flops": "whole",
    "traffic_byte": "whole",
    "intensity_flop_per_byte": "real",
    "bound": "bound",
    "lower_s": "real",
    "no_overlap_s": "real",
}
_PLAIN: dict[str, Callable[[Any], Any]] = {"whole": int, "real": float, "bound": str}
# Further figures with ``--expected``.
EXPECTED = {"expected_s": "real", "expected_low_s": "real", "expected_high_s": "real"}


def figures(plan: Plan) -> dict[str, str]:
    """Returns the figures of this sweep's rows."""
    return {**FIGURES, **EXPECTED} if plan.expected else FIGURES


def checked(path: str, where: str) -> str:
    """Returns the path if rows can be written to it; raises InputError otherwise."""
    return writing.checked(path, where, ENDINGS, "rows")


def write(path: str, plan: Plan, chunks: Iterable[Chunk], where: str) -> int:
    """Writes every row in the format of the path's ending, and returns the number of rows."""
    rows = 0
    as_json = checked(path, where).lower().endswith(".jsonl")
    with writing.replacing(path, where) as file:
        file.write(b"" if as_json else _csv_line(["gpu", *plan.symbols, *figures(plan)]).encode() + b"\n")
        for text, number in _filled(plan, chunks, _json_parts if as_json else _csv_parts):
            file.write(text)
            rows += number
    return rows


def json_lines(plan: Plan) -> str:
    """Returns every row as in FILE.jsonl."""
    return b"".join(text for text, _ in _filled(plan, plan.chunks(), _json_parts)).decode()


def _filled(
    plan: Plan, chunks: Iterable[Chunk], parts: Callable[[Plan, str], Iterable[str | Slot]]
) -> Iterator[tuple[bytes, int]]:
    """Yields the text of each chunk and its number of rows."""
    known, lines = None, Lines(())
    for chunk in chunks:
        large = exact.counts(plan, chunk)
        wide = {name: slot(name, counts) for name, counts in large.items()}
        if (chunk.gpu, wide) != known:
            known, lines = (chunk.gpu, wide), Lines(_wide(parts(plan, chunk.gpu.name), wide))
        yield lines.filled({**columns(plan, chunk), **large}), chunk.flops.size


def _wide(parts: Iterable[str | Slot], wide: Mapping[str, Slot]) -> Iterator[str | Slot]:
    """Yields the parts of a line, with wide slots for counts that are too large for float64."""
    return (wide.get(part.column, part) if isinstance(part, Slot) else part for part in parts)


def records(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields every row as a mapping from CSV columns to values."""
    kinds = {**dict.fromkeys(plan.symbols, "whole"), **figures(plan)}
    for chunk in plan.chunks():
        found = {**columns(plan, chunk), **exact.counts(plan, chunk), "bound": chunk.bound_names}
        for i in range(chunk.flops.size):
            yield {"gpu": chunk.gpu.name, **{name: _PLAIN[kind](found[name][i]) for name, kind in kinds.items()}}


def columns(plan: Plan, chunk: Chunk) -> dict[str, Any]:
    """Returns the swept symbols, the sizes that follow them, and the figures, by name."""
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
    yield f'"gpu": {dumped(gpu)}'
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
    """Yields the start of a row: a case for ``predict``, or a workload and its phase."""
    workload, operation = plan.workload, plan.workload.steps[0].operation
    if workload.file != operation.name:
        yield f'"config": {dumped(workload.name)}, "phase": "{plan.phase}", '
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
    words |= {"impl": STAGES} if not plan.fused and splits(operation, plan.phase == "train") else {}
    yield f"}}, {dumped(words)[1:-1]}, "


def _stated(plan: Plan, symbol: str, sizes: Mapping[str, Any]) -> bool:
    """Returns whether a row contains the size. A window needs its mask; item sizes are omitted if the data type gives
    them.
    """
    kind = SYMBOLS[symbol].kind
    if kind == "item":
        return symbol in plan.varying or symbol in plan.settings
    return kind != "flag" and sizes.get(symbol) is not None and (kind == "size" or plan.causal)
