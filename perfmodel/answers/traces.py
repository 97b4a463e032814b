"""The answer to a profiler trace, in a separate module because it imports the rules of all torch operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.answers import Answer
from perfmodel.traces.tracing import Traced

if TYPE_CHECKING:
    from perfmodel.report.views import View


class TraceAnswer(Answer, Traced):
    """A profiler trace: the parts of its step, its kernels and suggested changes: ``perfmodel trace``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.traced(self)

    def to_html(self) -> str:
        """Returns the page of ``--format html``: one document that needs no network."""
        from perfmodel.report.trace import render

        return render(self, "html")
