"""The counts of several kernels together."""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.analysis import Total
from perfmodel.arithmetic import Size
from perfmodel.block import Kernel
from perfmodel.roofline import Bounds


def total(running: Iterable[Kernel], whole: Bounds) -> Total:
    """Returns the sums over kernels and their repeats, with their bounds together."""
    return Total(*counts(running), whole.lower_s, whole.no_overlap_s, whole.bound)


def counts(running: Iterable[Kernel]) -> tuple[Size, Size, Size, Size]:
    """Returns FLOPs, those of contractions, traffic and compulsory bytes of kernels with their repeats."""
    flops: Size = 0
    contraction_flops: Size = 0
    traffic_byte: Size = 0
    compulsory_byte: Size = 0
    for kernel in running:
        op, repeat = kernel.op, kernel.repeat
        kinds = op.flops_by_kind()
        flops += repeat * sum(kinds.values())
        contraction_flops += repeat * sum(count for (_, contraction), count in kinds.items() if contraction)
        traffic_byte += repeat * op.traffic_byte()
        compulsory_byte += repeat * op.compulsory_byte()
    return flops, contraction_flops, traffic_byte, compulsory_byte
