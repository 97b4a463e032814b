"""The page of ``explain`` for the terminal: an operation's definition, tensors and work, as formulas and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from perfmodel import symbolic
from perfmodel.analysis import Analysis
from perfmodel.expert_tables import Spread
from perfmodel.explanation import Explanation
from perfmodel.op import Tensor, Work
from perfmodel.report import context_tables, expert_tables, pages, tile_tables
from perfmodel.report.answer import card_lines, expected_line, sizes_line
from perfmodel.report.sheet import Column, Sheet, table, terminal_width, wrapped
from perfmodel.report.solution import algorithms, link_note
from perfmodel.solve import Solution
from perfmodel.symbols import SYMBOLS
from perfmodel.units import UNSEPARATED, scaled, significant


def page(found: Explanation) -> str:
    """Returns the page, wrapped to the terminal's width."""
    width, operation = terminal_width(), found.operation
    sections = (
        ("Sizes", _sizes(found, width)),
        ("Tensors", _tensors(found, width)),
        ("Work", _work(found, width)),
        ("FLOPs and bytes", _formulas(found, width)),
        *([("Messages of one rank", _ways(found, width))] if found.ways else []),
        ("Growth", _growth(found, width)),
        ("Worked example", _example(found, width)),
        ("Numbers", _numbers(found, width)),
        *([("Traffic against tile size", _table(found.tiles, tile_tables, width))] if found.tiles else []),
        *([("Scores against context", _table(found.contexts, context_tables, width))] if found.contexts else []),
        *([("Experts", _experts(found.experts, width))] if found.experts else []),
        *([("Crossovers between algorithms", _crossovers(found, width))] if found.crossovers else []),
        *([("From memory-bound to compute-bound", _crossings(found, width))] if not found.ways else []),
        ("Backward", _backward(found, width)),
        ("Sources", [line for source in operation.sources for line in _lines(source, width)]),
    )
    prose = [paragraph for text in (found.derivation, operation.doc) for paragraph in _paragraphs(text)]
    return pages.page(f"{operation.name.upper()}: {operation.summary}", prose, sections, width)


def _paragraphs(text: str) -> list[str]:
    """Returns the paragraphs of a docstring, each as one line."""
    return [" ".join(paragraph.split()).replace("``", "") for paragraph in text.strip().split("\n\n")]


def _indented(sheet: Sheet, width: int) -> list[str]:
    return [f"  {line}".rstrip() for line in table(sheet, width - 2).splitlines()]


def _table(found: Any, module: Any, width: int) -> list[str]:
    """Returns a table and the note below it."""
    return [*_indented(module.sheet(found), width), *_lines(module.note(found), width)]


def _lines(text: str, width: int) -> list[str]:
    return [f"  {line}" for line in wrapped(text, width - 2)]


def _sizes(found: Explanation, width: int) -> list[str]:
    names = [SYMBOLS[name] for name in found.operation.arguments if SYMBOLS[name].kind != "item"]
    shared = (symbolic.BYTES, "bytes per element of activations, weights and cache")
    return _definitions([*((symbol.name, symbol.meaning) for symbol in names), shared], width)


def _definitions(pairs: list[tuple[str, str]], width: int) -> list[str]:
    """Returns names with their meanings; continuation lines are indented."""
    lines = []
    for name, meaning in pairs:
        first, *rest = wrapped(meaning, width - 10)
        lines += [f"  {name:<7} {first}", *(f"          {line}" for line in rest)]
    return lines


def _tensors(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("name", "tensor", lambda t: t.name, right=False),
        Column("shape", "shape", _shape, right=False),
        Column("item", "bytes", lambda t: symbolic.text(t.item)),
        Column("reads", "read", lambda t: trips(t, t.reads, t.read_elements), right=False),
        Column("writes", "written", lambda t: trips(t, t.writes, t.write_elements), right=False),
    ]
    if any(map(tensor_note, found.op.tensors)):
        columns.append(Column("note", "note", tensor_note, right=False))
    return _indented(Sheet(columns, found.op.tensors), width)


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(symbolic.text(size) for size in tensor.shape)})"


