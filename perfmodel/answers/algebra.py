"""Answers in formulas. They are in a module of their own because they import sympy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.answers import Answer
from perfmodel.formulas import Formulas
from perfmodel.solve import Solution

if TYPE_CHECKING:
    from perfmodel.report.views import View


class SolutionAnswer(Answer, Solution):
    """The sizes at which the bottleneck turns from memory to compute: ``perfmodel solve``."""

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
