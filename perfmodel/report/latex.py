"""An operation's page as a LaTeX fragment; it compiles in any document that loads amsmath."""

from __future__ import annotations

from typing import Any

from perfmodel import symbolic
from perfmodel.explanation import Explanation
from perfmodel.symbols import SYMBOLS

# What the prose uses beyond ASCII, as LaTeX writes it.
_SIGNS = {
    "√": r"$\surd$", "ᵀ": r"$^{\top}$", "²": r"$^2$", "³": r"$^3$", "×": r"$\times$", "·": r"$\cdot$",
    "γ": r"$\gamma$", "β": r"$\beta$", "σ": r"$\sigma$", "ε": r"$\varepsilon$", "Φ": r"$\Phi$", "φ": r"$\varphi$",
    "π": r"$\pi$", "ˣ": r"$^x$", "⁻": r"$^{-}$", "x̂": r"$\hat{x}$", "→": r"$\to$", "≤": r"$\le$", "é": r"\'e",
}  # fmt: skip
_SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
            "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$"}  # fmt: skip


def escaped(text: str) -> str:
    """Prose with LaTeX's own characters escaped and every other sign written out."""
    text = "".join(_SPECIAL.get(character, character) for character in text)
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    return text


def fragment(found: Explanation) -> str:
    """Title, derivation, table of symbols, formulas, growth, example and sources."""
    operation = found.operation
    lines = [
        f"% {operation.name}: needs \\usepackage{{amsmath}}",
        f"\\subsection*{{\\texttt{{{escaped(operation.name)}}}: {escaped(operation.summary)}}}",
        "",
        *_paragraphs(found.derivation),
        *_paragraphs(operation.doc),
        *_symbols(found),
        *_work(found),
        *_formulas(found),
        *_growth(found),
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
    body = [f"${letter}$ & {meaning} \\\\" for letter, meaning in rows]
    return ["\\begin{center}", "\\begin{tabular}{lp{0.8\\linewidth}}", *body, "\\end{tabular}", "\\end{center}", ""]


def _work(found: Explanation) -> list[str]:
    rows = [
        f"{escaped(work.name)} & ${symbolic.latex(times)}$ & {escaped(mix)} & {work.engine.value} \\\\"
        for work, (_, times, mix) in zip(found.op.work, found.work, strict=True)
    ]
    head = "work & so often & each time & engine \\\\ \\hline"
    return [
        "\\begin{center}",
        "\\begin{tabular}{llp{0.35\\linewidth}l}",
        head,
        *rows,
        "\\end{tabular}",
        "\\end{center}",
        "",
    ]


def _formulas(found: Explanation) -> list[str]:
    formulas = found.formulas
    pairs: list[tuple[str, Any]] = [
        ("\\text{FLOP}", formulas.flops),
        ("\\text{compulsory bytes}", formulas.compulsory_byte),
        ("\\text{fused bytes}", formulas.traffic_byte),
        ("\\text{unfused bytes}", formulas.unfused_byte),
        ("\\text{FLOP per byte}", formulas.intensity),
        ("\\text{FLOP per byte, unfused}", formulas.unfused_intensity),
    ]
    rows = [f"{name} &= {symbolic.latex(formula)}" for name, formula in pairs if formula is not None]
    return ["\\begin{align*}", " \\\\\n".join(rows), "\\end{align*}", ""]


def _growth(found: Explanation) -> list[str]:
    rows = [
        f"${escaped(g.name) if '=' not in g.name else g.name}$ & {g.flops} & {g.traffic} & {g.intensity} \\\\"
        for g in found.growth
    ]
    head = "grows in & FLOP & bytes & FLOP/B \\\\ \\hline"
    return ["\\begin{center}", "\\begin{tabular}{llll}", head, *rows, "\\end{tabular}", "\\end{center}", ""]


def _example(found: Explanation) -> str:
    example = found.operation.example
    at = ", ".join(f"{name} = {value}" for name, value in example.at.items())
    return f"At {at}: {example.flops} FLOP and {example.traffic} bytes ({example.because})."
