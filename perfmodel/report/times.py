"""The page of ``explain --time``: every term of an expected time, and every parameter of the card behind it."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.paths import label
from perfmodel.prediction import Prediction
from perfmodel.report.answer import protocol_line
from perfmodel.report.predictions import protocol
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.step_cases import case_name
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.parameters import family
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
    UP: "the modelled time was below the lower bound, so the bound is used",
}


def page(found: Prediction, card: Card) -> str:
    """Returns the page: terms with their sum and range, then the card's parameters."""
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
    shape = " ".join(f"{key}={value}" for key, value in found.line["shape"].items())
    title = f"{case_name(found.line)} {shape} on {card.gpu.title}"
    low, high = scaled(time.low_s, "s", 4), scaled(time.high_s, "s", 4)
    notes = [
        f"Expected {scaled(time.expected_s, 's', 4)}: 80 % of measurements fall between {low} and {high}. "
        f"Lower bound: {scaled(total.lower_s or 0.0, 's', 4)}.",
        protocol_line(protocol(found.line)),
        f"Knowledge: {card.knowledge}, based on {card.basis}.",
    ]
    return render_sheet(Sheet(columns, rows, title=title, notes=notes), "table") + "\n" + parameters(card)


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


def parameters(card: Card) -> str:
    """Returns the table of the card's parameters in the time model, with their sources."""
    rows = [
        ("bandwidth, reads only", scaled(card.read_byte_per_s, "B/s", 4)),
        ("bandwidth, two reads per write", scaled(card.add_byte_per_s, "B/s", 4)),
        ("bandwidth, one read per write", scaled(card.copy_byte_per_s, "B/s", 4)),
        ("bandwidth, writes only", scaled(card.write_byte_per_s, "B/s", 4)),
        ("L2 capacity for one working set", scaled(card.l2_byte, "B", 4)),
        ("L2 bandwidth", scaled(card.l2_byte_per_s, "B/s", 4)),
        ("thread instructions", scaled(card.lane_per_s, "/s", 4)),
        ("multiprocessors", str(card.multiprocessors)),
        ("clock", scaled(card.clock_hz, "Hz", 4)),
        ("graph launch, cold", scaled(card.cold_s, "s", 3)),
        ("graph launch, warm", scaled(card.warm_s, "s", 3)),
        ("gap between kernels", scaled(card.node_s, "s", 3)),
        *((f"host launch, {kind}", scaled(value, "s", 3)) for kind, value in card.host_s.items()),
        ("DRAM latency", scaled(card.dram_latency_s, "s", 3)),
        ("L2 latency", scaled(card.l2_latency_s, "s", 3)),
        ("attention of a serving stack, share of the peak", significant(card.serving_share, 3)),
        *(
            (f"sustained at the power limit, {dtype}", scaled(v, "FLOP/s", 4))
            for dtype, v in card.held_flop_per_s.items()
        ),
        (
            "burst above the sustained rate",
            f"{significant(card.surge, 3)} x for about {scaled(card.patience_s, 's', 3)}",
        ),
    ]
    columns = [
        Column("name", "parameter", lambda row: row[0], right=False),
        Column("value", "value", lambda row: row[1]),
    ]
    known = family(card.generation)
    sources = [f"{name}: {text}" for name, text in known.sources.items()]
    return render_sheet(
        Sheet(columns, rows, title="Parameters of the time model", notes=[*sources, f"File: {label(known.file)}."]),
        "table",
    )
