"""The points of a chunk at which every operation is defined: the checks of single sizes, for arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from perfmodel.arithmetic import is_zero
from perfmodel.expression import Expression
from perfmodel.operation import Operation, checked_value
from perfmodel.symbols import SYMBOLS
from perfmodel.units import LARGEST_ITEM, LARGEST_SIZE


class OutsideError(Exception):
    """No point of the chunk is in the domain of an operation."""


class Domain:
    """The points of a chunk that all operations accept. It replaces ``Operation.checked``."""

    def __init__(self, dims: Mapping[str, Any], quotients: Iterable[Expression]) -> None:
        self.inside: Any = True
        self._known = {id(value) for value in dims.values() if not is_zero(value)}  # the 0 of a flag is not a size
        for name, value in dims.items():
            self.accept(name, value)
        for expression in quotients:
            for above, below in expression.quotients(dims):
                if isinstance(above, np.ndarray) or isinstance(below, np.ndarray):
                    self.require(np.floor(above / below) == above / below)

    def __call__(self, operation: Operation, values: dict[str, Any], where: str) -> dict[str, Any]:
        values = {**operation.defaults, **values}
        if any(name not in values for name in operation.required):
            raise OutsideError
        for name, value in values.items():
            if id(value) not in self._known:
                self.accept(name, value)
        for rule in operation.valid:
            self.require(operation.holds(rule, values))
        return values

    def accept(self, name: str, value: Any) -> None:
        """Require a size from 1 to the largest one, or as many bytes as an element may have."""
        most = LARGEST_ITEM if SYMBOLS[name].kind == "item" else LARGEST_SIZE
        if not isinstance(value, np.ndarray):
            checked_value(name, value, name)
        elif not (value.min() >= 1 and value.max() <= most):
            self.require((value >= 1) & (value <= most))

    def require(self, condition: Any) -> None:
        """Exclude the points where the condition is false."""
        if isinstance(condition, np.ndarray):
            self.inside = self.inside if condition.all() else self.inside & condition
        elif not condition:
            raise OutsideError
