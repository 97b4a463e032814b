"""The page of ``explain`` as a LaTeX fragment for any document that loads amsmath."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from perfmodel import symbolic
from perfmodel.explanation import Explanation
from perfmodel.report.answer import card_lines, sizes_line
from perfmodel.report.explain import crossings, tensor_note, trips, work_name
from perfmodel.symbols import SYMBOLS

# Non-ASCII characters of the texts in LaTeX; Greek letters are converted by name.
_SIGNS = {
    "√": r"$\surd$", "×": r"$\times$", "·": r"$\cdot$", "−": r"$-$", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$",
    "≈": r"$\approx$", "∞": r"$\infty$", "⌈": r"$\lceil$", "⌉": r"$\rceil$", "⌊": r"$\lfloor$", "⌋": r"$\rfloor$",
    "–": "--", "—": "---", "’": "'", "“": "``", "”": "\'\'", "…": r"\dots{}",
}  # fmt: skip
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v", "\u0327": "c"}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿᵀ", "0123456789-+xnT")
_SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
            "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$"}  # fmt: skip


def escaped(text: str) -> str:
    """Returns text with LaTeX's special characters escaped and non-ASCII characters as commands."""
    text = "".join(_SPECIAL.get(character, character) for character in text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ˣⁿᵀ]+", lambda run: f"$^{{{_transposed(run[0].translate(_RAISED))}}}$", text)
    return "".join(map(_written, re.findall(".[\u0300-\u036f]*", text, re.DOTALL)))


def _transposed(exponent: str) -> str:
    return r"\top" if exponent == "T" else exponent


def _written(sign: str) -> str:
    """Returns a character, with the accents that follow it, in ASCII."""
    letter, *accents = [*unicodedata.normalize("NFD", sign)]
    script, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    case = {"GREEK SMALL": str.lower, "GREEK CAPITAL": str.capitalize}.get(script)
    written = f"$\\{case(name)}$" if case else _SIGNS.get(letter, letter)
    for accent in accents:
        written = f"\\{_ACCENTS.get(accent, accent)}{{{written}}}"
    return written


def fragment(found: Explanation) -> str:
    """Returns the fragment: derivation, tables of sizes, tensors and work, formulas, crossings, example and sources."""
    operation = found.operation
    lines = [
        f"% {operation.name}: needs \\usepackage{{amsmath}}",
        f"\\subsection*{{\\texttt{{{escaped(operation.name)}}}: {escaped(operation.summary)}}}",
        "",
        *_paragraphs(found.derivation),
        *_paragraphs(operation.doc),
        *_symbols(found),
        *_tensors(found),
        *_work(found),
        *_formulas(found),
        *_ways(found),
        *_growth(found),
        *_crossings(found),
        "\\paragraph{Worked example.}",
        escaped(_example(found)),
        "",
        "\\paragraph{Sources.}",
        escaped("; ".join(operation.sources)) + ".",
    ]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    return [
        line
        for paragraph in text.split("\n\n")
        if paragraph.strip()
        for line in (escaped(" ".join(paragraph.replace("``", "").split())), "")
    ]


def _symbols(found: Explanation) -> list[str]:
    names = [name for name in found.operation.arguments if SYMBOLS[name].kind in ("size", "optional")]
    rows = [(symbolic.latex(symbolic.symbol(name)), escaped(SYMBOLS[name].meaning)) for name in names]
    rows.append((symbolic.BYTES, "bytes per element of activations, weights and cache"))
    return _table("lp{0.8\\linewidth}", "size & meaning", [f"${letter}$ & {meaning}" for letter, meaning in rows])


def _ways(found: Explanation) -> list[str]:
    """Returns the algorithms of a collective and the crossovers between them."""
    if not found.ways:
        return []
    rows = [f"{escaped(w.algorithm)} & {_math(w.sent_byte)} & {_math(w.added)} & {_math(w.steps)}" for w in found.ways]
    texts = [
        f"\\item {escaped(one.below)} below, {escaped(one.above)} above: {_math(symbolic.symbol('byte'))} = {_math(one.closed_form)}"
        for one in found.crossovers
    ]
    listed = ["\\begin{itemize}", *texts, "\\end{itemize}", ""] if texts else []
    return [*_table("llll", "algorithm & bytes sent & elements added & steps", rows), *listed]


def _work(found: Explanation) -> list[str]:
    rows = [
        f"{escaped(work_name(work))} & {_math(times)} & {escaped(mix)} & {work.engine.value}"
        for work, (_, times, mix) in zip(found.op.work, found.work, strict=True)
    ]
    return _table("llp{0.3\\linewidth}l", "work & count & operations & engine", rows)


def _tensors(found: Explanation) -> list[str]:
    rows = []
    for tensor in found.op.tensors:
        shape = ", ".join(symbolic.latex(size) for size in tensor.shape)
        moved = [
            _cell(trips(tensor, *way, show=_math))
            for way in ((tensor.reads, tensor.read_elements), (tensor.writes, tensor.write_elements))
        ]
        cells = [escaped(tensor.name), f"$({shape})$", _math(tensor.item), *moved, escaped(tensor_note(tensor))]
        rows.append(" & ".join(cells))
    return _table("lllllp{0.2\\linewidth}", "tensor & shape & bytes & read & written & note", rows)


