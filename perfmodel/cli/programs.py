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

if TYPE_CHECKING:
    from perfmodel.answers.programs import CapturedProgram

RUNS = ("eager", "graph", "compiled", "ideal")
# torch's names of data types.
TORCH_TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}


def show(
    command: str, module: str | None, config: str | None, inputs: str | None, run: str | None, gpu: str | None, *,
    phase: str | None, dtype: str | None, settings: Mapping[str, Any], knowledge: str | None, form: str, steps: bool,
    verbose: bool, columns: tuple[str, ...],
) -> None:  # fmt: skip
    """Prints a program on a card."""
    if gpu is None:
        raise UsageError(command, "no GPU is named", "a program needs --gpu", "Add --gpu, such as --gpu h100.")
    card = read_gpu(gpu)
    program = (
        of_module(command, module, inputs, phase, dtype, settings)
        if module
        else of_config(config, phase, dtype, settings)
    )
    from perfmodel.report.programs import render

    answer = program.on(card, run or "eager", knowledge)
    echo(render(answer, form, steps=steps, verbose=verbose, columns=columns), nl=False)


def of_module(
    command: str, module: str, inputs: str | None, phase: str | None, dtype: str | None, settings: Mapping[str, Any]
) -> CapturedProgram:
    """Returns the program of ``PACKAGE.MODULE:CALLABLE``."""
    others = {"--dtype": dtype, "--set": settings or None}
    options.refuse_together(command, "--module", others, "its sizes and types are those of --input")
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
        return capture(module, inputs, train=phase == "train")


def of_config(config: str | None, phase: str | None, dtype: str | None, settings: Mapping[str, Any]) -> CapturedProgram:
    """Returns the program of a config's model, by the code of transformers."""
    _require_torch("--via torch")
    from perfmodel.capture import capture
    from perfmodel.capture.models import step

    chosen = phase or "prefill"
    sizes = _sizes(chosen, settings)
    if dtype is not None and dtype not in TORCH_TYPES:
        accepted = f"{', '.join(TORCH_TYPES)} are accepted"
        raise UsageError(f"--dtype {dtype}", "transformers does not run it", accepted, "Name one of these.")
    path = _config_file(str(config))
    words = ", ".join([chosen, *(f"{name} = {value}" for name, value in sizes.items()), dtype or "bf16"])
    with _user_code(f"--config {config}"):
        run = step(path, chosen, **sizes, dtype=TORCH_TYPES[dtype or "bf16"])
        return capture(run, name=f"{paths.label(path)}: {words}")


def _sizes(phase: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a phase, with those that are set."""
    sizes: dict[str, Any] = {"B": 1, "S": 2048} if phase == "decode" else {"B": 1, "N": 2048}
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
        raise InputError(what, "torch is not installed", "a program is read by torch", "Run 'pip install torch'.")
