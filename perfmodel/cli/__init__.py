"""The commands. Each is a module of its own that is read when the command is called, so that ``--help`` needs click alone."""

from __future__ import annotations

from importlib import import_module

import click

from perfmodel import __version__
from perfmodel.cli.command import Group
from perfmodel.errors import UsageError, did_you_mean, shown

# Command: its module, and its line in the list of commands.
COMMANDS = {
    "flops": ("flops", "FLOPs, bytes, bottleneck and time of a workload, by block or by kernel."),
    "compare": ("compare", "Workloads and cards side by side, and what a faster part does to the whole."),
    "roofline": ("roofline", "The roofs of one or more GPUs, with operations placed under them."),
    "explain": ("explain", "An operation as a page of a textbook: derivation, formulas, growth, example."),
    "solve": ("solve", "Where an operation turns from memory- to compute-bound, in closed form."),
    "sweep": ("sweep", "An operation or a workload over ranges of its sizes, to CSV, JSON Lines or a plot."),
    "memory": ("memory", "Weights, training states, activations and caches on each GPU, and whether they fit."),
    "predict": ("predict", "Bounds and expected times for a file of cases, and how far measured times are off them."),
    "validate": ("validate", "Real kernels measured on this device and held against the model."),
    "calibrate": ("calibrate", "What this device can do at most: bandwidths, rates, launch times, latency."),
    "gpus": ("listings", "The GPU files and their main figures."),
    "models": ("listings", "The workloads that --config knows by name."),
    "ops": ("listings", "The operations."),
    "symbols": ("listings", "The notation table."),
}


class LazyGroup(Group):
    """Finds a command's module by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"perfmodel.cli.{COMMANDS[cmd_name][0]}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            raise UsageError(
                "perfmodel", f"there is no command {shown(args[0])}", f"one of {', '.join(COMMANDS)} is accepted",
                did_you_mean(args[0], COMMANDS) or "Run 'perfmodel --help'.",
            )  # fmt: skip
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Sizes: 8192, 8Ki = 8192, 8k = 8000, 1M = 1,000,000. Start with: perfmodel flops --config llama-2-7b-layer --gpu a100",
)
@click.version_option(__version__, prog_name="perfmodel")
def cli() -> None:
    """How many FLOPs, how many bytes, what bounds it on this GPU, and how long it must take: for the operations of
    Transformers and the models built of them."""
