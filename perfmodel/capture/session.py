"""One capture from start to end: twins in place, modes entered, the target called, everything put back."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from perfmodel.capture import autocast, optimizers, overrides
from perfmodel.capture.dispatch import Recorder
from perfmodel.capture.functions import Functions, opened
from perfmodel.capture.guesses import Guesses
from perfmodel.capture.modules import followed
from perfmodel.capture.reach import reachable
from perfmodel.capture.tape import Tape
from perfmodel.capture.twins import Twins, replaced, unchanged
from perfmodel.capture.values import Values, worthwhile
from perfmodel.programs.program import Program, Resident


def captured(target: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], name: str | None, guess: Any) -> Program:
    """The program of one call of the target."""
    torch.empty(1, device="meta").exp()  # what torch sets up at its first operator is not part of the program
    objects = list(reachable(target, args, kwargs))
    tape, twins, values, guesses = Tape(), Twins(), Values(), Guesses(guess)
    with ExitStack() as stack:
        stack.enter_context(_without_collection())
        stack.enter_context(unchanged(objects))
        for tensor, real in stack.enter_context(replaced(_tensors(objects), twins)):
            if real.device.type == "cpu" and not real.requires_grad and worthwhile(real):
                values.learn(tensor, real.detach().clone())
        resident = _resident(tape, objects, (args, kwargs))
        stack.enter_context(followed(tape, (value for value in objects if isinstance(value, torch.nn.Module))))
        recorder = Recorder(tape, values, guesses, twins.cached)
        for context in (
            overrides.registered(),
            optimizers.as_on_a_card(),
            autocast.as_on_a_card(),
            opened(),
            Functions(recorder),
            recorder,
        ):
            stack.enter_context(context)
        result = target(*args, **kwargs)
        steps = tape.finished()
        del result
    return Program(name or _name(target), steps, resident, tuple(guesses.stated), tuple(tape.notes))


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for unreachable cycles: a tensor lives as long as something refers to it, in every run the same."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _tensors(objects: list[Any]) -> list[torch.Tensor]:
    """Tensors that lie on the card in a real run. Step counters of optimizers stay in the memory of the host."""
    on_host: set[int] = set()
    for value in objects:
        if isinstance(value, torch.optim.Optimizer):
            for group in value.param_groups:
                if not (group.get("fused") or group.get("capturable")):
                    on_host.update(
                        id(value.state[p]["step"]) for p in group["params"] if "step" in value.state.get(p, ())
                    )
    return [value for value in objects if isinstance(value, torch.Tensor) and id(value) not in on_host]


def _resident(tape: Tape, objects: list[Any], inputs: Any) -> dict[int, Resident]:
    """The storages of all tensors that exist before the first step, with their roles."""
    resident: dict[int, Resident] = {}

    def add(tensor: Any, role: str, label: str) -> None:
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            memory = tape.storages.reference(tensor)
            resident.setdefault(memory.number, Resident(memory.byte, role, label))
            if tensor.is_leaf and tensor.grad is not None:
                add(tensor.grad, "state", f"{label}.grad")

    for module in (value for value in objects if isinstance(value, torch.nn.Module)):
        for label, tensor in module.named_parameters():
            add(tensor, "parameter", label)
        for label, tensor in module.named_buffers():
            add(tensor, "buffer", label)
    for optimizer in (value for value in objects if isinstance(value, torch.optim.Optimizer)):
        for state in optimizer.state.values():
            for label, tensor in state.items() if isinstance(state, dict) else ():
                add(tensor, "state", label)
    for value in objects:
        add(value, "input", "")
    return resident


def _name(target: Any) -> str:
    return str(getattr(target, "__qualname__", None) or type(target).__name__)
