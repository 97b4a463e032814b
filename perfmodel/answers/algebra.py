"""Answers in formulas, apart from those in numbers: these load sympy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.answers import Answer
from perfmodel.formulas import Formulas
from perfmodel.solve import Solution

if TYPE_CHECKING:
    from perfmodel.report.views import View


class SolutionAnswer(Answer, Solution):
    """Where memory-bound turns compute-bound: ``perfmodel solve``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.solution(self)


class FormulasAnswer(Answer, Formulas):
    """Counts and bytes as sympy expressions: ``perfmodel flops --symbolic``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.formulas(self)
