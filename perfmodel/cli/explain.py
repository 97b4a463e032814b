"""``perfmodel explain``: one operation explained in full."""

from __future__ import annotations

import sys

import click

from perfmodel import limits, ops
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu
from perfmodel.workload import single


@command()
@click.argument("operation", metavar="OP", required=False)
@click.option(
    "--time",
    "case",
    metavar="CASE",
    help="Show every term and every parameter of a case's expected time. CASE is a JSON object, or a file whose first case is used.",
)
@options.knowledge
@click.option("--latex", is_flag=True, help="Print a LaTeX fragment (needs amsmath) instead of text.")
@options.settings
@options.gpu
@options.dtype
@options.formats("table", "json")
def explain(
    operation: str | None,
    case: str | None,
    knowledge: str | None,
    latex: bool,
    settings: tuple[str, ...],
    gpu: str | None,
    dtype: str | None,
    form: str,
) -> None:
    """One operation explained: derivation, formulas, growth, worked example, and where the bottleneck changes.

    \b
    perfmodel explain attention --gpu a100
    perfmodel explain attention --set causal=1 --set N=8192 --set S=N
    perfmodel explain layernorm --latex
    perfmodel explain --gpu t4 --time '{"op": "softmax", "shape": {"rows": 8192, "cols": 1024}}'
    """
    if (operation is None) == (case is None):
        what = "argument 'OP' is missing" if case is None else "OP and --time are both given"
        raise UsageError("perfmodel explain", what, "an operation or --time CASE is accepted", "Name one of them.")
    if case is not None:
        others = {"--set": settings, "--latex": latex, "--dtype": dtype}
        options.refuse_together("perfmodel explain", "--time", others, "a case gives its own sizes and data type")
        _time(case, gpu, knowledge, form)
        return
    if form != "table":
        raise UsageError("perfmodel explain --format json", "no case is given", "--time CASE is required", "Add it.")
    options.refuse_without("perfmodel explain", "--gpu", gpu, {"--knowledge": knowledge}, "expected times need a GPU")
    chosen = ops.find(str(operation))
    given = options.read_settings(settings)
    options.check_form("perfmodel explain", [single(chosen)], None, None, None, given)
    card = read_gpu(gpu) if gpu is not None else None
    from perfmodel.explanation import explain as explained

    with limits.algebra("perfmodel explain"):
        found = explained(chosen, given, card, dtype or "fp16", knowledge)
        if latex:
            from perfmodel.report.latex import fragment as written
        else:
            from perfmodel.report.explain import page as written
        text = written(found)
    echo(text, nl=False, styled=not latex)


def _time(text: str, gpu: str | None, knowledge: str | None, form: str) -> None:
    """Prints the page of a case's expected time."""
    from perfmodel.case_files import read
    from perfmodel.errors import InputError
    from perfmodel.given import captured
    from perfmodel.prediction import influences, predictions
    from perfmodel.report.times import document, page
    from perfmodel.specfile import read_lines
    from perfmodel.timing import parameters as known

    if gpu is None:
        raise UsageError("perfmodel explain --time", "no GPU is named", "--gpu GPU is required", "Write --gpu t4.")
    inline = text.lstrip().startswith("{")
    name = "case" if inline else text
    lines = [text] if inline else read_lines(text)
    first = next(iter(read(lines, name)), None)
    if first is None:
        raise InputError(name, "it contains no case", "one JSON object per line is accepted", "Add a line.")
    card = read_gpu(gpu)
    found = next(iter(predictions([first], card, knowledge=knowledge, captured=captured)))
    if found.error:
        echo(found.error, err=True)
        sys.exit(InputError.exit_code)
    owed = influences(first, card, knowledge)
    if form == "json":
        from perfmodel.strictjson import dumped

        echo(dumped(document(found, known.card(card, knowledge), card, owed), indent=2))
        return
    echo(page(found, known.card(card, knowledge), owed), nl=False, styled=True)
