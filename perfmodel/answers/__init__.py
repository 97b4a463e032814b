"""The library's answers: each result of a lower layer, with what a notebook and a program ask of it.

An answer is the result itself, so its fields are those of the result. ``Answer`` adds the one-line ``repr``, the HTML
table, LaTeX, JSON and pandas; ``report`` is loaded when one of them is called.
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
    """What every answer offers besides its fields."""

    __slots__ = ()

    def _view(self) -> View:
        """How ``report`` shows this kind of answer."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._view().line}>"

    def _repr_html_(self) -> str:
        """The command's table, for a notebook."""
        return self._view().html()

    def _repr_latex_(self) -> str | None:
        """The formulas, for a notebook; None for an answer in numbers."""
        return self._view().latex()

    def to_json(self) -> str:
        """The text that the command prints with ``--format json``; of a sweep, what it writes to FILE.jsonl."""
        return self._view().json()

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame, raw values under the keys of ``--format csv``."""
        return self._view().frame()


class AnalysisAnswer(Answer, Analysis):
    """Counts, bounds and times of every kernel: ``perfmodel flops``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.analysis(self)


class MemoryAnswer(Answer, Memory):
    """What a workload takes of each GPU's memory: ``perfmodel memory``."""

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
    bound: str
    analysis: Analysis


class BoundsAnswer(Answer, _Bounds):
    """Seconds of memory and of each engine at data-sheet rates: those of ``roofline.Bounds``.

    ``lower_s`` assumes that all overlap, ``no_overlap_s`` that nothing does; ``analysis`` has the counts.
    """

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.bounds(Bounds(self.memory_s, dict(self.engine_s), self.lower_s, self.no_overlap_s), self.analysis)


class _Predictions(NamedTuple):
    cases: tuple[Prediction, ...]
    gpu: Gpu
    knowledge: str


class PredictionsAnswer(Answer, _Predictions):
    """Bounds and expected times of cases: ``perfmodel predict``. A case that cannot be done has an ``error``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.predictions(self.cases, self.gpu, self.knowledge)


@dataclass(frozen=True, repr=False, slots=True)
class SweepAnswer(Answer):
    """A workload over ranges of its sizes: ``perfmodel sweep``. Each iteration evaluates the grid, chunk by chunk."""

    plan: Plan

    def __iter__(self) -> Iterator[Chunk]:
        return self.plan.chunks()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.sweep(self.plan)
