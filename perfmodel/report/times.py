"""The page of ``explain --time``: the terms of an expected time, and the parameters that it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel import routing
from perfmodel.hardware import Gpu
from perfmodel.paths import label
from perfmodel.prediction import Prediction
from perfmodel.report.answer import SCHEMA, gpu_document, protocol_line
from perfmodel.report.predictions import case_document, protocol
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.step_cases import case_name
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.influences import Influence, most_uncertain
from perfmodel.timing.registry import Parameter, place
from perfmodel.timing.terms import Term
from perfmodel.units import scaled, significant

UP = "raised to the lower bound"
OF_KERNEL = "· "  # marks a term of the kernel above it
SENTENCES = {
    "launch": "fixed overhead of a graph replay, before the first kernel and after the last",
    "host launch": "time that the host adds when it launches each kernel",
    "setup": "setup of the library's protocol",
    "hops": "latency from rank to rank, one step after another",
    "links": "bytes on the links at the rate that the protocol reaches",
    "own part": "copying or adding a rank's own part",
    "collective kernel": "a collective that moves nothing, without its launch",
    "gaps between kernels": "idle time between two kernels of a graph",
    "ramp": "latency of a kernel's first memory access, which no other work hides",
    "memory": "DRAM traffic at the bandwidth for its mix of reads and writes",
    "L2": "traffic through the L2 cache",
    "load and store": "cache lines through the load-store units of the multiprocessors",
    "instructions": "thread instructions, one per lane and clock",
    "blocks": "waves of thread blocks; each block performs its accesses, barriers and instructions in turn",
    "block latency": "waves of thread blocks; each block performs its accesses, barriers and instructions in turn",
    "remainder rows": "positions that do not fill a strip; a block computes them one by one",
    "write partial sums": "partial weight gradients, which each block writes when it ends",
    "write-back of the previous run": "results of the previous launch, written from L2 to DRAM during this one",
    "matrix product": "waves of tiles over the multiprocessors, at the rate of the tile shape and the power limit",
    "pipeline fill and drain": "first loads and last products of a kernel, which do not overlap",
    "split-k sum": "a second kernel that adds the partial products when k is split",
    "products and softmax": "tiles of queries against their keys: two matrix products and the softmax between them",
    "combine split keys": "a second kernel that combines the results when the keys are split",
    "row sums, dq in fp32": "kernels around the backward kernel: row sums of dout × out, and dq accumulated in fp32",
    "reduce partial sums": "a second kernel that adds the partial sums of all blocks",
    "imperfect overlap": "excess over the longest of the times that overlap (a p-norm)",
    "instruction fetch": "instructions of a long kernel, loaded from DRAM one after another",
    "decode start-up": "first loads and last stores of a decoding kernel",
    "planning and cache append": "a serving stack's kernels before attention: planning, storing new keys and values",
    "sizes of the experts": "a kernel that writes sizes and addresses of all experts, before torch's grouped product",
    "sort rows by expert": "half of the kernels that sort the rows by expert, before two products",
    "addition of the last block": "sum of the blocks' partial results by the block that ends last",
    "addresses of patches": "instructions that find the elements of each patch in the image",
    "loads and stores": "loads and stores of a short block, which do not overlap with its products",
    "sums of a row": "sum of a row's products over the threads of a block",
    UP: "the modelled time was below the lower bound, so the bound is used",
}


def page(found: Prediction, card: Card, influences: Sequence[Influence]) -> str:
    """Returns the page: terms with their sum and range, then the parameters that entered the time."""
    time, total = found.expected, found.total
    assert time is not None
    assert total is not None
    rows = _by_kernel(time)
    columns = [
        Column("name", "term", lambda row: row.name, right=False),
        Column("seconds", "time", lambda row: row.seconds, lambda value: scaled(value, "s", 4)),
        Column("share", "share", lambda row: row.share),
        Column("because", "description", lambda row: row.what, right=False),
    ]
    shape = " ".join(f"{key}={routing.text(value)}" for key, value in found.line["shape"].items())
    title = f"{case_name(found.line)} {shape} on {card.gpu.title}"
    low, high = scaled(time.low_s, "s", 4), scaled(time.high_s, "s", 4)
    notes = [
        f"Expected {scaled(time.expected_s, 's', 4)}: 80 % of measurements fall between {low} and {high}. "
        f"Lower bound: {scaled(total.lower_s or 0.0, 's', 4)}.",
        *found.roof_notes,
        protocol_line(protocol(found.line)),
        f"Knowledge: {card.knowledge}, based on {card.basis}.",
    ]
    return (
        render_sheet(Sheet(columns, rows, title=title, notes=notes), "table")
        + "\n"
        + parameters(card, time, influences)
    )


class Line(NamedTuple):
    """One line of the table of terms."""

    name: str
    seconds: float
    share: str
    what: str


def _by_kernel(time: Expected) -> list[Line]:
    """Returns the terms outside the kernels, then every kernel followed by its own terms."""
    own = sum(len(body.terms) for body in time.bodies)
    end = time.terms[-1:] if time.terms[-1].name == UP else ()
    around = time.terms[: len(time.terms) - own - len(end)]
    lines = [_line(term, time.expected_s, "") for term in around]
    for number, body in enumerate(time.bodies):
        name = time.kernels[number] if time.kernels else ""
        what = f"{body.mechanism}: {body.choice}" if body.choice else body.mechanism
        share = f"{100 * body.seconds / time.expected_s:.1f} %"
        lines.append(Line(f"{number + 1} {name.rpartition('.')[2]}", body.seconds, share, what))
        lines += [_line(term, time.expected_s, OF_KERNEL) for term in body.terms]
    lines += [_line(term, time.expected_s, "") for term in end]
    return _once(lines)


def _once(lines: list[Line]) -> list[Line]:
    """Removes a term's description from every line but the first that shows it."""
    described: set[str] = set()
    found = []
    for line in lines:
        term = line.name.startswith(OF_KERNEL)
        found.append(line._replace(what="") if term and line.what in described else line)
        described.add(line.what)
    return found


