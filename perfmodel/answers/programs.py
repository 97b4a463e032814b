"""Programs and their answers for the library: data of ``programs`` with the methods that notebooks need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.answers import Answer
from perfmodel.given import Card, known
from perfmodel.plans.plan import Plan
from perfmodel.programs import run as runs
from perfmodel.programs import sized
from perfmodel.programs.program import Program

if TYPE_CHECKING:
    from perfmodel.report.views import View


class ProgramAnswer(Answer, runs.Answer):
    """A program on a card: rows of its kernels, ``total``, ``peak_byte``."""

    __slots__ = ()

    def _view(self) -> View:
        from perfmodel.report import views

        return views.program(self)

    def plot(self, path: str) -> str:
        """Draws the roofline with the program's kernels as a PNG, SVG or PDF file, and returns its path."""
        from perfmodel.programs.charted import card
        from perfmodel.report.picture import checked, save
        from perfmodel.report.plot import figure

        checked(path, "plot")
        save(figure([card(self)], f"{self.gpu.title}, {self.program.name}, {self.run}"), path, "plot")
        return path


class CapturedProgram(Program):
    """A program that was captured from torch."""

    __slots__ = ()

    def on(
        self, gpu: Card, run: str = "eager", knowledge: str | None = None, *, plan: Plan | None = None, system: str | None = None
    ) -> ProgramAnswer:  # fmt: skip
        """Returns times and memory on a card. ``run`` is eager, graph, compiled or ideal. Sizes that are symbols have the
        values of ``dims``. With a ``plan`` of data parallelism, the program is a step of one of its replicas.
        """
        numbers = sized.at(self, {}) if self.dims else self
        return ProgramAnswer(*runs.on(numbers, known(gpu), run, knowledge, plan=plan, system=system))

    def at(self, **sizes: int) -> CapturedProgram:
        """Returns the program with numbers for its symbols."""
        return CapturedProgram(*sized.at(self, sizes))

    def counts(self) -> sized.Counts:
        """Returns FLOPs, FLOPs of products and bytes: formulas where sizes are symbols."""
        return sized.counts(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self.steps):,} calls>"
