"""``perfmodel roofline``: a roofline chart of GPUs, with operations as points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from perfmodel import chart
from perfmodel.cli import measurements, options
from perfmodel.cli.command import Group, twice
from perfmodel.cli.screen import echo, warn_of
from perfmodel.config_files import workload
from perfmodel.errors import InputError, UsageError
from perfmodel.hardware import Gpu
from perfmodel.hardware import gpu as read_gpu
from perfmodel.limits import CHART, GPUS
from perfmodel.paths import stem
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import Workload

# Workloads of a chart without --config, and whether each is drawn fused (None: as its file says).
DEFAULTS: dict[str, tuple[bool | None, ...]] = {
    "attention-stages": (None,),
    "attention-16x16384": (False, True),
    "mlp-4096": (None,),
    "conv1d-8192": (False, True),
}

dtypes = click.option(
    "--dtype", "dtypes", type=click.Choice(tuple(ITEM_BYTES)), multiple=True,
    help="Data type of the roofs. The operations use the first one. May be repeated.",
)  # fmt: skip
PLOT = "perfmodel roofline plot"
KERNELS_OF_A_PICTURE = 10  # of each workload; all others are one point
records = click.option("--from", "records", metavar="RECORDS", help="Measured kernels: a file of 'validate --save'.")
points = click.option(
    "--point", "points", metavar="NAME:FLOPS:BYTES:TIME", multiple=True,
    help="A measurement of your own, such as mine:137G:100MB:612us. May be repeated.",
)  # fmt: skip
SHARED = (
    options.gpus, options.configs, options.phase, options.settings, dtypes, options.fused, options.causal, records, points,
)  # fmt: skip


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that the group and its commands share; they may come before or after the command's name."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.group(cls=Group, invoke_without_command=True)
@shared
@click.pass_context
def roofline(context: click.Context, /, **given: Any) -> None:
    """Roofline chart of one or more GPUs, with operations as points.

    Without --config, the chart shows the stages of attention, multi-head attention, an MLP and a convolution. With
    --from or --point it shows measured kernels, each with its share of its bound; --config adds the expected ones.

    \b
    perfmodel roofline --gpu t4 plot
    perfmodel roofline --gpu t4 --gpu h100 --config llama-2-7b-layer plot -o layer.pdf
    perfmodel roofline --gpu a100 --config gpt2-124m --phase decode show
    perfmodel roofline --gpu a100 --point mine:137G:100MB:612us --point softmax:335M:268MB:160us show
    perfmodel roofline --from run.jsonl plot -o measured.svg
    """
    context.obj = given
    if context.invoked_subcommand is None:
        raise UsageError(
            "perfmodel roofline",
            "neither 'show' nor 'plot' is given",
            "one of them is required",
            "Add show for a chart in the terminal, or plot for a picture.",
        )


@roofline.command()
@shared
@click.pass_context
def show(context: click.Context, /, **given: Any) -> None:
    """Prints the chart as text, with a table of roofs and kernels."""
    cards, subject = charted(merged(context, given))
    from perfmodel.report.text_roofline import page

    echo("\n".join(page(card, f"{card.title}, {subject}") for card in cards), nl=False)


@roofline.command()
@click.option("-o", "--output", metavar="FILE", help="FILE.png, FILE.svg or FILE.pdf. [default: roofline-GPU.png]")
@shared
@click.pass_context
def plot(context: click.Context, /, output: str | None, **given: Any) -> None:
    """Draws the chart as a picture."""
    from perfmodel.report.picture import checked, save

    request = merged(context, given)
    if output is not None:
        checked(output, PLOT)
    cards, subject = charted(request, KERNELS_OF_A_PICTURE)
    path = output or checked(file_name(cards, request), PLOT)
    warn_of(path)
    from perfmodel.report.plot import figure

    save(figure(cards, f"{cards[0].title if len(cards) == 1 else 'Roofline'}, {subject}"), path, PLOT)
    zeros = chart.unplaced(cards)
    notes = [note for card in cards for note in (*card.notes, *card.too_large)]
    notes += [f"No FLOPs, so not on the axes: {', '.join(zeros)}."] if zeros else []
    for note in dict.fromkeys(notes):
        echo(note, err=True)
    echo(path)


def merged(context: click.Context, own: dict[str, Any]) -> dict[str, Any]:
    """Merges the options before and after the command's name. Lists are joined; any other option may be given once."""
    group: dict[str, Any] = context.obj
    for option in context.command.params:
        name = str(option.name)
        if name in group and not option.multiple and None not in (group[name], own[name]):
            raise twice(context.command_path, option)
    return {
        name: group[name] + value if isinstance(value, tuple) else group[name] if value is None else value
        for name, value in own.items()
    }


