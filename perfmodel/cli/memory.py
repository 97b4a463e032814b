"""``perfmodel memory``: memory use of a workload per GPU, and whether it fits."""

from __future__ import annotations

import click

from perfmodel.api import memory as account
from perfmodel.api import memory_phase
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.config_files import workload
from perfmodel.errors import UsageError
from perfmodel.footprint import OPTIMIZERS, RECOMPUTE, SOLVABLE

MOST_GPUS = 10**9


@command()
@options.config
@options.phase
@options.gpu
@click.option(
    "--gpus", type=click.IntRange(1, MOST_GPUS), help="Number of GPUs; each GPU processes B sequences. [default: 1]"
)
@click.option(
    "--zero",
    type=click.IntRange(0, 3),
    help="ZeRO stage. 1 shards the optimizer states over the GPUs, 2 also the gradients, 3 also the weights.",
)
@click.option(
    "--recompute", type=click.Choice(RECOMPUTE), help="Activations to recompute in the backward pass. [default: none]"
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    help="Optimizer, which determines the states; sgd has momentum. [default: adam]",
)
@options.settings
@options.dtype
@options.fused
@options.decode_form
@click.option("--solve", type=click.Choice(SOLVABLE), help="Find the largest value of this size that fits on --gpu.")
@options.reserve
@options.formats("table", "json", "csv", "markdown")
def memory(
    config: str | None,
    phase: str | None,
    gpu: str | None,
    gpus: int | None,
    zero: int | None,
    recompute: str | None,
    optimizer: str | None,
    settings: tuple[str, ...],
    dtype: str | None,
    fused: bool | None,
    decode_form: str | None,
    solve: str | None,
    reserve: str | None,
    form: str,
) -> None:
    """Bytes of weights, training states, activations and caches per GPU, with formulas, and whether they fit.

    Without --phase, each of --zero, --recompute and --optimizer selects training.

    \b
    perfmodel memory --config gpt2-xl --phase train --set B=32 --gpu v100-32gb
    perfmodel memory --config llama-3-8b --phase train --zero 3 --gpus 64 --recompute full --gpu h100
    perfmodel memory --config llama-3-8b --phase decode --set S=32Ki --gpu a100 --solve B
    """
    if config is None:
        raise UsageError(
            "perfmodel memory", "no workload is named", "--config NAME or FILE is required", "See 'perfmodel models'."
        )
    chosen = workload(config)
    chosen = chosen.with_dtype(dtype) if dtype else chosen
    phase = memory_phase(phase, zero, recompute, optimizer)
    options.check_form("perfmodel memory", [chosen], phase, fused, None)
    from perfmodel.report.memory import render

    answer = account(
        chosen,
        gpu,
        phase=phase,
        gpus=gpus,
        zero=zero,
        recompute=recompute,
        optimizer=optimizer,
        settings=options.read_settings(settings),
        solve=solve,
        fused=fused,
        form=decode_form,
        reserve=reserve,
    )
    echo(render(answer, form), nl=False)
