"""Operators of a trace as calls: shapes, types and numbers of the profiler in the form that the rules of ``aten`` read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from perfmodel.aten.calls import Call, Operand
from perfmodel.traces.events import Range, Signature

NAMESPACE = "aten::"
# The types of tensors as C++ and torch spell them.
TYPES = {
    "double": "fp64", "float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16", "c10::Float8_e4m3fn": "fp8",
    "c10::Float8_e4m3fnuz": "fp8", "c10::Float8_e5m2": "fp8_e5m2", "c10::Float8_e5m2fnuz": "fp8_e5m2", "long int": "int64",
    "long": "int64", "long long": "int64", "int": "int32", "short int": "int16", "short": "int16", "signed char": "int8",
    "char": "int8", "unsigned char": "uint8", "bool": "bool", "c10::complex<float>": "complex64",
    "c10::complex<double>": "complex128",
}  # fmt: skip
LARGEST = 1 << 62  # of a size
MOST_TENSORS = 100_000  # of one list
_NUMBER = re.compile(r"[-+]?(\d{1,18}|\d{0,18}\.?\d{0,18}(e[-+]?\d{1,3})?)", re.IGNORECASE)


def call(operator: Range, hint: str = "") -> Call | None:
    """The call that an operator of torch makes, or None if the trace has no shapes for it.

    The profiler leaves out the data type of a list of tensors: ``hint`` stands in for it.
    """
    signature = operator.signature
    if signature is None or not operator.name.startswith(NAMESPACE):
        return None
    return Call(operator.name.removeprefix(NAMESPACE), arguments(signature, hint))


def arguments(signature: Signature, hint: str = "") -> tuple[Any, ...]:
    """The arguments in the order of torch's schema."""
    count = len(signature.dims)
    types, strides, values = (_padded(one, count) for one in signature[1:])
    given = zip(signature.dims, types, strides, values, strict=True)
    return _without_scalars([_argument(dims, kind, steps, value, hint) for dims, kind, steps, value in given])


def _without_scalars(found: Sequence[Any]) -> tuple[Any, ...]:
    """Replaces numbers that torch wraps in tensors without dimensions beside other tensors; their value is unknown."""
    if not any(isinstance(one, Operand) and one.shape for one in found):
        return tuple(found)
    wrapped = {"fp64": 1.0, "int64": 1}
    return tuple(
        wrapped[one.dtype] if isinstance(one, Operand) and not one.shape and one.dtype in wrapped else one
        for one in found
    )


def _padded(found: Sequence[Any], count: int) -> list[Any]:
    return [*found[:count], *[""] * (count - len(found))]


def _argument(dims: Any, kind: Any, steps: Any, value: Any, hint: str) -> Any:
    if kind in TYPES:
        return _operand(dims, TYPES[kind], steps)
    if kind in ("TensorList", "OptionalTensorList", "GenericList") and isinstance(dims, list) and dims:
        pairs = zip(dims[:MOST_TENSORS], _padded(steps if isinstance(steps, list) else [], len(dims)), strict=False)
        return tuple(_operand(shape, hint or "fp32", step) for shape, step in pairs)
    return _number(value) if isinstance(value, str) else None


def _operand(dims: Any, dtype: str, steps: Any) -> Operand | None:
    if not _sizes(dims):
        return None
    strides = tuple(steps) if _sizes(steps) and len(steps) == len(dims) else _compact(dims)
    return Operand(tuple(dims), dtype, strides)


def _sizes(found: Any) -> bool:
    return isinstance(found, list) and all(type(one) is int and 0 <= one < LARGEST for one in found)


def _compact(dims: Sequence[int]) -> tuple[int, ...]:
    steps, step = [], 1
    for size in reversed(dims):
        steps.append(step)
        step *= size
    return tuple(reversed(steps))


def _number(text: str) -> Any:
    """The value that a text stands for: a number, a truth value, a list of these, or the text itself."""
    if text in ("", "None"):
        return None
    if text in ("True", "False"):
        return text == "True"
    if text[0] == "[" and text[-1] == "]":
        return tuple(_number(part.strip()) for part in text[1:-1].split(",") if part.strip())
    if not _NUMBER.fullmatch(text) or not any(character.isdigit() for character in text):
        return text
    value = float(text)
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else value


def item_hint(kernel: str) -> str:
    """The data type that a kernel's name gives, or one of the size that it gives; an empty text if it gives none."""
    opaque = re.search(r"OpaqueType<(\d+)u?>", kernel)
    if opaque:
        sizes = {1: "uint8", 2: "bf16", 4: "fp32", 8: "int64", 16: "complex128"}
        return sizes.get(int(opaque[1]), "")
    for spelling in ("c10::BFloat16", "c10::Half", "double", "float"):
        if spelling in kernel:
            return TYPES[spelling]
    return ""
