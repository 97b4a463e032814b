"""Symbolic sizes: names in place of numbers, and inputs with such sizes.

perfmodel.capture(model, tokens=perfmodel.Dim("N"))
perfmodel.capture(model, perfmodel.Spec(("B", 3, "R", "R"), "bf16"))
"""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.symbols import SYMBOLS

# A capture follows the branches that a program takes at these values. They are multiples of 128, as sizes of tokens mostly
# are, and unlike the sizes of any model.
_FIRST, _STEP, _BATCH = 1664, 128, 5


class Dim(NamedTuple):
    """A size by name. ``value`` decides which branch a program takes where it compares sizes."""

    name: str
    value: int | None = None


class Spec(NamedTuple):
    """A tensor that an input stands for: its sizes, numbers or names or ``Dim``, and its data type."""

    sizes: tuple[int | str | Dim, ...]
    dtype: str = "int64"

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The sizes that are symbols."""
        return tuple(size if isinstance(size, Dim) else Dim(size) for size in self.sizes if not isinstance(size, int))


def ids(*sizes: int | str | Dim) -> Spec:
    """Token numbers of these sizes."""
    return Spec(sizes, "int64")


def values(dims: dict[str, Dim]) -> dict[str, int]:
    """The value of every size: its own, 5 for a batch, else an unusual number."""
    found: dict[str, int] = {}
    for name, dim in dims.items():
        batch = "batch" in SYMBOLS[name].meaning if name in SYMBOLS else False
        found[name] = dim.value or (_BATCH if batch else _FIRST + _STEP * len(found))
    return found


def named(value: Any) -> dict[str, Dim]:
    """All sizes that are symbols in arguments, by name."""
    if isinstance(value, Dim):
        return {value.name: value}
    if isinstance(value, Spec):
        return {dim.name: dim for dim in value.dims}
    inside = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return {name: dim for item in inside for name, dim in named(item).items()}
