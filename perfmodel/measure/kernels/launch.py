"""Compiles CUDA sources for the current device and launches kernels on the arrays and stream of torch or CuPy."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.cuda import FOLDER
from perfmodel.cuda.layouts import VECTOR_BYTE, widest
from perfmodel.errors import InputError, NoDeviceError

OLDEST = 70  # sm_70, Volta: the first with the warp shuffles and fp16 conversions of the sources
TYPES = {"float16": ("T_FP16", 2), "bfloat16": ("T_BF16", 2), "float32": ("T_FP32", 4)}


def cupy() -> Any:
    """Returns CuPy, or raises an error that says how to install it."""
    try:
        import cupy as module
    except ImportError:
        raise NoDeviceError(
            "kernels",
            "CuPy is not installed",
            "CuPy compiles and launches the kernels",
            "Run pip install 'perfmodel[measure-cuda13]', or [measure-cuda12] if the driver supports CUDA 12 only.",
        ) from None
    return module


class Array(NamedTuple):
    """An array on the device: pointer, shape, data type, and the object of its library."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    source: Any


def array(value: Any, name: str) -> Array:
    """Returns a torch tensor or CuPy array as an ``Array``. An array that is not row-major is copied."""
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch":
        if not value.is_cuda:
            raise InputError(name, "it is not on a GPU", "a CUDA tensor is accepted", "Move it with .cuda().")
        value = value.contiguous()
        found = Array(value.data_ptr(), tuple(value.shape), str(value.dtype).removeprefix("torch."), value)
    elif kind == "cupy":
        value = cupy().ascontiguousarray(value)
        found = Array(value.data.ptr, tuple(value.shape), str(value.dtype), value)
    else:
        raise InputError(name, f"it is a {kind} object", "torch tensors and CuPy arrays are accepted", "Convert it.")
    if found.dtype not in TYPES:
        raise InputError(name, f"its type is {found.dtype}", f"{', '.join(TYPES)} are accepted", "Convert it.")
    return found


def aligned(found: Array, name: str) -> Array:
    """Returns the array, or a copy if it does not begin at a multiple of the widest access."""
    if found.pointer % VECTOR_BYTE == 0:
        return found
    source = found.source
    return array(source.clone() if hasattr(source, "clone") else source.copy(), name)


def empty(like: Array, shape: tuple[int, ...], dtype: str = "") -> Array:
    """Returns an uninitialised array of the same library on the same device."""
    dtype = dtype or like.dtype
    if type(like.source).__module__.partition(".")[0] == "torch":
        import torch

        made = torch.empty(shape, dtype=getattr(torch, dtype), device=like.source.device)
        return Array(made.data_ptr(), shape, dtype, made)
    made = cupy().empty(shape, dtype)
    return Array(made.data.ptr, shape, dtype, made)


def stream(like: Array) -> Any:
    """Returns the current stream of the array's library."""
    module = cupy()
    if type(like.source).__module__.partition(".")[0] != "torch":
        return module.cuda.get_current_stream()
    import torch

    handle = torch.cuda.current_stream(like.source.device).cuda_stream
    known = getattr(module.cuda.Stream, "from_external", None)  # CuPy 14 and newer, where ExternalStream is deprecated
    return known(torch.cuda.current_stream(like.source.device)) if known else module.cuda.ExternalStream(handle)


def vector(elements: int, dtype: str, *arrays: Array, at_most: int = 16) -> int:
    """Returns the elements per memory access: the largest power of two, up to ``at_most`` bytes, that divides a row and
    the alignment of the arrays.
    """
    return widest(elements, TYPES[dtype][1], at_most, tuple(a.pointer for a in arrays))


