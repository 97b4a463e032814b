"""Programs on the command line: a torch module by name, or a config's model as transformers runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from perfmodel import paths
from perfmodel.cli import options
from perfmodel.cli.screen import echo
from perfmodel.errors import InputError, PerfmodelError, UsageError, printable, said
from perfmodel.hardware import gpu as read_gpu
from perfmodel.specfile import read_text

if TYPE_CHECKING:
    from perfmodel.answers.programs import CapturedProgram
    from perfmodel.plans.plan import Plan

RUNS = ("eager", "graph", "compiled", "ideal")
# torch's names of data types.
TORCH_TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}


def show(
    command: str, module: str | None, config: str | None, inputs: str | None, run: str | None, gpu: str | None, *,
    phase: str | None, dtype: str | None, settings: Mapping[str, Any], knowledge: str | None, form: str, steps: bool,
    verbose: bool, columns: tuple[str, ...], fields: Mapping[str, Any] = {}, system: str | None = None,
) -> None:  # fmt: skip
    """Prints a program on a card. ``fields`` are those of a plan of data parallelism."""
    if gpu is None:
        raise UsageError(command, "no GPU is named", "a program needs --gpu", "Add --gpu, such as --gpu h100.")
    card = read_gpu(gpu)
    plan = _plan(fields, phase) if fields or system else None
    program = (
        of_module(command, module, inputs, phase, dtype, settings)
        if module
        else of_config(config, phase, dtype, settings, plan.dp if plan else 1)
    )
    from perfmodel.report.programs import render

    answer = program.on(card, run or "eager", knowledge, plan=plan, system=system)
    echo(render(answer, form, steps=steps, verbose=verbose, columns=columns), nl=False)


def _plan(fields: Mapping[str, Any], phase: str | None) -> Plan:
    """The plan of a program, which has replicas in training only."""
    from perfmodel.plans.asking import plan_of
    from perfmodel.programs.replicas import Replicas

    plan = plan_of(fields)
    Replicas(plan)  # refuses what does not divide a program
    if phase != "train":
        raise UsageError(
            f"plan: {plan.words}", f"the phase is {phase or 'prefill'}", "replicas communicate in training", "Add --phase train."
        )  # fmt: skip
    return plan


def of_module(
    command: str, module: str, inputs: str | None, phase: str | None, dtype: str | None, settings: Mapping[str, Any]
) -> CapturedProgram:
    """Returns the program of ``PACKAGE.MODULE:CALLABLE``."""
    options.refuse_together(command, "--module", {"--dtype": dtype}, "its types are those of --input")
    if phase == "decode":
        raise UsageError(
            "--phase decode",
            "a module has no such phase",
            "prefill and train are accepted",
            "Name a function that decodes one token.",
        )
    _require_torch("--module")
    from perfmodel.capture import capture

    with _user_code(f"--module {module}"):
        found = capture(module, inputs, train=phase == "train")
    return _with_sizes(found, settings) if found.dims or settings else found


def _with_sizes(found: CapturedProgram, settings: Mapping[str, Any]) -> CapturedProgram:
    """The program with numbers for the sizes that --input names: those of --set, else values that a note states."""
    given: dict[str, int] = {}
    for name, value in settings.items():
        if name not in found.dims:
            names = ", ".join(found.dims) or "none, because --input has numbers alone"
            raise UsageError(
                f"--set {name}", "--input names no such size", f"the sizes that it names are accepted: {names}",
                f"Remove --set {name}, or write {name} in --input.",
            )  # fmt: skip
        given[name] = value if isinstance(value, int) else value({})
    sizes = {**found.dims, **given}
    note = f"Sizes: {', '.join(f'{name} = {value}' for name, value in sizes.items())}"
    assumed = [name for name in sizes if name not in given]
    note += f"; {', '.join(assumed)} assumed, change with --set." if assumed else "."
    made = found.at(**given)
    return type(found)(*made._replace(notes=(note, *made.notes)))


def of_config(
    config: str | None, phase: str | None, dtype: str | None, settings: Mapping[str, Any], replicas: int = 1
) -> CapturedProgram:
    """Returns the program of a config's model, by the code of transformers. B of the settings is that of all replicas."""
    _require_torch("--via torch")
    from perfmodel.capture import capture
    from perfmodel.capture.models import step

    chosen = phase or "prefill"
    path = _config_file(str(config))
    most = _positions(path)
    sizes = _sizes(chosen, settings, most)
    if "B" not in settings:
        sizes["B"] *= replicas
    if sizes["B"] % replicas:
        raise InputError(
            f"--set B={sizes['B']}", f"--dp {replicas} does not divide it", "replicas process equal shares of the batch",
            "Change --dp or --set B.",
        )  # fmt: skip
    if dtype is not None and dtype not in TORCH_TYPES:
        accepted = f"{', '.join(TORCH_TYPES)} are accepted"
        raise UsageError(f"--dtype {dtype}", "transformers does not run it", accepted, "Name one of these.")
    words = ", ".join([chosen, *(f"{name} = {value}" for name, value in sizes.items()), dtype or "bf16"])
    words += f"; one of {replicas} replicas, B = {sizes['B'] // replicas}" if replicas > 1 else ""
    with _user_code(f"--config {config}"):
        run = step(path, chosen, **{**sizes, "B": sizes["B"] // replicas}, dtype=TORCH_TYPES[dtype or "bf16"])
        found = capture(run, name=f"{paths.label(path)}: {words}")
    used = sizes["S"] + 1 if phase == "decode" else sizes["N"]
    if most is None or used <= most:
        return found
    note = f"The model has {most:,} positions, and the program uses {used:,}."
    return type(found)(*found._replace(notes=(note, *found.notes)))


def _positions(path: str) -> int | None:
    """The positions of a config.json, where it states them."""
    import json

    try:
        found = json.loads(read_text(path))
    except ValueError:  # the reader of the model reports it
        return None
    for part in (found, found.get("text_config")) if isinstance(found, dict) else ():
        for key in ("max_position_embeddings", "n_positions"):
            if isinstance(part, dict) and type(part.get(key)) is int and part[key] > 1:
                return int(part[key])
    return None


def _sizes(phase: str, settings: Mapping[str, Any], most: int | None) -> dict[str, Any]:
    """The sizes of a phase, with those that are set. By default 2048 tokens, or as many as the model has positions."""
    tokens = min(2048, most or 2048)
    sizes: dict[str, Any] = (
        {"B": 1, "S": min(tokens, (most or 2049) - 1)} if phase == "decode" else {"B": 1, "N": tokens}
    )
    for name, value in settings.items():
        if name not in sizes:
            accepted = f"{', '.join(sizes)} are accepted"
            raise UsageError(
                f"--set {name}", f"a program of phase {phase} has no such size", accepted, f"Remove --set {name}."
            )
        sizes[name] = value if isinstance(value, int) else value({})
    return sizes


@contextmanager
def _user_code(what: str) -> Iterator[None]:
    """Reports an error that the program's own code raises, with the place in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the program's libraries
            yield
    except PerfmodelError:
        raise
    except Exception as error:
        frames = extract_tb(error.__traceback__)
        at = next(
            (f for f in reversed(frames) if "torch" not in f.filename and "perfmodel" not in f.filename), frames[-1]
        )
        raise InputError(
            what, f"its code raised {type(error).__name__}: {said(str(error).partition(chr(10))[0], 200)}",
            "code that runs on tensors without data is accepted", f"Correct {printable(at.filename)}:{at.lineno}.",
        ) from None  # fmt: skip


def _config_file(name: str) -> str:
    """The config.json of a name, a file or a folder."""
    import os

    if os.path.isdir(name):
        return os.path.join(name, "config.json")
    found = paths.named("configs", name) if paths.is_name(name) else name
    if found is None or not str(found).endswith(".json"):
        what = "no file has this name" if found is None else "it is a workload file"
        raise InputError(
            f"--config {name}", what, "--via torch needs the config.json of a Hugging Face model",
            "Name such a file, such as --config gpt2, or leave out --via torch.",
        )  # fmt: skip
    return str(found)


def _require_torch(what: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise InputError(
            what, "torch is not installed", "a program is read by torch", "Run 'pip install torch transformers'."
        )
