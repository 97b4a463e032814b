"""The answer of ``perfmodel serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.answers import Answer
from perfmodel.service.answer import Service

if TYPE_CHECKING:
    from perfmodel.report.views import View


class ServiceAnswer(Answer, Service):
    """A model served on GPUs, with a formula for every figure: ``perfmodel serve``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import service

        return service.view(self)