def _cell(times: str) -> str:
    return times.replace("×", "$\\times$")


def _math(expression: Any) -> str:
    return f"${symbolic.latex(expression)}$"


def _table(columns: str, head: str, rows: Iterable[str]) -> list[str]:
    body = [f"{row} \\\\" for row in rows]
    start = f"\\begin{{tabular}}{{{columns}}}"
    return ["\\begin{center}\\small", start, f"{head} \\\\ \\hline", *body, "\\end{tabular}", "\\end{center}", ""]


# Characters of a formula that fit on one line with its name.
WIDE = 44


def _formulas(found: Explanation) -> list[str]:
    """Returns counts, bytes and ratios as aligned formulas. Long formulas are shortened: see ``_lettered`` and
    ``_broken``.
    """
    formulas = found.formulas
    pairs: list[tuple[str, Any]] = [
        ("FLOP", formulas.flops),
        ("compulsory bytes", formulas.compulsory_byte),
        ("fused bytes", formulas.traffic_byte),
        ("unfused bytes", formulas.unfused_byte),
    ]
    tiles, pairs = _lettered([(name, formula) for name, formula in pairs if formula is not None])
    rows = [f"\\text{{{name}}} &= {_broken(formula)}" for name, formula in pairs]
    for name, below, ratio in (
        ("FLOP per byte", "fused bytes", formulas.intensity),
        ("FLOP per byte, unfused", "unfused bytes", formulas.unfused_intensity),
    ):
        if ratio is not None:
            short = max(len(symbolic.text(part)) for part in ratio.as_numer_denom()) <= WIDE and not tiles
            parts = symbolic.latex(ratio) if short else f"\\frac{{\\text{{FLOP}}}}{{\\text{{{below}}}}}"
            rows.append(f"\\text{{{name}}} &= {parts}")
    rows += [f"{letter} &= {symbolic.latex(formula)}" for letter, formula in tiles]
    return ["\\begin{align*}", " \\\\\n".join(rows), "\\end{align*}", ""]


def _lettered(pairs: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Replaces ceilings and floors by letters, innermost first, if any formula is too long; then in all formulas."""
    tiles: list[tuple[str, Any]] = []
    while tiles or any(len(symbolic.text(formula)) > WIDE for _, formula in pairs):
        rounded = symbolic.innermost_rounded(formula for _, formula in pairs)
        if rounded is None:
            break
        letter = f"\\tau_{{{len(tiles) + 1}}}"
        tiles.append((letter, rounded))
        pairs = [(name, formula.subs(rounded, symbolic.symbol(letter))) for name, formula in pairs]
    return tiles, pairs


def _broken(formula: Any) -> str:
    """Returns a formula on one line; a long sum on several lines."""
    factors, terms = symbolic.sum_of(formula)
    if len(symbolic.text(formula)) <= WIDE or len(terms) < 2:
        return symbolic.latex(formula)
    lines, length = [""], 0
    for term in terms:
        size = len(symbolic.text(term))
        if lines[-1] and length + size > WIDE:
            lines.append("")
            length = 0
        written = symbolic.latex(term)
        first = not lines[0]
        lines[-1] += written if first else f" - {written[1:].lstrip()}" if written.startswith("-") else f" + {written}"
        length += size + 3
    body = " \\\\\n&\\quad {}".join(lines)
    return body if factors == 1 else f"{symbolic.latex(factors)} \\bigl({body}\\bigr)"


def _growth(found: Explanation) -> list[str]:
    unfused = found.formulas.unfused_byte is not None
    rows = []
    for growth in found.growth:
        letters = " = ".join(symbolic.latex(symbolic.symbol(name)) for name in growth.name.split(" = "))
        orders = [growth.flops, growth.traffic, *([growth.unfused] if unfused else []), growth.intensity]
        rows.append(" & ".join([f"${letters}$", *map(str, orders)]))
    bytes_ = "bytes fused & bytes unfused" if unfused else "bytes"
    return _table("l" * (5 if unfused else 4), f"grows in & FLOP & {bytes_} & FLOP/B", rows)


def _crossings(found: Explanation) -> list[str]:
    """Returns the crossings on a card; empty without one."""
    card = found.fused.card
    if card is None or not found.crossings:
        return []
    items = [f"\\item {whose}: {text}." for whose, text in crossings(found, _math, escaped)]
    notes = [sizes_line(found.fused.dims), *card_lines(found.fused.dims, card, found.fused.roof_notes)]
    return [
        "\\paragraph{From memory-bound to compute-bound.}",
        f"On {escaped(card.gpu.title)}. {escaped(' '.join(filter(None, notes)))}",
        "\\begin{itemize}",
        *items,
        "\\end{itemize}",
        "",
    ]


def _example(found: Explanation) -> str:
    example = found.operation.example
    at = ", ".join(f"{name} = {value}" for name, value in example.at.items())
    return f"At {at}: {example.flops} FLOP and {example.traffic} bytes ({example.because})."
