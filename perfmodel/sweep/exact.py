"""Exact counts of 2^53 and more, which float64 would round: a chunk evaluated again in integers.

Integers have 64 bits where counts and products of two sizes stay below 2^62. Beyond that they are Python's, which take
about 100 times as long. No operation divides or compares more than a product of two sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfmodel import block
from perfmodel.analysis import counted
from perfmodel.arithmetic import register, total
from perfmodel.sweep.totals import Chunk
from perfmodel.workload import resolved

if TYPE_CHECKING:
    from perfmodel.sweep import Plan

COUNTS = ("flops", "contraction_flops", "traffic_byte")
ROUNDED = 2**53  # the smallest count that may have been rounded
LARGEST_COUNT, LARGEST_SIZE = 2**62, 2**31


def _in_whole_numbers(*values: Any) -> bool:
    """Whether all arrays hold integers, of 64 bits or Python's."""
    return all(value.dtype.kind in "iO" for value in values if isinstance(value, np.ndarray))


def _floor_div(a: Any, b: Any) -> Any:
    """The quotient rounded down: for floats, faster than ``//`` and exact below 2^53."""
    return a // b if _in_whole_numbers(a, b) else np.floor(a / b)


def _exact_div(a: Any, b: Any) -> Any:
    return a // b if _in_whole_numbers(a, b) else a / b


def _whole(value: Any) -> Any:
    return np.frompyfunc(round, 1, 1)(value) if value.dtype.kind == "O" else value.round()


register(
    "numpy",
    ceil_log2=lambda p: np.ceil(np.log2(p)),
    floor_div=_floor_div,
    exact_div=_exact_div,
    whole=_whole,
    maximum=np.maximum,
    minimum=np.minimum,
)


def counts(plan: Plan, chunk: Chunk) -> dict[str, NDArray[Any]]:
    """The chunk's exact counts by name; empty where float64 is exact."""
    most = max(getattr(chunk, name).max(initial=0) for name in COUNTS)
    if most < ROUNDED:
        return {}
    sizes = (value for value in chunk.sizes.values() if value is not None)
    if most < LARGEST_COUNT and all(np.max(size) < LARGEST_SIZE for size in sizes):
        found = _counts(plan, chunk, np.int64)
        if all(map(_in_whole_numbers, found.values())):  # an expected number of experts is a float until it is rounded
            return found
    return _counts(plan, chunk, object)


def _counts(plan: Plan, chunk: Chunk, kind: Any) -> dict[str, NDArray[Any]]:
    """The sums over all kernels at the points of a chunk."""
    at = {name: _values(values, kind) for name, values in chunk.at.items()}
    dims = resolved({**plan.given, **at}, plan.workload.name, checked=False)
    sums: dict[str, Any] = dict.fromkeys(COUNTS, 0)
    train = plan.phase == "train"
    for kernel in block.kernels(plan.steps, dims, fused=plan.fused, backward=train, optimizer=train, checked=False):
        for name, count in _kernel_counts(kernel.op, plan.counting).items():
            sums[name] = sums[name] + count * kernel.repeat
    points = np.zeros(chunk.flops.shape, kind)
    return {name: points + count for name, count in sums.items()}


def _values(values: NDArray[Any], kind: Any) -> Any:
    """Sizes as integers; one integer where all are equal."""
    first = int(values[0])
    return first if (values == first).all() else values.astype(np.int64).astype(kind)


def _kernel_counts(op: Any, counting: str) -> Mapping[str, Any]:
    flops = op.flops_by_kind()
    return {
        "flops": total(counted(flops, counting).values()),
        "contraction_flops": total(number for (_, contraction), number in flops.items() if contraction),
        "traffic_byte": op.traffic_byte(),
    }