def _line(term: Term, whole_s: float, indent: str) -> Line:
    share = f"{100 * term.seconds / whole_s:.1f} %" if term.counts else "hidden"
    return Line(indent + term.name, term.seconds, share, SENTENCES.get(term.name, ""))


def parameters(card: Card, time: Expected, found: Sequence[Influence]) -> str:
    """Returns the table of the parameters that entered the time, with their influence and their sources."""
    sources = list(dict.fromkeys(_source(one.parameter) for one in found))
    columns = [
        Column("influence", "influence", lambda one: one.share, lambda share: f"{share:+.2g}"),
        Column("value", "value", lambda one: one.parameter, _value),
        Column("name", "parameter", lambda one: _short(one.parameter), right=False),
        Column("means", "meaning", lambda one: one.parameter.means, right=False),
        Column(
            "spread", "spread", lambda one: one.parameter.spread, lambda spread: f"{100 * spread:.2g} %", expendable=1
        ),
        Column("source", "source", lambda one: sources.index(_source(one.parameter)) + 1, lambda number: f"[{number}]"),
    ]
    notes = [
        "Influence: relative change of the time per relative change of the parameter. Parameters without influence on "
        "this time are omitted. Whole numbers, such as the threads of a warp, are not varied.",
        *uncertainty(card, time, found),
        *(f"[{number}] {text}" for number, text in enumerate(sources, 1)),
    ]
    return render_sheet(Sheet(columns, found, title="Parameters of this time", notes=notes), "table")


def uncertainty(card: Card, time: Expected, found: Sequence[Influence]) -> list[str]:
    """Returns sentences that say where the time is most uncertain."""
    whole = sum(body.seconds for body in time.bodies)
    lines = []
    if whole:
        shares: dict[str, float] = {}
        for body in time.bodies:
            shares[body.mechanism] = shares.get(body.mechanism, 0.0) + body.seconds / whole
        parts = ", ".join(
            f"{name} {100 * card.half_range(name):.2g} % ({100 * share:.3g} % of the time of kernels)"
            for name, share in sorted(shares.items(), key=lambda one: -one[1])
        )
        lines.append(f"Half of the range by mechanism: {parts}.")
    most = most_uncertain(found)
    if most is not None:
        spread = most.parameter.spread or 0.0
        lines.append(
            f"Most uncertain, of the parameters with a known spread, is {_short(most.parameter)}. Its spread of "
            f"{100 * spread:.2g} % moves the time by {100 * abs(most.share) * spread:.2g} %."
        )
    unknown = sum(one.parameter.spread is None for one in found)
    if unknown:
        lines.append(f"The spread of {unknown} of {len(found)} parameters is not known.")
    return lines


def _value(parameter: Parameter) -> str:
    """Returns the value with its unit."""
    assert isinstance(parameter.value, float)
    if parameter.unit in ("s", "B", "B/s", "FLOP/s", "Hz"):
        return scaled(parameter.value, parameter.unit, 4)
    unit = "" if parameter.unit in ("share", "factor", "exponent") else f" {parameter.unit}"
    return f"{significant(parameter.value, 4)}{unit}"


def _short(parameter: Parameter) -> str:
    """Returns the file and the name of a parameter; the source has the folder."""
    return place(parameter).rpartition("/")[2]


def _source(parameter: Parameter) -> str:
    """Returns the source with what is known of its data."""
    told = [parameter.source]
    if parameter.points:
        told.append(f"{parameter.points} points" if parameter.points != "unknown" else "number of points unknown")
    if parameter.date:
        told.append(parameter.date)
    return f"{label(parameter.file)}: {', '.join(told)}"


def document(found: Prediction, card: Card, gpu: Gpu, influences: Sequence[Influence]) -> dict[str, Any]:
    """Returns the JSON document: the case with its terms, and the parameters that entered its time."""
    assert found.expected is not None
    most = most_uncertain(influences)
    return {
        "schema": SCHEMA,
        "gpu": gpu_document(gpu, card.knowledge),
        "case": case_document(found),
        "parameters": [
            {**one.parameter._asdict(), "file": label(one.parameter.file), "influence": one.share} for one in influences
        ],
        "most_uncertain": place(most.parameter) if most else None,
        "uncertainty": uncertainty(card, found.expected, influences),
    }
