"""One capture from start to end: twins in place, modes entered, the target called, everything put back."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from perfmodel.capture import autocast, custom, flex, optimizers, overrides
from perfmodel.capture.dispatch import Recorder
from perfmodel.capture.functions import Functions, opened
from perfmodel.capture.guesses import Guesses
from perfmodel.capture.modules import followed
from perfmodel.capture.notes import remarks
from perfmodel.capture.reach import reachable
from perfmodel.capture.resident import on_the_card, residents
from perfmodel.capture.sizes import named
from perfmodel.capture.tape import Tape
from perfmodel.capture.twins import Twins, replaced, unchanged
from perfmodel.capture.values import Values, worthwhile
from perfmodel.programs.program import Program


def captured(
    target: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], name: str | None, guess: Any
) -> tuple[Program, Any]:
    """Returns the program of one call of the target, and the result of the call."""
    torch.empty(1, device="meta").exp()  # what torch sets up at its first operator is not part of the program
    sizes = _symbols(args, kwargs)
    if sizes:
        args, kwargs = sizes.given(args), sizes.given(kwargs)
    objects = list(reachable(target, args, kwargs))
    tape, twins, values, guesses = Tape(sizes and sizes.expression), Twins(), Values(), Guesses(guess)
    with ExitStack() as stack:
        if sizes:
            stack.enter_context(sizes.dispatched())
        stack.enter_context(_without_collection())
        stack.enter_context(unchanged(objects))
        for tensor, real in stack.enter_context(replaced(on_the_card(objects), twins)):
            if real.device.type != "meta" and not real.requires_grad and worthwhile(real):
                values.learn(tensor, real.detach().to("cpu", copy=True))
        stack.enter_context(followed(tape, (value for value in objects if isinstance(value, torch.nn.Module))))
        recorder = Recorder(tape, values, guesses, _known_twins(twins, values))
        if empty := optimizers.empty(objects):
            with ExitStack() as ahead:
                _enter(ahead, recorder)
                optimizers.prepare(tape, empty)
        resident = residents(tape, objects)
        _enter(stack, recorder)
        result = target(*args, **kwargs)
        steps = tape.finished()
        notes = (*tape.notes, *remarks(steps, result), *(sizes.notes() if sizes else ()))
    dims = sizes.values if sizes else {}
    return Program(name or _name(target), steps, resident, tuple(guesses.stated), notes, dims), result


def _symbols(args: Any, kwargs: Any) -> Any:
    """The symbols of the sizes that are given by name, or None. What they need of torch is loaded only then."""
    dims = named((args, kwargs))
    if not dims:
        return None
    from perfmodel.capture.symbols import Sizes

    return Sizes(dims)


def _known_twins(twins: Twins, values: Values) -> Callable[[torch.Tensor], torch.Tensor]:
    """The twins of tensors of the host that a call meets, with their values."""

    def twin(tensor: torch.Tensor) -> torch.Tensor:
        found = twins.cached(tensor)
        if not tensor.requires_grad and worthwhile(tensor) and values.of(found) is None:
            values.learn(found, tensor.clone())
        return found

    return twin


def _enter(stack: ExitStack, recorder: Recorder) -> None:
    """Makes torch act as on a card, and record."""
    for context in (
        overrides.registered(), optimizers.as_on_a_card(), autocast.as_on_a_card(), flex.as_on_a_card(recorder), opened(),
        Functions(recorder), recorder, custom.recorded(recorder.tape),
    ):  # fmt: skip
        stack.enter_context(context)


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


def _name(target: Any) -> str:
    return str(getattr(target, "__qualname__", None) or type(target).__name__)
