"""The device that a command measures: the GPU at hand, or this processor, and the card that the model takes it for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.errors import InputError, NoDeviceError
from perfmodel.hardware import Gpu, described, gpu
from perfmodel.measure import environment
from perfmodel.measure.runner import Worker, run
from perfmodel.records import SCHEMA, Stored, key, read, text
from perfmodel.specfile import parse


class Device(NamedTuple):
    """``kind`` is cuda or cpu; ``torch`` where a GPU was found, the file's text where a processor was measured."""

    kind: str
    card: Gpu
    torch: Any = None
    note: str = ""
    description: str = ""


def device(name: str) -> Device:
    """``auto``: the GPU at hand, or this processor where there is none; ``cpu``: this processor; else that GPU."""
    if name == "cpu":
        return processor("This processor is measured, and its roofs first")
    torch = environment.torch_with_gpu()
    if torch is None and name == "auto":
        return processor("No usable GPU was found: this processor is measured, and its roofs first")
    if torch is None:
        raise NoDeviceError(
            f"--gpu {name}", "no usable GPU was found", "the card itself, a driver and torch are needed to measure it",
            "Run it on that machine, use --gpu cpu to measure this one, or --from FILE to read a stored run.",
        )  # fmt: skip
    at_hand = torch.cuda.get_device_properties(0).name
    if name == "auto":
        return Device("cuda", environment.card(at_hand), torch)
    wanted = gpu(name)
    if at_hand not in wanted.matches:
        raise NoDeviceError(
            f"--gpu {name}", f"the card here is '{at_hand}'", f"{', '.join(wanted.matches) or 'none'} is what {wanted.file} describes",
            "Use --gpu auto.",
        )  # fmt: skip
    return Device("cuda", wanted, torch)


def processor(note: str) -> Device:
    """This processor, its roofs measured on the spot."""
    from perfmodel.measure.processor import hardware_file

    contents = hardware_file()
    return Device("cpu", described(parse(contents, "this processor"), "this processor"), None, note, contents)


def made(here: Device) -> dict[str, str]:
    """Where a measurement was made, for the file that keeps it."""
    line = environment.gpu_line(here.torch)["environment"]
    return {
        key: str(line[key])
        for key in ("date", "method", "driver", "cuda", "torch", "cupy")
        if line.get(key) is not None
    }


class Log:
    """The records of a run: kept by case, and appended to a file as they come where one is named."""

    def __init__(self, path: str | None, here: Device) -> None:
        self.path = path
        self.records: dict[str, Mapping[str, Any]] = {}
        self.environment: Mapping[str, Any] = {}
        self._own = here.card.matches[0] if here.kind == "cpu" else here.torch.cuda.get_device_properties(0).name
        if path is not None and os.path.exists(path) and os.path.getsize(path):
            self._resume(path)

    def _resume(self, path: str) -> None:
        """Takes over what a file of the same device holds; cases that failed are tried again."""
        stored = read(path)
        if stored.environment.get("gpu") != self._own:
            raise InputError(
                f"--save {path}", f"it holds a run on '{stored.environment.get('gpu')}'", f"a file of '{self._own}', or a new one, is accepted",
                "Name another file.",
            )  # fmt: skip
        self.environment = stored.environment
        self.records = {key(record): record for record in stored.records if "error" not in record}
        rewrite(path, stored._replace(records=tuple(self.records.values())))

    def has(self, case: Mapping[str, Any]) -> bool:
        """Whether the case was measured already."""
        return key(case) in self.records

    def begin(self, line: Mapping[str, Any]) -> None:
        """The environment line, first of a new file."""
        if not self.environment:
            self.environment = line["environment"]
            self._append(line)

    def keep(self, record: Mapping[str, Any]) -> None:
        """A record, on the disk before the next case begins."""
        self.records[key(record)] = record
        self._append(record)

    def stream(self, probe: Mapping[str, Any] | None) -> None:
        """Adds the times of a stream to the environment line: between two of them lie the cases of a run."""
        if probe is None:
            return
        self.environment = {**self.environment, "streams": [*self.environment.get("streams", ()), dict(probe)]}
        if self.path is not None:
            rewrite(self.path, Stored(self.path, self.environment, tuple(self.records.values())))

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text(line))
        except OSError as error:
            raise InputError(
                f"--save {self.path}", f"it cannot be written ({error.strerror or error})", "a path that can be written is accepted",
                "Name another file.",
            ) from None  # fmt: skip


def records(here: Device, cases: Sequence[Mapping[str, Any]], log: Log, limit_s: float) -> Iterator[Mapping[str, Any]]:
    """Measures case after case; each is in the log before it is told."""
    if not cases:
        return
    worker = Worker(here.kind)
    worker.start()
    line = worker.environment
    if here.kind == "cpu":
        line = {**line, "environment": {**line["environment"], "card": here.description}}
    log.begin(line)
    log.stream(worker.probe())
    yield from run(worker, cases, log.keep, limit_s, lambda: log.stream(worker.probe()))


def rewrite(path: str, stored: Stored) -> None:
    """The whole file anew."""
    lines = [{"schema": SCHEMA, "environment": dict(stored.environment)}, *stored.records]
    beside = f"{path}.part"
    with open(beside, "w", encoding="utf-8") as file:
        file.writelines(text(line) for line in lines)
    os.replace(beside, path)


def with_counters(found: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The records with what the card's counters say of each."""
    from perfmodel.measure.counters import counted

    kept = list(found)
    counts = counted([record for record in kept if "error" not in record])
    return ({**record, **counts.get(key(record), {})} for record in kept)


def trace(cases: Sequence[Mapping[str, Any]], here: Device, path: str) -> str:
    """A trace of one run of every case."""
    from perfmodel.measure.trace import write

    return write(cases, here.kind, path)
