"""An operation's page for the terminal: what it is, moves and does, as formulas and as numbers."""

from __future__ import annotations

from typing import Any

from perfmodel import symbolic
from perfmodel.explanation import Explanation, Growth
from perfmodel.op import Tensor
from perfmodel.report.answer import roofs_line, sizes_line
from perfmodel.report.sheet import Column, Sheet, table, terminal_width, wrapped
from perfmodel.roofline import rates
from perfmodel.solve import Solution
from perfmodel.symbols import SYMBOLS
from perfmodel.units import scaled, significant


def page(found: Explanation) -> str:
    """The whole page, wrapped to the terminal."""
    width = terminal_width()
    operation = found.operation
    lines = [f"{operation.name.upper()}: {operation.summary}", ""]
    for paragraph in (found.derivation, operation.doc):
        lines += [*_prose(paragraph, width), ""]
    for heading, body in (
        ("Sizes", _sizes(found, width)),
        ("Tensors", _tensors(found, width)),
        ("Work", _work(found, width)),
        ("FLOPs and bytes", _formulas(found, width)),
        ("Growth", _growth(found, width)),
        ("Worked example", _example(found, width)),
        ("In numbers", _numbers(found, width)),
        ("Where memory-bound turns compute-bound", _crossings(found, width)),
        ("Backward", _backward(found, width)),
        ("Sources", [f"  {line}" for source in operation.sources for line in wrapped(source, width - 2)]),
    ):
        if body:
            lines += [heading, *body, ""]
    return "\n".join(lines).rstrip() + "\n"


