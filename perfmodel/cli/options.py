"""Options that several commands share, each with one meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os.path import realpath
from typing import Any, TypeVar

import click

from perfmodel import ops
from perfmodel.block import Step
from perfmodel.config_files import workload
from perfmodel.errors import UsageError
from perfmodel.expression import Expression
from perfmodel.hardware import Gpu
from perfmodel.limits import GPUS, WORKLOADS
from perfmodel.operation import Operation
from perfmodel.paths import hardware_folder
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import COUNTS, LOGITS, PHASES, Workload, setting, single, with_weights

Value = TypeVar("Value")
Named = TypeVar("Named", Gpu, Workload)

CONFIG = (
    "a name from 'perfmodel models', a YAML file, or a Hugging Face config.json. NAME@awq and other formats of "
    "docs/quantised.md have quantised weights."
)
config = click.option("--config", metavar="NAME|FILE", help=f"Workload: {CONFIG}")
configs = click.option(
    "--config", "configs", metavar="NAME|FILE", multiple=True, help=f"Workload: {CONFIG} May be repeated."
)
operation = click.option("--op", "operation", metavar="OP", help="Operation: a name from 'perfmodel ops'.")
module = click.option(
    "--module",
    metavar="PKG.MOD:CALLABLE",
    help="Program: a torch module, a function, or a function that returns a module.",
)
inputs = click.option(
    "--input", "inputs", metavar="SPEC", help="Inputs of --module: NAME=TYPE[SIZES], such as input_ids=int64[1,2048]."
)
via = click.option(
    "--via", type=click.Choice(("torch",)), help="Run the code of transformers for the config instead of its formulas."
)
run = click.option(
    "--run", type=click.Choice(("eager", "graph", "compiled", "ideal")),
    help="How a program runs. [default: eager for --module and --via, ideal for a config]",
)  # fmt: skip
GPU = "GPU: a name from 'perfmodel gpus', or a YAML file."


def _search(context: click.Context, _: click.Parameter, folder: str | None) -> None:
    """Searches the folder while the command runs."""
    if folder is not None:
        context.with_resource(hardware_folder(folder))


hardware = click.option(
    "--hardware", metavar="DIR", callback=_search, expose_value=False, is_eager=True,
    help="Folder to search first for GPU files and readings.",
)  # fmt: skip


def gpu_option(*names: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the option ``--gpu`` together with ``--hardware``, the folder of its files."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        named = click.option("--gpu", *names, **{"metavar": "GPU", "help": GPU, **attributes})
        return named(hardware(command))

    return add


gpu = gpu_option("gpu")
gpus = gpu_option("gpus", multiple=True, help=f"{GPU} May be repeated.")
phase = click.option("--phase", type=click.Choice(PHASES), help="Phase of the workload. [default: its first]")
dtype = click.option(
    "--dtype", type=click.Choice(tuple(ITEM_BYTES)), help="Data type of weights, activations and cache."
)
fused = click.option(
    "--fused/--unfused",
    "fused",
    default=None,
    help="Run attention and similar operations as one kernel, or as one kernel per stage.",
)
causal = click.option(
    "--causal", "causal", is_flag=True, default=None, help="Count only the query-key pairs that a causal mask keeps."
)
count = click.option(
    "--count",
    type=click.Choice(COUNTS),
    help="FLOPs to count. all: every operation; leading: only the matrix products of kernels that have them.",
)
logits = click.option(
    "--logits",
    type=click.Choice(LOGITS),
    help="Compute logits of all positions, or of the last position of each sequence. [default: all]",
)
columns = click.option(
    "--columns",
    metavar="KEY,...",
    default="",
    help="Columns to show, by their names in --format csv. [default: those that fit]",
)
verbose = click.option("-v", "--verbose", is_flag=True, help="Show all notes: sizes, data sources, conventions.")
knowledge = click.option(
    "--knowledge",
    type=click.Choice(("datasheet", "family", "calibrated")),
    help="Data that expected times are based on. [default: the best available for the GPU]",
)
decode_form = click.option(
    "--form",
    "decode_form",
    metavar="NAME",
    help="Form of the decoding step, if the model has several. [default: its first]",
)
settings = click.option(
    "--set", "settings", metavar="SYMBOL=VALUE", multiple=True,
    help="Size: N=8192, N=8Ki (8192), N=8k (8000), or an expression of other sizes, S=N. May be repeated.",
)  # fmt: skip

reserve = click.option(
    "--reserve",
    metavar="BYTES|PERCENT",
    help="Memory to keep free: '4 GB', 10% of the capacity, or 0. [default: CUDA context, cuBLAS, fragmentation]",
)


def formats(*choices: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the option ``--format``; the first choice is the default."""
    return click.option("--format", "form", type=click.Choice(choices), default=choices[0], show_default=True)


