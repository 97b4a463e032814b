"""An expected time as a page: every term with its sentence, every parameter that it rests on with its unit."""

from __future__ import annotations

from perfmodel.prediction import Prediction
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.timing.card import Card
from perfmodel.timing.parameters import family
from perfmodel.timing.terms import Term
from perfmodel.units import scaled, significant

SENTENCES = {
    "launch": "the floor of a replay, before the first kernel and after the last",
    "launch by the host": "what the host adds where it launches each kernel",
    "from kernel to kernel": "the gap between two kernels of a graph",
    "ramp": "a kernel's first accesses, which nothing hides",
    "memory": "bytes to and from DRAM at the rate of their mix of reads and writes",
    "L2": "bytes through the second-level cache",
    "instructions": "lane instructions at one per lane and clock",
    "latency": "blocks in waves, each as long as its accesses and instructions one behind the other",
    "multiplications": "tiles in rounds over the multiprocessors, at the rate of their shape and of the board's power",
    "pipeline, first to last": "filling and emptying the pipeline of loads and products",
    "sum of the parts": "a second kernel that adds up a sum split along k",
    "products and softmax": "tiles of queries over their keys: two products and the exponentials between them",
    "joining the parts": "a second kernel that joins the results of split keys",
    "row sums, dq in fp32": "kernels around the backward pass: row sums of dout and out, dq added up in fp32",
    "sums of the parts": "a second kernel that adds up the parts' sums",
    "waiting and computing by turns": "strips wait for their rows, then compute",
    "imperfect overlap": "what runs at once with something as long does not hide entirely",
    "code from memory": "instructions of a long kernel that come from memory one after another",
    "start of a stream": "the first loads and last stores of a kernel made for decoding",
    "plan and cache": "a serving stack's kernels before: the work planned, new keys and values stored",
    "up to the bound": "the model came out below the bound, which nothing beats",
}


def page(found: Prediction, card: Card) -> str:
    """The terms, their sum and range, and the card's parameters."""
    time, total = found.expected, found.total
    assert time is not None
    assert total is not None
    rows = [(term.name, _share(term, time.expected_s), term, SENTENCES.get(term.name, "")) for term in time.terms]
    columns = [
        Column("name", "term", lambda row: row[0], right=False),
        Column("seconds", "time", lambda row: row[2].seconds, lambda value: scaled(value, "s", 4)),
        Column("share", "of it", lambda row: row[1]),
        Column("because", "what it is", lambda row: row[3], right=False),
    ]
    shape = " ".join(f"{key}={value}" for key, value in found.line["shape"].items())
    title = f"{found.line.get('kind', found.line['op'])} {shape} on {card.gpu.title}"
    choices = [f"{body.mechanism}: {body.choice}." for body in time.bodies if body.choice]
    low, high = scaled(time.low_s, "s", 4), scaled(time.high_s, "s", 4)
    notes = [
        f"Expected {scaled(time.expected_s, 's', 4)}, 80 % of measurements between {low} and {high};"
        f" at least {scaled(total.lower_s or 0.0, 's', 4)}.",
        *dict.fromkeys(choices),
        f"Knowledge: {card.knowledge}, {card.basis}.",
    ]
    return render_sheet(Sheet(columns, rows, title=title, notes=notes), "table") + "\n" + parameters(card)


def _share(term: Term, whole_s: float) -> str:
    return f"{100 * term.seconds / whole_s:.1f} %" if term.counts else "hidden"


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
        ("attention, a stack's share of the peak", significant(card.attention.serving, 3)),
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
