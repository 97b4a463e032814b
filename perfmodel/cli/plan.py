"""``perfmodel plan``: the best plan of a workload for a number of GPUs."""

from __future__ import annotations

from typing import Any

import click

from perfmodel.cli import options
from perfmodel.cli.collection import without_collection
from perfmodel.cli.command import command
from perfmodel.cli.scale import named
from perfmodel.cli.screen import echo
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu

WHERE = "perfmodel plan"


@command()
@options.config
@options.gpu
@options.system
@click.option("--gpus", type=click.IntRange(1, 10**5), help="Number of GPUs.")
@options.phase
@click.option("--objective", type=click.Choice(("time", "throughput", "memory", "cost")), default="time", show_default=True,
              help="Objective: least time, memory or cost, or most throughput. cost also considers fewer GPUs.")  # fmt: skip
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Number of plans to show.")
@click.option("--price", type=click.FloatRange(0), metavar="PER_GPU_HOUR", help="Price of one GPU for one hour.")
@options.plan_options
@options.settings
@options.dtype
@options.fused
@options.causal
@options.decode_form
@options.knowledge
@options.formats("table", "json", "csv", "markdown")
def plan(
    config: str | None, gpu: str | None, system: str | None, gpus: int | None, objective: str, top: int,
    price: float | None, settings: tuple[str, ...], dtype: str | None, form: str, **given: Any,
) -> None:  # fmt: skip
    """Finds the best of all legal plans that fit in memory, the Pareto set, and the time that other plans lose.

    An option of the plan, such as --tp 8, fixes its value.

    \b
    perfmodel plan --config llama-3-70b --gpu h100 --gpus 64 --phase train --set B=256 --set N=4Ki --causal --price 2.5
    perfmodel plan --config llama-3-70b --gpu h100 --gpus 8 --phase decode --set B=64 --set S=8Ki
    """
    if gpus is None:
        raise UsageError(WHERE, "--gpus is missing", "the number of GPUs is required", "Add, for example, --gpus 64.")
    from perfmodel.plans import asking, search
    from perfmodel.report import plans

    fields = options.plan_fields(given)
    given["form"] = given.pop("decode_form")
    chosen, card = named(WHERE, config, gpu, dtype)
    model = asking.model(chosen, read_gpu(card), system, given.pop("phase"), options.read_settings(settings), **given)
    with without_collection():
        found = search.search(model, gpus, objective=objective, top=top, fixed=fields, price_per_hour=price)
    echo(plans.render(plans.search_view(found), form), nl=False)
