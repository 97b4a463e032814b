"""Products of few rows with 4-bit weights, for decoding: groups with zero points, MXFP4 and NVFP4."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.measure.kernels.launch import array, cupy, empty, launch, module, multiprocessors, stream

THREADS = 256
MOST_ROWS = 8
ACCESS = 32  # weights of one access of a thread
BLOCKS = 8  # per multiprocessor
FORMATS = {"linear_int4": 1, "linear_mxfp4": 2, "linear_nvfp4": 3}


class Packed(NamedTuple):
    """Weights of a linear layer on the device as bytes (D_out, D_in / 2), and what is stored beside them.

    ``scales`` are (D_out, blocks): in the type of the activations, or bytes. ``zeros``: bytes of two zero points, or None.
    """

    operation: str
    group: int
    weights: Any
    scales: Any
    zeros: Any = None
    whole: float = 1.0


def product(x: Any, packed: Packed) -> Any:
    """Returns x (rows, D_in) times the weights."""
    a = array(x, "unpack: x")
    (rows, D_in), D_out = a.shape, packed.weights.shape[0]
    blocks = D_in // packed.group
    if (
        a.dtype == "float32"
        or rows > MOST_ROWS
        or D_in % max(packed.group, ACCESS)
        or (packed.zeros is not None and blocks % 2)
    ):
        raise InputError(
            "unpack", f"x has shape {a.shape} and type {a.dtype}, groups have {packed.group} weights",
            f"up to {MOST_ROWS} rows of float16 or bfloat16, in whole groups, are accepted",
        )  # fmt: skip
    out, lib = empty(a, (rows, D_out)), cupy()
    compiled = module("unpack.cu", a.dtype, VEC=8, ROWS=rows, THREADS=THREADS, FORMAT=FORMATS[packed.operation],
                      GROUP=packed.group)  # fmt: skip
    zeros = lib.uint64(packed.zeros.data_ptr() if packed.zeros is not None else 0)
    pointers = (lib.uint64(packed.weights.data_ptr()), lib.uint64(packed.scales.data_ptr()), zeros)
    grid = min(-(-D_out // (THREADS // 32)), BLOCKS * multiprocessors())
    given = (a, *pointers, lib.float32(packed.whole), out, lib.int32(D_in), lib.int32(D_out))
    launch(compiled, "unpack_product", (grid,), THREADS, given, stream(a))
    return out.source
