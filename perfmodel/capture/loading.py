"""Programs named on a command line: a module or function of the user's by name, and its inputs as text.

User code is imported here and only when a program is asked for. What builds a model runs on the meta device, so that no
weights are made.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from perfmodel.capture.compiling import captured_twice
from perfmodel.capture.sizes import Spec
from perfmodel.errors import InputError, near_or_known
from perfmodel.programs.program import Program

_TYPES = {
    "fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int64": torch.int64,
    "int32": torch.int32, "int16": torch.int16, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip
_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<type>\w+)\[(?P<sizes>[^\]]*)\]")
INPUTS_ACCEPTED = "NAME=TYPE[SIZE,SIZE,...] is accepted, such as input_ids=int64[1,2048] or x=bf16[8,3,224,224]"


def program(text: str, inputs: str | None = None, *, train: bool = False, guess: Any = None) -> Program:
    """The program of ``PACKAGE.MODULE:CALLABLE``, which is a module, a function, or what returns a module.

    A function that returns a module, or a module and its arguments, builds the model; any other is itself the program.
    ``inputs`` are for the model. ``train`` adds the backward pass and a step of AdamW. The folder of the process is
    searched for the package first.
    """
    target, name = _found(text), text.partition(":")[2]
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        target = _on_meta(target)
    if not isinstance(target, torch.nn.Module):
        args, kwargs = _taken(target, *_given(inputs))
        if not args and not kwargs:
            _nothing_needed(target, f"{name}()", text)
        own, result = captured_twice(_on_meta(target), args, kwargs, name, guess)
        built = result if isinstance(result, (tuple, list)) else (result,)
        if not built or not isinstance(built[0], torch.nn.Module):
            if train:
                raise InputError("--phase train", f"{name}() returns no module", "a module, or a function that returns one, is accepted", "Remove --phase train, and call backward() in the function.")  # fmt: skip
            return own
        inputs = None if args or kwargs else inputs
        target, arguments = built[0], list(built[1:])
    else:
        arguments = []
    args, kwargs = _arguments(target, arguments, inputs, text)
    if train:
        return captured_twice(_training(target), args, kwargs, name, guess)[0]
    with torch.no_grad():
        return captured_twice(target.eval(), args, kwargs, name, guess)[0]


def _found(text: str) -> Any:
    """The object of that name."""
    module, _, path = text.partition(":")
    if not re.fullmatch(r"[\w.]+:[\w.]+", text):
        raise InputError(f"--module {text}", "it does not name a callable", "PACKAGE.MODULE:CALLABLE is accepted", "Write the name of a module, a colon, and a name in that module.")  # fmt: skip
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module)
    except Exception as error:
        action = "Run perfmodel in the folder of the package, or set PYTHONPATH." if isinstance(error, ImportError) else f"Correct '{module}'."  # fmt: skip
        raise InputError(f"--module {text}", f"'{module}' cannot be imported ({type(error).__name__}: {error})", "a module that Python imports is accepted", action) from error  # fmt: skip
    finally:
        sys.path.remove(os.getcwd())
    for part in path.split("."):
        if not hasattr(found, part):
            near = near_or_known(part, (x for x in dir(found) if x[0] != "_"))
            raise InputError(f"--module {text}", f"'{module}' has no '{part}'", "a torch module, a class or a function is accepted", near or "Name an object of this module.")  # fmt: skip
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"--module {text}", f"'{path}' is of type {type(found).__name__}", "a torch module, a class or a function is accepted", "Name something that can be called.")  # fmt: skip
    return found


def _on_meta(function: Any) -> Any:
    """The function with the meta device for every tensor without a device; of a class, an instance."""
    if isinstance(function, type):
        with torch.device("meta"):
            return function()

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.device("meta"):
            return function(*args, **kwargs)

    return run


def _given(inputs: str | None) -> tuple[list[Any], dict[str, Any]]:
    """The tensors of an input text: those without a name, and those with one."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    rest = _INPUT.sub(lambda found: _add(found, args, kwargs), inputs or "")
    if rest.strip(" ,;"):
        raise InputError("--input", f"'{rest.strip(' ,;')}' is not an input", INPUTS_ACCEPTED, "Separate several inputs by spaces.")  # fmt: skip
    return args, kwargs


