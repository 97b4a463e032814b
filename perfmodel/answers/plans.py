"""Answers of plans: one estimate, the scaling of a plan, and the search for the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perfmodel.answers import Answer
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.scaling import Scaling
from perfmodel.plans.search import Found
from perfmodel.plans.step import Model

if TYPE_CHECKING:
    from perfmodel.report.views import View


class _Estimate(NamedTuple):
    model: Model
    estimate: Estimate


class EstimateAnswer(Answer, _Estimate):
    """Time and memory of one step under a plan."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import plans

        return plans.estimate_view(self.model, self.estimate)


class ScaleAnswer(Answer, Scaling):
    """Speed-up and efficiency over the number of GPUs: ``perfmodel scale``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import plans

        return plans.scaling_view(self)


class PlanAnswer(Answer, Found):
    """The best plans on a number of GPUs: ``perfmodel plan``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import plans

        return plans.search_view(self)
