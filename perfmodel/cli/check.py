"""``perfmodel check``: whether measured kernels reach a share of their bound, for continuous integration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from perfmodel import paths
from perfmodel.cli import options, running
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError, NoDeviceError, UsageError, ValidationError, shown
from perfmodel.hardware import Gpu
from perfmodel.hardware import gpu as read_gpu

if TYPE_CHECKING:
    from perfmodel.checking import Checked, Judged, Limit

WHERE = "perfmodel check"
CASE_LIMIT_S = 60
HEAD_BYTE = 1 << 16  # of a file, which tell the JSON of 'perfmodel trace' from a profiler trace


@command()
@click.option("--cases", metavar="FILE", help="Case file to measure on this machine. '-' reads standard input.")
@click.option(
    "--from",
    "stored",
    metavar="FILE",
    help="Measured kernels: a file of 'validate --save', or cases with 'measured_us'.",
)
@click.option("--trace", metavar="FILE", help="Profiler trace, or the JSON of 'perfmodel trace'.")
@options.gpu_option(
    metavar="auto|cpu|GPU",
    help="Device of the measurements: a name from 'perfmodel gpus', or a YAML file. [default: auto]",
)
@click.option(
    "--min", "share", metavar="SHARE", required=True, help="Share that every kernel must reach, such as 0.8 or 80%."
)
@click.option(
    "--of",
    type=click.Choice(("bound", "expected")),
    default="bound",
    show_default=True,
    help="The share is of the bound (the fastest possible time) or of the expected time.",
)
@click.option(
    "--only", metavar="PATTERN", multiple=True,
    help="Check the kernels whose name, operation or module matches, such as 'softmax*'. May be repeated.",
)  # fmt: skip
@click.option("--allow-unknown", is_flag=True, help="Kernels without a verdict do not fail the check.")
@options.formats("table", "json", "csv", "markdown")
def check(
    cases: str | None, stored: str | None, trace: str | None, gpu: str | None, share: str, of: str, only: tuple[str, ...],
    allow_unknown: bool, form: str,
) -> None:  # fmt: skip
    """Checks that every measured kernel reaches a share of its bound, or of its expected time.

    The exit code is 0 if all kernels reach it and 3 if one does not. A kernel has no verdict if it has no measured time
    or no bound, or if the limit lies between its quartiles. No verdict is not a pass: the exit code is 3, unless
    --allow-unknown is given and another kernel passes. The worst kernels are listed first.

    \b
    perfmodel check --cases kernels.jsonl --min 0.8
    perfmodel check --from run.jsonl --gpu h100 --min 80%
    perfmodel check --trace trace.json.gz --gpu h100 --only 'softmax*' --min 0.9 --of expected
    """
    sources = {"--cases": cases, "--from": stored, "--trace": trace}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        told = f"{' and '.join(given)} are given" if given else "no measurements are named"
        raise UsageError(WHERE, told, "one of --cases, --from and --trace is accepted", "Name one of them.")
    from perfmodel.checking import checked, limit, selected
    from perfmodel.report.checks import render

    wanted = limit(share, of, "--min")
    if trace is not None:
        kernels, card = _traced(trace, gpu, wanted)
    else:
        kernels, card = _stored(str(stored), gpu, wanted) if stored is not None else _measured(str(cases), gpu, wanted)
    found = checked(selected(kernels, only), wanted, allow_unknown=allow_unknown)
    echo(render(found, card, form), nl=False)
    if not found.passed:
        echo(str(failure(found)), err=True)
        sys.exit(ValidationError.exit_code)


def failure(found: Checked) -> ValidationError:
    """Returns the message of a check that did not pass."""
    from perfmodel.report.checks import counts_line, reached_line

    told = f"of {len(found.kernels)} kernels, {counts_line(found).rstrip('.')}"
    accepted = f"every kernel must reach {found.limit}"
    if found.count("unknown") and not found.count("fail"):
        accepted += (
            "; --allow-unknown needs a kernel that passes" if found.allow_unknown else " or --allow-unknown be given"
        )
    return ValidationError(WHERE, told, accepted, f"Begin with {reached_line(found.kernels[0])}.")


def _stored(path: str, gpu: str | None, wanted: Limit) -> tuple[list[Judged], Gpu]:
    """Returns the verdicts on stored measurements, and the card on which they were measured."""
    from perfmodel.checking import of_records
    from perfmodel.records import read

    run = read(path, bare=True)
    if not run.records:
        raise InputError(path, "it contains no kernel", "one JSON object per line is accepted", "Add a line.")
    if not run.environment and gpu in (None, "auto"):
        raise InputError(
            path, "it does not say on which GPU it was measured", "a name from 'perfmodel gpus' is accepted",
            "Name the GPU with --gpu.",
        )  # fmt: skip
    own = "card" in run.environment and gpu == "cpu"
    card = running.described(run) if own else running.card_of(run, gpu)
    measured_on = run.environment.get("gpu")
    if measured_on is not None and card.matches and measured_on not in card.matches:
        raise _other_gpu(f"{path}:1", measured_on, card)
    return of_records(run.records, card, wanted, run.environment), card


def _measured(cases: str, gpu: str | None, wanted: Limit) -> tuple[list[Judged], Gpu]:
    """Measures the cases, each in the process of ``validate``, and returns the verdicts."""
    from perfmodel.checking import of_records
    from perfmodel.measure import session
    from perfmodel.measure.environment import torch_with_gpu

    path = cases if cases == "-" else paths.cases(cases)
    lines = running.cases(path, "standard input" if path == "-" else path)
    if gpu in (None, "auto") and torch_with_gpu() is None:
        raise NoDeviceError(
            WHERE, "no usable GPU was found", "measuring requires a GPU, its driver and torch",
            "Check this processor with --gpu cpu, or stored measurements with --from.",
        )  # fmt: skip
    here = session.device(gpu or "auto")
    if here.note:
        echo(f"{here.note}.", err=True)
    run, complete = running.run(here, lines, None, CASE_LIMIT_S)
    if not complete:
        sys.exit(130)
    return of_records(run.records, here.card, wanted, run.environment), here.card


def _traced(path: str, gpu: str | None, wanted: Limit) -> tuple[list[Judged], Gpu]:
    """Returns the verdicts on the kernels of a trace, and its card."""
    from perfmodel.checking import of_trace

    asked = None if gpu in (None, "auto") else read_gpu(str(gpu))
    found = _document(path)
    if found is None:
        return _profiled(path, asked, wanted)
    named = found.get("gpu")
    known = named.get("name") if isinstance(named, dict) else None
    if known is None and asked is None:
        raise _unknown_gpu(path)
    card = asked or read_gpu(str(known))
    if known is not None and card.name != known:
        raise InputError(
            path,
            f"its bounds are those of {shown(known)}",
            f"--gpu {card.name} is given",
            "Create it again with --gpu.",
        )
    return of_trace(found, wanted, path), card


def _profiled(path: str, card: Gpu | None, wanted: Limit) -> tuple[list[Judged], Gpu]:
    """Returns the verdicts on the kernels of a profiler's trace, and its card: by default the one that it ran on."""
    from perfmodel.checking import of_rows
    from perfmodel.traces.tracing import trace
    from perfmodel.validation import card_of

    found = trace([path], card)
    device = found.main.device
    if found.gpu is None:
        card = card_of({"gpu": device})
        if card is None:
            raise _unknown_gpu(path)
        found = trace([path], card)
    card = card or found.gpu
    assert card is not None
    if device and card.matches and device not in card.matches:
        raise _other_gpu(path, device, card)
    return of_rows(found.main.rows, wanted, path), card


def _unknown_gpu(path: str) -> InputError:
    return InputError(path, "its GPU is not known", "a name from 'perfmodel gpus' is accepted", "Add --gpu.")


def _other_gpu(where: str, device: object, card: Gpu) -> InputError:
    return InputError(
        where, f"these kernels were measured on {shown(device)}", f"--gpu {card.name} describes {card.matches[0]}",
        "Use --gpu auto.",
    )  # fmt: skip


def _document(path: str) -> dict[str, Any] | None:
    """The JSON of 'perfmodel trace'; None for a profiler trace."""
    from perfmodel.specfile import read_lines
    from perfmodel.strictjson import parsed

    text = "".join(read_lines(path)) if _is_document(path) else ""
    accepted = "the JSON of 'perfmodel trace' is accepted"
    return parsed(text, path, accepted, "Create the file again.") if text else None


def _is_document(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTE)
    except OSError:
        return False  # whoever reads it says why
    return head.lstrip().startswith(b"{") and b'"kernels"' in head and b'"traceEvents"' not in head
