"""A progress bar on stderr."""

from __future__ import annotations

from typing import Any

from perfmodel.errors import printable


class Bar:
    """A progress bar, shown until it is closed."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress: Any = Progress(
            console=Console(stderr=True), transient=True, auto_refresh=False
        )  # no refresh thread: it would disturb measurements
        self._task = self._progress.add_task(what, total=total)
        self._progress.start()

    def at(self, done: int, what: str | None = None) -> None:
        """Updates the bar to ``done``; ``what`` describes the current item."""
        from rich.markup import escape

        words = {"description": escape(printable(what))} if what else {}
        self._progress.update(self._task, completed=done, refresh=True, **words)

    def close(self) -> None:
        """Removes the bar."""
        self._progress.stop()
