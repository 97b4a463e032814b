"""Captures with symbols for sizes: torch's symbolic integers, and their expressions in the symbols of this project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from perfmodel.capture.guesses import source
from perfmodel.capture.sizes import Dim, Spec, values
from perfmodel.capture.storages import DTYPES
from perfmodel.symbolic import foreign

_TRIALS = (2, 3, 8, 100, 1 << 20)  # a condition that holds for all of these is not worth telling


class Environment(ShapeEnv):  # type: ignore[misc]
    """torch's record of symbols, which also says where a program decided something by a size."""

    def __init__(self) -> None:
        super().__init__(duck_shape=False)
        self.decided: dict[Any, str] = {}

    def _log_guard(self, prefix: str, g: Any, forcing_spec: bool) -> None:
        self.decided.setdefault(g, source())
        super()._log_guard(prefix, g, forcing_spec)


class Sizes:
    """The symbols of one capture."""

    def __init__(self, dims: Mapping[str, Dim]) -> None:
        self.environment = Environment()
        self.values = values(dict(dims))
        self._names: dict[Any, str] = {}
        self._nodes: dict[str, Any] = {}
        self._known: dict[Any, Any] = {}
        for name, value in self.values.items():
            origin = ConstantSource(name)
            symbol = self.environment.create_symbol(value, source=origin, dynamic_dim=DimDynamic.DYNAMIC)
            self._names[symbol] = name
            self._nodes[name] = self.environment.create_symintnode(symbol, hint=value, source=origin)

    def expression(self, size: Any) -> Any:
        """A size as a number or an expression of this project's symbols."""
        if type(size) is not torch.SymInt:
            return size
        found = size.node.expr
        if found not in self._known:
            self._known[found] = foreign(found, self._names)
        return self._known[found]

    def tensor(self, spec: Spec) -> torch.Tensor:
        """A tensor on the meta device with symbols for its sizes."""
        dtype = next(key for key, name in DTYPES.items() if name == spec.dtype)
        sizes = [
            size if isinstance(size, int) else self._nodes[size.name if isinstance(size, Dim) else size]
            for size in spec.sizes
        ]
        return torch.empty(sizes, dtype=dtype, device="meta")

    def given(self, value: Any) -> Any:
        """Arguments with tensors and symbolic integers in place of what a user wrote."""
        if isinstance(value, Spec):
            return self.tensor(value)
        if isinstance(value, Dim):
            return self._nodes[value.name]
        if type(value) in (list, tuple):
            return type(value)(self.given(item) for item in value)
        if type(value) is dict:
            return {key: self.given(item) for key, item in value.items()}
        return value

    @contextmanager
    def dispatched(self) -> Iterator[None]:
        """torch works out the shapes of results in Python, which is the only way with symbols."""
        with enable_python_dispatcher():
            yield

    def notes(self) -> Iterator[str]:
        """Yields every size that the program fixes, and every condition that the formulas need."""
        fixed = self.environment.replacements
        for symbol, name in self._names.items():
            if symbol in fixed and fixed[symbol].is_number:
                equal = ((g, place) for g, place in self.environment.decided.items() if type(g).__name__ == "Equality")
                places = dict.fromkeys(place for guard, place in equal if symbol in guard.free_symbols)
                yield f"{name} is fixed at {fixed[symbol]}: its value is used in {', '.join(places)}."
        for guard, place in self.environment.decided.items():
            free = guard.free_symbols
            if not any(symbol in fixed for symbol in free) and not all(_holds(guard, trial) for trial in _TRIALS):
                yield f"The formulas hold for {foreign(guard, self._names)} ({place})."


def _holds(guard: Any, trial: int) -> bool:
    return bool(guard.subs(dict.fromkeys(guard.free_symbols, trial)))