@cache
def module(source: str, dtype: str, **settings: int) -> Any:
    """Returns the compiled source for this device. ``settings`` are passed as macros."""
    folder = Path(FOLDER)
    text = (folder / "common.cuh").read_text() + (folder / source).read_text()
    flags = [f"-D{name}={value}" for name, value in settings.items()]
    lib = cupy()
    capability = _capability(device())
    if capability < OLDEST:
        raise NoDeviceError(
            "kernels", f"this device is sm_{capability}", f"sm_{OLDEST} and newer are accepted", "Use torch's kernels."
        )
    options = ("-std=c++17", f"-D{TYPES[dtype][0]}", *flags)
    try:
        found = lib.RawModule(code=text, options=options, backend="nvrtc")
        found.compile()
    except lib.cuda.compiler.CompileException as error:
        raise InputError(
            source,
            f"it does not compile ({error})",
            f"the sources compile for sm_{OLDEST} and newer",
            "Use torch's kernels.",
        ) from None
    return found


# Launched kernels by name: compiled source, threads per block, dynamic shared memory in bytes.
launched: dict[str, tuple[Any, int, int]] = {}


class Footprint(NamedTuple):
    """Resources of a kernel: registers per thread, shared memory and threads per block, and its occupancy."""

    name: str
    registers: int
    shared_byte: int
    threads: int
    blocks: int
    occupancy: float


def footprints() -> list[Footprint]:
    """Returns the footprint of every kernel launched since ``launched`` was cleared."""
    most = int(_attributes(device())["MaxThreadsPerMultiProcessor"])
    found = []
    for name, (compiled, threads, shared_byte) in launched.items():
        function, blocks = kernel(compiled, name), blocks_per_multiprocessor(compiled, name, threads, shared_byte)
        held = int(function.shared_size_bytes) + shared_byte
        found.append(Footprint(name, int(function.num_regs), held, threads, blocks, min(1.0, blocks * threads / most)))
    return found


def launch(
    compiled: Any,
    name: str,
    grid: tuple[int, ...],
    threads: int,
    arguments: tuple[Any, ...],
    on: Any,
    shared_byte: int = 0,
) -> None:
    """Launches one kernel of a compiled source. Arrays are passed as pointers, other arguments as CuPy scalars."""
    given = tuple(a.pointer if isinstance(a, Array) else a for a in arguments)
    launched[name] = (compiled, threads, shared_byte)
    kernel(compiled, name)((*grid,), (threads,), given, shared_mem=shared_byte, stream=on)


@cache
def kernel(compiled: Any, name: str) -> Any:
    """Returns one kernel of a compiled source. Cached, because the kernel object stores its launch attributes."""
    return compiled.get_function(name)


@cache
def blocks_per_multiprocessor(compiled: Any, name: str, threads: int, shared_byte: int) -> int:
    """Returns the resident blocks of a kernel per multiprocessor. Opts in to more than 48 KiB of shared memory per
    block if needed.
    """
    function = kernel(compiled, name)
    if shared_byte > 40 * 1024:  # the default limit of 48 KiB includes static shared memory
        function.max_dynamic_shared_size_bytes = shared_byte
    occupancy = cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
    return max(1, int(occupancy(function.kernel.ptr, threads, shared_byte)))


@cache
def _attributes(device: int) -> dict[str, int]:
    """The attributes of a device. Reading them takes longer than a launch."""
    return dict(cupy().cuda.Device(device).attributes)


@cache
def _capability(device: int) -> int:
    return int(cupy().cuda.Device(device).compute_capability)


def device() -> int:
    """Returns the number of the current device."""
    return int(cupy().cuda.runtime.getDevice())


def shared_at_most() -> int:
    """Returns the shared memory that a block may request, in bytes, less a margin for static shared memory."""
    return int(_attributes(device())["MaxSharedMemoryPerBlockOptin"]) - 2048


def clusters() -> bool:
    """Whether this device has thread block clusters (sm_90 and newer)."""
    return _capability(device()) >= 90


def multiprocessors() -> int:
    """Returns the number of multiprocessors of the current device."""
    return int(_attributes(device())["MultiProcessorCount"])