def column_keys(text: str, form: str) -> tuple[str, ...]:
    """Returns the keys of ``--columns``. JSON refuses them because it always contains every figure."""
    keys = tuple(filter(None, (key.strip() for key in text.split(","))))
    if keys and form == "json":
        raise UsageError(
            "--columns",
            "it has no effect with --format json",
            "table, csv and markdown are accepted",
            "Remove one of the two.",
        )
    return keys


def read_settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """Returns the values of all ``--set`` options by symbol."""
    return once("--set", map(setting, texts))


def once(option: str, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Returns the values of a repeated option by name; a name that is given twice is an error."""
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{option} {name}", "it is set twice", "each name has one value", "Remove one of them.")
        found[name] = value
    return found


def refuse_together(command: str, first: str, others: Mapping[str, Any], because: str) -> None:
    """Refuses options that have no effect together with ``first``. ``others`` maps each option to its value, None if
    not given.
    """
    given = next((name for name, value in others.items() if value not in (None, False, ())), None)
    if given is not None:
        raise UsageError(command, f"{first} and {given} are both given", because, f"Remove {given}.")


def refuse_without(command: str, needed: str, found: Any, others: Mapping[str, Any], because: str) -> None:
    """Refuses options that have no effect without ``needed``."""
    given = next((name for name, value in others.items() if value not in (None, False, ())), None)
    if found in (None, ()) and given is not None:
        raise UsageError(command, f"{given} is given without {needed}", because, f"Add {needed}, or remove {given}.")


def check_form(
    command: str, workloads: Iterable[Workload], phase: str | None, fused: bool | None, causal: bool | None,
    given: Mapping[str, Any] = {},
) -> None:  # fmt: skip
    """Refuses --fused, --unfused, --causal and ``--set W`` when they change none of the workloads."""
    if fused is None and not causal and "W" not in given:
        return
    from perfmodel.vocabulary import splits

    known = [(one, phase or one.default_phase) for one in workloads]
    names = ", ".join(one.name for one, _ in known)
    operations = [(operation, step) for one, at in known for operation, step in operations_of(one, at)]
    if fused is not None and not any(step.kernels == "either" and splits(operation) for operation, step in operations):
        option = "--fused" if fused else "--unfused"
        raise UsageError(
            command, f"{option} is given, but every operation of {names} has only one form",
            "an operation that can run as one kernel or as several is accepted", f"Remove {option}.",
        )  # fmt: skip
    if causal and not any("causal" in operation.arguments for operation, _ in operations):
        raise UsageError(
            command, f"--causal is given, but {names} has no attention with a mask",
            "an operation or a workload with such attention is accepted", "Remove --causal.",
        )  # fmt: skip
    if causal and "causal" in given:
        raise UsageError(
            command, "--causal and --set causal are both given", "one of them is accepted", "Remove one of the two."
        )
    if "W" in given and not causal and not given.get("causal"):
        _check_window(command, known)


def _check_window(command: str, known: Iterable[tuple[Workload, str]]) -> None:
    """Refuses a window for workloads that have neither a causal mask nor a size that depends on the window."""
    windowed = [(one, phase) for one, phase in known if "W" in one.settable()]
    if windowed and not any(one.causal or _sized_by_window(one, phase) for one, phase in windowed):
        raise UsageError(
            command, f"--set W is given, but {', '.join(one.name for one, _ in windowed)} has no causal mask",
            "a window needs a causal mask", "Add --set causal=1, or remove W.",
        )  # fmt: skip


def operations_of(found: Workload, phase: str) -> Iterator[tuple[Operation, Step]]:
    """Yields the distinct operations of a phase, each with one of its steps; in training, the gradients too."""
    steps = (*found.steps, *(step for steps in found.decode.values() for step in steps))
    for step in {(step.operation.name, step.kernels): step for step in steps}.values():
        yield step.operation, step
        for gradient in step.operation.backward if phase == "train" else ():
            yield ops.find(gradient.operation), step


def _sized_by_window(found: Workload, phase: str) -> bool:
    """Returns whether a size of the phase depends on the window, such as the number of cached keys."""
    sizes = [*found.sizes.values(), *found.phases.get(phase, {}).values()]
    sizes += [size for step in found.steps for size in step.sizes.values()]
    return any(isinstance(size, Expression) and "W" in size.names for size in sizes)


def distinct(found: Iterable[Named]) -> list[Named]:
    """Returns the cards or workloads without duplicates; two names of one file are duplicates."""
    known: dict[tuple[str, str], Named] = {}
    for one in found:
        known[realpath(one.file), one.name.partition("@")[2]] = one
        limit, option = (GPUS, "--gpu") if isinstance(one, Gpu) else (WORKLOADS, "--config")
        limit.check(len(known), option)
    return list(known.values())


def chosen(
    operation_name: str | None, config_name: str | None, dtype_name: str | None, command: str, card: Gpu | None = None
) -> Workload:
    """Returns the workload of ``--op`` or ``--config``; exactly one of them must be given. With ``--op``, sizes may
    come from the card.
    """
    if (operation_name is None) == (config_name is None):
        found = "neither --op nor --config is given" if operation_name is None else "--op and --config are both given"
        raise UsageError(command, found, "exactly one of them is accepted", "Name an operation or a workload.")
    if operation_name is not None:
        name, _, weights = operation_name.partition("@")
        one = single(ops.find(name), dtype_name or "fp16", card.sizes() if card else {})
        return with_weights(one, weights) if weights else one
    found_workload = workload(str(config_name))
    return found_workload.with_dtype(dtype_name) if dtype_name else found_workload


SYSTEM = "System: a name of 'hardware/systems', or a YAML file. [default: the first one with this GPU]"
system = click.option("--system", metavar="NAME", help=SYSTEM)
_DEGREE = click.IntRange(1, 10**7)
PLAN = (
    click.option("--tp", type=_DEGREE, help="Tensor parallelism: ranks that divide the matrices of each layer."),
    click.option("--pp", type=_DEGREE, help="Pipeline parallelism: stages that divide the layers."),
    click.option("--dp", type=_DEGREE, help="Data parallelism: replicas that divide the batch."),
    click.option("--ep", type=_DEGREE, help="Expert parallelism: replicas that divide the experts."),
    click.option("--cp", type=_DEGREE, help="Context parallelism: ranks that divide the tokens of a sequence."),
    click.option("--sequence-parallel", is_flag=True, default=None, help="Divide tokens outside the divided matrices."),
    click.option("--zero", type=click.IntRange(0, 3), help="ZeRO stage: shard states (1), gradients (2), weights (3)."),
    click.option("--microbatch", type=_DEGREE, help="Sequences of one microbatch. [default: 1 in training]"),
    click.option("--virtual", type=_DEGREE, help="Chunks of layers per stage of the interleaved schedule."),
    click.option("--schedule", type=click.Choice(("gpipe", "1f1b", "interleaved", "zero-bubble")), help="Pipeline schedule. [default: 1f1b]"),
    click.option("--recompute", type=click.Choice(("none", "selective", "full")), help="Activations to recompute."),
)  # fmt: skip
PLAN_FIELDS = (
    "tp",
    "pp",
    "dp",
    "ep",
    "cp",
    "sequence_parallel",
    "zero",
    "microbatch",
    "virtual",
    "schedule",
    "recompute",
)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a plan to a command."""
    for option in reversed(PLAN):
        command = option(command)
    return command


def plan_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of a plan that were given out of a command's arguments."""
    found = {name: given.pop(name) for name in PLAN_FIELDS}
    return {name: value for name, value in found.items() if value is not None}
