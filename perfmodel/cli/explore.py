"""``perfmodel explore``: a page with sliders for models and cards, in one HTML file."""

from __future__ import annotations

import click

from perfmodel import writing
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo, warn_of
from perfmodel.config_files import workload
from perfmodel.errors import one_line
from perfmodel.hardware import gpu as read_gpu

WHERE = "perfmodel explore"
# What the page shows without --config or --gpu.
CONFIGS = ("llama-3-8b", "llama-2-7b-layer", "gpt2-124m", "mixtral-8x7b")
GPUS = ("h100", "a100", "t4")


@command()
@options.configs
@options.gpus
@click.option("-o", "--output", metavar="FILE", default="explorer.html", show_default=True, help="The page: FILE.html.")
def explore(configs: tuple[str, ...], gpus: tuple[str, ...], output: str) -> None:
    """Writes an interactive page: the roofline, times and memory of models on cards, with a slider for every size.

    The page is one HTML file that works without a server and without network. Its JavaScript is translated from the
    functions of the other commands, so its numbers are theirs.

    \b
    perfmodel explore
    perfmodel explore --config llama-3-70b --config deepseek-v3 --gpu h100 --gpu b200 -o models.html
    """
    writing.checked(output, f"{WHERE} -o", (".html", ".htm"), "a page")
    cards = options.distinct(map(read_gpu, gpus or GPUS))
    known = options.distinct(map(workload, configs or CONFIGS))
    from perfmodel.explorer.page import page

    warn_of(output)
    writing.write(output, f"{WHERE} -o", page(known, cards))
    echo(f"Wrote {one_line(output)}.")
