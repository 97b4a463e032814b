"""Compiling a CUDA source for the card at hand, and launching it on torch's or CuPy's arrays and stream."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.cuda import FOLDER
from perfmodel.cuda.layouts import widest
from perfmodel.errors import InputError, NoDeviceError

OLDEST = 70  # sm_70, Volta: the first with the warp shuffles and the fp16 conversions that the sources use
TYPES = {"float16": ("T_FP16", 2), "bfloat16": ("T_BF16", 2), "float32": ("T_FP32", 4)}


def cupy() -> Any:
    """CuPy, or a message that says how to get it."""
    try:
        import cupy as module
    except ImportError:
        raise NoDeviceError(
            "kernels",
            "CuPy is not installed",
            "CuPy compiles and launches them",
            "Run pip install 'perfmodel[measure-cuda13]', or [measure-cuda12] for a driver of CUDA 12.",
        ) from None
    return module


class Array(NamedTuple):
    """An array on the card: where it lies, its shape and type, and what it came from."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    source: Any


def array(value: Any, name: str) -> Array:
    """A torch tensor or CuPy array, row-major; others are made so, which costs a copy of that one."""
    kind = type(value).__module__.partition(".")[0]
    if kind == "torch":
        if not value.is_cuda:
            raise InputError(name, "it is not on a GPU", "a tensor on the card is accepted", "Move it with .cuda().")
        value = value.contiguous()
        found = Array(value.data_ptr(), tuple(value.shape), str(value.dtype).removeprefix("torch."), value)
    elif kind == "cupy":
        value = cupy().ascontiguousarray(value)
        found = Array(value.data.ptr, tuple(value.shape), str(value.dtype), value)
    else:
        raise InputError(name, f"it is a {kind} object", "torch tensors and CuPy arrays are accepted")
    if found.dtype not in TYPES:
        raise InputError(name, f"its type is {found.dtype}", f"{', '.join(TYPES)} are accepted", "Convert it.")
    return found


def empty(like: Array, shape: tuple[int, ...], dtype: str = "") -> Array:
    """An array of the same library, on the same card."""
    dtype = dtype or like.dtype
    if type(like.source).__module__.partition(".")[0] == "torch":
        import torch

        made = torch.empty(shape, dtype=getattr(torch, dtype), device=like.source.device)
        return Array(made.data_ptr(), shape, dtype, made)
    made = cupy().empty(shape, dtype)
    return Array(made.data.ptr, shape, dtype, made)


def stream(like: Array) -> Any:
    """The stream on which the array's library is working now."""
    module = cupy()
    if type(like.source).__module__.partition(".")[0] != "torch":
        return module.cuda.get_current_stream()
    import torch

    handle = torch.cuda.current_stream(like.source.device).cuda_stream
    known = getattr(module.cuda.Stream, "from_external", None)  # CuPy 14 on; the older way warns there
    return known(torch.cuda.current_stream(like.source.device)) if known else module.cuda.ExternalStream(handle)


def vector(elements: int, dtype: str, *arrays: Array, at_most: int = 16) -> int:
    """Elements of one access: as many as divide a row, and as the arrays are aligned to, up to 16 bytes."""
    return widest(elements, TYPES[dtype][1], at_most, tuple(a.pointer for a in arrays))


@cache
def module(source: str, dtype: str, **settings: int) -> Any:
    """The compiled source with its settings as macros, for this card."""
    folder = Path(FOLDER)
    text = (folder / "common.cuh").read_text() + (folder / source).read_text()
    flags = [f"-D{name}={value}" for name, value in settings.items()]
    lib = cupy()
    capability = int(lib.cuda.Device().compute_capability)
    if capability < OLDEST:
        raise NoDeviceError("kernels", f"this card is sm_{capability}", f"sm_{OLDEST} and newer are accepted")
    options = ("-std=c++17", f"-D{TYPES[dtype][0]}", *flags)
    try:
        found = lib.RawModule(code=text, options=options, backend="nvrtc")
        found.compile()
    except lib.cuda.compiler.CompileException as error:
        raise InputError(source, f"it does not compile ({error})", "the sources compile for sm_70 and newer") from None
    return found


# Every kernel that was launched, by name: what it was compiled from, its threads and shared memory.
launched: dict[str, tuple[Any, int, int]] = {}


class Footprint(NamedTuple):
    """What a kernel takes of a multiprocessor, and the share of its threads that can be there at once."""

    name: str
    registers: int
    shared_byte: int
    threads: int
    blocks: int
    occupancy: float


def footprints() -> list[Footprint]:
    """Of every kernel launched since the list was cleared."""
    most = int(cupy().cuda.Device().attributes["MaxThreadsPerMultiProcessor"])
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
    """Runs one kernel of a compiled source: arrays as pointers, integers and floats as CuPy scalars."""
    given = tuple(a.pointer if isinstance(a, Array) else a for a in arguments)
    launched[name] = (compiled, threads, shared_byte)
    kernel(compiled, name)((*grid,), (threads,), given, shared_mem=shared_byte, stream=on)


@cache
def kernel(compiled: Any, name: str) -> Any:
    """One kernel of a compiled source; the same object every time, since it keeps its own settings."""
    return compiled.get_function(name)


@cache
def blocks_per_multiprocessor(compiled: Any, name: str, threads: int, shared_byte: int) -> int:
    """How many blocks of a kernel a multiprocessor holds at once; asks for the shared memory if it is more than usual."""
    function = kernel(compiled, name)
    if shared_byte > 40 * 1024:  # of the usual 48 KiB the kernels take a little for themselves
        function.max_dynamic_shared_size_bytes = shared_byte
    occupancy = cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
    return max(1, int(occupancy(function.kernel.ptr, threads, shared_byte)))


def shared_at_most() -> int:
    """Bytes of shared memory that a block may ask for; a little is left to the kernel itself."""
    return int(cupy().cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]) - 2048


def clusters() -> bool:
    """Whether blocks of this card can reach one another's shared memory."""
    return int(cupy().cuda.Device().compute_capability) >= 90


def multiprocessors() -> int:
    """Of the card at hand."""
    return int(cupy().cuda.Device().attributes["MultiProcessorCount"])
