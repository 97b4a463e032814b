"""Reading a torch module or function as a program: the calls it would make on a GPU, without weights and without a GPU.

    program = perfmodel.capture(model, input_ids=tokens)

Only this package and ``measure`` import torch, and only when ``capture`` is called. The package itself can be called,
because its name is also that of the library function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from perfmodel.answers.programs import CapturedProgram
from perfmodel.capture.sizes import Dim, Spec, ids
from perfmodel.errors import InputError, shown

__all__ = ["Dim", "Spec", "capture", "ids"]


def capture(
    target: Callable[..., Any] | str, *args: Any, name: str | None = None, guess: Any = None, **kwargs: Any
) -> CapturedProgram:
    """Returns the program that ``target(*args, **kwargs)`` runs on a GPU. Nothing is computed.

    ``target`` is a module or a function, such as a training step with backward pass and optimizer. Its parameters, its
    inputs and the tensors that it refers to may be real or on the meta device; all are as before afterwards. ``guess``
    replaces values that only data can tell (see ``guesses``). A text names a callable, ``package.module:callable``, and
    its first argument is the text of its inputs (see ``loading``).

    A size can be a name: ``Dim("N")`` for a number, ``Spec(("B", "N"), "int64")`` or ``ids("B", "N")`` for a tensor, and
    ``tokens=Dim("N")`` for one sequence of tokens. Shapes of the program are then formulas in these names.
    """
    if isinstance(target, str):
        from perfmodel.capture.loading import program

        found = program(target, *args, guess=guess, **kwargs)
        return CapturedProgram(*(found._replace(name=name) if name else found))
    if not callable(target):
        raise InputError(
            "capture", f"{shown(target)} is of type {type(target).__name__}", "a torch module or a function is accepted",
            "Pass the model, or a function that runs a step.",
        )  # fmt: skip
    from perfmodel.capture.compiling import captured_twice

    if isinstance(kwargs.get("tokens"), Dim):
        kwargs["input_ids"] = ids(1, kwargs.pop("tokens"))
    return CapturedProgram(*captured_twice(target, args, kwargs, name, guess)[0])


class _Callable(ModuleType):
    """A module that is called like its function ``capture``."""

    def __call__(self, *args: Any, **kwargs: Any) -> CapturedProgram:
        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
