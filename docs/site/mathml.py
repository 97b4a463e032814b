"""Formulas as MathML, which browsers draw themselves: no script and no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(convert(_plain(node.astext())))
    raise nodes.SkipNode


def _block(translator: Any, node: Any) -> None:
    formula = convert(_plain(node.astext()), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def _plain(latex: str) -> str:
    """Returns a formula in the LaTeX that the converter knows: an array in the place of aligned lines."""
    latex = latex.replace(r"\displaystyle", "").strip().strip("$").strip()
    return latex.replace(r"\begin{aligned}", r"\begin{array}{rl}").replace(r"\end{aligned}", r"\end{array}")


def setup(app: Any) -> dict[str, bool]:
    """Registers the renderer, and selects it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
