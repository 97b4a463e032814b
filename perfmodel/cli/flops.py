"""``perfmodel flops``: a workload, step by step."""

from __future__ import annotations

from typing import Any

import click

from perfmodel.analysis import analyse
from perfmodel.cli import options
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu
from perfmodel.workload import workload


@click.command()
@options.config
@options.gpu
@options.phase
@options.settings
@options.dtype
@options.fused
@options.causal
@options.count
@options.decode_form
@options.knowledge
@click.option("--symbolic", is_flag=True, help="Formulas in the workload's symbols instead of numbers.")
@options.formats("table", "json", "csv", "markdown")
def flops(
    config: str | None,
    gpu: str | None,
    phase: str | None,
    settings: tuple[str, ...],
    dtype: str | None,
    fused: bool | None,
    causal: bool | None,
    count: str | None,
    decode_form: str | None,
    knowledge: str | None,
    symbolic: bool,
    form: str,
) -> None:
    """FLOPs, bytes, bound and time of every step of a workload.

    \b
    perfmodel flops --config llama-2-7b-layer --gpu a100
    perfmodel flops --config llama-3-8b --gpu h100 --phase decode --set S=32Ki --set B=64
    perfmodel flops --config gpt2-124m --gpu t4 --set N=512 --causal --format json
    """
    if config is None:
        raise UsageError(
            "perfmodel flops", "no workload is named", "--config NAME or FILE is required", "See 'perfmodel models'."
        )
    chosen = workload(config)
    chosen = chosen.with_dtype(dtype) if dtype else chosen
    wanted: dict[str, Any] = {"phase": phase, "settings": options.read_settings(settings)}
    wanted |= {"fused": fused, "causal": causal}
    if symbolic:
        from perfmodel.formulas import of_workload
        from perfmodel.report import formulas

        click.echo(formulas.render(of_workload(chosen, **wanted, form=decode_form), form), nl=False)
        return
    from perfmodel.report.answer import render

    card = read_gpu(gpu) if gpu is not None else None
    answer = analyse(chosen, gpu=card, count=count, form=decode_form, knowledge=knowledge, **wanted)
    click.echo(render(answer, form), nl=False)
