"""``perfmodel solve``: the sizes at which a workload turns from memory-bound to compute-bound."""

from __future__ import annotations

import click

from perfmodel import limits
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.hardware import gpu as read_gpu
from perfmodel.roofline import rates


@command()
@options.operation
@options.config
@options.gpu_option("gpu", required=True)
@click.option("--for", "symbol", metavar="SYMBOL", required=True, help="Symbol to solve for.")
@options.settings
@options.phase
@options.dtype
@options.fused
@options.causal
@options.formats("table", "json")
def solve(operation: str | None, config: str | None, gpu: str, symbol: str, settings: tuple[str, ...], phase: str | None,
          dtype: str | None, fused: bool | None, causal: bool | None, form: str) -> None:  # fmt: skip
    """The size at which an operation turns from memory-bound to compute-bound, in closed form and as whole numbers.

    Other sizes default to the workload's values, or with --op to the typical values of 'perfmodel symbols'.

    \b
    perfmodel solve --op gemm --gpu textbook-a100 --for n --set m=n --set k=n --set act=8
    perfmodel solve --config attention-16x16384 --gpu a100 --for H --unfused
    """
    known = read_gpu(gpu)
    chosen = options.chosen(operation, config, dtype, "perfmodel solve", known)
    given = options.read_settings(settings)
    options.check_form("perfmodel solve", [chosen], phase, fused, causal, given)
    card = rates(known, dtype or chosen.dtypes["activation"])
    from perfmodel.report.solution import render
    from perfmodel.solve import solve as solved

    with limits.algebra("perfmodel solve"):
        solution = solved(chosen, card, symbol, given, phase=phase, fused=fused, causal=causal)
        text = render(solution, form)
    echo(text, nl=False)
