"""Functions that ``validate`` and ``check`` share: stored runs, case files, and a new run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from perfmodel.cli.screen import echo
from perfmodel.errors import InputError
from perfmodel.hardware import Gpu
from perfmodel.records import Stored
from perfmodel.stopping import Held


def card_of(run: Stored, gpu: str | None) -> Gpu:
    """Returns the card on which a stored run was measured, or the one that ``--gpu`` names."""
    from perfmodel.hardware import gpu as read_gpu
    from perfmodel.validation import card_of as known_card

    if gpu not in (None, "auto"):
        return read_gpu(str(gpu))
    if "card" in run.environment:
        return described(run)
    known = known_card(run.environment)
    if known is None:
        raise InputError(
            f"{run.file}:1", f"no single GPU file describes '{run.environment.get('gpu')}'",
            "a name from 'perfmodel gpus' is accepted",
            "Name the GPU with --gpu.",
        )  # fmt: skip
    return known


def described(run: Stored) -> Gpu:
    """Returns the processor's own card file, which is stored with its run."""
    from perfmodel.hardware import described as read
    from perfmodel.specfile import parse

    where = f"{run.file or 'this run'}:1"
    return read(parse(str(run.environment["card"]), where), where)


def cases(path: str, name: str) -> list[Mapping[str, Any]]:
    """Returns the cases of a file. A line that cannot be read is refused before anything is measured."""
    from perfmodel.case_files import Refused
    from perfmodel.case_files import read as read_cases
    from perfmodel.measure.workloads import refused
    from perfmodel.specfile import read_lines
    from perfmodel.step_cases import StepCase

    found = []
    for case in read_cases(read_lines(path), name):
        if isinstance(case, Refused):
            raise InputError(*_split(case.error))
        if isinstance(case, StepCase):
            raise InputError(
                case.where, "a step is measured by several ranks", "cases of one operation are accepted",
                "Run 'torchrun --nproc_per_node 2 -m perfmodel validate --suite FILE'.",
            )  # fmt: skip
        if error := refused(case):
            raise error
        found.append(case.line)
    if not found:
        raise InputError(name, "it contains no case", "one JSON object per line is accepted", "Add a line.")
    return found


def _split(message: str) -> tuple[str, str, str, str]:
    """Returns the place, the rest without its last sentence, and this sentence, which says what to do."""
    where, _, rest = message.partition(": ")
    found, _, action = rest.removesuffix(".").rpartition(". ")
    return (where, found, "", f"{action}.") if found else (where, action, "", "")


def run(here: Any, cases: Sequence[Mapping[str, Any]], save: str | None, limit: float) -> tuple[Stored, bool]:
    """Measures the cases that are not in the file yet. An interruption keeps what has been measured.

    Signals wait while records are written and processes are started, so that nothing is left half done.
    """
    from perfmodel.measure import session

    log, complete = None, True
    try:
        with Held() as held:
            log = session.Log(save, here)
            try:
                _measured(here, cases, log, limit, held)
            finally:
                log.close()
    except KeyboardInterrupt:
        if log is None:
            raise
        complete = False
        echo(f"interrupted; {len(log.records)} cases were measured" + (f" and are in {save}" if save else ""), err=True)
    return Stored(save or "this run", log.environment, tuple(_in_order(cases, log.records))), complete


def _measured(here: Any, cases: Sequence[Mapping[str, Any]], log: Any, limit: float, held: Held) -> None:
    """Measures the cases that are not in the log yet, with a progress bar on a terminal."""
    from perfmodel.measure import session
    from perfmodel.report.progress import Bar
    from perfmodel.validation import described as title

    waiting = [case for case in cases if not log.has(case)]
    if len(waiting) < len(cases):
        echo(f"{len(cases) - len(waiting)} of {len(cases)} cases are already in {log.path}", err=True)
    bar = Bar("cases", len(waiting)) if sys.stderr.isatty() and waiting else None
    try:
        with closing(session.records(here, waiting, log, limit, held)) as found:
            for number, record in enumerate(found, 1):
                if bar is not None:
                    bar.at(number, title(record))
    finally:
        if bar is not None:
            bar.close()


def _in_order(cases: Iterable[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    from perfmodel.records import key

    return [records[key(case)] for case in cases if key(case) in records]
