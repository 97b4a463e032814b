"""Custom kernels in a capture: functions with ``perfmodel.kernel`` are recorded by their description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from perfmodel import kernels
from perfmodel.capture.tape import Tape
from perfmodel.kernels.description import Kernel


@contextmanager
def recorded(tape: Tape) -> Iterator[None]:
    """Records every call of a described kernel while the context is open. The kernel itself does not run."""

    def heard(described: Kernel, sizes: Mapping[str, Any], tensors: Mapping[str, Any]) -> bool:
        operands = tuple(tape.storages.operand(tensor) for tensor in tensors.values())
        tape.record("custom_kernel", operands, {"launched": described.launched(sizes, tensors)}, ())
        return False

    before = kernels.listener
    kernels.listener = heard
    try:
        yield
    finally:
        kernels.listener = before
