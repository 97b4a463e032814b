"""Helpers of the rules: an operation at sizes as a launched kernel, and sizes of reductions and copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from perfmodel import ops
from perfmodel.arithmetic import product
from perfmodel.aten.calls import FLOATS, Call, Launched, Operand
from perfmodel.op import Op


def asked(operation: str, dtype: str, impl: str = "", scratch_byte: Any = 0, **sizes: Any) -> Launched:
    """The kernel of a named operation at these sizes."""
    return Launched(operation, sizes, _op(operation, tuple(sizes.items())), dtype, impl, scratch_byte)


@cache
def _op(operation: str, sizes: tuple[tuple[str, Any], ...]) -> Op:
    built: Op = ops.find(operation).function(**dict(sizes))
    return built


def arithmetic_type(operands: Iterable[Operand]) -> str:
    """The data type in which a kernel computes: the widest floating-point type of its tensors, else fp32."""
    widest, found = 0.0, "fp32"
    for operand in operands:
        if operand.dtype in FLOATS and operand.item > widest:
            widest, found = operand.item, operand.dtype
    return found


def result_of(call: Call, otherwise: Operand | None = None) -> Operand:
    """The first result, where known; else the operand that the result resembles."""
    if call.results:
        return call.results[0]
    return otherwise if otherwise is not None else call.operands[0]


def compact(shape: Sequence[Any], dtype: str) -> Operand:
    """A contiguous tensor of which only shape and data type matter."""
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return Operand(tuple(shape), dtype, tuple(reversed(strides)))


def broadcast(operands: Iterable[Operand]) -> tuple[Any, ...]:
    """The common shape of operands."""
    found: list[Any] = []
    for operand in operands:
        shape = list(operand.shape)
        found = [1] * (len(shape) - len(found)) + found
        for back, size in enumerate(reversed(shape), 1):
            if size != 1:
                found[-back] = size
    return tuple(found)


def axes(call: Call, place: int, name: str, rank: int) -> tuple[int, ...]:
    """The dimensions that an argument names, from 0; all of them where it names none."""
    given = call.argument(place, name)
    if given is None or given == () or isinstance(given, Operand):
        return tuple(range(rank))
    chosen = given if isinstance(given, (tuple, list)) else (given,)
    return tuple(sorted(int(axis) % max(1, rank) for axis in chosen))


def around(shape: Sequence[Any], over: Sequence[int]) -> tuple[Any, Any, Any]:
    """Sizes (rows, cols, inner) of a reduction over these dimensions.

    Dimensions between the reduced ones count as rows.
    """
    if not over:
        return product(shape), 1, 1
    inner = product(shape[max(over) + 1 :])
    cols = product(shape[axis] for axis in over)
    rows = product(size for axis, size in enumerate(shape[: max(over)]) if axis not in over)
    return rows, cols, inner


def dimensions(tensors: Sequence[Operand]) -> int:
    """Dimensions of an elementwise kernel over these tensors, the result first, after torch has merged what it can.

    Neighbouring dimensions are merged where the places of all tensors advance alike.
    """
    result = tensors[0]
    rank = len(result.shape)
    steps = [_steps(tensor, rank) for tensor in tensors]
    order = sorted(
        (axis for axis in range(rank) if result.shape[axis] != 1),
        key=lambda axis: [_stride(own[axis]) for own in steps],
    )
    found = 0
    before: int | None = None
    for axis in order:
        if before is None or any(own[axis] != own[before] * result.shape[before] for own in steps):
            found += 1
            before = axis
        else:
            steps = [[*own[:axis], own[before], *own[axis + 1 :]] for own in steps]
            result = result._replace(
                shape=(*result.shape[:axis], result.shape[axis] * result.shape[before], *result.shape[axis + 1 :])
            )
            before = axis
    return max(1, found)


WARP, LINE_BYTE = 32, 128


def lines(tensor: Operand, result: Operand) -> int:
    """Cache lines of a tensor that a warp touches for 32 neighbouring elements of the result."""
    steps = _steps(tensor, len(result.shape))
    covered, touched = 1, 1
    for axis in sorted(range(len(steps)), key=lambda axis: _stride(result.strides[axis])):
        size, step = result.shape[axis], steps[axis]
        if size == 1:
            continue
        if covered >= WARP or not (isinstance(size, int) and isinstance(step, int)):
            break
        count = min(size, -(-WARP // covered))
        if step and step != covered:
            touched *= min(count, -(-count * step * int(tensor.item) // LINE_BYTE))
        covered *= size
    return min(WARP, touched)


def _steps(tensor: Operand, rank: int) -> list[Any]:
    """Strides of a tensor in a result of so many dimensions, 0 where it is broadcast."""
    own = [0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    return [0] * (rank - len(own)) + own


def together(source: Operand, target: Operand) -> Any:
    """Elements that lie one after another in two tensors of one shape at once."""
    order = sorted(
        (axis for axis, size in enumerate(target.shape) if size != 1), key=lambda axis: _stride(target.strides[axis])
    )
    shift = len(target.shape) - len(source.shape)
    run: Any = 1
    for axis in order:
        at = axis - shift
        near = source.strides[at] if at >= 0 and source.shape[at] != 1 else 0
        if near != run or target.strides[axis] != run:
            return run
        run = run * target.shape[axis]
    return run


def _stride(stride: Any) -> int:
    return stride if isinstance(stride, int) else 1 << 62
