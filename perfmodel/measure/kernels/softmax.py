"""Softmax of rows with a scale and an additive mask, forward and backward."""

from __future__ import annotations

from math import isfinite, prod
from typing import Any

from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import aligned, array, cupy, empty
from perfmodel.measure.kernels.rows import layout, run, run_long


def softmax(x: Any, mask: Any = None, scale: float = 1.0) -> Any:
    """Returns softmax(scale x + mask) along the last axis, for a positive scale. The shape of the mask must be the last
    dimensions of x; it is broadcast over the others.
    """
    a, factor = array(x, "softmax: x"), _factor(scale, "softmax: scale")
    rows, cols = prod(a.shape[:-1]), a.shape[-1]
    m = aligned(array(mask, "softmax: mask"), "softmax: mask") if mask is not None else None
    if m is not None and (m.dtype != a.dtype or a.shape[len(a.shape) - len(m.shape) :] != m.shape):
        raise InputError(
            "softmax",
            f"the mask has shape {m.shape} and type {m.dtype}, x has {a.shape} and {a.dtype}",
            "a mask of x's type, whose shape is the last dimensions of x, is accepted",
            "Reshape or convert it.",
        )
    out, lib = empty(a, a.shape), cupy()
    arguments = (a, m or lib.int64(0), out, lib.int64(rows), lib.int32(cols))
    last = (lib.int32(prod(m.shape[:-1]) if m else 0), lib.float32(factor))
    found = layout("softmax_forward", rows, cols, 1, a)
    if found:
        given = (*arguments, lib.int32(found.turns), *last)
        run("softmax_forward", rows, cols, found, 1, lambda _: given, a, mask=m is not None)
    else:
        run_long("softmax_long_forward", rows, cols, (*arguments, *last), a, mask=m is not None)
    return out.source


def softmax_backward(y: Any, dy: Any, scale: float = 1.0) -> Any:
    """Returns dx = scale y (dy - sum of y dy) along the last axis, the gradient of ``softmax`` for its input."""
    a, g = array(y, "softmax_backward: y"), array(dy, "softmax_backward: dy")
    factor = _factor(scale, "softmax_backward: scale")
    if a.shape != g.shape or a.dtype != g.dtype:
        raise InputError(
            "softmax_backward",
            f"y has shape {a.shape} and type {a.dtype}, dy has {g.shape} and {g.dtype}",
            "equal shapes and types are accepted",
            "Reshape or convert them.",
        )
    rows, cols = prod(a.shape[:-1]), a.shape[-1]
    out, lib = empty(a, a.shape), cupy()
    arguments = (a, g, out, lib.int64(rows), lib.int32(cols))
    last = lib.float32(factor)
    found = layout("softmax_backward", rows, cols, 2, a, g)
    if found:
        given = (*arguments, lib.int32(found.turns), last)
        run("softmax_backward", rows, cols, found, 2, lambda _: given, a)
    else:
        run_long("softmax_long_backward", rows, cols, (*arguments, last), a)
    return out.source


def _factor(scale: float, where: str) -> float:
    """Refuses a scale for which the largest score is not the largest scaled score."""
    if not (isfinite(scale) and scale > 0):
        raise InputError(where, f"{scale} is out of range", "a positive number is accepted", "Scale the input before.")
    return float(scale)
