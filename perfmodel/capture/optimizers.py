"""Optimizers and gradient clipping choose between their implementations as they do on a card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import _foreach_utils as support

from perfmodel.capture.tape import Tape

_PLACES = ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.optim.swa_utils")
_LISTS = ("_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices")


@contextmanager
def as_on_a_card() -> Iterator[None]:
    """The meta device counts as one with multi-tensor and fused kernels."""
    with ExitStack() as stack:
        for name in _LISTS:
            with_meta = [*getattr(support, name)(), "meta"]
            for place in _PLACES:
                stack.enter_context(patch(f"{place}.{name}", lambda devices=with_meta: list(devices), create=True))
        yield


def empty(objects: Iterable[Any]) -> list[Any]:
    """The optimizers that have taken no step."""
    return [value for value in objects if isinstance(value, torch.optim.Optimizer) and not value.state]


def prepare(tape: Tape, empty: Iterable[Any]) -> None:
    """Creates the state that an optimizer creates in its first step, so that a later step is captured."""
    for optimizer in empty:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        kept = [p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        try:
            optimizer.step()
        except (TypeError, RuntimeError):  # one that calls the model itself
            continue
        finally:
            for parameter, gradient in zip(parameters, kept, strict=True):
                parameter.grad = gradient
        if any(optimizer.state.values()):
            tape.notes["The first step of the optimizer makes its state; the second step is shown."] = None
    tape.rewind()
