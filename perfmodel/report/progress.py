"""A bar on stderr for work that takes its time."""

from __future__ import annotations

from typing import Any


class Bar:
    """How far a piece of work is, drawn from now on until it is closed."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress: Any = Progress(
            console=Console(stderr=True), transient=True, auto_refresh=False
        )  # no thread of its own: it would run beside what is measured
        self._task = self._progress.add_task(what, total=total)
        self._progress.start()

    def at(self, done: int, what: str | None = None) -> None:
        """So much is done; ``what`` is under way now."""
        self._progress.update(self._task, completed=done, refresh=True, **({"description": what} if what else {}))

    def close(self) -> None:
        """Takes the bar away."""
        self._progress.stop()
