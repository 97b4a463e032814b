"""Twins on the meta device in place of the tensors that a program refers to, and everything put back afterwards.

The implementation of a tensor object is exchanged for that of its twin. All holders of the object (a module, an
optimizer, a list of parameters) then use the twin. Gradients belong to the implementation and come back with it.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CellType, FunctionType
from typing import Any

import torch

from perfmodel.capture.reach import names

_exchange = torch._C._swap_tensor_impl


class Twins:
    """Meta tensors of the shape, strides and data type of real ones. Tensors that share memory have twins that do."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[Any, torch.Tensor]] = {}
        self._cached: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A new twin, with a twin of the gradient."""
        with torch.no_grad():
            twin = self._like(tensor)
        if tensor.requires_grad:
            twin.requires_grad_()
            if tensor.is_leaf and tensor.grad is not None:
                twin.grad = self._like(tensor.grad)
        return twin

    def cached(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the twin of a tensor that a call uses; always the same object for one tensor."""
        found = self._cached.get(id(tensor))
        if found is None:
            found = self._cached[id(tensor)] = tensor, self.of(tensor)
        return found[1]

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout is not torch.strided:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        storage = tensor.untyped_storage()
        kept = self._storages.get(id(storage))
        if kept is None:
            memory = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            kept = self._storages[id(storage)] = storage, memory
        twin = torch.empty(0, dtype=tensor.dtype, device="meta")
        return twin.set_(kept[1].untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())

    def forget(self) -> None:
        """Drops references that would keep unused tensors alive."""
        self._storages.clear()


@contextmanager
def replaced(tensors: Iterable[torch.Tensor], twins: Twins) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Every tensor is its twin while the context is open. Yields the tensors, each with the object that is now real."""
    exchanged: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        for tensor in tensors:
            twin = twins.of(tensor)
            _exchange(tensor, twin)
            exchanged.append((tensor, twin))
        twins.forget()
        yield exchanged
    finally:
        for tensor, twin in reversed(exchanged):
            _exchange(tensor, twin)


@contextmanager
def unchanged(objects: Iterable[Any]) -> Iterator[None]:
    """Restores attributes, containers, closures and random numbers of the host after the block."""
    restore = [undo for value in objects if (undo := _memory(value))]
    restore += _random_numbers()
    try:
        yield
    finally:
        for undo in restore:
            undo()


def _random_numbers() -> list[Callable[[], None]]:
    """Functions that put the generators of the host back."""
    own, of_torch, numpy = random.getstate(), torch.get_rng_state(), sys.modules.get("numpy.random")
    found = [lambda: random.setstate(own), lambda: torch.set_rng_state(of_torch)]
    if numpy is not None:
        of_numpy = numpy.get_state()
        found.append(lambda: numpy.set_state(of_numpy))
    return found


def _memory(value: Any) -> Callable[[], None] | None:
    """A function that puts the content of a container back, or None if the object has none."""
    if isinstance(value, dict):
        before = dict(value)
        return lambda: None if _same(value, before) else _refill(value, before)
    if isinstance(value, (list, deque, set)):
        items = list(value)
        return lambda: _refill_items(value, items)
    if isinstance(value, CellType):
        try:
            content = value.cell_contents
        except ValueError:
            return None
        return lambda: setattr(value, "cell_contents", content)
    if isinstance(value, FunctionType):
        used = {name: value.__globals__[name] for name in names(value.__code__) if name in value.__globals__}
        return lambda: value.__globals__.update(used)
    if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.dim() == 0:
        number = value.detach().clone()
        return lambda: None if value.equal(number) else _assign(value, number)
    return None


def _same(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return len(now) == len(before) and all(a is b for a, b in zip(now.values(), before.values(), strict=True))


def _refill(value: dict[Any, Any], before: dict[Any, Any]) -> None:
    value.clear()
    value.update(before)


def _refill_items(value: Any, items: list[Any]) -> None:
    if len(value) == len(items) and all(a is b for a, b in zip(value, items, strict=True)):
        return
    value.clear()
    (value.update if isinstance(value, set) else value.extend)(items)


def _assign(value: torch.Tensor, number: torch.Tensor) -> None:
    with torch.no_grad():
        value.copy_(number)
