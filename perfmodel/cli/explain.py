"""``perfmodel explain``: an operation as a page of a textbook."""

from __future__ import annotations

import click

from perfmodel import ops
from perfmodel.cli import options
from perfmodel.hardware import gpu as read_gpu


@click.command()
@click.argument("operation", metavar="OP")
@click.option("--latex", is_flag=True, help="A LaTeX fragment (amsmath) instead of the page.")
@options.settings
@options.gpu
@options.dtype
def explain(operation: str, latex: bool, settings: tuple[str, ...], gpu: str | None, dtype: str | None) -> None:
    """An operation as a page of a textbook: derivation, formulas, growth, crossing, example.

    \b
    perfmodel explain attention --gpu a100
    perfmodel explain attention --set causal=1 --set N=8192 --set S=N
    perfmodel explain layernorm --latex
    """
    chosen = ops.find(operation)
    given = options.read_settings(settings)
    card = read_gpu(gpu) if gpu is not None else None
    from perfmodel.explanation import explain as explained

    found = explained(chosen, given, card, dtype or "fp16")
    if latex:
        from perfmodel.report.latex import fragment

        click.echo(fragment(found), nl=False)
        return
    from perfmodel.report.explain import page

    click.echo(page(found), nl=False)
