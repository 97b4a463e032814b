"""The bytes of a program that memory must deliver or keep: data that exists before it, and results that it leaves."""

from __future__ import annotations

from perfmodel.hardware import Gpu
from perfmodel.programs.pricing import Kernel
from perfmodel.programs.program import Program, Step


class Arrivals:
    """Data that exists before the program must come from memory when it is first read, less what L2 can still hold.

    Of a tensor of n bytes, of which kernels have touched at most m before, a kernel that reads it brings at least n - m
    bytes. Which bytes the earlier kernels touched is not known, so they count as bytes of this tensor.
    """

    def __init__(self, program: Program, gpu: Gpu) -> None:
        cache = gpu.caches.get("l2")
        self.spare_byte = float(cache.value) if cache else 0.0
        self.bandwidth_byte_per_s = gpu.bandwidth_byte_per_s.value
        self.touched_byte = dict.fromkeys(program.resident, 0.0)

    def least_s(self, step: Step, kernel: Kernel, *, first: bool) -> float:
        """Returns the least time in which bytes that were not read before arrive; 0 after the first kernel of a call."""
        byte = 0.0
        for operand in {operand.storage: operand for operand in step.call.operands}.values():
            if operand.storage in self.touched_byte:
                read_byte = min(float(operand.byte), kernel.read_byte)
                byte += max(0.0, read_byte - self.touched_byte[operand.storage]) if first else 0.0
                self.touched_byte[operand.storage] += read_byte + kernel.write_byte
        byte = min(byte, kernel.read_byte)
        held_byte = min(byte, self.spare_byte)
        self.spare_byte -= held_byte
        return (byte - held_byte) / self.bandwidth_byte_per_s


def compulsory_byte(program: Program) -> int:
    """Bytes that the program cannot avoid: what exists before it and is read, and what it leaves behind, once each."""
    read: dict[int, int] = {}
    made: dict[int, int] = {}
    for step in program.steps:
        for operand in step.call.operands:
            if operand.storage in program.resident:
                read[operand.storage] = max(read.get(operand.storage, 0), int(operand.byte))
        made |= {
            result.storage: int(result.byte) for result in step.call.results if result.storage not in program.resident
        }
        for storage in step.frees:
            made.pop(storage, None)
    return sum(read.values()) + sum(made.values())