def trips(tensor: Tensor, times: Any, elements: Any, show: Callable[[Any], str] = symbolic.text) -> str:
    """Returns how often a tensor is moved: a number, or elements moved divided by elements stored."""
    if elements is not None:
        times = symbolic.quotient(elements, tensor.elements)
    if times in (0, 1):
        return "once" if times else ""
    shown = show(times)
    return f"× ({shown})" if getattr(times, "is_Add", False) else f"× {shown}"


def tensor_note(tensor: Tensor) -> str:
    """Returns a note on the tensor's role."""
    if tensor.spill:
        return "on chip only, if fused"
    return {"parameter": "parameter", "cache": "KV cache when decoding"}.get(tensor.kind.value, "")


def work_name(work: Work) -> str:
    """Returns the name of the work; marked if a fused kernel does not need it."""
    return f"{work.name} (unfused only)" if work.again else work.name


def _work(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("name", "work", lambda w: work_name(w[0]), right=False),
        Column("times", "count", lambda w: symbolic.text(w[1][1]), right=False),
        Column("mix", "operations", lambda w: w[1][2], right=False),
        Column("engine", "engine", lambda w: w[0].engine.value, right=False),
    ]
    return _indented(Sheet(columns, list(zip(found.op.work, found.work, strict=True))), width)


def _formulas(found: Explanation, width: int) -> list[str]:
    formulas = found.formulas
    pairs = [("FLOP", formulas.flops)]
    if formulas.contraction_flops not in (0, formulas.flops):
        pairs.append(("matrix products", formulas.contraction_flops))
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


def _ways(found: Explanation, width: int) -> list[str]:
    columns = [
        Column("algorithm", "algorithm", lambda w: w.algorithm, right=False),
        Column("sent", "bytes sent", lambda w: symbolic.text(w.sent_byte), right=False),
        Column("added", "elements added", lambda w: symbolic.text(w.added), right=False),
        Column("steps", "steps", lambda w: symbolic.text(w.steps), right=False),
    ]
    note = "Means over the ranks. A rank receives as much as it sends, from other ranks or from the switches."
    return [*_indented(Sheet(columns, found.ways), width), *(f"  {line}" for line in wrapped(note, width - 2))]


def _crossovers(found: Explanation, width: int) -> list[str]:
    gpu = found.fused.gpu
    texts = [*algorithms(found.crossovers), link_note(gpu) if gpu else "Add --gpu GPU for the values on its links."]
    lines = []
    for text in texts:
        first, *rest = wrapped(text, width - 4)
        lines += [f"  {first}", *(f"    {line}" for line in rest)]
    return lines


def _experts(found: Spread, width: int) -> list[str]:
    """How the tokens spread over experts, tiles and ranks."""
    lines = [*_lines(expert_tables.summary(found), width), *_indented(expert_tables.padding(found), width)]
    return [*lines, *(_indented(expert_tables.ranks(found), width) if found.ranks else [])]


def _growth(found: Explanation, width: int) -> list[str]:
    splits = found.formulas.unfused_byte is not None
    columns = [
        Column("name", "in", lambda g: g.name, right=False),
        Column("flops", "FLOP", lambda g: str(g.flops), right=False),
        Column("traffic", "bytes fused" if splits else "bytes", lambda g: str(g.traffic), right=False),
        *([Column("unfused", "bytes unfused", lambda g: str(g.unfused), right=False)] if splits else []),
        Column("intensity", "FLOP/B", lambda g: str(g.intensity), right=False),
    ]
    return _indented(Sheet(columns, found.growth), width)


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
            Column("bound", "bottleneck", lambda a: a[1].total.bound, right=False),
            Column("lower", "at least", lambda a: a[1].total.lower_s, lambda value: scaled(value, "s")),
            Column("expected", "expected", _expected_s, lambda value: scaled(value, "s")),
            Column(
                "no_overlap",
                "no overlap",
                lambda a: a[1].total.no_overlap_s,
                lambda value: scaled(value, "s"),
                wide=True,
            ),
        ]
    sizes = sizes_line(found.fused.dims)
    lines = [
        f"  {line}" for line in wrapped(f"{sizes[:-1]}; {_type(found)}." if sizes else f"{_type(found)}.", width - 2)
    ]
    lines += _indented(Sheet(columns, answers), width)
    lines += [f"  {line}" for text in found.fused.notes for line in wrapped(text, width - 2)]
    if found.fused.gpu and found.fused.card:
        roofs, *others = card_lines(found.fused.dims, found.fused.card, found.fused.roof_notes)
        notes = [f"{found.fused.gpu.title}. {roofs}", *others, *expected_line(found.fused, verbose=True)]
        lines += [f"  {line}" for note in notes for line in wrapped(note, width - 2)]
    return lines