def charted(request: dict[str, Any], most: int | None = None) -> tuple[list[chart.Card], str]:
    """Returns the cards with their points, for each workload at most ``most``, and a description of the workloads."""
    measured = measurements.asked(request)
    gpus = [measured.gpu] if measured else _gpus(request["gpus"], drawn=most is not None)
    runs = _runs(request) if request["configs"] or not measured else []
    types = dict.fromkeys(request["dtypes"] or (run.workload.dtypes["activation"] for run in runs))
    types |= dict.fromkeys(measured.dtypes if measured and not request["dtypes"] else ())
    phases = [request["phase"]] if request["phase"] else [run.workload.default_phase for run in runs]
    phase = "/".join(dict.fromkeys(phases)) if request["configs"] or request["phase"] else None
    form = {True: "fused", False: "unfused", None: None}[request["fused"]]
    default = [] if measured else ["attention", "MLP", "convolution"]
    names = [run.workload.name for run in runs] if request["configs"] else default
    last = ("causal" if request["causal"] else None, "measured kernels" if measured else None)
    what = ", ".join(filter(None, (*names, phase, form, *last)))
    cards = [chart.card(gpu, runs, tuple(types), most) for gpu in gpus]
    return [measured.on(card) if measured else card for card in cards], f"{', '.join(types)}: {what}"


def file_name(cards: list[chart.Card], request: dict[str, Any]) -> str:
    """Returns the default file name: ``roofline-t4.png``, with the names of further cards and of the workloads."""
    return "-".join(["roofline", *(card.name for card in cards), *map(stem, request["configs"])]) + ".png"


def _gpus(names: tuple[str, ...], drawn: bool) -> list[Gpu]:
    if not names:
        raise UsageError(
            "perfmodel roofline",
            "no GPU is named",
            "--gpu GPU is required and may be repeated",
            "Write 'perfmodel roofline --gpu t4 show'; see 'perfmodel gpus' for the names.",
        )
    found = options.distinct(map(read_gpu, names))
    (CHART if drawn else GPUS).check(len(found), PLOT if drawn else "perfmodel roofline show")
    return found


def _runs(request: dict[str, Any]) -> list[chart.Run]:
    """Returns the named workloads, else the default ones. A set size applies to every workload that has it."""
    given, fused = options.read_settings(request["settings"]), request["fused"]
    asked = options.distinct(map(workload, request["configs"]))
    known = asked or [workload(name) for name in DEFAULTS]
    options.check_form("perfmodel roofline", known, request["phase"], fused, request["causal"], given)
    _check_settings(known, given)
    runs = []
    for found in known:
        own = {symbol: value for symbol, value in given.items() if symbol in found.settable()}
        forms = DEFAULTS[found.name] if fused is None and not asked else (fused,)
        runs += [_run(found, request, own, form, " (fused)" if form and len(forms) > 1 else "") for form in forms]
    return runs


def _check_settings(known: Sequence[Workload], given: Mapping[str, Any]) -> None:
    """Refuses a size that none of the workloads has."""
    symbols = set().union(*(found.settable() for found in known))
    unknown = next((symbol for symbol in given if symbol not in symbols), None)
    if unknown:
        raise InputError(
            f"perfmodel roofline: set {unknown}",
            "it is not a symbol of any workload on the chart",
            f"their symbols are {', '.join(sorted(symbols))}",
        )


def _run(
    found: Workload, request: dict[str, Any], given: dict[str, Any], fused: bool | None, ending: str = ""
) -> chart.Run:
    found = found.with_dtype(request["dtypes"][0]) if request["dtypes"] else found
    return chart.Run(found, request["phase"], given, fused, request["causal"], ending)
