"""Views of an answer outside the terminal: one line, an HTML table, LaTeX formulas, JSON, rows for pandas.

Each kind of answer fills in a ``View``, which converts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from perfmodel.analysis import Analysis
from perfmodel.comparison import Comparison
from perfmodel.errors import InputError, one_line
from perfmodel.footprint import Memory
from perfmodel.hardware import Gpu
from perfmodel.prediction import Prediction
from perfmodel.programs.run import Answer as Program
from perfmodel.report.sheet import Sheet
from perfmodel.roofline import Bounds
from perfmodel.units import scaled

if TYPE_CHECKING:
    from perfmodel.formulas import Formulas
    from perfmodel.solve import Solution
    from perfmodel.sweep import Plan
    from perfmodel.traces.tracing import Traced

Part = Sheet | str
LONGEST_LINE = 200  # characters of a one-line representation


class View(NamedTuple):
    """The content of an answer; all but ``line`` is computed on request.

    ``parts`` are the tables and sentences of the command. ``json`` is the text of ``--format json``. ``records`` are
    the rows for pandas, by default those of the first table. ``formulas`` are pairs of a name and a sympy expression.
    """

    line: str
    parts: Callable[[], Iterable[Part]]
    json: Callable[[], str]
    records: Callable[[], Iterable[Mapping[str, Any]]] | None = None
    formulas: Callable[[], Iterable[tuple[str, Any]]] | None = None

    def html(self) -> str:
        """Returns the tables and sentences as HTML, with all text escaped."""
        return "<div>\n" + "\n".join(map(_html, self.parts())) + "\n</div>"

    def latex(self) -> str | None:
        """Returns the formulas as one aligned display; None for an answer without formulas."""
        if self.formulas is None:
            return None
        from perfmodel import symbolic
        from perfmodel.report.latex import escaped

        rows = [f"\\text{{{escaped(name)}}} &= {symbolic.latex(formula)}" for name, formula in self.formulas()]
        return "$$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$$" if rows else None

    def rows(self) -> list[Mapping[str, Any]]:
        """Returns the rows for pandas, by column."""
        if self.records is not None:
            return list(self.records())
        return _records(next(part for part in self.parts() if isinstance(part, Sheet)))

    def frame(self) -> Any:
        """Returns the rows as a pandas DataFrame."""
        try:
            from pandas import DataFrame
        except ImportError:
            raise InputError(
                "to_pandas", "pandas is not installed", "this method requires pandas",
                "Run 'pip install pandas', or use to_json.",
            ) from None  # fmt: skip
        return DataFrame(self.rows())


def traced(found: Traced) -> View:
    """Returns the view of a profiler trace."""
    from perfmodel.report.trace import render
    from perfmodel.report.trace.document import kernel
    from perfmodel.report.trace.text import sheets, title

    return View(
        line=title(found),
        parts=lambda: sheets(found),
        json=lambda: render(found, "json"),
        records=lambda: [kernel(row) for row in found.kernels],
    )


def _records(sheet: Sheet) -> list[Mapping[str, Any]]:
    return [{column.key: column.value(row) for column in sheet.columns} for row in sheet.rows]


def _html(part: Part) -> str:
    return _table(part) if isinstance(part, Sheet) else f"<p>{escape(part)}</p>"


def _table(sheet: Sheet) -> str:
    """Returns title, heading, rows, totals and notes, with every column."""
    sides = ["right" if column.right else "left" for column in sheet.columns]

    def line(cells: Iterable[str], tag: str) -> str:
        pairs = zip(cells, sides, strict=True)
        return (
            "<tr>"
            + "".join(f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>' for cell, side in pairs)
            + "</tr>"
        )

    lines = [f"<caption>{escape(sheet.title)}</caption>"] if sheet.title else []
    lines += ["<thead>", line((column.heading for column in sheet.columns), "th"), "</thead>", "<tbody>"]
    lines += [line(sheet.cells(row), "td") for row in sheet.rows]
    lines += [
        "</tbody>",
        *(["<tfoot>", line(sheet.cells(sheet.total), "td"), "</tfoot>"] if sheet.total is not None else []),
    ]
    notes = [f"<p>{escape(note)}</p>" for note in sheet.notes]
    return "\n".join(["<table>", *lines, "</table>", *notes])


# --- each kind of answer


def analysis(found: Analysis) -> View:
    """Returns the view of ``flops``; pandas gets every kernel, as in CSV."""
    from perfmodel.report import answer

    return View(
        _of(found, *_times(found)),
        lambda: [answer.sheet(found)],
        lambda: answer.render(found, "json"),
        lambda: _records(answer.sheet(found, steps=True)),
    )


def program(found: Program) -> View:
    """Returns the view of a program on a card; pandas gets every kernel, as in CSV."""
    from perfmodel.report import programs as report

    total = found.total
    times = f"expected {scaled(total.expected_s, 's')}, at least {scaled(total.lower_s, 's')}, peak {scaled(found.peak_byte, 'B')}"
    return View(
        f"{found.program.name}, {found.run} on {found.gpu.name}: {times}",
        lambda: [report.sheet(found)],
        lambda: report.render(found, "json"),
        lambda: _records(report.kernels(found)),
    )


def bounds(found: Bounds, of: Analysis) -> View:
    """Returns the view of the bounds of a workload or an operation on a card."""
    from perfmodel.report import bounds as report

    times = f"{found.bound}-bound, at least {scaled(found.lower_s, 's')}, no overlap {scaled(found.no_overlap_s, 's')}"
    return View(_of(of, times), lambda: [report.sheet(found, of)], lambda: report.render(found, of))


def memory(found: Memory) -> View:
    """Returns the view of ``memory``."""
    from perfmodel.report import memory as report

    words = [f"{scaled(found.byte_per_gpu, 'B')} per GPU"]
    if found.gpu and found.verdict:
        words.append(f"{'fits' if found.verdict.fits else 'does not fit'} on {found.gpu.name}")
    if found.solved:
        words.append(f"largest {found.solved.symbol} is {found.solved.largest or 'any'}")
    line = f"{found.workload.name}, {found.phase}: {', '.join(words)}"
    return View(line, lambda: report.parts(found), lambda: report.render(found, "json"))


def comparison(found: Comparison) -> View:
    """Returns the view of ``compare``."""
    from perfmodel.report import comparison as report

    def parts() -> list[Part]:
        return [
            report.side_by_side(found, found.cases),
            *(report.speedups(case) for case in found.cases if case.step),
        ]

    def records() -> list[Mapping[str, Any]]:
        return _records(report.listed(found))

    answers = [case.answer for case in found.cases]
    line = "; ".join(_of(answer, *_times(answer)[-1:]) for answer in answers[:4])
    line += f"; {len(answers) - 4} more" if len(answers) > 4 else ""
    return View(line, parts, lambda: report.render(found, "json"), records)


def predictions(found: Sequence[Prediction], gpu: Gpu, knowledge: str) -> View:
    """Returns the view of ``predict``. Cases with an error are below the table and have an ``error`` in their row."""
    from perfmodel.report import predictions as report

    refused = [prediction.error for prediction in found if prediction.total is None]
    line = f"{len(found):,} cases on {gpu.name}, {knowledge} knowledge"
    line += f", {len(refused):,} of them refused" if refused else ""
    return View(
        line,
        lambda: [report.sheet(found, gpu, knowledge), *refused],
        lambda: report.render(found, gpu, "json", knowledge),
        lambda: map(report.case_document, found),
    )


def sweep(plan: Plan) -> View:
    """Returns the view of a sweep. The table shows some rows; JSON Lines and pandas get all."""
    from perfmodel.report import rows
    from perfmodel.report.sample import Sample, sheet, title

    def parts() -> list[Part]:
        sample = Sample()
        for chunk in plan.chunks():
            sample.add(chunk)
        return [sheet(plan, sample)]

    points = f"{plan.points:,} points on {', '.join(card.gpu.name for card in plan.cards)}"
    return View(f"{title(plan)}: {points}", parts, lambda: rows.json_lines(plan), lambda: rows.records(plan))


def solution(found: Solution) -> View:
    """Returns the view of ``solve``."""
    from perfmodel.report import solution as report

    whole = found.answers[0]
    places = [f"{crossing.bound_below} to {crossing.bound_above} at {crossing.at:.6g}" for crossing in whole.crossings]
    line = f"{found.workload.name} on {found.card.gpu.name}, {found.name}: {'; '.join(places) or whole.reason}"
    return View(
        line,
        lambda: [report.sheet(found)],
        lambda: report.render(found, "json"),
        formulas=lambda: report.named(found),
    )


def formulas(found: Formulas) -> View:
    """Returns the view of ``flops --symbolic``."""
    from perfmodel import symbolic
    from perfmodel.report import formulas as report

    text = f"FLOP = {symbolic.text(found.flops)}, bytes = {symbolic.text(found.traffic_byte)}"
    return View(
        one_line(f"{found.workload.name}: {text}", LONGEST_LINE),
        lambda: [report.sheet(found)],
        lambda: report.render(found, "json"),
        formulas=lambda: report.named(found),
    )


def _of(found: Analysis, *words: str) -> str:
    """Returns what was analysed, and how: ``gpt2, decode on t4: ...``."""
    card = f" on {found.gpu.name}" if found.gpu else ""
    causal = ", causal" if found.causal else ""
    return f"{found.workload.name}, {found.phase}{causal}{card}: {', '.join(words)}"


def _times(found: Analysis) -> list[str]:
    """Returns counts and, with a card, bottleneck and minimum time. The expected time is omitted; it needs its
    protocol.
    """
    total = found.total
    words = [scaled(total.flops, "FLOP"), scaled(total.traffic_byte, "B")]
    if total.lower_s is not None:
        words += [f"{total.bound}-bound", f"at least {scaled(total.lower_s, 's')}"]
    return words
