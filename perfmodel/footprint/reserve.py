"""The reserve: memory of a card that a program's tensors cannot use. The verdict keeps it free.

Measured on an H100 (85.0 GB) with PyTorch 2.11 by ``benchmarks/reserve.py``. The CUDA context with the code of kernels
and libraries takes 0.81 GB after a training step, and cuBLAS takes a workspace of 32 MiB. Training at the largest batch
that runs leaves 6.5, 8.2 and 14.3 % of the rest unused in three models. The caching allocator cannot merge its free
blocks. NB a program that allocates its weights and its cache once, such as a serving stack, loses less.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.units import PERCENT, quantity_from_text, scaled, significant

CONTEXT_BYTE = 810 * 10**6
WORKSPACE_BYTE = 32 * 2**20
FRAGMENTATION_PERCENT = 8.0


class Reserve(NamedTuple):
    """A fixed number of bytes, and a percentage of the remaining capacity."""

    fixed_byte: int = CONTEXT_BYTE + WORKSPACE_BYTE
    percent: float = FRAGMENTATION_PERCENT

    def byte(self, capacity_byte: int) -> int:
        """The bytes that stay free on a card of this capacity."""
        fixed_byte = min(self.fixed_byte, capacity_byte)
        return fixed_byte + math.ceil((capacity_byte - fixed_byte) * self.percent / 100)

    def formula(self, capacity_byte: int) -> str:
        """How the bytes are made up, as text."""
        if self == DEFAULT:
            lost = significant(self.percent, 2)
            return (
                f"{scaled(CONTEXT_BYTE, 'B', 3)} for the CUDA context and the code of kernels, "
                f"{scaled(WORKSPACE_BYTE, 'B', 3)} for the workspace of cuBLAS, {lost} % of the rest for fragmentation"
            )
        if self.percent:
            return f"{self.percent:g} % of {scaled(capacity_byte, 'B', 4)} (--reserve)"
        return "set by --reserve"


DEFAULT = Reserve()


def reserve(text: str) -> Reserve:
    """The reserve that a text describes: '4 GB', '10%' of the capacity, or 0."""
    where, word = f"--reserve {shown(text)}", text.strip()
    if word == "0":
        return Reserve(0, 0.0)
    if not word.endswith("%"):
        try:
            return Reserve(int(quantity_from_text(word, "B", where)), 0.0)
        except InputError:
            raise InputError(
                where, "it is no amount of memory", "bytes such as '4 GB', a percentage such as 10%, or 0 are accepted",
                "Add a unit or a percent sign.",
            ) from None  # fmt: skip
    try:
        percent = float(word[:-1])
    except ValueError:
        percent = -1.0
    if not PERCENT.admits(percent):
        raise InputError(
            where, "it is not a percentage", "0% to 100% of the capacity, or bytes such as '4 GB', are accepted",
            "Write, for example, --reserve 10%.",
        )  # fmt: skip
    return Reserve(0, percent)
