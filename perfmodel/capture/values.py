"""True values of tensors on the meta device, where they are known: small ones that come from the host or from constants.

The result of an operator on known tensors is known as well. Masks, positions and lengths that decide a branch are
therefore evaluated, not guessed.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

_Tensor = torch.Tensor
# Elements of a known tensor: masks and positions, and small tables.
LIMIT_WHOLE, LIMIT_REAL = 1 << 22, 1 << 14
_FACTORIES = frozenset(
    ("arange", "zeros", "ones", "full", "scalar_tensor", "linspace", "eye", "tril_indices", "triu_indices", "zeros_like",
     "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
)  # fmt: skip
_FILLS = frozenset(("fill_", "zero_"))
# Operators that one operand decides, and the value of it that does.
_DECIDING = {
    "bitwise_or": True, "logical_or": True, "bitwise_and": False, "logical_and": False, "mul": False,
}  # fmt: skip
CPU = torch.device("cpu")


class Unknown(Exception):  # noqa: N818 - no error: the ordinary case
    """A tensor has no known value."""


class Values:
    """Real tensors by the identity of the meta tensors that represent them."""

    def __init__(self) -> None:
        self._real: dict[int, torch.Tensor] = {}
        self._references: dict[int, weakref.ref[Any]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The real tensor, or None if it is not known."""
        return self._real.get(id(tensor)) if tensor.is_meta else tensor

    def learn(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """Notes the value of a tensor."""
        key = id(tensor)
        self._real[key] = real
        self._references[key] = weakref.ref(tensor, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self._real.pop(key, None)
        self._references.pop(key, None)

    def follow(self, name: str, mutates: bool, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Executes an operator on the real tensors too, if all that it is given is known."""
        first = args[0] if args else None
        if isinstance(first, _Tensor):
            if id(first) not in self._real and first.is_meta:
                self._of_unknown(name, func, args, kwargs, result)
                return
        elif name not in _FACTORIES and not isinstance(first, (list, tuple)):
            return
        try:
            if not worthwhile(result):
                raise Unknown
            given, named = self.real(args), self.real(kwargs)
            if name in _FACTORIES or self._anything(args):
                self._pair(result, func(*given, **named))
        except (Unknown, NotImplementedError, RuntimeError):  # the last two: an operator of cards alone
            if name in _DECIDING:
                self._decide(name, args, result)
            elif mutates:
                self._lose(first)

    def _of_unknown(self, name: str, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Returns a known result although the first argument is unknown: a constant, or a result that another argument
        determines.
        """
        first, rest = args[0], args[1:]
        if name in _FACTORIES and worthwhile(result) and worthwhile(first):
            self._pair(result, func(torch.empty(first.shape, dtype=first.dtype), *rest, **self.real(kwargs)))
        elif name in _DECIDING:
            self._decide(name, args, result)
        elif name in _FILLS and worthwhile(first) and not any(isinstance(x, _Tensor) for x in rest):
            self.learn(first, func(torch.empty(first.shape, dtype=first.dtype), *rest))

    def _decide(self, name: str, args: Any, result: Any) -> None:
        """True or anything is true, false and anything is false: one known operand can be enough."""
        decisive = _DECIDING[name]
        if result.dtype.is_floating_point or (decisive and result.dtype != torch.bool):
            return
        for operand in args[:2]:
            real = self.of(operand) if isinstance(operand, _Tensor) else None
            if real is not None and real.shape == result.shape and bool((real.bool() == decisive).all()):
                self.learn(result, torch.full(real.shape, decisive).to(result.dtype))

    def _anything(self, args: Any) -> bool:
        """Whether a tensor of the card is among the arguments; numbers alone make a value only in a factory."""
        return any(
            isinstance(x, _Tensor) or (isinstance(x, (list, tuple)) and any(isinstance(y, _Tensor) for y in x))
            for x in args
        )

    def real(self, value: Any) -> Any:
        """The arguments with every meta tensor replaced by the real one, or the exception Unknown."""
        if isinstance(value, _Tensor):
            found = self.of(value)
            if found is None:
                raise Unknown
            return found
        if isinstance(value, (tuple, list)):
            return [self.real(item) for item in value]
        if isinstance(value, dict):
            return {key: CPU if key == "device" else self.real(item) for key, item in value.items()}
        return value

    def _pair(self, result: Any, real: Any) -> None:
        if isinstance(result, _Tensor):
            if isinstance(real, _Tensor) and result.is_meta:
                self.learn(result, real)
        elif isinstance(result, (tuple, list)):
            for one, other in zip(result, real, strict=False):
                self._pair(one, other)

    def _lose(self, tensor: Any) -> None:
        """Forgets a tensor that was overwritten with unknown values, and all views of the same memory."""
        real = self._real.get(id(tensor)) if isinstance(tensor, _Tensor) else None
        if real is not None:
            memory = real.untyped_storage()._cdata
            for key in [key for key, other in self._real.items() if other.untyped_storage()._cdata == memory]:
                self._forget(key)


def worthwhile(result: Any) -> bool:
    """Whether results are small enough to be executed."""
    if isinstance(result, _Tensor):
        count = result.numel()
        return type(count) is int and count <= (LIMIT_REAL if result.dtype.is_floating_point else LIMIT_WHOLE)
    if isinstance(result, (tuple, list)):
        return all(worthwhile(item) for item in result)
    return True
