"""``perfmodel occupancy``: resident blocks and warps of a kernel on a multiprocessor."""

from __future__ import annotations

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.hardware import gpu as read_gpu
from perfmodel.residency import occupancy as resident
from perfmodel.residency import shared_from_text


@command()
@options.gpu_option("gpu", required=True)
@click.option("--threads", metavar="T", type=int, required=True, help="Threads per block.")
@click.option("--registers", metavar="R", type=int, required=True, help="Registers per thread, as 'ptxas -v' prints.")
@click.option(
    "--shared", metavar="BYTES", default="0", show_default=True,
    help="Shared memory per block, static and dynamic: 49152, 48Ki or '48 KiB'.",
)  # fmt: skip
@options.formats("table", "json", "csv", "markdown")
def occupancy(gpu: str, threads: int, registers: int, shared: str, form: str) -> None:
    """Blocks and warps of a kernel on one multiprocessor, what limits them, and the active threads of the GPU.

    Occupancy is the share of the most warps that a multiprocessor holds. The rules are those of NVIDIA's occupancy
    calculator.

    \b
    perfmodel occupancy --gpu h100 --threads 256 --registers 64
    perfmodel occupancy --gpu a100 --threads 128 --registers 255 --shared '96 KiB'
    """
    found = resident(read_gpu(gpu), threads, registers, shared_from_text(shared))
    from perfmodel.report.occupancy import render

    echo(render(found, form), nl=False)
