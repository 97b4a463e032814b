"""Results of operators that were called before with the same shapes: allocated without asking torch again.

torch works out the shape of a result in Python, which takes most of the time of a capture. Layers of a model repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from perfmodel.aten.calls import Operand

_Tensor = torch.Tensor
_new = torch.empty_strided


class Shapes:
    """Shapes of results by operator and arguments."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def result(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], described: tuple[Any, Any]) -> Any:
        """The result of an operator that makes new tensors on the card. ``described`` are its arguments as data."""
        key = (
            func,
            tuple([_key(one, other) for one, other in zip(described[0], args, strict=True)]),
            tuple([(name, _key(described[1].get(name), value)) for name, value in kwargs.items()]),
        )
        try:
            found = self._known.get(key)
        except TypeError:  # a size that is a symbol
            return func(*args, **kwargs)
        if found is None:
            result = func(*args, **kwargs)
            self._known[key] = _form(result) or "other"
            return result
        return func(*args, **kwargs) if found == "other" else _made(found)


def _key(described: Any, value: Any) -> Any:
    """Returns the key on which the shape of a result depends."""
    if type(described) is Operand:
        return described.shape, described.strides, value.dtype, value.is_meta
    if type(described) is tuple and described:
        return tuple([_key(one, other) for one, other in zip(described, value, strict=True)])
    return type(value), value if type(described) is not tuple else ()


def _form(result: Any) -> Any:
    """Shape, strides and data type of every tensor of a result; None if it holds anything else."""
    if type(result) is _Tensor:
        plain = result.is_meta and result.layout is torch.strided and not result.dtype.is_complex
        return (result.shape, result.stride(), result.dtype) if plain else None
    if type(result) is tuple and result:
        forms = [_form(item) for item in result]
        return forms if all(forms) else None
    return None


def _made(form: Any) -> Any:
    if type(form) is list:
        return tuple([_made(item) for item in form])
    return _new(form[0], form[1], dtype=form[2], device="meta")
