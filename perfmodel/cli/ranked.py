"""``validate`` and ``calibrate`` under torchrun. All ranks measure; the first one reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import sleep
from typing import TYPE_CHECKING, Any

from perfmodel.cli import running
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError, PerfmodelError
from perfmodel.hardware import Gpu
from perfmodel.records import Stored

if TYPE_CHECKING:
    from perfmodel.measure.ceilings import Ceiling
    from perfmodel.measure.ranks import Ranks
    from perfmodel.measure.session import Device, Log

SUITE = "collectives"
PARALLEL = "parallel"
SUITES = (SUITE, PARALLEL)


SETTLE_S = 5.0  # processes that leave their GPUs delay the launches of others meanwhile


def started() -> bool:
    """Whether torchrun started this process."""
    from perfmodel.measure.ranks import started as by_torchrun

    return by_torchrun()


def validate(gpu: str | None, suite: str, save: str | None) -> tuple[Stored, Gpu] | None:
    """Measures collectives and steps. Returns the run and its card on the first rank, None on the others."""
    from perfmodel.measure import parallel
    from perfmodel.measure.ranked import records
    from perfmodel.measure.ranks import joined

    with joined(gpu, f"perfmodel validate --suite {suite}") as ranks:
        started = _first(ranks, lambda: _open(ranks, gpu, suite, save))
        waiting = ranks.told(started[2] if started else None)
        for number, record in enumerate(records(ranks, waiting, parallel.maker(_model)), 1):
            if started:
                started[1].keep(record)
                if number % 20 == 0:
                    echo(f"{number} of {len(waiting)} cases", err=True)
        if started is None:
            return None
        here, log, _ = started
        log.close()
        card = here.card if "card" not in log.environment else running.described(Stored("", log.environment, ()))
        return Stored(save or "this run", log.environment, tuple(log.records.values())), card


def _model(*arguments: Any, **options: Any) -> Any:
    """Builds a step of transformers. Every rank loads the package when its first step is built."""
    from perfmodel.capture.models import step

    return step(*arguments, **options)


def calibrate(gpu: str) -> list[Ceiling] | None:
    """Measures the links. Returns them on the first rank, which continues alone, and None on the others."""
    from perfmodel.measure import links
    from perfmodel.measure.ranks import joined

    with joined(gpu, "perfmodel calibrate") as ranks:
        if ranks.first:
            echo("measuring: links", err=True)
        found = list(links.measure(ranks))
        first = ranks.first
    if not first:
        return None
    sleep(SETTLE_S)
    return found


def _first(ranks: Ranks, opened: Any) -> Any:
    """Returns what the first rank opens; None on the others. If it fails, all ranks end."""
    if not ranks.first:
        if ranks.told(None):
            raise SystemExit(1)
        return None
    try:
        found = opened()
    except PerfmodelError:
        ranks.told(True)
        raise
    ranks.told(False)
    return found


def _open(ranks: Ranks, gpu: str | None, suite: str, save: str | None) -> tuple[Device, Log, list[Mapping[str, Any]]]:
    """The device, the log with its environment line, and the cases that are not in it."""
    from perfmodel.measure import collectives, environment, parallel, session

    suites = {SUITE: collectives.suite, PARALLEL: parallel.suite}
    cases: Sequence[Mapping[str, Any]]
    cases = suites[suite](ranks.size, cuda=ranks.cuda) if suite in suites else _cases(ranks, suite)
    here = session.device("cpu" if not ranks.cuda else gpu or "auto")
    line = environment.gpu_line(ranks.torch) if ranks.cuda else environment.cpu_line("torch")
    own: dict[str, Any] = {"ranks": ranks.size}
    if ranks.cuda:
        own["nccl"] = ".".join(map(str, ranks.torch.cuda.nccl.version()))
    else:
        own["card"] = here.description
    log = session.Log(save, here)
    log.begin({**line, "environment": {**line["environment"], **own}})
    return here, log, [case for case in cases if not log.has(case)]


def _cases(ranks: Ranks, path: str) -> list[Mapping[str, Any]]:
    """Cases of a file: collectives of as many ranks as there are, and steps of as many or of one."""
    from perfmodel.case_files import Refused, read
    from perfmodel.measure.parallel import refused
    from perfmodel.patterns import KINDS
    from perfmodel.specfile import read_lines
    from perfmodel.step_cases import StepCase

    found = []
    for case in read(read_lines(path), path):
        if isinstance(case, Refused):
            raise InputError(path, case.error, "cases of 'perfmodel predict' are accepted")
        if isinstance(case, StepCase):
            if error := refused(case, ranks.size):
                raise error
        elif case.op not in KINDS or case.dims["gpus"] != ranks.size:
            raise InputError(
                case.where, f"{case.op} is not measured by {ranks.size} ranks", f"steps, and collectives with gpus = {ranks.size}, are accepted",
                "Change the line, or --nproc_per_node.",
            )  # fmt: skip
        found.append(case.line)
    return found
