"""Causal depthwise convolution of u (B, N, D) with a filter (D, K) and a bias (D), forward and backward."""

from __future__ import annotations

from typing import Any

from perfmodel.cuda import strips
from perfmodel.cuda.strips import BACK_RUN, GRID_ROWS, STRIP, THREADS, Tile, over
from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import (
    TYPES,
    Array,
    array,
    cupy,
    empty,
    launch,
    module,
    multiprocessors,
    stream,
    vector,
)


def tile(B: int, N: int, D: int, K: int, *arrays: Array) -> Tile | None:
    """Returns the tile of a forward pass on the current device, or None if the filter does not fit in registers."""
    dtype = arrays[0].dtype
    return strips.tile(B, N, D, K, vector(D, dtype, *arrays), TYPES[dtype][1], multiprocessors())


def conv1d(u: Any, taps: Any, bias: Any) -> Any:
    """out[n] = bias + sum over k of taps[:, k] u[n - K + 1 + k], in one kernel."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    out = empty(x, x.shape)
    size, found = cupy().int32, tile(B, N, D, K, x, f, b)
    arguments = (x, f, b, out, size(N), size(D))
    if found is None:
        wide = vector(D, x.dtype, x)
        compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=1, STRIP=1, THREADS=THREADS)
        grid = (over(D, wide * THREADS), min(N, GRID_ROWS), B)
        launch(compiled, "conv1d_long_forward", grid, THREADS, arguments, stream(x))
        return out.source
    compiled = module("conv1d.cu", x.dtype, **found.settings(K))
    launch(compiled, "conv1d_forward", found.grid(B, N, D), found.across * found.tall, arguments, stream(x))
    return out.source


def conv1d_two_kernels(u: Any, taps: Any, bias: Any) -> Any:
    """The same result in two kernels. The first writes the padded signal, the second reads it and convolves."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    padded, out = empty(x, (B, N + 2 * (K - 1), D)), empty(x, x.shape)
    size, found = cupy().int32, tile(B, N, D, K, x, f, b)
    wide = found.wide if found else vector(D, x.dtype, x)
    threads = found.across * found.tall if found else THREADS
    settings = found.settings(K) if found else {"VEC": wide, "K": K, "RUN": 1, "STRIP": 1, "THREADS": THREADS}
    compiled = module("conv1d.cu", x.dtype, **settings)
    pads = (over(D, wide * threads), min(N + 2 * (K - 1), GRID_ROWS), B)
    launch(compiled, "pad", pads, threads, (x, padded, size(N), size(D)), stream(x))
    name, grid = "convolve_padded_long", (pads[0], min(N, GRID_ROWS), B)
    if found:
        name, grid = "convolve_padded", found.grid(B, N, D)
    launch(compiled, name, grid, threads, (padded, f, b, out, size(N), size(D)), stream(x))
    return out.source


def conv1d_backward(u: Any, taps: Any, dout: Any) -> tuple[Any, Any, Any]:
    """Returns the gradients of the input, the filter and the bias. Reads u and dout once."""
    x, f, g, (B, N, D, K) = _read(u, taps, None, dout)
    du, df, db = empty(x, x.shape), empty(x, f.shape), empty(x, (D,))
    held = strips.held_back(K)
    wide = strips.back_width(K, vector(D, x.dtype, x, at_most=8)) if held else vector(D, x.dtype, x)
    size, on = cupy().int32, stream(x)
    strip = strips.back_strip(B, N, D, wide, multiprocessors()) if held else STRIP
    count = B * over(N, strip)
    partial = empty(x, (count, K + 1, D), "float32")
    compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=BACK_RUN, STRIP=strip, THREADS=THREADS)
    if not held:
        grid = (over(D, wide * THREADS), min(N, GRID_ROWS), B)
        launch(compiled, "conv1d_long_input", grid, THREADS, (g, f, du, size(N), size(D)), on)
        grid = (over(D, THREADS), K + 1, min(count, GRID_ROWS))
        launch(compiled, "conv1d_long_filter", grid, THREADS, (x, g, partial, size(N), size(D), size(count)), on)
    else:
        grid = (over(D, wide * THREADS), over(N, strip), B)
        launch(compiled, "conv1d_backward", grid, THREADS, (x, g, f, du, partial, size(N), size(D)), on)
    launch(compiled, "conv1d_gather", (over(D, 32), K + 1), 256, (partial, df, db, size(count), size(D)), on)
    return du.source, df.source, db.source


def _read(u: Any, taps: Any, bias: Any, dout: Any = None) -> tuple[Array, Array, Array, tuple[int, int, int, int]]:
    x, f = array(u, "conv1d: u"), array(taps, "conv1d: filter")
    name = "bias" if dout is None else "dout"
    other = array(bias if dout is None else dout, f"conv1d: {name}")
    if len(x.shape) != 3 or len(f.shape) != 2 or f.shape[0] != x.shape[2]:
        raise InputError(
            "conv1d",
            f"u has shape {x.shape} and filter {f.shape}",
            "u (B, N, D) and filter (D, K) are accepted",
            "Reshape them.",
        )
    wanted = x.shape if dout is not None else (x.shape[2],)
    if other.shape != wanted or len({x.dtype, f.dtype, other.dtype}) != 1:
        raise InputError(
            "conv1d",
            f"{name} has shape {other.shape} and type {other.dtype}, filter has type {f.dtype}",
            f"shape {wanted} and the type of u, {x.dtype}, are accepted",
            "Reshape or convert them.",
        )
    B, N, D = x.shape
    return x, f, other, (B, N, D, f.shape[1])
