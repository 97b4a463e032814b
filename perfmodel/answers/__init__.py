"""Answers of the library: results of the lower layers with the methods that notebooks and programs need.

An answer has the fields of its result. ``Answer`` adds a one-line ``repr``, an HTML table, LaTeX, JSON and pandas. The
``report`` package is imported when one of these is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from perfmodel.analysis import Analysis
from perfmodel.comparison import Comparison
from perfmodel.footprint import Memory
from perfmodel.hardware import Gpu
from perfmodel.op import Engine
from perfmodel.prediction import Prediction
from perfmodel.roofline import Bounds

if TYPE_CHECKING:
    from perfmodel.report.views import View
    from perfmodel.sweep import Chunk, Plan


class Answer:
    """Base class of all answers: their methods."""

    __slots__ = ()

    def _view(self) -> View:
        """Returns the view of this kind of answer in ``report``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._view().line}>"

    def _repr_html_(self) -> str:
        """Returns the command's table as HTML, for a notebook."""
        return self._view().html()

    def _repr_latex_(self) -> str | None:
        """Returns the formulas as LaTeX, for a notebook; None if the answer has only numbers."""
        return self._view().latex()

    def to_json(self) -> str:
        """Returns the JSON text of the command's ``--format json``; for a sweep, the lines of FILE.jsonl."""
        return self._view().json()

    def to_pandas(self) -> Any:
        """Returns the rows as a pandas DataFrame; its columns are those of ``--format csv``."""
        return self._view().frame()


class AnalysisAnswer(Answer, Analysis):
    """Counts, bounds and times of every kernel: ``perfmodel flops``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.analysis(self)


class MemoryAnswer(Answer, Memory):
    """Memory use of a workload per GPU: ``perfmodel memory``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.memory(self)


class ComparisonAnswer(Answer, Comparison):
    """Workloads on cards, side by side: ``perfmodel compare``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.comparison(self)


class _Bounds(NamedTuple):
    memory_s: float
    engine_s: Mapping[Engine, float]
    lower_s: float
    no_overlap_s: float
    link_s: float
    bound: str
    analysis: Analysis


class BoundsAnswer(Answer, _Bounds):
    """Seconds of memory, of each engine and of links at data-sheet rates, as in ``roofline.Bounds``.

    ``lower_s`` assumes that everything overlaps, ``no_overlap_s`` that nothing does. ``analysis`` has the counts.
    """

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.bounds(
            Bounds(self.memory_s, dict(self.engine_s), self.lower_s, self.no_overlap_s, self.link_s), self.analysis
        )


class _Predictions(NamedTuple):
    cases: tuple[Prediction, ...]
    gpu: Gpu
    knowledge: str


class PredictionsAnswer(Answer, _Predictions):
    """Bounds and expected times of cases: ``perfmodel predict``. A case that cannot be computed has an ``error``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.predictions(self.cases, self.gpu, self.knowledge)


@dataclass(frozen=True, repr=False, slots=True)
class SweepAnswer(Answer):
    """A workload over ranges of its sizes: ``perfmodel sweep``. Each iteration evaluates the grid in chunks."""

    plan: Plan

    def __iter__(self) -> Iterator[Chunk]:
        return self.plan.chunks()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.sweep(self.plan)
