"""An expected time as a page: every term with its sentence, every parameter that it rests on with its unit."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.prediction import Prediction
from perfmodel.report.answer import protocol_line
from perfmodel.report.predictions import protocol
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.parameters import family
from perfmodel.timing.terms import Term
from perfmodel.units import scaled, significant

UP = "up to the bound"
OF_KERNEL = "· "  # before a term of the kernel above it
SENTENCES = {
    "launch": "the floor of a replay, before the first kernel and after the last",
    "launch by the host": "what the host adds where it launches each kernel",
    "from kernel to kernel": "the gap between two kernels of a graph",
    "ramp": "a kernel's first accesses, which nothing hides",
    "memory": "bytes to and from DRAM at the rate of their mix of reads and writes",
    "L2": "bytes through the second-level cache",
    "instructions": "lane instructions at one per lane and clock",
    "latency": "blocks in waves, each as long as its accesses and instructions one behind the other",
    "blocks": "blocks in waves, each as long as its accesses, barriers and instructions one behind the other",
    "chain of a block": "blocks by turns, each as long as its accesses, barriers and instructions one behind the other",
    "the last rows": "positions that fill no strip, which a block goes over one by one",
    "parts leave": "sums of the weights' gradients that blocks write at their end",
    "writes of the run before": "results that the kernel before left in L2, written to memory while this one runs",
    "parts": "sums that blocks leave for another kernel",
    "multiplications": "tiles in rounds over the multiprocessors, at the rate of their shape and of the board's power",
    "pipeline, first to last": "filling and emptying the pipeline of loads and products",
    "sum of the parts": "a second kernel that adds up a sum split along k",
    "products and softmax": "tiles of queries over their keys: two products and the exponentials between them",
    "joining the parts": "a second kernel that joins the results of split keys",
    "row sums, dq in fp32": "kernels around the backward pass: row sums of dout and out, dq added up in fp32",
    "sums of the parts": "a second kernel that adds up the parts' sums",
    "imperfect overlap": "what runs at once with something as long does not hide entirely",
    "code from memory": "instructions of a long kernel that come from memory one after another",
    "start of a stream": "the first loads and last stores of a kernel made for decoding",
    "plan and cache": "a serving stack's kernels before: the work planned, new keys and values stored",
    UP: "the model came out below the bound, which nothing beats",
}


def page(found: Prediction, card: Card) -> str:
    """The terms, their sum and range, and the card's parameters."""
    time, total = found.expected, found.total
    assert time is not None
    assert total is not None
    rows = _by_kernel(time)
    columns = [
        Column("name", "term", lambda row: row.name, right=False),
        Column("seconds", "time", lambda row: row.seconds, lambda value: scaled(value, "s", 4)),
        Column("share", "of it", lambda row: row.share),
        Column("because", "what it is", lambda row: row.what, right=False),
    ]
    shape = " ".join(f"{key}={value}" for key, value in found.line["shape"].items())
    title = f"{found.line.get('kind', found.line['op'])} {shape} on {card.gpu.title}"
    low, high = scaled(time.low_s, "s", 4), scaled(time.high_s, "s", 4)
    notes = [
        f"Expected {scaled(time.expected_s, 's', 4)}; four of five measurements lie between {low} and {high};"
        f" at least {scaled(total.lower_s or 0.0, 's', 4)}.",
        protocol_line(protocol(found.line)),
        f"Knowledge: {card.knowledge}, {card.basis}.",
    ]
    return render_sheet(Sheet(columns, rows, title=title, notes=notes), "table") + "\n" + parameters(card)


class Line(NamedTuple):
    """A line of the page."""

    name: str
    seconds: float
    share: str
    what: str


def _by_kernel(time: Expected) -> list[Line]:
    """What is around the kernels, then every kernel with its own terms below it."""
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
    """Every term's sentence where it first appears."""
    told: set[str] = set()
    found = []
    for line in lines:
        term = line.name.startswith(OF_KERNEL)
        found.append(line._replace(what="") if term and line.what in told else line)
        told.add(line.what)
    return found


def _line(term: Term, whole_s: float, indent: str) -> Line:
    share = f"{100 * term.seconds / whole_s:.1f} %" if term.counts else "hidden"
    return Line(indent + term.name, term.seconds, share, SENTENCES.get(term.name, ""))


def parameters(card: Card) -> str:
    """What the model knows of the card."""
    rows = [
        ("stream, reads alone", scaled(card.read_byte_per_s, "B/s", 4)),
        ("stream, two reads to a write", scaled(card.add_byte_per_s, "B/s", 4)),
        ("stream, a read to a write", scaled(card.copy_byte_per_s, "B/s", 4)),
        ("stream, writes alone", scaled(card.write_byte_per_s, "B/s", 4)),
        ("L2, capacity for one working set", scaled(card.l2_byte, "B", 4)),
        ("L2, rate", scaled(card.l2_byte_per_s, "B/s", 4)),
        ("lane instructions", scaled(card.lane_per_s, "/s", 4)),
        ("multiprocessors", str(card.multiprocessors)),
        ("clock", scaled(card.clock_hz, "Hz", 4)),
        ("launch, cold", scaled(card.cold_s, "s", 3)),
        ("launch, warm", scaled(card.warm_s, "s", 3)),
        ("from kernel to kernel", scaled(card.node_s, "s", 3)),
        *((f"launch by the host, {kind}", scaled(value, "s", 3)) for kind, value in card.host_s.items()),
        ("latency of DRAM", scaled(card.dram_latency_s, "s", 3)),
        ("latency of L2", scaled(card.l2_latency_s, "s", 3)),
        ("attention, a stack's share of the peak", significant(card.serving_share, 3)),
        *((f"held by the board's power, {dtype}", scaled(v, "FLOP/s", 4)) for dtype, v in card.held_flop_per_s.items()),
        ("a burst against what is held", f"{significant(card.surge, 3)} x for about {scaled(card.patience_s, 's', 3)}"),
    ]
    columns = [
        Column("name", "parameter", lambda row: row[0], right=False),
        Column("value", "value", lambda row: row[1]),
    ]
    known = family(card.generation)
    sources = [f"{name}: {text}" for name, text in known.sources.items()]
    return render_sheet(
        Sheet(columns, rows, title="What the model rests on", notes=[*sources, f"{known.file}."]), "table"
    )