def _taken(function: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The inputs, if the function takes them; else they are for the model that it builds."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return [], {}
    return args, kwargs


def _add(found: re.Match[str], args: list[Any], kwargs: dict[str, Any]) -> str:
    kind, sizes = found["type"], [size.strip() for size in found["sizes"].split(",") if size.strip()]
    if kind not in _TYPES:
        raise InputError(f"--input {found[0]}", f"'{kind}' is not a data type", INPUTS_ACCEPTED, near_or_known(kind, _TYPES))  # fmt: skip
    if not all(size.isdigit() or size.isidentifier() for size in sizes):
        raise InputError(f"--input {found[0]}", f"'{found['sizes']}' is not a list of sizes", INPUTS_ACCEPTED, "Write whole numbers, or names for formulas.")  # fmt: skip
    if all(size.isdigit() for size in sizes):
        tensor: Any = torch.empty([int(size) for size in sizes], dtype=_TYPES[kind], device="meta")
    else:
        tensor = Spec(tuple(int(size) if size.isdigit() else size for size in sizes), kind)
    if found["name"]:
        if found["name"] in kwargs:
            raise InputError(f"--input {found[0]}", f"{found['name']} is given twice", "each input is accepted once", "Remove one of the two.")  # fmt: skip
        kwargs[found["name"]] = tensor
    else:
        args.append(tensor)
    return ""


def _arguments(model: Any, arguments: list[Any], inputs: str | None, text: str) -> tuple[list[Any], dict[str, Any]]:
    """The inputs of a model: as text, else those that its factory returned, else typical ones of a transformers model."""
    if inputs:
        args, kwargs = _given(inputs)
        _accepted(model.forward, args, kwargs)
        return args, kwargs
    if arguments:
        args = [x for x in arguments if not isinstance(x, dict)]
        flat = [y for x in args for y in (x if isinstance(x, (tuple, list)) else (x,))]
        return flat, {key: y for x in arguments if isinstance(x, dict) for key, y in x.items()}
    if getattr(model, "main_input_name", None) == "input_ids":
        return [], {"input_ids": torch.empty(1, 128, dtype=torch.int64, device="meta")}
    _nothing_needed(model.forward, "forward()", text)
    return [], {}


def _accepted(function: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Refuses inputs that the function does not take, or too few."""
    parameters = inspect.signature(function).parameters
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        given = ", ".join(("unnamed",) * len(args) + tuple(kwargs)) or "none"
        names = ", ".join(str(one) for one in parameters.values())
        unknown = next((name for name in kwargs if name not in parameters), "")
        action = near_or_known(unknown, parameters) if unknown else "Give each input that has no default once."
        raise InputError("--input", f"forward() does not accept these inputs ({error}); given: {given}", f"forward({names}) is called", action) from error  # fmt: skip


def _nothing_needed(function: Any, name: str, text: str) -> None:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = inspect.signature(function).parameters.values()
    if needed := [p.name for p in given if p.default is p.empty and p.kind in kinds]:
        raise InputError(f"--module {text}", f"{name} needs {', '.join(needed)}", INPUTS_ACCEPTED, "Give each as --input.")  # fmt: skip


def _training(model: Any) -> Callable[..., None]:
    """A training step: the loss that the model returns, else the sum of its first result, its gradients, and AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model.train()

    def step(*args: Any, **kwargs: Any) -> None:
        if "input_ids" in kwargs and "labels" in inspect.signature(model.forward).parameters:
            kwargs.setdefault("labels", kwargs["input_ids"])
        result = model(*args, **kwargs)
        loss = getattr(result, "loss", None)
        if loss is None:
            first = result if isinstance(result, torch.Tensor) else next(iter(result.values() if isinstance(result, dict) else result))  # fmt: skip
            loss = first.float().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
