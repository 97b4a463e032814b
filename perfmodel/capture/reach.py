"""Everything that a function or module refers to: modules, optimizers, tensors, and the containers that hold them."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

LIMIT = 500_000  # objects
_ATOMS = (
    str,
    int,
    float,
    complex,
    bytes,
    bool,
    type(None),
    type,
    ModuleType,
    BuiltinFunctionType,
    torch.dtype,
    torch.device,
    torch.Size,
)
_LIBRARIES = frozenset((*sys.stdlib_module_names, "torch", "numpy", "transformers", "perfmodel"))
_CONTAINERS = (list, tuple, set, frozenset, deque)


def reachable(*roots: Any) -> Iterator[Any]:
    """Yields every object that can be reached, each once, dictionaries and lists among them."""
    seen: dict[int, Any] = {}  # with the objects, so that no identity is used twice
    waiting = list(reversed(roots))
    while waiting and len(seen) < LIMIT:
        value = waiting.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        waiting.extend(_inside(value))


def _inside(value: Any) -> list[Any]:
    """Yields the objects that an object refers to directly, last first."""
    if isinstance(value, torch.Tensor):
        return []
    if isinstance(value, dict):
        return [*value.values(), *(key for key in value if isinstance(key, torch.Tensor))]
    if isinstance(value, _CONTAINERS):
        return list(value)
    if isinstance(value, FunctionType):
        return _of_function(value)
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, CellType):
        return [] if _is_empty(value) else [value.cell_contents]
    return _of_object(value)


def _of_function(function: FunctionType) -> list[Any]:
    """The closure, defaults and named globals of a function that is the user's own."""
    found: list[Any] = [*(function.__closure__ or ()), function.__defaults__, function.__kwdefaults__]
    if (function.__module__ or "").partition(".")[0] not in _LIBRARIES:
        found += [function.__globals__[name] for name in names(function.__code__) if name in function.__globals__]
    return found


def names(code: CodeType) -> Iterator[str]:
    """The global names that a function and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)


def _of_object(value: Any) -> list[Any]:
    """The attributes of an object. Objects of the standard library have none of interest."""
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        return []
    found = [vars(value)] if hasattr(value, "__dict__") else []
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = getattr(value, name, None) if not name.startswith("__") else None
            if member is not None:
                found.append(member)
    return found


def _is_empty(cell: CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True
