"""The computation of a kernel, inferred from its name and grid where the trace has no shapes, or a CUDA graph hides the
operator.

Elementwise kernels handle a fixed number of elements per thread, so the grid gives the size up to one block. Kernels of
whole rows launch one block per row. What the grid leaves open, such as the length of a row, comes from the kernels around:
``dataflow`` follows the tensors from one to the next.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from perfmodel.aten import is_known, launched
from perfmodel.aten.asking import asked, compact
from perfmodel.aten.calls import ITEMS, Call, Launched, Operand
from perfmodel.traces import fused
from perfmodel.traces.events import Activity
from perfmodel.traces.kernel_names import dtype, family, function

CHUNK = 65536  # elements of a tensor that one block of torch's multi_tensor_apply handles
# Elements per thread of torch's elementwise kernels, by the start of their name (torch 2.11, all shapes of its traces).
_PER_THREAD = (
    (re.compile(r"vectorized_elementwise_kernel<16"), 16), (re.compile(r"vectorized_elementwise_kernel"), 8),
    (re.compile(r"unrolled_elementwise_kernel"), 4), (re.compile(r"triton_poi_"), 8), (re.compile(r"triu_tril"), 4),
    (re.compile(r"elementwise_kernel_with_index"), 1),
)  # fmt: skip
_EACH = re.compile(r"elementwise_kernel<\d+, (\d+)")
_POINTERS = re.compile(r"array<char\s*\*, (\d+)u?l?>")
_LISTS = re.compile(r"(?:Functor|Metadata)<(?:[\w:]+, )?(\d)")
# Tensors that an elementwise operator reads, where the name does not say how many pointers the kernel has.
_OPERANDS = {"add": 2, "mul": 2, "div": 2, "sub": 2, "where": 3, "fill_": 1, "eq": 1, "maximum": 2, "minimum": 2,
             "silu_backward": 2, "gelu_backward": 2, "tanh_backward": 2, "threshold_backward": 2, "masked_fill_": 2}  # fmt: skip
_PLAIN = re.compile(r"(?<![a-z_])elementwise_kernel<")  # not vectorised: its tensors lie apart or are broadcast
ROW = 64  # elements that lie together in a tensor that does not lie as its result does, such as one head of a query


class Seen(NamedTuple):
    """A kernel with the figures of its grid: its elements, and its rows if it works by row; 0 where unknown."""

    activity: Activity
    family: str
    dtype: str
    elements: int = 0
    rows: int = 0


def seen(one: Activity) -> Seen:
    """Reads name and grid of a kernel."""
    kind, name = family(one.name), one.name
    number = dtype(name) or "fp32"
    if kind in ("copy", "fill"):
        return Seen(one, kind, "uint8", int(one.details.get("bytes", 0)))
    blocks = one.grid[0] * one.grid[1] * one.grid[2]
    threads = blocks * one.block[0] * one.block[1] * one.block[2]
    if kind == "optimizer" and "multi_tensor_apply" in name:
        return Seen(one, kind, number, blocks * CHUNK)
    each = _per_thread(name)
    if each:
        return Seen(one, kind, number, threads * each)
    return Seen(one, kind, number, 0, _rows(one, kind))


def _per_thread(name: str) -> int:
    found = _EACH.search(name) if "vectorized" not in name else None
    if found:
        return int(found[1])
    return next((count for pattern, count in _PER_THREAD if pattern.search(name)), 0)


def _rows(one: Activity, kind: str) -> int:
    """The rows of a kernel that works on whole rows."""
    name = one.name
    if kind == "norm" and ("layer_norm" in name or "rms" in name.lower()):
        return one.grid[0]
    if kind == "softmax":
        warp = re.search(r"softmax_warp_\w+<.*?, (\d+), (?:true|false)", name)
        return one.grid[0] * one.block[1] * (2 if warp and int(warp[1]) <= 7 else 1) if warp else one.grid[0]
    if kind == "reduction" and one.grid[1] == 1 and one.block[0] >= 32 and one.block[1] > 1:
        return one.grid[0] * one.block[1]
    return 0


def computed(found: Seen, elements: int, cols: int = 0) -> tuple[Launched, ...]:
    """The kernels that a kernel of the trace stands for, other than products and attention.

    ``elements`` is the size of the tensor around it where its own grid does not tell, ``cols`` the length of a row.
    """
    size = found.elements or elements
    if not size and not found.rows:
        return ()
    maker = _MAKERS.get(found.family)
    return maker(found, max(1, size), cols) if maker else ()


def _of(name: str, *arguments: object) -> tuple[Launched, ...]:
    return launched(Call(name, arguments)) if is_known(name) else ()


def _elementwise(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    name = found.activity.name
    operator = function(name) or "mul"
    pointers = _POINTERS.search(name)
    reads = max(1, int(pointers[1]) - 1) if pointers else _OPERANDS.get(operator, 1)
    kind = found.dtype if found.dtype in ITEMS else "fp32"
    tensor = compact((size,), kind)
    if operator == "copy_":
        source = "bf16" if kind == "fp32" and "direct_copy" in name else kind
        return _of("copy_", *_apart(name, tensor, size, source))
    if operator == "arange":
        return _of("fill_", tensor, 0)
    if operator == "native_dropout":
        return _of("native_dropout", tensor, 0.1, True)
    tensor, other = _apart(name, tensor, size, kind)
    given = (*((tensor,) * (reads - 1)), other)
    return _of(operator, *given) or _of("mul", *given)


def _apart(name: str, tensor: Operand, size: int, dtype: str) -> tuple[Operand, Operand]:
    """A tensor, and one of its size that lies otherwise where the kernel is the one that computes every place."""
    if not _PLAIN.search(name) or size % ROW or size == ROW:
        return tensor, compact((size,), dtype)
    return compact((size // ROW, ROW), tensor.dtype), Operand((size // ROW, ROW), dtype, (2 * ROW, 1))


def _moved(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    """A copy or a fill of so many bytes."""
    tensor = compact((size,), "uint8")
    return _of("copy_", tensor, tensor) if found.family == "copy" else _of("fill_", tensor, 0)


def _optimizer(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    name, item = found.activity.name, ITEMS.get(found.dtype, 4)
    if "Adam" in name:
        return (asked("adam_step", found.dtype, params=size, tensors=1, weight=item, state=item),)
    lists = [int(number) for number in _LISTS.findall(name)]
    if "Norm" in name:
        return (asked("gradient_norm", found.dtype, params=size, tensors=1, act=item),)
    reads = max(1, max(lists, default=1) - ("UnaryOpFunctor" in name))
    return (asked("foreach", found.dtype, params=size, tensors=1, reads=reads, act=item),)


def _norm(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    name = found.activity.name
    rows = found.rows or (size // cols if cols else 0)
    width = cols or (size // rows if rows else 0)
    if not rows or not width:
        return ()
    x, weight = compact((rows, width), found.dtype), compact((width,), found.dtype)
    rms = "rms" in name.lower()
    if "backward" in name.lower() or "grad" in name.lower() or "GammaBeta" in name:
        part = "gamma" if "GammaBeta" in name else "input"
        statistic = compact((rows, 1), "fp32")
        wanted = (part == "input", part == "gamma", part == "gamma")
        return _of("native_layer_norm_backward", x, x, (width,), statistic, statistic, weight, weight, wanted)
    return (
        _of("_fused_rms_norm", x, (width,), weight)
        if rms
        else _of("native_layer_norm", x, (width,), weight, weight, 1e-5)
    )


def _softmax(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    if not found.rows:
        return ()
    width = cols or max(1, size // found.rows)
    x = compact((found.rows, width), found.dtype)
    back, log = "ackward" in found.activity.name, "Log" in found.activity.name
    base = "_log_softmax" if log else "_softmax"
    return _of(f"{base}_backward_data", x, x, 1, found.dtype) if back else _of(base, x, 1, False)


def _reduction(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    if "splitKreduce" in found.activity.name:
        return ()
    rows = found.rows
    if rows:
        return _of("sum", compact((rows, max(1, size // rows)), found.dtype), (1,), False)
    width = max(1, found.activity.grid[0] * found.activity.block[0] * 4)  # columns: four to a thread
    return _of("sum", compact((max(1, size // width), width), found.dtype), (0,), False)


def _concatenation(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    opaque = re.search(r"OpaqueType<(\d+)u?>", found.activity.name)
    kind = {1: "uint8", 2: "bf16", 4: "fp32", 8: "int64"}.get(int(opaque[1]) if opaque else 2, "bf16")
    parts = max(1, found.activity.grid[1])
    return _of("cat", (compact((max(1, size // parts),), kind),) * parts, 0)


def _gather(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    width = cols or 1
    index = compact((max(1, size // width),), "int64")
    return _of("index_select", compact((max(1, size // width), width), "bf16"), 0, index)


def _fused(found: Seen, size: int, cols: int) -> tuple[Launched, ...]:
    """A Triton kernel without shapes: one tensor read and one written, of the size of its grid."""
    return chained(found, size, 2)


def chained(found: Seen, size: int, tensors: int) -> tuple[Launched, ...]:
    """A Triton kernel of so many tensors of one size, by its bytes: how far each operator of its name reaches is unknown."""
    return (fused.of("", ((size, 2),) * tensors, size, "bf16"),)


_MAKERS = {
    "elementwise": _elementwise, "copy": _moved, "fill": _moved, "optimizer": _optimizer, "norm": _norm, "softmax": _softmax,
    "reduction": _reduction, "concatenation": _concatenation, "gather": _gather, "fused": _fused, "random": _elementwise,
    "gradient_sum": _elementwise,
}  # fmt: skip
