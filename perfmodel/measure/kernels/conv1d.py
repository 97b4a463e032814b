"""Causal depthwise convolution: u (B, N, D), filter (D, K), bias (D) to (B, N, D), forward and backward."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

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

THREADS = 128  # of a block where no tile says otherwise
STRIP = 128  # rows that a thread walks in the backward pass
BACK_RUN = 8
# Filters of up to so many elements per thread stay in registers; the backward pass keeps their gradients there too.
REGISTER_TAPS, BACK_REGISTER_TAPS = 28, 56
GRID_ROWS = 65535


class Tile(NamedTuple):
    """What a block makes: channels of a thread, rows of a thread, threads side by side, strips one below the other."""

    wide: int
    strip: int
    across: int
    tall: int

    def grid(self, B: int, N: int, D: int) -> tuple[int, int, int]:
        return _over(D, self.wide * self.across), _over(N, self.strip * self.tall), B

    def settings(self, K: int) -> dict[str, int]:
        """The macros of the source."""
        rows = {"RUN": self.strip, "STRIP": self.strip, "TALL": self.tall}
        return {"VEC": self.wide, "K": K, **rows, "THREADS": self.across * self.tall}


def tile(B: int, N: int, D: int, K: int, *arrays: Array) -> Tile | None:
    """The tile of a forward pass; None where the filter does not fit the registers.

    Measured on an H200: a thread asks for up to 128 bytes at once and is done; 16 bytes of a row are best where the filter
    leaves room for their window. Four short strips to a block find the rows that they share in the first-level cache.
    """
    if K > REGISTER_TAPS:
        return None
    # Two bfloat16 are widened in more registers than two of the others: half as many channels a thread leave room.
    wide = vector(D, arrays[0].dtype, *arrays, at_most=8 if arrays[0].dtype == "bfloat16" else 16)
    while wide > 1 and wide * K > REGISTER_TAPS:
        wide //= 2
    strip = min(8 if K <= 4 else 16, 128 // (wide * TYPES[arrays[0].dtype][1]))
    found = Tile(wide, strip, 64, 4) if strip <= 8 else Tile(wide, strip, 128, 1)
    if prod(found.grid(B, N, D)) < 4 * multiprocessors():
        return Tile(wide, min(strip, 8), 64, 1)
    return found


def conv1d(u: Any, taps: Any, bias: Any) -> Any:
    """out[n] = bias + sum over k of taps[:, k] u[n - K + 1 + k], one kernel."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    out = empty(x, x.shape)
    size, found = cupy().int32, tile(B, N, D, K, x, f, b)
    arguments = (x, f, b, out, size(N), size(D))
    if found is None:
        wide = vector(D, x.dtype, x)
        compiled = module("conv1d.cu", x.dtype, VEC=wide, K=K, RUN=1, STRIP=1, THREADS=THREADS)
        grid = (_over(D, wide * THREADS), min(N, GRID_ROWS), B)
        launch(compiled, "conv1d_long_forward", grid, THREADS, arguments, stream(x))
        return out.source
    compiled = module("conv1d.cu", x.dtype, **found.settings(K))
    launch(compiled, "conv1d_forward", found.grid(B, N, D), found.across * found.tall, arguments, stream(x))
    return out.source


def conv1d_two_kernels(u: Any, taps: Any, bias: Any) -> Any:
    """The same by padding and then convolving: the padded signal is written and read again."""
    x, f, b, (B, N, D, K) = _read(u, taps, bias)
    padded, out = empty(x, (B, N + 2 * (K - 1), D)), empty(x, x.shape)
    size, found = cupy().int32, tile(B, N, D, K, x, f, b)
    wide = found.wide if found else vector(D, x.dtype, x)
    threads = found.across * found.tall if found else THREADS
    settings = found.settings(K) if found else {"VEC": wide, "K": K, "RUN": 1, "STRIP": 1, "THREADS": THREADS}
    compiled = module("conv1d.cu", x.dtype, **settings)
    pads = (_over(D, wide * threads), min(N + 2 * (K - 1), GRID_ROWS), B)
    launch(compiled, "pad", pads, threads, (x, padded, size(N), size(D)), stream(x))
    name, grid = "convolve_padded_long", (pads[0], min(N, GRID_ROWS), B)
    if found:
        name, grid = "convolve_padded", found.grid(B, N, D)
    launch(compiled, name, grid, threads, (padded, f, b, out, size(N), size(D)), stream(x))
    return out.source


def conv1d_backward(u: Any, taps: Any, dout: Any) -> tuple[Any, Any, Any]:
    """Gradients of the input, the filter and the bias; u and dout are read once."""
    x, f, g, (B, N, D, K) = _read(u, taps, None, dout)
    du, df, db = empty(x, x.shape), empty(x, f.shape), empty(x, (D,))
    wide, kernel = _width(x, D, 2 * K)
    size, on = cupy().int32, stream(x)
    strip = STRIP if kernel == "long" else _strip(B, N, D, wide)
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
    """Channels of a thread of the backward pass: 8 bytes of them, fewer where the filter would leave the registers."""
    if held > BACK_REGISTER_TAPS // 2:
        return vector(D, x.dtype, x), "long"
    wide = vector(D, x.dtype, x, at_most=8)
    while wide > 1 and wide * held > BACK_REGISTER_TAPS:
        wide //= 2
    return wide, "strips"


def _strip(B: int, N: int, D: int, wide: int) -> int:
    """Rows of a strip of the backward pass: long ones leave few parts to sum, short ones fill the card."""
    strip = STRIP
    while strip > 2 * BACK_RUN and B * _over(N, strip) * _over(D, wide * THREADS) < 8 * multiprocessors():
        strip //= 2
    return strip


def _over(a: int, b: int) -> int:
    return -(-a // b)
