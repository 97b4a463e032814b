"""Counts of 2^53 and more, which float64 rounds: the points of a chunk once more, in whole numbers.

Where counts and products of two sizes stay below 2^62 the numbers are of 64 bits; beyond that they are Python's, which
take some hundred times as long. No operation divides or compares more than a product of two sizes.
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
ROUNDED = 2**53  # the least count that may have been rounded
LARGEST_COUNT, LARGEST_SIZE = 2**62, 2**31


def _in_whole_numbers(*values: Any) -> bool:
    """Whether arrays hold 64-bit or Python's whole numbers, not floating-point ones."""
    return all(value.dtype.kind in "iO" for value in values if isinstance(value, np.ndarray))


def _floor_div(a: Any, b: Any) -> Any:
    """Rounding a quotient down is faster than ``//`` for floating-point numbers and, below 2^53, as exact."""
    return a // b if _in_whole_numbers(a, b) else np.floor(a / b)


def _exact_div(a: Any, b: Any) -> Any:
    return a // b if _in_whole_numbers(a, b) else a / b


def _whole(value: Any) -> Any:
    return np.frompyfunc(round, 1, 1)(value) if value.dtype.kind == "O" else value.round()


register("numpy", floor_div=_floor_div, exact_div=_exact_div, whole=_whole, maximum=np.maximum, minimum=np.minimum)


def counts(plan: Plan, chunk: Chunk) -> dict[str, NDArray[Any]]:
    """The chunk's counts as whole numbers, by name; nothing where float64 holds them exactly."""
    most = max(getattr(chunk, name).max(initial=0) for name in COUNTS)
    if most < ROUNDED:
        return {}
    sizes = (value for value in chunk.sizes.values() if value is not None)
    if most < LARGEST_COUNT and all(np.max(size) < LARGEST_SIZE for size in sizes):
        found = _counts(plan, chunk, np.int64)
        if all(map(_in_whole_numbers, found.values())):  # an expected number of experts is none before it is rounded
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
    """Sizes as whole numbers, as one where all are the same."""
    first = int(values[0])
    return first if (values == first).all() else values.astype(np.int64).astype(kind)


def _kernel_counts(op: Any, counting: str) -> Mapping[str, Any]:
    flops = op.flops_by_kind()
    return {
        "flops": total(counted(flops, counting).values()),
        "contraction_flops": total(number for (_, contraction), number in flops.items() if contraction),
        "traffic_byte": op.traffic_byte(),
    }
