"""LayerNorm forward and backward, and RMSNorm forward, over the last axis."""

from __future__ import annotations

from math import prod
from typing import Any

from perfmodel.cuda.layouts import LONG_THREADS, long_parts, most_parts
from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import Array, array, cupy, empty, launch, multiprocessors, stream
from perfmodel.measure.kernels.rows import layout, long_module, run, run_long

EPSILON = 1e-5


def layernorm(x: Any, gamma: Any, beta: Any, epsilon: float = EPSILON, *, keep: bool = False) -> Any:
    """Returns (x - mean) / sqrt(variance + epsilon) gamma + beta. With ``keep``, also returns the mean and 1/σ of every
    row.
    """
    a, w, b = array(x, "layernorm: x"), array(gamma, "layernorm: gamma"), array(beta, "layernorm: beta")
    rows, cols = _rows("layernorm", a, w, b)
    out, lib = empty(a, a.shape), cupy()
    mean, rstd = (empty(a, (rows,), "float32"), empty(a, (rows,), "float32")) if keep else (None, None)
    none = lib.int64(0)
    _forward("layernorm", rows, cols, (a, w, b, out, mean or none, rstd or none), epsilon)
    return (out.source, mean.source, rstd.source) if mean and rstd else out.source


def rmsnorm(x: Any, gamma: Any, epsilon: float = EPSILON) -> Any:
    """Returns x / sqrt(mean of x² + epsilon) gamma."""
    a, w = array(x, "rmsnorm: x"), array(gamma, "rmsnorm: gamma")
    rows, cols = _rows("rmsnorm", a, w)
    out, lib = empty(a, a.shape), cupy()
    _forward("rmsnorm", rows, cols, (a, w, out, lib.int64(0)), epsilon)
    return out.source


def _forward(name: str, rows: int, cols: int, arguments: tuple[Any, ...], epsilon: float) -> None:
    a, lib = arguments[0], cupy()
    arrays = [value for value in arguments if isinstance(value, Array) and value.dtype == a.dtype]
    sizes, last = (lib.int64(rows), lib.int32(cols)), lib.float32(epsilon)
    found = layout(f"{name}_forward", rows, cols, 1, *arrays)
    if found:
        given = (*arguments, *sizes, lib.int32(found.turns), last)
        run(f"{name}_forward", rows, cols, found, 1, lambda _: given, a)
    else:
        run_long(f"{name}_long_forward", rows, cols, (*arguments, *sizes, last), a)


def layernorm_backward(dy: Any, x: Any, gamma: Any, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    """Returns the gradients of the input, gamma and beta, from the mean and 1/σ of the forward pass."""
    name = "layernorm_backward"
    g, a, w = array(dy, f"{name}: dy"), array(x, f"{name}: x"), array(gamma, f"{name}: gamma")
    m, s = array(mean, f"{name}: mean"), array(rstd, f"{name}: rstd")
    rows, cols = _rows(name, a, w)
    if g.shape != a.shape or g.dtype != a.dtype or m.dtype != "float32" or m.shape != s.shape or prod(m.shape) != rows:
        raise InputError(
            name,
            f"dy has shape {g.shape}, x {a.shape}, mean {m.shape} and rstd {s.shape}",
            "dy of x's shape and type, and float32 statistics with one value per row, are accepted",
            "Reshape or convert them.",
        )
    dx, dgamma, dbeta = empty(a, a.shape), empty(a, (cols,)), empty(a, (cols,))
    lib = cupy()
    sizes = (lib.int64(rows), lib.int32(cols))
    found = layout(name, rows, cols, 2, a, g, w)
    partial: Array
    if found:
        made: list[Array] = []

        def arguments(blocks: int) -> tuple[Any, ...]:
            made.append(empty(a, (2, blocks, cols), "float32"))
            return (a, g, w, m, s, dx, made[0], *sizes)

        parts = run(name, rows, cols, found, 2, arguments, a, at_most=most_parts(rows, cols, multiprocessors()))
        partial = made[0]
    else:
        parts = long_parts(rows, cols, multiprocessors())
        partial = empty(a, (2, parts, cols), "float32")
        run_long("layernorm_long_backward", rows, cols, (a, g, w, m, s, dx, *sizes), a)
        compiled = long_module(name, cols, a)
        wide = -(-cols // LONG_THREADS)
        launch(
            compiled,
            "column_parts",
            (wide, parts),
            LONG_THREADS,
            (a, g, m, s, partial, *sizes, lib.int32(parts)),
            stream(a),
        )
    summed = (partial, dgamma, dbeta, lib.int32(parts), lib.int32(cols))
    across = 32 if cols % 4 else 128
    launch(long_module(name, cols, a), "column_sums", (-(-cols // across), 2), 1024, summed, stream(a))
    return dx.source, dgamma.source, dbeta.source


def _rows(name: str, a: Array, *weights: Array) -> tuple[int, int]:
    rows, cols = prod(a.shape[:-1]), a.shape[-1]
    if any(w.shape != (cols,) or w.dtype != a.dtype for w in weights):
        raise InputError(
            name,
            f"x has shape {a.shape} and type {a.dtype}, a weight has shape {weights[0].shape} and type {weights[0].dtype}",
            f"weights of shape ({cols},) and x's type are accepted",
            "Reshape or convert them.",
        )
    return rows, cols
