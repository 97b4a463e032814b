"""Which module is running, by its path, and when the optimizer is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from perfmodel.capture.tape import Tape


@contextmanager
def followed(tape: Tape, roots: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Keeps the tape's module path and optimizer phase while the context is open."""
    paths = _paths(roots)
    original = torch.nn.Module.__call__
    for module, path in paths.values():
        tape.owners.update((id(parameter), path) for parameter in module._parameters.values())

    def call(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        outer = tape.path
        found = paths.get(id(self))
        tape.modules += 1
        tape.enter(found[1] if found else f"{outer}.{type(self).__name__}".lstrip("."))
        try:
            return original(self, *args, **kwargs)
        finally:
            tape.enter(outer)

    def begin(*_: Any) -> None:
        tape.in_optimizer = True

    def end(*_: Any) -> None:
        tape.in_optimizer = False

    hooks = register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)
    torch.nn.Module.__call__ = call
    try:
        yield
    finally:
        torch.nn.Module.__call__ = original
        for hook in hooks:
            hook.remove()


def _paths(roots: Iterable[torch.nn.Module]) -> dict[int, tuple[torch.nn.Module, str]]:
    """Every module with its path, by identity. Modules of a root that is part of another root have the longer path."""
    paths: dict[int, tuple[torch.nn.Module, str]] = {}
    for root in roots:
        if id(root) in paths:
            continue
        for path, module in root.named_modules():
            if len(path) >= len(paths.get(id(module), (None, ""))[1]):
                paths[id(module)] = module, path
    return paths
