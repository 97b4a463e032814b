"""Quantisation of rows to 8-bit floats of 4 exponent bits, on devices from sm_89 on."""

from __future__ import annotations

from math import prod
from typing import Any

from perfmodel.errors import InputError, NoDeviceError
from perfmodel.measure.kernels.launch import Array, array, cupy, empty, launch, module, multiprocessors, stream

THREADS = 256
WARP = 32
OLDEST = 89  # the first with conversions to 8-bit floats
BLOCKS = 8  # blocks per multiprocessor of kernels that loop over all elements


def quantise_token(x: Any) -> tuple[Any, Any]:
    """Returns the elements in 8 bits, as bytes, and one scale for each row."""
    a, rows, cols, vec = _rows("quantise_token", x)
    out, scales, lib = empty(a, a.shape, "uint8"), empty(a, (rows, 1), "float32"), cupy()
    _run("quantise_token", a, vec, rows, (a, out, scales, lib.int32(cols)))
    return out.source, scales.source


def quantise_block(x: Any, run: int = 128, *, turned: bool = False) -> tuple[Any, Any]:
    """Returns the elements in 8 bits, as bytes, and one scale for each run of a row: (rows, runs), or ``turned``."""
    a, rows, cols, vec = _rows("quantise_block", x)
    lanes = run // vec
    if cols % run or run % vec or lanes > WARP or lanes & (lanes - 1):
        raise InputError(
            "quantise_block", f"a run has {run} elements and a row {cols}",
            f"runs of {vec} to {WARP * vec} elements, a power of two that divides the row, are accepted",
        )  # fmt: skip
    runs, lib = rows * cols // run, cupy()
    shape = (cols // run, rows) if turned else (rows, cols // run)
    out, scales = empty(a, a.shape, "uint8"), empty(a, shape, "float32")
    given = (a, out, scales, lib.int64(runs), lib.int32(cols // run), lib.int32(rows if turned else 0))
    _run("quantise_block", a, vec, -(-runs * lanes // THREADS), given, lanes)
    return out.source, scales.source


def quantise_tensor(x: Any) -> tuple[Any, Any]:
    """Returns the elements in 8 bits, as bytes, and one scale. Clears a word, and runs two kernels."""
    a, rows, cols, vec = _rows("quantise_tensor", x)
    vectors, lib = rows * cols // vec, cupy()
    out, scale, most = empty(a, a.shape, "uint8"), empty(a, (1,), "float32"), empty(a, (1,), "float32")
    most.source.fill(0) if type(most.source).__module__.startswith("cupy") else most.source.zero_()
    grid = _grid(vectors)
    _run("quantise_largest", a, vec, grid, (a, most, lib.int64(vectors)))
    _run("quantise_cast", a, vec, grid, (a, out, most, scale, lib.int64(vectors)))
    return out.source, scale.source


def quantise_static(x: Any, factor: Any) -> Any:
    """Returns the elements times a factor in 8 bits, as bytes. ``factor`` is one float32 on the device."""
    a, rows, cols, vec = _rows("quantise_static", x)
    out, given, vectors = empty(a, a.shape, "uint8"), array(factor, "quantise_static: factor"), rows * cols // vec
    _run("quantise_static", a, vec, _grid(vectors), (a, out, given, cupy().int64(vectors)))
    return out.source


def _rows(name: str, x: Any) -> tuple[Array, int, int, int]:
    """The array, its rows and columns, and the elements of one access."""
    a = array(x, f"{name}: x")
    capability = int(cupy().cuda.Device().compute_capability)
    if capability < OLDEST:
        raise NoDeviceError("kernels", f"this device is sm_{capability}", f"sm_{OLDEST} and newer are accepted")
    rows, cols, vec = prod(a.shape[:-1]), a.shape[-1], 4 if a.dtype == "float32" else 8
    if cols % vec or a.pointer % 16:
        raise InputError(name, f"a row has {cols} elements", f"multiples of {vec}, aligned to 16 bytes, are accepted")
    return a, rows, cols, vec


def _grid(vectors: int) -> int:
    return min(-(-vectors // THREADS), BLOCKS * multiprocessors())


def _run(name: str, like: Array, vec: int, blocks: int, arguments: tuple[Any, ...], lanes: int = 1) -> None:
    compiled = module("quantise.cu", like.dtype, VEC=vec, THREADS=THREADS, LANES=lanes)
    launch(compiled, name, (blocks,), THREADS, arguments, stream(like))
