"""The command group. A command's module is imported only when the command runs, so ``--help`` needs click alone."""

from __future__ import annotations

from importlib import import_module

import click

from perfmodel import __version__
from perfmodel.cli.command import Group
from perfmodel.errors import UsageError, did_you_mean, shown

# Command: its module, and its description in the list of commands.
COMMANDS = {
    "flops": ("flops", "FLOPs, bytes, bottleneck and time of a workload, by block or by kernel."),
    "compare": ("compare", "Workloads and GPUs side by side, and the overall speed-up when one part gets faster."),
    "roofline": ("roofline", "Roofline chart of one or more GPUs, with operations as points."),
    "explore": ("explore", "A page with sliders: roofline, times and memory of models on GPUs, in one HTML file."),
    "explain": ("explain", "One operation explained: derivation, formulas, growth, example."),
    "solve": ("solve", "The size at which an operation turns from memory-bound to compute-bound, in closed form."),
    "sweep": ("sweep", "An operation or a workload over ranges of sizes: a table, CSV, JSON Lines or a plot."),
    "memory": ("memory", "Weights, training states, activations and caches per GPU, and whether they fit."),
    "scale": ("scale", "Speed-up and efficiency of a plan over the number of GPUs: strong and weak scaling."),
    "plan": ("plan", "The best plan for a number of GPUs, compared with other plans."),
    "serve": ("serve", "Latency, throughput, goodput and memory of a model that serves requests."),
    "predict": ("predict", "Bounds and expected times for a file of cases, compared with measured times."),
    "occupancy": ("occupancy", "Blocks and warps of a kernel on a multiprocessor, and what limits them."),
    "trace": ("trace", "The time of a profiled program by kernel, and suggested changes."),
    "validate": ("validate", "Measures real kernels on this device and compares them with the model."),
    "check": ("check", "Whether measured kernels reach a share of their bound: exit code 0 or 3, for CI."),
    "calibrate": ("calibrate", "Measures this device: bandwidths, FLOP rates, launch times, latency."),
    "gpus": ("listings", "Lists the GPUs and their main figures."),
    "systems": ("listings", "Lists the systems: GPUs per node, links and network."),
    "models": ("listings", "Lists the workloads that --config accepts by name."),
    "ops": ("listings", "Lists the operations."),
    "symbols": ("listings", "Lists the symbols and their meanings."),
}


class LazyGroup(Group):
    """A group that imports a command's module when the command is called."""

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
    epilog="Sizes: 8192, 8Ki = 8192, 8k = 8000, 1M = 1,000,000.\n\n"
    "Example: perfmodel flops --config llama-2-7b-layer --gpu a100",
)
@click.version_option(__version__, prog_name="perfmodel")
def cli() -> None:
    """Counts FLOPs and memory traffic of Transformer operations and models, and predicts their time on a GPU."""
