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

__all__ = ["capture"]


def capture(
    target: Callable[..., Any],
    *args: Any,
    name: str | None = None,
    guess: Any = None,
    **kwargs: Any,
) -> CapturedProgram:
    """Returns the program that ``target(*args, **kwargs)`` runs on a GPU. Nothing is computed.

    ``target`` is a module or a function, such as a training step with backward pass and optimizer. Its parameters, its
    inputs and the tensors that it refers to may be real or on the meta device; all are as before afterwards. ``guess``
    replaces values that only data can tell (see ``guesses``).
    """
    from perfmodel.capture.compiling import as_compiled, noticed
    from perfmodel.capture.session import captured

    with noticed() as asked:
        program = captured(target, args, kwargs, name, guess)
    if not asked[0]:
        return CapturedProgram(*program)
    try:
        with as_compiled():
            return CapturedProgram(*program._replace(traced=captured(target, args, kwargs, name, guess)))
    except Exception:  # code that only a compiler can follow
        return CapturedProgram(*program)


class _Callable(ModuleType):
    """A module that is called like its function ``capture``."""

    def __call__(self, *args: Any, **kwargs: Any) -> CapturedProgram:
        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
