"""Runs many cases in a worker process, each within a time limit. Every record is stored before the next case starts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import IO, Any

from perfmodel.errors import NoDeviceError
from perfmodel.measure.child import command
from perfmodel.records import SCHEMA, case_of
from perfmodel.stopping import Held
from perfmodel.strictjson import dumped

START_LIMIT_S = 120.0
CASE_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0  # a killed process may wait for a driver
CHECK_S = 0.2  # between two checks for a signal while a case is measured
PROBE = {"probe": "stream"}  # requests the time of a stream instead of a case


class Worker:
    """The process that measures. A new one is started if it has died or was stopped.

    NB inside a block of ``held``, a signal ends the wait for an answer and nothing else. Elsewhere it may leave a lock of
    ``subprocess`` taken, so that ``stop`` waits for ever.
    """

    def __init__(self, device: str, held: Held | None = None) -> None:
        self.device = device
        self._held = held or Held()
        self.environment: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        self._answers: SimpleQueue[str | None] = SimpleQueue()

    def start(self) -> None:
        """Starts the process and reads its environment line."""
        self._process = subprocess.Popen(
            command("perfmodel.measure.worker", self.device),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        self._answers = SimpleQueue()
        assert self._process.stdout is not None
        Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True).start()
        try:
            first = self._answer(START_LIMIT_S)
        except Empty:
            first = None
        if first is None or "failed" in first:
            self.stop()
            found = first["failed"] if first else "the measuring process did not start"
            raise NoDeviceError(
                self.device, found, "a device that torch can use is accepted", "Try 'python -c \"import torch\"'."
            )
        self.environment = first

    def measure(self, line: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """Returns the record of a case, or a record with an error if the process failed."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        error = "the measuring process died"
        try:
            print(dumped(dict(line)), file=self._process.stdin, flush=True)
            found = self._answer(limit_s)
            if found is not None:
                return found
        except BrokenPipeError:
            pass
        except Empty:
            error = f"it took longer than {limit_s:g} s"
        self.stop()
        return {"schema": SCHEMA, **case_of(line), "error": error}

    def probe(self, limit_s: float = CASE_LIMIT_S) -> dict[str, Any] | None:
        """Returns the record of one stream, or None if it failed."""
        found = self.measure(PROBE, limit_s)
        return None if "error" in found else found

    def _answer(self, limit_s: float) -> dict[str, Any] | None:
        """Returns the next record, or None if the process has ended. Raises ``Empty`` if no answer arrives within the
        limit, and KeyboardInterrupt if a signal arrives first.
        """
        end = monotonic() + limit_s
        while True:
            self._held.check()
            left = max(0.0, end - monotonic())
            try:
                text = self._answers.get(timeout=min(left, CHECK_S))
            except Empty:
                if left <= CHECK_S:
                    raise
            else:
                return json.loads(text) if text else None

    def stop(self) -> None:
        """Kills the process."""
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
                for pipe in (self._process.stdin, self._process.stdout):
                    with suppress(OSError):  # the other end is gone
                        assert pipe is not None
                        pipe.close()
        self._process = None


def _pass_on(lines: IO[str], queue: SimpleQueue[str | None]) -> None:
    """Puts lines into the queue as they arrive, and None at the end."""
    try:
        for text in lines:
            queue.put(text)
    except ValueError:  # closed while it was read
        pass
    queue.put(None)


def run(
    worker: Worker,
    cases: Iterable[Mapping[str, Any]],
    keep: Callable[[Mapping[str, Any]], None],
    limit_s: float = CASE_LIMIT_S,
    last: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Yields records in the order of the cases. ``keep`` is called with each record before the next case starts, and
    ``last`` after all cases.
    """
    try:
        for line in cases:
            record = worker.measure(line, limit_s)
            keep(record)
            yield record
        last()
    finally:
        worker.stop()
