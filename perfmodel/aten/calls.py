"""A call of one torch operator as data: the tensors and numbers that it is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from perfmodel.op import Op

# Bytes per element of torch's data types, by the names of this project.
ITEMS: Mapping[str, int | float] = {
    "fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "fp8_e5m2": 1, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
FLOATS = ("fp64", "fp32", "bf16", "fp16", "fp8", "fp8_e5m2")


class Operand(NamedTuple):
    """A tensor of a call: its shape, data type and strides in elements.

    ``storage`` identifies the memory that it lies in, 0 where that is unknown; ``storage_byte`` is the size of all of it.
    """

    shape: tuple[Any, ...]
    dtype: str
    strides: tuple[Any, ...]
    storage: int = 0
    storage_byte: Any = 0

    @property
    def numel(self) -> Any:
        count: Any = 1
        for size in self.shape:
            count = count * size
        return count

    @property
    def item(self) -> int | float:
        return ITEMS[self.dtype]

    @property
    def distinct(self) -> Any:
        """Elements in memory: a dimension of stride 0 repeats the same ones."""
        count: Any = 1
        for size, stride in zip(self.shape, self.strides, strict=True):
            count = count if stride == 0 and size != 1 else count * size
        return count

    @property
    def byte(self) -> Any:
        """Bytes of its distinct elements."""
        return self.distinct * self.item

    @property
    def dense(self) -> bool:
        """Whether its elements fill their memory without gaps or repeats, in any order of dimensions."""
        left = [(stride, size) for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        expected: Any = 1
        while left:  # strides are not sorted: symbols have no order
            found = next((pair for pair in left if pair[0] == expected), None)
            if found is None:
                return False
            left.remove(found)
            expected = expected * found[1]
        return True

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie in the order of its dimensions, the last one fastest."""
        expected: Any = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected = expected * size
        return True


class Call(NamedTuple):
    """One operator call: ``name`` without namespace and overload, such as ``addmm`` or ``add_``.

    ``arguments`` are in the order of torch's schema: an ``Operand``, a number, a text, a tuple of these, or None.
    ``results`` are empty where they are unknown, as in a profiler trace. ``overload`` is empty where it is unknown.
    ``precision``: the type in which products of fp32 tensors run, ``fp32`` or ``tf32``; empty where it is unknown.
    """

    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = {}
    results: tuple[Operand, ...] = ()
    overload: str = ""
    precision: str = ""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """All tensors that it is given, also those inside lists, keywords last."""
        return tuple(_operands((*self.arguments, *self.keywords.values())))

    def argument(self, place: int, name: str = "", otherwise: Any = None) -> Any:
        """The argument at a place of the schema, or of that keyword, or ``otherwise``."""
        if name and name in self.keywords:
            return self.keywords[name]
        return self.arguments[place] if place < len(self.arguments) else otherwise


def _operands(values: Iterable[Any]) -> Iterable[Operand]:
    for value in values:
        if isinstance(value, Operand):
            yield value
        elif type(value) in (tuple, list):
            yield from _operands(value)


class Launched(NamedTuple):
    """One kernel of the model: the operation's name, the sizes to show, and its counts.

    ``dtype`` is the data type of its arithmetic, ``impl`` the implementation as in a case. ``scratch_byte``: memory that
    the call holds beside its results while it runs.
    """

    operation: str
    sizes: Mapping[str, Any]
    op: Op
    dtype: str
    impl: str = ""
    scratch_byte: Any = 0
    known: bool = True


Rule = Callable[[Call], Iterable[Launched]]
