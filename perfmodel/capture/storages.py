"""The storages of tensors: one number for each, and the storages that are no longer used."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from perfmodel.aten.calls import Operand

# Names of data types in this project. Types that it does not know are named by one of the same size.
DTYPES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16",
    torch.float8_e4m3fn: "fp8", torch.float8_e4m3fnuz: "fp8", torch.float8_e5m2: "fp8_e5m2", torch.float8_e5m2fnuz: "fp8_e5m2",
    torch.int64: "int64", torch.int32: "int32", torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool",
    torch.complex64: "complex64", torch.complex128: "complex128",
    torch.uint16: "int16", torch.uint32: "int32", torch.uint64: "int64", torch.complex32: "int32",
}  # fmt: skip


class _Reference(weakref.ref[Any]):
    """A weak reference to a storage, with its number and bytes."""

    __slots__ = ("byte", "key", "number")

    key: int
    number: int
    byte: Any


class Storages:
    """Numbers storages in order of appearance. ``gone`` collects the numbers of those that no longer exist.

    ``plain`` turns a size that is a symbol of torch into one of this project; None if there are no symbols.
    """

    def __init__(self, plain: Callable[[Any], Any] | None = None) -> None:
        self.plain = plain
        self._known: dict[int, _Reference] = {}
        self._count = 0
        self.gone: list[int] = []

    def reference(self, tensor: torch.Tensor) -> _Reference:
        """The entry of a tensor's storage. torch keeps the Python object of a storage as long as the storage exists."""
        storage = tensor.untyped_storage()
        key = id(storage)
        found = self._known.get(key)
        if found is None:
            self._count += 1
            found = self._known[key] = _Reference(storage, self._forget)
            byte = storage.nbytes()
            found.key, found.number, found.byte = key, self._count, self.plain(byte) if self.plain else byte
        return found

    def _forget(self, reference: _Reference) -> None:
        del self._known[reference.key]
        self.gone.append(reference.number)

    def operand(self, tensor: torch.Tensor) -> Operand:
        """The tensor as data."""
        memory = self.reference(tensor)
        if self.plain:
            shape, strides = (tuple(map(self.plain, sizes)) for sizes in (tensor.shape, tensor.stride()))
            return Operand(shape, dtype_name(tensor.dtype), strides, memory.number, memory.byte)
        return Operand(tuple(tensor.shape), dtype_name(tensor.dtype), tensor.stride(), memory.number, memory.byte)


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a data type; of an unknown one, that of an integer of one byte."""
    return DTYPES.get(dtype, "uint8")


def host_operand(tensor: torch.Tensor) -> Operand:
    """A tensor in the memory of the host as data: it has no storage on the card."""
    return Operand(tuple(tensor.shape), dtype_name(tensor.dtype), tensor.stride())
