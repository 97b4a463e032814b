"""Options that several commands share, each with its one meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os.path import realpath
from typing import Any, TypeVar

import click

from perfmodel import ops
from perfmodel.errors import UsageError
from perfmodel.hardware import Gpu
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import COUNTS, LOGITS, PHASES, Workload, setting, single, workload

Value = TypeVar("Value")
Named = TypeVar("Named", Gpu, Workload)

CONFIG = "a name of 'perfmodel models', a YAML file, or a model's Hugging Face config.json."
config = click.option("--config", metavar="NAME|FILE", help=f"A workload: {CONFIG}")
operation = click.option("--op", "operation", metavar="OP", help="An operation of 'perfmodel ops'.")
gpu = click.option("--gpu", "gpu", metavar="GPU", help="A GPU: a name of 'perfmodel gpus', or a YAML file.")
gpus = click.option("--gpu", "gpus", metavar="GPU", multiple=True, help="A GPU of 'perfmodel gpus'; may be repeated.")
phase = click.option("--phase", type=click.Choice(PHASES), help="Which phase of the workload. [default: its first]")
dtype = click.option(
    "--dtype", type=click.Choice(tuple(ITEM_BYTES)), help="One data type for weights, activations, cache."
)
fused = click.option(
    "--fused/--unfused", "fused", default=None, help="Attention and the like as one kernel, or stage by stage."
)
causal = click.option(
    "--causal", "causal", is_flag=True, default=None, help="Count only the query-key pairs a causal mask leaves."
)
count = click.option(
    "--count",
    type=click.Choice(COUNTS),
    help="all: every primitive; leading: contractions where a kernel has matrix products.",
)
logits = click.option(
    "--logits",
    type=click.Choice(LOGITS),
    help="Logits of all positions, or of the last position of each sequence. [default: all]",
)
columns = click.option(
    "--columns",
    metavar="KEY,...",
    default="",
    help="The columns to show, by their keys in the CSV form. [default: those that fit]",
)
verbose = click.option("-v", "--verbose", is_flag=True, help="All notes: sizes, data sources, conventions.")
knowledge = click.option(
    "--knowledge",
    type=click.Choice(("datasheet", "family", "calibrated")),
    help="What expected times may rest on. [default: the most that is known of the card]",
)
decode_form = click.option(
    "--form",
    "decode_form",
    metavar="NAME",
    help="A form of the decoding step, where it has several. [default: its first]",
)
settings = click.option(
    "--set", "settings", metavar="SYMBOL=VALUE", multiple=True,
    help="A size: N=8192, N=8Ki (8192), N=8k (8000), or an expression of others, S=N. May be repeated.",
)  # fmt: skip

reserve = click.option(
    "--reserve",
    metavar="BYTES|PERCENT",
    help="Memory that stays free, such as '4 GB', 10% of the capacity, or 0. [default: context, cuBLAS, fragmentation]",
)


def formats(*choices: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--format``, the first choice being the default."""
    return click.option("--format", "form", type=click.Choice(choices), default=choices[0], show_default=True)


def column_keys(text: str, form: str) -> tuple[str, ...]:
    """The keys of ``--columns``; refused for JSON, which always holds every figure."""
    keys = tuple(filter(None, (key.strip() for key in text.split(","))))
    if keys and form == "json":
        raise UsageError(
            "--columns",
            "it has no effect on --format json",
            "table, csv and markdown are accepted",
            "Leave one of them out.",
        )
    return keys


def read_settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """All ``--set`` of a command."""
    return once("--set", map(setting, texts))


def once(option: str, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """What a repeated option gives to each name; a name that comes twice is refused, for which of the two is meant?"""
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{option} {name}", "it is set twice", "a name has one value", "Leave one of them out.")
        found[name] = value
    return found


def distinct(found: Iterable[Named]) -> list[Named]:
    """Cards or workloads without those whose file was named before, by whichever of its names."""
    return list({realpath(one.file): one for one in found}.values())


def chosen(
    operation_name: str | None, config_name: str | None, dtype_name: str | None, command: str, card: Gpu | None = None
) -> Workload:
    """The workload that ``--op`` or ``--config`` names: exactly one of them; an operation's sizes may be a card's."""
    if (operation_name is None) == (config_name is None):
        found = "neither --op nor --config is given" if operation_name is None else "--op and --config are both given"
        raise UsageError(command, found, "exactly one of them is accepted", "Name an operation or a workload.")
    if operation_name is not None:
        return single(ops.find(operation_name), dtype_name or "fp16", card.sizes() if card else {})
    found_workload = workload(str(config_name))
    return found_workload.with_dtype(dtype_name) if dtype_name else found_workload
