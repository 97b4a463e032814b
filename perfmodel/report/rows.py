"""A sweep as rows: CSV or JSON Lines, written chunk by chunk and whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from perfmodel.errors import InputError, shown
from perfmodel.ops import FAMILY_OF
from perfmodel.sweep import Chunk, Plan
from perfmodel.sweep.digits import Lines, Slot
from perfmodel.symbols import SYMBOLS

ENDINGS = (".csv", ".jsonl")

# The figures of a row after its GPU and its symbols, and what they are made of.
FIGURES = {
    "flops": "whole",
    "contraction_flops": "whole",
    "traffic_byte": "whole",
    "intensity_flop_per_byte": "real",
    "bound": "bound",
    "lower_s": "real",
    "upper_s": "real",
}


def checked(path: str, where: str) -> str:
    """The path, where rows can be written to it; asked before any work is done."""
    accepted = f"a file name that ends in {' or '.join(ENDINGS)} is accepted"
    ending = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        raise InputError(where, f"{shown(path)} is a folder", accepted, "Name a file in it.")
    if ending not in ENDINGS:
        found = f"{shown(ending)} is not a format of rows" if ending else f"{shown(path)} does not say which format"
        raise InputError(where, found, accepted, "Change the ending.")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InputError(
            where, f"there is no folder {shown(folder)}", "an existing one is accepted", "Create it first."
        )
    return path


def write(path: str, plan: Plan, chunks: Iterable[Chunk], where: str) -> int:
    """Writes every row of the chunks as the ending says, and counts them."""
    rows, card, lines = 0, None, Lines(())
    as_json = checked(path, where).lower().endswith(".jsonl")
    parts = _json_parts if as_json else _csv_parts
    with replacing(path, where) as file:
        file.write(b"" if as_json else _csv_line(["gpu", *plan.symbols, *FIGURES]).encode() + b"\n")
        for chunk in chunks:
            if chunk.gpu is not card:
                card, lines = chunk.gpu, Lines(parts(plan, chunk.gpu.name))
            file.write(lines.filled(columns(plan, chunk)))
            rows += chunk.flops.size
    return rows


@contextmanager
def replacing(path: str, where: str) -> Iterator[BinaryIO]:
    """A file beside the path, which takes its place if all goes well and is gone if not."""
    path = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            yield file
        os.replace(beside, path)
    except OSError as error:
        raise InputError(
            where,
            f"{shown(path)} cannot be written ({error.strerror or error})",
            "a file in a folder that you may write to, with room for the rows, is accepted",
            "Choose another place with -o.",
        ) from None
    finally:
        with suppress(OSError):
            os.unlink(beside)


def columns(plan: Plan, chunk: Chunk) -> dict[str, Any]:
    """The swept symbols, the sizes that are tied to them and the figures, by name."""
    sizes = {name: chunk.size(name) for name in plan.varying}
    return {**sizes, **{name: getattr(chunk, name) for name in FIGURES}}


def _csv_parts(plan: Plan, gpu: str) -> Iterator[str | Slot]:
    yield _csv_line([gpu])
    for name, kind in (*((symbol, "whole") for symbol in plan.symbols), *FIGURES.items()):
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
    for name, kind in FIGURES.items():
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
    elementwise = FAMILY_OF[operation.name] == "elementwise" and operation.required == ("numel",)
    yield f'"op": "elementwise", "kind": "{operation.name}"' if elementwise else f'"op": "{operation.name}"'
    first = {one.symbol: one.first for one in plan.axes}
    sizes = workload.dims(plan.phase, {**plan.settings, **first}, checked=False)
    before = ', "shape": {'
    for symbol in operation.arguments:
        if SYMBOLS[symbol].kind in ("size", "optional") and sizes.get(symbol) is not None:
            yield f'{before}"{symbol}": '
            yield Slot(symbol, "whole") if symbol in plan.varying else str(sizes[symbol])
            before = ", "
    words: dict[str, Any] = {"dtype": workload.dtypes["activation"]}
    words |= {"causal": True} if plan.causal and "causal" in operation.arguments else {}
    words |= {"direction": "forward_backward"} if plan.phase == "train" else {}
    words |= {"impl": "naive"} if not plan.fused else {}
    yield f"}}, {json.dumps(words)[1:-1]}, "