def _prose(text: str, width: int) -> list[str]:
    """Paragraphs of a docstring, wrapped anew."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        lines += ["", *wrapped(" ".join(paragraph.split()).replace("``", ""), width)]
    return lines[1:]


def _indented(sheet: Sheet, width: int) -> list[str]:
    return [f"  {line}".rstrip() for line in table(sheet, width - 2).splitlines()]


def _sizes(found: Explanation, width: int) -> list[str]:
    names = [SYMBOLS[name] for name in found.operation.arguments if SYMBOLS[name].kind != "item"]
    shared = (symbolic.BYTES, "bytes per element of activations, weights and cache")
    return _definitions([*((symbol.name, symbol.meaning) for symbol in names), shared], width)


def _definitions(pairs: list[tuple[str, str]], width: int) -> list[str]:
    """Names with their meanings, the meanings wrapped under themselves."""
    lines = []
    for name, meaning in pairs:
        first, *rest = wrapped(meaning, width - 10)
        lines += [f"  {name:<7} {first}", *(f"          {line}" for line in rest)]
    return lines


def _tensors(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("name", "tensor", lambda t: t.name, right=False),
        Column("shape", "shape", _shape, right=False),
        Column("item", "bytes each", lambda t: symbolic.text(t.item)),
        Column("reads", "read", lambda t: _trips(t, t.reads, t.read_elements)),
        Column("writes", "written", lambda t: _trips(t, t.writes, t.write_elements)),
        Column("note", "note", _tensor_note, right=False, expendable=1),
    ]
    return _indented(Sheet(columns, found.op.tensors), width)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(symbolic.text(size) for size in tensor.shape)})"


def _trips(tensor: Tensor, trips: Any, elements: Any) -> str:
    """How often: a number of trips, or the ratio of elements moved to elements held."""
    if elements is not None:
        return f"× {symbolic.text(symbolic.quotient(elements, tensor.elements))}"
    return (
        ""
        if isinstance(trips, int) and trips == 0
        else "once"
        if isinstance(trips, int) and trips == 1
        else f"× {symbolic.text(trips)}"
    )


def _tensor_note(tensor: Tensor) -> str:
    if tensor.spill:
        return "between kernels only: stays on chip when fused"
    return {"parameter": "trained", "cache": "cached when decoding"}.get(tensor.kind.value, "")


def _work(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("name", "work", lambda w: w[0].name, right=False),
        Column("times", "so often", lambda w: symbolic.text(w[1][1]), right=False),
        Column("mix", "each time", lambda w: w[1][2], right=False, expendable=1),
        Column("engine", "engine", lambda w: w[0].engine.value, right=False),
    ]
    return _indented(Sheet(columns, list(zip(found.op.work, found.work, strict=True))), width)


def _formulas(found: Explanation, width: int) -> list[str]:
    formulas = found.formulas
    pairs = [("FLOP", formulas.flops)]
    if formulas.contraction_flops not in (0, formulas.flops):
        pairs.append(("of products", formulas.contraction_flops))
    pairs.append(("compulsory bytes", formulas.compulsory_byte))
    if formulas.traffic_byte != formulas.compulsory_byte:
        pairs.append(("algorithmic bytes", formulas.traffic_byte))
    unfused = formulas.unfused_byte
    if unfused is not None:
        pairs += [("unfused bytes", unfused), ("saved by fusing", symbolic.tidy(unfused - formulas.traffic_byte))]
    pairs.append(("FLOP/B", formulas.intensity))
    if formulas.unfused_intensity is not None:
        pairs.append(("FLOP/B unfused", formulas.unfused_intensity))
    lines = []
    for name, formula in pairs:
        first, *rest = wrapped(symbolic.text(formula), width - 21)
        lines += [f"  {name:<18} {first}", *(f"{'':21}{line}" for line in rest)]
    return lines


def _growth(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("name", "in", lambda g: g.name, right=False),
        Column("flops", "FLOP", lambda g: str(g.flops), right=False),
        Column("traffic", "bytes fused" if found.formulas.unfused_byte is not None else "bytes", _traffic, right=False),
        Column("intensity", "FLOP/B", lambda g: str(g.intensity), right=False),
    ]
    if found.formulas.unfused_byte is not None:
        columns.insert(3, Column("unfused", "bytes unfused", lambda g: str(g.unfused), right=False))
    return _indented(Sheet(columns, found.growth), width)


def _traffic(growth: Growth) -> str:
    return str(growth.traffic)


def _example(found: Explanation, width: int) -> list[str]:
    example = found.operation.example
    at = ", ".join(f"{name} = {value}" for name, value in example.at.items())
    unfused = f"; unfused {example.unfused:,} B" if example.unfused is not None else ""
    counts = f"{example.flops:,} FLOP, {example.traffic:,} B{unfused}: {example.because}."
    return [f"  {line}" for text in (f"At {at}:", counts) for line in wrapped(text, width - 2)]


def _numbers(found: Explanation, width: int) -> list[str]:
    answers = [
        ("fused" if found.unfused else "", found.fused),
        *([("unfused", found.unfused)] if found.unfused else []),
    ]
    columns = [
        Column("form", "form", lambda a: a[0], right=False),
        Column("flops", "FLOP", lambda a: a[1].total.flops, scaled),
        Column("traffic", "traffic", lambda a: a[1].total.traffic_byte, lambda value: scaled(value, "B")),
        Column("intensity", "FLOP/B", lambda a: a[1].total.intensity_flop_per_byte, significant),
    ]
    columns = columns if found.unfused else columns[1:]
    if found.fused.gpu:
        columns += [
            Column("bound", "bound", lambda a: a[1].total.bound, right=False),
            Column("lower", "at least", lambda a: a[1].total.lower_s, lambda value: scaled(value, "s")),
            Column("upper", "at most", lambda a: a[1].total.upper_s, lambda value: scaled(value, "s")),
        ]
    sizes = sizes_line(found.fused.dims)
    lines = [
        f"  {line}" for line in wrapped(f"{sizes[:-1]}; {_type(found)}." if sizes else f"{_type(found)}.", width - 2)
    ]
    lines += _indented(Sheet(columns, answers), width)
    if found.fused.gpu:
        card = rates(found.fused.gpu, found.fused.workload.dtypes["activation"])
        lines += [f"  {line}" for line in wrapped(f"{found.fused.gpu.title}. {roofs_line(card)}", width - 2)]
    return lines


def _type(found: Explanation) -> str:
    return found.fused.workload.dtypes["activation"]


def _crossings(found: Explanation, width: int) -> list[str]:
    """A line for each symbol and form: the closed form and value, or why it stays on one side."""
    lines: list[str] = []
    for solution in found.crossings:
        form = "" if found.unfused is None else ("fused, " if solution.fused else "unfused, ")
        for text in _crossing_texts(solution):
            first, *rest = wrapped(f"{form}{solution.name}: {text}", width - 2)
            lines += [f"  {first}", *(f"    {line}" for line in rest)]
    if not lines and found.fused.gpu is None:
        return [
            f"  {line}"
            for line in wrapped("Name a card with --gpu and the sizes at which it flips are solved for.", width - 2)
        ]
    return lines


def _crossing_texts(solution: Solution) -> list[str]:
    answer = solution.answers[0]
    texts = []
    for crossing in answer.crossings:
        formula = f"{symbolic.text(crossing.closed_form)} = " if crossing.closed_form is not None else ""
        sides = f"{crossing.bound_below} to {crossing.bound_above}"
        texts.append(
            f"{solution.name} = {formula}{significant(crossing.at, 5)}, {sides} ({crossing.engine}, I = {crossing.ridge_flop_per_byte:.4g})"
        )
    return texts or [answer.reason]


def _backward(found: Explanation, width: int) -> list[str]:
    lines = []
    for gradient in found.operation.backward:
        fused = f" (after a fused forward pass: {gradient.fused})" if gradient.fused else ""
        sizes = ", ".join(f"{name} = {text}" for name, text in gradient.sizes if name != text)
        lines += [
            f"  {line}" for line in wrapped(f"{gradient.operation}{f' at {sizes}' if sizes else ''}{fused}", width - 2)
        ]
    return lines
