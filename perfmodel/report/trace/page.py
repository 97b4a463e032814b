"""The HTML page of a trace: the parts of the step, the advice, a timeline, a roofline with the kernels, the list."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence
from typing import Any

from perfmodel.chart import MEASURED, Card, Point, Roof, Slope
from perfmodel.errors import printable
from perfmodel.explorer import charting
from perfmodel.op import Engine
from perfmodel.paths import label
from perfmodel.report.html import document, escape, roofline, section
from perfmodel.report.trace.text import parts, title
from perfmodel.roofline import LINK, MEMORY, rates
from perfmodel.traces.kernel_names import short
from perfmodel.traces.pricing import named
from perfmodel.traces.rows import Row, key, row_of
from perfmodel.traces.tracing import Rank, Traced
from perfmodel.units import ITEM_BYTES, scaled

_HERE = os.path.dirname(__file__)
SCRIPTS = tuple(os.path.join(_HERE, name) for name in ("timeline.js", "kernels.js"))
LEAST = 1e-3  # FLOP per byte: kernels below stand at the left edge of the roofline
MOST_KERNELS = 40_000  # that the timeline draws: the longest ones
MOST_ROWS = 400  # of the list
COLOURS = {"memory": "memory", "tensor": "matrix products", "vector": "vector arithmetic", "special": "special functions",
           LINK: "communication", "unknown": "not known"}  # fmt: skip
INTRO = "Kernels by arithmetic intensity and by the rate that they reached; the area of a dot is its time, and a line leads up to its bound. Kernels that compute nothing have no dot."
PARTS = ("memory", "link", "idle", "idle-other")


def page(found: Traced) -> str:
    """Returns the page as one HTML document."""
    main = found.main
    rows = main.rows
    body = [
        _header(found),
        "<main>",
        _step(found),
        *([_ranks(found.ranks)] if len(found.ranks) > 1 else []),
        *([_helps(found)] if found.advice else []),
        _timeline_section(),
        *([roofline(INTRO)] if found.gpu else []),
        _kernels(found),
        "</main>",
        f"<footer><p class='note'>{' '.join(map(escape, found.notes))}</p></footer>",
    ]
    data = {"rows": [_row(row) for row in rows], "timeline": _timeline(main, rows)}
    styles, card = (os.path.join(_HERE, "page.css"),), _roofline(found)
    if card is None:
        return document(title(found), body, data, SCRIPTS, styles)
    scripts = (charting.SCRIPT, os.path.join(_HERE, "roofline.js"), *SCRIPTS)
    return document(title(found), body, data, scripts, (*styles, charting.STYLE), charting.drawing([card]))


def _header(found: Traced) -> str:
    main = found.main
    name, _, rest = title(found).partition(": ")
    known = f"{main.known_share:.1%} of the kernels' time is tied to an operation with a formula"
    return (
        f"<header><div><h1>{escape(name)}</h1><p class='sub'>{escape(rest)} · {len(main.step.activities):,} kernels, copies and "
        f"fills · {escape(known)}</p></div><button type='button' data-theme-toggle>Light / dark</button></header>"
    )


def _step(found: Traced) -> str:
    """The parts of the step as a bar and as figures."""
    shares = list(zip(PARTS, parts(found.main), strict=True))
    bar = "".join(
        f"<span style='width:{part.share:.4%};background:var(--{name})'></span>"
        for name, part in shares
        if part.seconds
    )
    figures = "".join(
        f"<div style='--c:var(--{name})'><dt>{escape(part.name)}</dt><dd>{escape(scaled(part.seconds, 's', 4))} "
        f"<small>{part.share:.1%}</small></dd></div>"
        for name, part in shares
    )
    spans = found.main.spans
    doing = "; ".join(f"{what} {scaled(seconds, 's', 3)}" for what, seconds in list(spans.host_in.items())[:6])
    notes = [f"Meanwhile the host was in: {doing}."] if doing else []
    if spans.communication_hidden_s:
        notes.append(f"Another {scaled(spans.communication_hidden_s, 's', 4)} of communication overlaps with kernels.")
    if spans.profiler_s is not None:
        notes.append(f"The profiler added {scaled(spans.profiler_s, 's', 4)}.")
    words = "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)
    intro = "From the start of the first kernel to the end of the last. The parts add up."
    return section(
        "The step", f"<div class='split' aria-hidden='true'>{bar}</div><dl class='figures'>{figures}</dl>{words}", intro
    )


def _ranks(ranks: Sequence[Rank]) -> str:
    heads = ("rank", "step", "kernels", "exposed", "hidden", "waiting", "idle: host", "idle: other")
    lines = []
    for one in ranks:
        spans = one.spans
        values = (spans.span_s, spans.kernel_s, spans.communication_exposed_s, spans.communication_hidden_s, one.waiting_s,
                  spans.idle_host_s, spans.idle_other_s)  # fmt: skip
        cells = "".join(f"<td class='n'>{escape(scaled(value, 's', 4))}</td>" for value in values)
        lines.append(f"<tr><td class='n'>{one.rank}</td>{cells}</tr>")
    head = "".join(f"<th class='n'>{name}</th>" for name in heads)
    last = min(ranks, key=lambda one: one.waiting_s)
    intro = f"Exposed: communication without a kernel at the same time. Hidden: communication that overlaps with kernels. Waiting: communication until the last rank arrives. The others wait for rank {last.rank}."
    table = f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    return section("Ranks", table, escape(intro))


def _helps(found: Traced) -> str:
    most_s = max(one.saves_s for one in found.advice)
    lines = [
        f"<li><div class='saves'>{escape(scaled(one.saves_s, 's', 3))}<small>{one.saves_s / found.main.spans.span_s:.1%} of the step"
        f"</small><i style='width:{one.saves_s / most_s:.1%}'></i></div><div><h3>{escape(one.what)}</h3><p>{escape(one.because)}</p>"
        f"<p class='check'>{escape(one.check)}</p></div></li>"
        for one in found.advice
    ]
    intro = "Ranked by saved time: the expected time before each change minus that after it."
    return section("Suggested changes", f"<ol class='helps'>{''.join(lines)}</ol>", intro)


def _timeline_section() -> str:
    buttons = "".join(
        f"<button type='button' data-act='{act}'>{name}</button>"
        for act, name in (
            ("in", "Zoom in"),
            ("out", "Zoom out"),
            ("left", "Earlier"),
            ("right", "Later"),
            ("fit", "All"),
        )
    )
    keys = "".join(f"<li style='--c:var(--{name})'>{escape(words)}</li>" for name, words in COLOURS.items())
    keys += (
        "<li style='--c:var(--idle)'>idle, waiting for the host</li><li style='--c:var(--idle-other)'>idle, other</li>"
    )
    body = (
        f"<div id='timeline'><div class='tools'>{buttons}<output></output></div>"
        "<canvas tabindex='0' role='img' aria-label='Kernels over time by stream. Arrow keys choose a kernel, plus and minus zoom.'>"
        "</canvas><div class='picked' aria-live='polite'>Choose a kernel with the pointer or the arrow keys.</div>"
        f"<ul class='key'>{keys}</ul></div>"
    )
    intro = "Each kernel on its stream, coloured by its bottleneck. Drag to move, hold Ctrl and turn the wheel to zoom."
    return section("Timeline", body, intro)


def _kernels(found: Traced) -> str:
    rows, whole_s = found.main.rows, sum(row.measured_s for row in found.main.rows)
    heads = [("operation", ""), ("sizes", ""), ("type", ""), ("calls", "n"), ("measured", "n"), ("share", "n")]
    heads += [("expected", "n"), ("at least", "n"), ("of bound", "n"), ("bottleneck", "")] if found.gpu else []
    modules = any(row.module for row in rows)
    heads += [("phase", ""), *([("module", "")] if modules else []), ("kernel", "")]
    head = "".join(f"<th class='{align}'><button type='button'>{name}</button></th>" for name, align in heads)
    lines = "".join(_line(row, whole_s, found.gpu is not None, modules) for row in rows[:MOST_ROWS])
    more = (
        f"<p class='note'>{len(rows) - MOST_ROWS} more rows are in --format json.</p>" if len(rows) > MOST_ROWS else ""
    )
    sheet = f" of {escape(label(found.gpu.file))}" if found.gpu else ""
    body = (
        "<div class='tools'><label class='visually-hidden' for='kernel-filter'>Filter the kernels</label>"
        "<input id='kernel-filter' type='search' placeholder='Filter: matmul backward Linear'><output id='kernel-count'></output></div>"
        f"<div class='scroll'><table class='sorts' id='kernel-table'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>{more}"
    )
    return section(
        "Kernels",
        body,
        f"Equal kernels share a row. “Of bound” is the lower bound{sheet} divided by the measured time.",
    )


def _line(row: Row, whole_s: float, priced: bool, modules: bool) -> str:
    share = row.measured_s / whole_s if whole_s else 0.0
    words = f"{row.op} {row.operator} {named(row.shape)} {row.dtype} {row.bound} {row.phase} {row.module} {row.name}".lower()
    cells = [
        f"<td>{escape(row.op or '?')}</td><td>{escape(named(row.shape))}</td><td>{escape(row.dtype)}</td>",
        _number(row.calls, f"{row.calls:,}"), _number(row.measured_s, scaled(row.measured_s, "s", 4)),
        f"<td class='n' data-value='{share}'>{share:.1%}<span class='meter'><i style='width:{share:.1%}'></i></span></td>",
    ]  # fmt: skip
    if priced:
        cells += [
            _number(row.expected_s, scaled(row.expected_s, "s", 4) if row.expected_s is not None else ""),
            _number(row.lower_s, scaled(row.lower_s, "s", 4) if row.lower_s is not None else ""),
            _number(row.of_bound, f"{row.of_bound:.0%}" if row.of_bound is not None else ""),
            f"<td><span class='bound' style='--c:var(--{row.bound or 'unknown'})'>{escape(row.bound or 'not known')}</span></td>",
        ]
    module = ".".join(row.module.split(".")[-2:])
    cells.append(f"<td>{escape(row.phase)}</td>")
    cells += [f"<td title='{escape(row.module)}'>{escape(module)}</td>"] if modules else []
    cells.append(f"<td title='{escape(row.name)}'><code>{escape(short(row.name, 48))}</code></td>")
    return f"<tr data-text='{escape(words)}'>{''.join(cells)}</tr>"


def _number(value: float | None, text: str) -> str:
    return f"<td class='n' data-value='{-1 if value is None else value}'>{escape(text)}</td>"


def _row(row: Row) -> dict[str, Any]:
    """What the scripts need of a row; times are of one kernel, sums beside them."""
    each = max(1, row.calls)
    return {
        "label": printable(row.op or short(row.name, 40)), "shape": named(row.shape), "dtype": row.dtype, "bound": row.bound if row.known else "",
        "name": printable(row.name[:400]), "module": printable(row.module), "calls": row.calls, "measured": row.measured_s,
        "expected": None if row.expected_s is None else row.expected_s / each,
        "lower": None if row.lower_s is None else row.lower_s / each, "flops": row.flops if row.known else 0,
        "byte": row.traffic_byte if row.known else 0,
    }  # fmt: skip


def _timeline(main: Rank, rows: Sequence[Row]) -> dict[str, Any]:
    """The kernels by start, length, lane and row; microseconds from the start of the step."""
    places = {key(row): place for place, row in enumerate(rows)}
    links = {row.name: place for place, row in enumerate(rows) if row.bound == LINK}
    of = {id(tied.activity): places[key(row_of(one, tied))] for one in main.priced for tied in one.group.kernels}
    chosen: Iterable[Any] = main.step.activities
    if len(main.step.activities) > MOST_KERNELS:
        longest = sorted(main.step.activities, key=lambda one: -one.seconds)[:MOST_KERNELS]
        chosen = sorted(longest, key=lambda one: one.start_s)
    shown = [(one, of[id(one)] if id(one) in of else links[one.name]) for one in chosen]
    streams = sorted({(one.device, one.stream) for one, _ in shown})
    zero_s = main.spans.start_s
    return {
        "start": [_us(one.start_s - zero_s) for one, _ in shown],
        "length": [_us(one.seconds) for one, _ in shown],
        "lane": [streams.index((one.device, one.stream)) for one, _ in shown],
        "row": [row for _, row in shown],
        "idle": [
            [_us(gap.start_s - zero_s), _us(gap.end_s - zero_s), int(gap.host)]
            for gap in main.spans.idle[:MOST_KERNELS]
        ],
        "lanes": [f"stream {stream}" for _, stream in streams],
        "span": _us(main.spans.span_s),
    }


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _roofline(found: Traced) -> Card | None:
    """The bandwidth of the card, its peaks for the types of the kernels, and the kernels as points; None without points."""
    if found.gpu is None:
        return None
    took: dict[str, float] = {}
    for row in found.main.rows:
        if row.known and row.dtype in ITEM_BYTES:
            took[row.dtype] = took.get(row.dtype, 0.0) + row.measured_s
    roofs: dict[float, list[str]] = {}
    for dtype in sorted(took, key=lambda name: -took[name])[:2]:
        own = rates(found.gpu, dtype)
        for engine in (Engine.TENSOR, Engine.VECTOR):
            roof = own.roofs[engine]
            names = roofs.setdefault(roof.flop_per_s, [])
            name = f"{roof.name} {dtype}" if dtype not in roof.name else roof.name
            names += [] if name in names else [name]
    bandwidth, span_s = found.gpu.bandwidth_byte_per_s.value, found.main.spans.span_s
    known = [row for row in found.main.rows if row.known and row.flops and row.traffic_byte]
    points = [_point(row, span_s, bandwidth) for row in known]
    if not roofs or not points:
        return None
    slopes = [Slope(MEMORY, bandwidth)]
    ordered = sorted(roofs.items(), reverse=True)
    return Card(
        found.gpu.name, found.gpu.title, slopes, [Roof(", ".join(names), rate) for rate, names in ordered], points
    )


def _point(row: Row, span_s: float, bandwidth_byte_per_s: float) -> Point:
    """A kernel at the rate that was measured. Its bound is drawn below the slope of the memory: data that is found in L2
    passes it.
    """
    reached, intensity = row.flops / row.measured_s, max(row.flops / row.traffic_byte, LEAST)
    bound = min(row.flops / row.lower_s, bandwidth_byte_per_s * intensity) if row.lower_s else reached
    return Point(
        name=printable(f"{row.op} {named(row.shape)}"), intensity=intensity, flop_per_s=max(reached, bound), kind=MEASURED,
        bound=row.bound or "unknown", reached=reached, share=row.measured_s / span_s, measured_s=row.measured_s,
        lower_s=row.lower_s,
    )  # fmt: skip
