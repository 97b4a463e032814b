"""Causal depthwise convolution: u (B, N, D), filter (D, K), bias (D) to (B, N, D), forward and backward."""

from __future__ import annotations

from typing import Any

from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import Array, array, cupy, empty, launch, module, multiprocessors, stream, vector

THREADS = 128
STRIP = 128
RUN, BACK_RUN = 16, 8
# Rows of a strip where the signal is long: short ones keep what neighbours read again in L2, long ones read less again.
LONGEST = {1: 16, 2: 16, 3: 16, 4: 16}
# Filters of up to so many elements per thread stay in registers.
REGISTER_TAPS = 56
GRID_ROWS = 65535


def conv1d(u: Any, taps: Any, bias: Any) -> Any:
    """out[n] = bias + sum over k of taps[:, k] u[n - K + 1 + k], one kernel."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    out = empty(x, x.shape)
    wide, kernel = _width(x, D, K)
    size = cupy().int32
    if kernel == "long":
        compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=1, STRIP=STRIP, THREADS=THREADS)
        grid = (_over(D, wide * THREADS), min(N, GRID_ROWS), B)
        launch(compiled, "conv1d_long_forward", grid, THREADS, (x, f, b, out, size(N), size(D)), stream(x))
        return out.source
    strip = _strip(B, N, D, wide, LONGEST.get(K, STRIP))
    compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=RUN, STRIP=strip, THREADS=THREADS)
    grid = (_over(D, wide * THREADS), _over(N, strip), B)
    launch(compiled, "conv1d_forward", grid, THREADS, (x, f, b, out, size(N), size(D)), stream(x))
    return out.source


def conv1d_two_kernels(u: Any, taps: Any, bias: Any) -> Any:
    """The same by padding and then convolving: the padded signal is written and read again."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    padded, out = empty(x, (B, N + 2 * (K - 1), D)), empty(x, x.shape)
    wide, kernel = _width(x, D, K)
    size, long = cupy().int32, kernel == "long"
    strip = 1 if long else _strip(B, N, D, wide, LONGEST.get(K, STRIP))
    compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=1 if long else RUN, STRIP=strip, THREADS=THREADS)
    across = _over(D, wide * THREADS)
    pads = (across, min(N + 2 * (K - 1), GRID_ROWS), B)
    launch(compiled, "pad", pads, THREADS, (x, padded, size(N), size(D)), stream(x))
    name, rows = ("convolve_padded_long", min(N, GRID_ROWS)) if long else ("convolve_padded", _over(N, strip))
    launch(compiled, name, (across, rows, B), THREADS, (padded, f, b, out, size(N), size(D)), stream(x))
    return out.source


def conv1d_backward(u: Any, taps: Any, dout: Any) -> tuple[Any, Any, Any]:
    """Gradients of the input, the filter and the bias; u and dout are read once."""
    x, f, g, (B, N, D, K) = _read(u, taps, None, dout)
    du, df, db = empty(x, x.shape), empty(x, f.shape), empty(x, (D,))
    wide, kernel = _width(x, D, 2 * K)
    size, on = cupy().int32, stream(x)
    strip = STRIP if kernel == "long" else _strip(B, N, D, wide, STRIP)
    strips = B * _over(N, strip)
    partial = empty(x, (strips, K + 1, D), "float32")
    compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=BACK_RUN, STRIP=strip, THREADS=THREADS)
    if kernel == "long":
        grid = (_over(D, wide * THREADS), min(N, GRID_ROWS), B)
        launch(compiled, "conv1d_long_input", grid, THREADS, (g, f, du, size(N), size(D)), on)
        grid = (_over(D, THREADS), K + 1, min(strips, GRID_ROWS))
        launch(compiled, "conv1d_long_filter", grid, THREADS, (x, g, partial, size(N), size(D), size(strips)), on)
    else:
        grid = (_over(D, wide * THREADS), _over(N, strip), B)
        launch(compiled, "conv1d_backward", grid, THREADS, (x, g, f, du, partial, size(N), size(D)), on)
    launch(compiled, "conv1d_gather", (_over(D, 32), K + 1), 256, (partial, df, db, size(strips), size(D)), on)
    return du.source, df.source, db.source


def _read(u: Any, taps: Any, bias: Any, dout: Any = None) -> tuple[Array, Array, Array, tuple[int, int, int, int]]:
    x, f = array(u, "conv1d: u"), array(taps, "conv1d: filter")
    other = array(bias, "conv1d: bias") if dout is None else array(dout, "conv1d: dout")
    if len(x.shape) != 3 or len(f.shape) != 2 or f.shape[0] != x.shape[2]:
        raise InputError(
            "conv1d", f"u has shape {x.shape} and filter {f.shape}", "u (B, N, D) and filter (D, K) are accepted"
        )
    wanted = x.shape if dout is not None else (x.shape[2],)
    if other.shape != wanted or len({x.dtype, f.dtype, other.dtype}) != 1:
        raise InputError(
            "conv1d", f"shapes or types differ: {other.shape} {other.dtype}", f"{wanted} {x.dtype} is accepted"
        )
    B, N, D = x.shape
    return x, f, other, (B, N, D, f.shape[1])


def _width(x: Array, D: int, held: int) -> tuple[int, str]:
    """Channels of a thread: 8 bytes of them measured best, fewer where the filter would leave the registers."""
    if held > REGISTER_TAPS // 2:
        return vector(D, x.dtype, x), "long"
    wide = vector(D, x.dtype, x, at_most=8)
    while wide > 1 and wide * held > REGISTER_TAPS:
        wide //= 2
    return wide, "strips"


def _strip(B: int, N: int, D: int, wide: int, longest: int) -> int:
    """Rows of a strip: long ones read fewer rows twice, short ones fill the card when the signal is small."""
    strip = longest
    while strip > RUN and B * _over(N, strip) * _over(D, wide * THREADS) < 8 * multiprocessors():
        strip //= 2
    return strip


def _over(a: int, b: int) -> int:
    return -(-a // b)
