"""Softmax of rows with an additive mask, forward and backward."""

from __future__ import annotations

from math import prod
from typing import Any

from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import array, cupy, empty
from perfmodel.measure.kernels.rows import layout, run, run_long


def softmax(x: Any, mask: Any = None) -> Any:
    """softmax(x + mask) along the last axis; the mask's rows repeat over x's, so its shape must end x's."""
    a = array(x, "softmax: x")
    rows, cols = prod(a.shape[:-1]), a.shape[-1]
    m = array(mask, "softmax: mask") if mask is not None else None
    if m is not None and (m.dtype != a.dtype or a.shape[len(a.shape) - len(m.shape) :] != m.shape):
        raise InputError(
            "softmax",
            f"the mask is {m.shape} {m.dtype} and x {a.shape} {a.dtype}",
            "a mask whose shape ends x's, in its type, is accepted",
        )
    out, lib = empty(a, a.shape), cupy()
    arguments = (a, m or lib.int64(0), out, lib.int64(rows), lib.int32(cols))
    repeat = lib.int32(prod(m.shape[:-1]) if m else 0)
    found = layout("softmax_forward", rows, cols, 1, a)
    if found:
        given = (*arguments, lib.int32(found.turns), repeat)
        run("softmax_forward", rows, cols, found, 1, lambda _: given, a, mask=m is not None)
    else:
        run_long("softmax_long_forward", rows, cols, (*arguments, repeat), a, mask=m is not None)
    return out.source


def softmax_backward(y: Any, dy: Any) -> Any:
    """dx = y (dy - sum of y dy) along the last axis."""
    a, g = array(y, "softmax_backward: y"), array(dy, "softmax_backward: dy")
    if a.shape != g.shape or a.dtype != g.dtype:
        raise InputError(
            "softmax_backward", f"y is {a.shape} {a.dtype} and dy {g.shape} {g.dtype}", "equal ones are accepted"
        )
    rows, cols = prod(a.shape[:-1]), a.shape[-1]
    out, lib = empty(a, a.shape), cupy()
    arguments = (a, g, out, lib.int64(rows), lib.int32(cols))
    found = layout("softmax_backward", rows, cols, 2, a, g)
    if found:
        given = (*arguments, lib.int32(found.turns))
        run("softmax_backward", rows, cols, found, 2, lambda _: given, a)
    else:
        run_long("softmax_long_backward", rows, cols, arguments, a)
    return out.source
