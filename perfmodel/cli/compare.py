"""``perfmodel compare``: workloads and GPUs side by side."""

from __future__ import annotations

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.config_files import workload
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu


@command()
@options.configs
@options.gpus
@options.phase
@options.settings
@options.dtype
@options.fused
@options.causal
@click.option("--speedup", "speedups", metavar="KEY=FACTOR", multiple=True,
              help="Make an operation, step or kernel FACTOR times as fast. May be repeated.")  # fmt: skip
@options.reserve
@options.logits
@options.columns
@options.formats("table", "json", "csv", "markdown")
def compare(
    configs: tuple[str, ...],
    gpus: tuple[str, ...],
    phase: str | None,
    settings: tuple[str, ...],
    dtype: str | None,
    fused: bool | None,
    causal: bool | None,
    speedups: tuple[str, ...],
    reserve: str | None,
    logits: str | None,
    columns: str,
    form: str,
) -> None:
    """Workloads and GPUs side by side: counts, bounds, tokens per second and memory.

    --set applies to every workload that has the size.

    --speedup predicts the speed-up of the layers and of the whole step when one part becomes faster (Amdahl's law on
    the minimum times). KEY is an operation, or a name that 'perfmodel flops --steps' shows. A forward name covers the
    forward pass only. OPERATION_backward (layernorm_backward) or STEP.backward covers the gradient.

    \b
    perfmodel compare --config llama-3-8b --config gemma-2-9b --gpu h100 --gpu a100
    perfmodel compare --config llama-3.1-70b --gpu h200 --phase decode --set B=16 --set S=8Ki
    perfmodel compare --config decoder-block --gpu t4 --phase train --unfused \\
        --speedup softmax=6.5 --speedup layernorm=15.8 --speedup layernorm_backward=3.7
    """
    if not configs:
        raise UsageError(
            "perfmodel compare", "no workload is named", "--config NAME or FILE is required and may be repeated",
            "See 'perfmodel models'.",
        )  # fmt: skip
    if speedups and not gpus:
        raise UsageError(
            "perfmodel compare", "--speedup is given without --gpu", "shares of the time need a GPU", "Add --gpu GPU.",
        )  # fmt: skip
    from perfmodel.comparison import compare as compared
    from perfmodel.comparison import factor
    from perfmodel.footprint.reserve import reserve as read_reserve
    from perfmodel.report.comparison import render

    keys = options.column_keys(columns, form)
    chosen = [w.with_logits(logits) if logits else w for w in options.distinct(map(workload, configs))]
    given = options.read_settings(settings)
    options.check_form("perfmodel compare", chosen, phase, fused, causal, given)
    found = compared(
        [w.with_dtype(dtype) if dtype else w for w in chosen],
        options.distinct(map(read_gpu, gpus)),
        settings=given,
        speedups=options.once("--speedup", map(factor, speedups)),
        phase=phase,
        fused=fused,
        causal=causal,
        **({"reserve": read_reserve(reserve)} if reserve is not None else {}),
    )
    echo(render(found, form, columns=keys), nl=False)
