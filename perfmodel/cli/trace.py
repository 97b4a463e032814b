"""``perfmodel trace``: the parts of a profiled step, its kernels compared with their bounds, and suggested changes."""

from __future__ import annotations

import re

import click

from perfmodel import writing
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError, UsageError, one_line, shown
from perfmodel.hardware import gpu as read_gpu
from perfmodel.units import SECONDS

_TIME = re.compile(r"(\d+\.?\d*(?:e[-+]?\d{1,2})?) ?(s|ms|us|µs|)")
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
ENDINGS = {"html": (".html", ".htm"), "json": (".json",)}


@command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@options.gpu
@options.knowledge
@options.formats("table", "json", "html")
@click.option(
    "-o", "--output", metavar="FILE", help="Write the answer to a file. An ending .html or .json sets the format."
)
@click.option("--unprofiled", metavar="SECONDS", help="Time of the step without the profiler: 0.0574, or 57.4ms.")
@click.option("--step", "name", metavar="NAME", help="Range that is the step, as record_function names it. "
              "[default: the last ProfilerStep#N, or the whole file]")  # fmt: skip
def trace(
    files: tuple[str, ...], gpu: str | None, knowledge: str | None, form: str, output: str | None, unprofiled: str | None,
    name: str | None,
) -> None:  # fmt: skip
    """The time of a program by kernel, from a trace of torch.profiler.

    FILE is what export_chrome_trace writes, plain or compressed with gzip. Several files are the ranks of one program.
    Record with activities=[CPU, CUDA] and record_shapes=True. Without shapes, and in a CUDA graph, operations and sizes
    are inferred from the names and grids of the kernels.

    The step is taken apart into kernels, communication and two kinds of idle time. Every kernel gets the operation that it
    computes, its lower bound and its expected time. The advice is ranked by the seconds that it saves.

    \b
    perfmodel trace step.json.gz --gpu h100
    perfmodel trace rank0.json.gz rank1.json.gz --gpu h100 --format html -o step.html
    perfmodel trace step.json.gz --step ProfilerStep#3 --unprofiled 57.4ms --format json
    """
    from perfmodel.report.trace import render
    from perfmodel.traces.tracing import trace as read

    where = "perfmodel trace"
    if output is not None:
        form = _form(output, form)
        writing.checked(output, f"{where} -o")
    elif form == "html":
        raise UsageError(where, "--format html is given without -o", "a page is written to a file", "Add -o FILE.html.")
    unprofiled_s = time_from_text(unprofiled, "--unprofiled") if unprofiled is not None else None
    found = read(files, read_gpu(gpu) if gpu else None, knowledge=knowledge, unprofiled_s=unprofiled_s, name=name)
    if found.gpu is None:
        echo(
            f"{where}: no GPU file matches the trace's device, so there are no bounds and times. Name one with --gpu.",
            err=True,
        )
    written = render(found, form)
    if output is None:
        echo(written, nl=False)
        return
    replaced = writing.foreign(output)
    with writing.replacing(output, f"{where} -o") as file:
        file.write(written.encode())
    if replaced:
        echo(replaced, err=True)
    echo(f"Wrote {one_line(output)}.")


def _form(path: str, form: str) -> str:
    """The format of a file, from its ending or from --format; the two must agree."""
    ending = next((name for name, endings in ENDINGS.items() if path.lower().endswith(endings)), None)
    if ending and form not in ("table", ending):
        raise UsageError(
            f"perfmodel trace -o {shown(path)}", f"--format {form} is given", f"the ending means {ending}",
            "Change the ending or leave out --format.",
        )  # fmt: skip
    return ending or form


def time_from_text(text: str, where: str) -> float:
    """A time in seconds: a plain number, or a number with s, ms or us."""
    found = _TIME.fullmatch(text.strip()[:40])
    if not found:
        raise InputError(
            where, f"{shown(text)} is not a time", "seconds are accepted: 0.0574, or 57.4ms", "Correct it."
        )
    seconds = float(found[1]) * _UNITS[found[2]]
    SECONDS.checked(seconds, where)
    return seconds
