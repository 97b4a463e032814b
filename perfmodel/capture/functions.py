"""The mode that sees every call of a torch function: devices become the meta device, and calls are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodWrapperType
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode

from perfmodel.capture.dispatch import Recorder

CARD = torch.device("meta")


class Functions(TorchFunctionMode):  # type: ignore[misc]
    """Counts the torch functions that Python calls, and keeps every tensor that is sent to a card on the meta device."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.tape = recorder.tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if type(func) is MethodWrapperType:  # an attribute such as shape
            return func(*args)
        self.tape.functions += 1
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(func, args, kwargs or {})
        if func is torch.Tensor.__bool__:
            return self._truth(func, args)
        if func in _READING and args[0].is_meta:
            return func(self.recorder.read(args[0]))
        if kwargs:
            return func(*args, **(_placed(kwargs) if "device" in kwargs or "pin_memory" in kwargs else kwargs))
        return func(*args)

    def _truth(self, func: Any, args: Any) -> Any:
        self.tape.truth = True
        try:
            return func(*args)
        finally:
            self.tape.truth = False


def device(value: Any) -> Any:
    """The meta device in place of every card."""
    if isinstance(value, int) or (isinstance(value, str) and value.startswith("cuda")):
        return CARD
    return CARD if isinstance(value, torch.device) and value.type == "cuda" else value


def _placed(kwargs: dict[str, Any]) -> dict[str, Any]:
    placed = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if "device" in placed:
        placed["device"] = device(placed["device"])
    return placed


def _to(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    moved = [device(value) if isinstance(value, (str, torch.device)) else value for value in args]
    if len(moved) > 1 and type(moved[1]) is int:
        moved[1] = CARD
    return func(*moved, **_placed(kwargs))


def _cuda(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return args[0].to(CARD)


def _pinned(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return args[0]


def _made(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A tensor made from Python numbers is made by the host and copied."""
    kwargs = _placed(kwargs)
    target = kwargs.pop("device", None)
    made = func(*args, **kwargs)
    if target is None or made.numel():
        return made if target is None else made.to(target)
    return func(*args, **kwargs, device=target)


def _set(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """``x[key] = number``: a fill of a view or a mask. Elsewhere the number stays with the host."""
    x, key, value = args
    if not (x.is_meta and isinstance(value, (int, float))):
        return func(*args, **kwargs)
    if all(
        part is None or part is ... or isinstance(part, (int, slice))
        for part in (key if type(key) is tuple else (key,))
    ):
        return x[key].fill_(value)
    if isinstance(key, torch.Tensor) and key.dtype == torch.bool and key.is_meta and key.shape == x.shape[: key.dim()]:
        return x.masked_fill_(key.reshape(*key.shape, *(1 for _ in x.shape[key.dim() :])), value)
    return func(x, key, torch.tensor(value, dtype=x.dtype))


_HANDLERS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cuda: _cuda,
    torch.Tensor.pin_memory: _pinned,
    torch.tensor: _made,
    torch.Tensor.__setitem__: _set,
}

# What reads a whole tensor into the memory of the host.
_READING = frozenset((torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__))

# Python functions of torch ask whether a mode wants them whole. Here they run, and the mode sees what they call.
_ASKING = ("torch.nn.functional", "torch.functional", "torch._tensor", "torch.nn.init")
# What only a card can do, and which changes nothing here.
_OF_THE_CARD = ("synchronize", "empty_cache", "reset_peak_memory_stats", "_lazy_init")


@contextmanager
def opened() -> Iterator[None]:
    """Python functions of torch are transparent, and waiting for the card takes no card."""
    with ExitStack() as stack:
        for module in _ASKING:
            for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
                stack.enter_context(patch(f"{module}.{name}", _no, create=True))
        if not torch.cuda.is_available():
            for name in _OF_THE_CARD:
                stack.enter_context(patch(f"torch.cuda.{name}", _nothing))
        stack.enter_context(patch("torch.compile", _uncompiled))
        yield


def _no(*_: Any) -> bool:
    return False


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _uncompiled(model: Any = None, **_: Any) -> Any:
    return model if model is not None else (lambda function: function)