def _expected_s(answer: tuple[str, Analysis]) -> float | None:
    found = answer[1].total.expected
    return found.expected_s if found else None


def _type(found: Explanation) -> str:
    return found.fused.workload.dtypes["activation"]


def _crossings(found: Explanation, width: int) -> list[str]:
    """Returns one line per symbol and form: the closed form and value, or why there is no crossing."""
    texts = [f"{whose}: {text}" for whose, text in crossings(found)]
    if not texts and found.fused.gpu is None:
        texts = ["Add --gpu GPU to solve for the sizes at which the bottleneck changes."]
    lines = []
    for text in texts:
        first, *rest = wrapped(text, width - 2)
        lines += [f"  {first}", *(f"    {line}" for line in rest)]
    return lines


def crossings(
    found: Explanation, show: Callable[[Any], str] = symbolic.text, say: Callable[[str], str] = str
) -> Iterator[tuple[str, str]]:
    """Yields the form and symbol, and the crossing as text. Symbols that do not change the intensity share one line,
    last.

    ``show`` formats a formula, ``say`` formats words.
    """
    for form in dict.fromkeys(solution.fused for solution in found.crossings):
        solutions = [solution for solution in found.crossings if solution.fused is form]
        words = [] if found.unfused is None else ["fused" if form else "unfused"]
        for solution in solutions:
            if solution.answers[0].enters:
                for text in _crossing_texts(solution, show, say):
                    yield ", ".join([*words, _letter(solution, show) + _tied(solution, show)]), text
        same = [solution for solution in solutions if not solution.answers[0].enters]
        if same:
            reason = same[0].answers[0].reason.replace(f"at every {same[0].name}", "at every size")
            yield ", ".join([*words, *(_letter(solution, show) for solution in same)]), say(reason)


def _letter(solution: Solution, show: Callable[[Any], str]) -> str:
    return show(symbolic.symbol(solution.name))


def _tied(solution: Solution, show: Callable[[Any], str]) -> str:
    """Returns the sizes that follow the solved symbol: `` (S = N)``."""
    own = symbolic.symbol(solution.name)
    followers = {n: v for n, v in solution.sizes.items() if getattr(v, "free_symbols", None) and v.has(own)}
    texts = [f"{show(symbolic.symbol(name))} = {show(value)}" for name, value in followers.items()]
    return f" ({', '.join(texts)})" if texts else ""


def _crossing_texts(solution: Solution, show: Callable[[Any], str], say: Callable[[str], str]) -> list[str]:
    answer = solution.answers[0]
    texts = []
    for crossing in answer.crossings:
        formula = f"{show(crossing.closed_form)} = " if crossing.closed_form is not None else ""
        sides = f"{crossing.bound_below} to {crossing.bound_above}"
        roof = f"{crossing.engine}, I = {crossing.ridge_flop_per_byte:.4g}"
        texts.append(
            f"{_letter(solution, show)} = {formula}{significant(crossing.at, 5, UNSEPARATED)}, {sides} ({roof})"
        )
    texts += [say(text) for text in (answer.reason, answer.left_out) if text]
    return texts


def _backward(found: Explanation, width: int) -> list[str]:
    lines = []
    for gradient in found.operation.backward:
        fused = f" (after a fused forward pass: {gradient.fused})" if gradient.fused else ""
        sizes = ", ".join(f"{name} = {text}" for name, text in gradient.sizes if name != text)
        lines += [
            f"  {line}" for line in wrapped(f"{gradient.operation}{f' at {sizes}' if sizes else ''}{fused}", width - 2)
        ]
    return lines
