"""Work limits: the largest input of each kind that a command accepts, and the longest time of symbolic algebra.

Every loop whose length comes from an input has its limit here, or in the size of the file that lists its items. The
limits are far above real use. They end a mistyped or hostile input with a message, after seconds and within 1 GB.
"""

from __future__ import annotations

import threading
from _thread import interrupt_main
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from signal import SIGINT, getsignal, signal
from typing import Any, NamedTuple, TypeVar

from perfmodel.errors import InputError

Item = TypeVar("Item")


class Limit(NamedTuple):
    """The largest accepted number of something, what it is, where it applies, and what to do when there are more."""

    most: int
    noun: str
    applies: str
    action: str

    def check(self, number: int, where: str) -> None:
        """Raises InputError if the number is larger."""
        if number > self.most:
            raise InputError(where, f"{number:,} {self.noun}", f"at most {self.most:,} are accepted", self.action)

    def counted(self, items: Iterable[Item], where: str) -> Iterator[Item]:
        """Yields the items, and raises InputError at the first one too many."""
        for number, item in enumerate(items, 1):
            if number > self.most:
                found = f"more than {self.most:,} {self.noun}"
                raise InputError(where, found, f"at most {self.most:,} are accepted", self.action)
            yield item


STEPS = Limit(2_000, "steps", "a workload", "Give steps that are alike one line with 'repeat'.")
CASES = Limit(100_000, "cases", "a file of cases or measurements", "Split the file.")
POINTS = Limit(10**9, "points", "a sweep, over all GPUs", "Write fewer values, such as N=1:1M:1000.")
EXPECTED = Limit(10**7, "points with expected times", "`sweep --expected`, over all GPUs",
                 "Write fewer values, such as N=1:1M:1000, or leave --expected out.")  # fmt: skip
WORKLOADS = Limit(128, "workloads", "one command", "Run the command again for the others.")
GPUS = Limit(64, "GPUs", "one command", "Run the command again for the others.")
CHART = Limit(7, "GPUs", "a roofline picture, which has as many colours", "Draw several pictures.")
PAIRS = Limit(128, "pairs of a workload and a GPU", "`compare`", "Compare fewer workloads or GPUs at once.")
COUNTED = (STEPS, CASES, POINTS, EXPECTED, WORKLOADS, GPUS, CHART, PAIRS)

ALGEBRA_S = 20.0  # of `solve`, `explain OP` and `flops --symbolic`


class Expired(BaseException):
    """Raised in the main thread when its time is over. No handler of other errors catches it."""


@contextmanager
def algebra(where: str) -> Iterator[None]:
    """Ends algebra after its longest time, as an InputError. The time of algebra cannot be known from its input.

    A timer interrupts the main thread. In other threads there is no limit.
    """
    before = getsignal(SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    clock = _Clock(ALGEBRA_S, before)
    try:
        with clock:
            yield
    except Expired:
        raise InputError(
            where, f"the formulas of these sizes take longer than {clock.seconds:g} s",
            f"sizes whose algebra takes at most {clock.seconds:g} s are accepted",
            "Set sizes to numbers or to shorter expressions, or use 'perfmodel sweep'.",
        ) from None  # fmt: skip
    finally:
        signal(SIGINT, before)


class _Clock:
    """Raises Expired in the main thread after some seconds, unless its block ends before."""

    def __init__(self, seconds: float, before: Any) -> None:
        self.seconds, self._before = seconds, before
        self._expired = self._over = False
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True

    def __enter__(self) -> None:
        signal(SIGINT, self._interrupted)
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._timer.cancel()
        self._timer.join()

    def _ring(self) -> None:
        if not self._over:
            self._expired = True
            interrupt_main()

    def _interrupted(self, number: int, frame: Any) -> None:
        """Handles the timer's interrupt, or Ctrl-C as before."""
        if self._expired:
            if not self._over:
                raise Expired
        elif callable(self._before):
            self._before(number, frame)
