"""``perfmodel scale``: strong and weak scaling of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo, warn_of
from perfmodel.config_files import workload
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu
from perfmodel.workload import Workload

WHERE = "perfmodel scale"


@command()
@options.config
@options.gpu
@options.system
@click.option(
    "--over", metavar="gpus=FROM:TO:xSTEP", help="Numbers of GPUs: gpus=1:1024:x2 doubles, gpus=8:64:8 adds 8."
)
@click.option(
    "--strong/--weak",
    "strong",
    default=None,
    help="Strong scaling keeps the global batch, weak scaling the batch of each replica.",
)
@options.phase
@options.plan_options
@options.settings
@options.dtype
@options.fused
@options.causal
@options.decode_form
@options.knowledge
@click.option("--plot", "picture", metavar="FILE", help="Plot to FILE.png, FILE.svg or FILE.pdf.")
@options.formats("table", "json", "csv", "markdown")
def scale(
    config: str | None, gpu: str | None, system: str | None, over: str | None, strong: bool | None,
    settings: tuple[str, ...], dtype: str | None, picture: str | None, form: str, **given: Any,
) -> None:  # fmt: skip
    """Speed-up and efficiency over the number of GPUs, with the fitted law, and where the efficiency falls below 50 %.

    Data parallelism takes what the other degrees leave. B of --set is the global batch with --strong, the batch of each
    data-parallel replica with --weak.

    \b
    perfmodel scale --config llama-3-8b --gpu h100 --over gpus=8:1024:x2 --strong --phase train --set B=1024 --zero 3
    perfmodel scale --config llama-3-70b --gpu h100 --over gpus=8:64:x2 --weak --phase train --tp 8 --set B=8 --plot s.svg
    """
    if over is None or strong is None:
        missing = "--over is missing" if over is None else "neither --strong nor --weak is given"
        accepted = "the range of GPUs and one of the two kinds of scaling are required"
        raise UsageError(WHERE, missing, accepted, "Write, for example, --over gpus=1:64:x2 --strong.")
    from perfmodel.plans import asking, scaling
    from perfmodel.report import picture as pictures
    from perfmodel.report import plans

    if picture is not None:
        warn_of(pictures.checked(picture, WHERE))
    fields = options.plan_fields(given)
    if "dp" in fields:
        raise UsageError(WHERE, "--dp is given", "the data parallelism follows from the number of GPUs", "Remove --dp.")
    given["form"] = given.pop("decode_form")
    chosen, card = named(WHERE, config, gpu, dtype)
    make = asking.models(chosen, read_gpu(card), system, given.pop("phase"), options.read_settings(settings), **given)
    found = scaling.scaling(
        make, scaling.counts(over), asking.plan_of(fields), strong=strong, batch=make(0).shape.batch
    )
    if picture is not None:
        from perfmodel.report import scale_plot

        echo(scale_plot.draw(found, picture), err=form == "json")
    if picture is None or form == "json":
        echo(plans.render(plans.scaling_view(found), form), nl=False)


def named(where: str, config: str | None, gpu: str | None, dtype: str | None) -> tuple[Workload, str]:
    """Returns the workload and the name of the GPU; both are required."""
    if config is None or gpu is None:
        raise UsageError(where, f"{'--config' if config is None else '--gpu'} is missing", "a workload and a GPU are required",
                         "Run 'perfmodel models' and 'perfmodel gpus' for the names.")  # fmt: skip
    found = workload(config)
    return (found.with_dtype(dtype) if dtype else found), gpu


def estimate(
    where: str, config: str | None, gpu: str | None, system: str | None, fields: Mapping[str, Any], others: Mapping[str, Any],
    *, phase: str | None, settings: tuple[str, ...], dtype: str | None, fused: bool | None, causal: bool | None,
    form: str | None, logits: str | None, knowledge: str | None, output: str,
) -> None:  # fmt: skip
    """Prints the estimate of one plan: ``perfmodel flops`` with options of a plan."""
    from perfmodel.plans import asking
    from perfmodel.report import plans

    options.refuse_together(where, "a plan (--system, --tp, ...)", others, "a plan divides the workload of --config")
    chosen, card = named(where, config, gpu, dtype)
    chosen = chosen.with_logits(logits) if logits else chosen
    model = asking.model(chosen, read_gpu(card), system, phase, options.read_settings(settings), fused=fused, causal=causal,
                         form=form, knowledge=knowledge)  # fmt: skip
    found = model.estimate(asking.plan_of(fields))
    echo(plans.render(plans.estimate_view(model, found), output), nl=False)
