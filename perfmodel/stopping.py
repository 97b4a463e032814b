"""Signals that stop a run: Ctrl-C (SIGINT), SIGTERM and SIGHUP.

A handler raises an exception between any two instructions of the main thread. Inside ``queue``, ``threading`` or
``subprocess`` this can leave a lock taken, on which the program then waits for ever. Inside an import or a callback,
Python can replace the exception by another one, or print it and go on. ``raising`` notes each signal, so that none is
lost. ``Held`` makes the signals wait where other threads and processes are used.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from _thread import interrupt_main, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN_S = 0.001  # until a lost exception is raised again


class Stopped(BaseException):
    """Raised on SIGTERM and SIGHUP, so that partly written files are removed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class Received:
    """The signal that stops the run, once it has arrived. ``done`` lets later ones pass without effect."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.done = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: notes it and raises its exception."""
        if self.done:
            return
        self.number = self.number or number
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


def stopping() -> list[int]:
    """Returns the signals that stop a run. Only the main thread receives them. ``nohup`` lets a run ignore SIGHUP, which
    Windows does not have. A handler that was not set from Python cannot be restored.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextmanager
def raising() -> Iterator[Received]:
    """Raises KeyboardInterrupt or Stopped in the main thread when a signal arrives, and notes the signal."""
    received, before, hook = Received(), {number: signal.getsignal(number) for number in stopping()}, sys.unraisablehook
    try:
        sys.unraisablehook = _raising_again(hook)
        for number in before:
            signal.signal(number, received.handle)
        yield received
    finally:
        received.done = True
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _raising_again(before: Callable[[Any], object]) -> Callable[[Any], object]:
    """Returns a hook for exceptions that Python would print and forget, such as one in the callback of a weak reference.
    A signal's exception is raised again after the callback.
    """

    def hook(lost: Any) -> None:
        if not issubclass(lost.exc_type, (KeyboardInterrupt, Stopped)):
            before(lost)
            return
        number = lost.exc_value.signal if isinstance(lost.exc_value, Stopped) else signal.SIGINT
        start_new_thread(_raise_later, (signal.Signals(number),))

    return hook


def _raise_later(number: signal.Signals) -> None:
    time.sleep(AGAIN_S)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)  # also ends a wait
    else:
        interrupt_main(number)


class Held:
    """Lets signals wait until ``check`` or the end of the block. The handlers from before the block then receive them."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Held:
        self._before = {number: signal.getsignal(number) for number in stopping()}
        for number in self._before:
            signal.signal(number, self._wait)
        return self

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal waits, to end the block."""
        if self._number is not None:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        for number, handler in reversed(self._before.items()):  # SIGINT last, so that a second one waits as well
            signal.signal(number, handler)
        if self._number is not None:
            signal.raise_signal(self._number)
