"""The device that a command measures, with the card that the model uses for it, and the log of a run."""

from __future__ import annotations

import os
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel import writing
from perfmodel.errors import InputError, NoDeviceError
from perfmodel.hardware import Gpu, described, gpu
from perfmodel.measure import environment
from perfmodel.measure.runner import Worker, run
from perfmodel.records import SCHEMA, Stored, key, read, text
from perfmodel.specfile import parse
from perfmodel.stopping import Held


class Device(NamedTuple):
    """``kind`` is cuda or cpu. ``torch`` is set for a GPU. ``description`` is the text of the GPU file of a measured
    processor.
    """

    kind: str
    card: Gpu
    torch: Any = None
    note: str = ""
    description: str = ""


def device(name: str) -> Device:
    """Returns the device to measure. ``auto`` is the GPU of this machine, or this processor if there is no GPU. ``cpu``
    is this processor. Any other name must be the GPU of this machine.
    """
    if name == "cpu":
        return processor("This processor is measured, starting with its peak rates")
    torch = environment.torch_with_gpu()
    if torch is None and name == "auto":
        return processor("No usable GPU was found: this processor is measured, starting with its peak rates")
    if torch is None:
        raise NoDeviceError(
            f"--gpu {name}", "no usable GPU was found", "measuring requires the card, its driver and torch",
            "Run it on a machine with the card, measure this processor with --gpu cpu, or show a stored run with 'perfmodel validate --from FILE'.",
        )  # fmt: skip
    at_hand = torch.cuda.get_device_properties(0).name
    if name == "auto":
        return Device("cuda", environment.card(at_hand), torch)
    wanted = gpu(name)
    if at_hand not in wanted.matches:
        raise NoDeviceError(
            f"--gpu {name}", f"the GPU of this machine is '{at_hand}'", f"{wanted.file} describes {', '.join(wanted.matches) or 'no device name'}",
            "Use --gpu auto.",
        )  # fmt: skip
    return Device("cuda", wanted, torch)


def processor(note: str) -> Device:
    """Returns this processor as a device. Measures its peak rates first."""
    from perfmodel.measure.processor import hardware_file

    contents = hardware_file()
    return Device("cpu", described(parse(contents, "this processor"), "this processor"), None, note, contents)


def made(here: Device) -> dict[str, str]:
    """Returns the date, method and versions of a measurement, for the file that stores it."""
    line = environment.gpu_line(here.torch)["environment"]
    return {
        key: str(line[key])
        for key in ("date", "method", "driver", "cuda", "torch", "cupy")
        if line.get(key) is not None
    }


class Log:
    """The records of a run, by case. They are also appended to a file if a path is given."""

    def __init__(self, path: str | None, here: Device) -> None:
        self.path = path
        self.records: dict[str, Mapping[str, Any]] = {}
        self.environment: Mapping[str, Any] = {}
        self._own = here.card.matches[0] if here.kind == "cpu" else here.torch.cuda.get_device_properties(0).name
        self._end = path and weakref.finalize(self, writing.unlock, writing.lock(path, f"--save {path}"))
        if path is not None and os.path.exists(path) and os.path.getsize(path):
            self._resume(path)

    def _resume(self, path: str) -> None:
        """Reads the records of an earlier run on the same device. Cases that failed are measured again."""
        stored = read(path)
        if stored.environment.get("gpu") != self._own:
            raise InputError(
                f"--save {path}", f"the file has a run on '{stored.environment.get('gpu')}'", f"a run on '{self._own}', or a new file, is accepted",
                "Choose another file.",
            )  # fmt: skip
        self.environment = stored.environment
        self.records = {key(record): record for record in stored.records if "error" not in record}
        rewrite(path, stored._replace(records=tuple(self.records.values())))

    def close(self) -> None:
        """Lets other runs write to the file."""
        if self._end:
            self._end()

    def has(self, case: Mapping[str, Any]) -> bool:
        """Whether the case has been measured."""
        return key(case) in self.records

    def begin(self, line: Mapping[str, Any]) -> None:
        """Writes the environment line, the first line of a new file."""
        if not self.environment:
            self.environment = line["environment"]
            self._append(line)

    def keep(self, record: Mapping[str, Any]) -> None:
        """Stores a record, on disk before the next case starts."""
        self.records[key(record)] = record
        self._append(record)

    def stream(self, probe: Mapping[str, Any] | None) -> None:
        """Adds the times of a stream to the environment line. One stream runs before the cases and one after them."""
        if probe is None:
            return
        self.environment = {**self.environment, "streams": [*self.environment.get("streams", ()), dict(probe)]}
        if self.path is not None:
            rewrite(self.path, Stored(self.path, self.environment, tuple(self.records.values())))

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        writing.append(self.path, f"--save {self.path}", text(line))


def records(
    here: Device, cases: Sequence[Mapping[str, Any]], log: Log, limit_s: float, held: Held | None = None
) -> Generator[Mapping[str, Any], None, None]:
    """Measures the cases one by one. Each record is in the log before it is yielded. A signal that ``held`` lets wait
    ends the wait for an answer.
    """
    if not cases:
        return
    worker = Worker(here.kind, held)
    try:
        worker.start()
        line = worker.environment
        if here.kind == "cpu":
            line = {**line, "environment": {**line["environment"], "card": here.description}}
        log.begin(line)
        log.stream(worker.probe())
        yield from run(worker, cases, log.keep, limit_s, lambda: log.stream(worker.probe()))
    finally:
        worker.stop()


def rewrite(path: str, stored: Stored) -> None:
    """Writes the whole file again."""
    lines = [{"schema": SCHEMA, "environment": dict(stored.environment)}, *stored.records]
    writing.write(path, f"--save {path}", "".join(map(text, lines)))


def with_counters(found: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Returns the records with the hardware counters of each case."""
    from perfmodel.measure.counters import counted

    kept = list(found)
    counts = counted([record for record in kept if "error" not in record])
    return ({**record, **counts.get(key(record), {})} for record in kept)


def trace(cases: Sequence[Mapping[str, Any]], here: Device, path: str) -> str:
    """Writes a trace of one run of every case and returns its path."""
    from perfmodel.measure.trace import write

    return write(cases, here.kind, path)
