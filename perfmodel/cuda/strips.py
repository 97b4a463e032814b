"""Layouts of the convolution kernels over channels and positions, for the launcher and for the time model."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

THREADS = 128  # threads per block unless a tile says otherwise
STRIP = 128  # rows per thread in the backward pass
BACK_RUN = 8
# Elements of a filter per thread that stay in registers; the backward pass keeps their gradients there too.
REGISTER_TAPS, BACK_REGISTER_TAPS = 28, 56
GRID_ROWS = 65535


class Tile(NamedTuple):
    """Outputs of a block: channels per thread, rows per thread, threads along the channels, strips along the positions."""

    wide: int
    strip: int
    across: int
    tall: int

    def grid(self, B: int, N: int, D: int) -> tuple[int, int, int]:
        return over(D, self.wide * self.across), over(N, self.strip * self.tall), B

    def settings(self, K: int) -> dict[str, int]:
        """Macros for the CUDA source."""
        rows = {"RUN": self.strip, "STRIP": self.strip, "TALL": self.tall}
        return {"VEC": self.wide, "K": K, **rows, "THREADS": self.across * self.tall}


def tile(B: int, N: int, D: int, K: int, wide: int, item: int, multiprocessors: int) -> Tile | None:
    """Returns the tile of a forward pass with ``wide`` elements per access, or None if the filter does not fit in
    registers.

    Measured on an H200: a thread should load up to 128 bytes at once and end. 16 bytes per row are best if the filter
    leaves enough registers for the window. Strips of a block share their common rows through L1.
    """
    if K > REGISTER_TAPS:
        return None
    while wide > 1 and wide * K > REGISTER_TAPS:
        wide //= 2
    byte = wide * item
    strip = min(8 if K <= 4 else 16, 128 // byte)
    found = (
        Tile(wide, strip, 64, 2) if strip > 8 else Tile(wide, strip, 64, 4) if byte < 16 else Tile(wide, strip, 128, 2)
    )
    if prod(found.grid(B, N, D)) < 4 * multiprocessors:
        return Tile(wide, min(strip, 8), 64, 1)
    return found


def held_back(K: int) -> bool:
    """Whether the backward pass keeps the filter and its gradients in registers."""
    return 2 * K <= BACK_REGISTER_TAPS // 2


def back_width(K: int, wide: int) -> int:
    """Returns the channels per thread of the backward pass: 8 bytes, or fewer if the filter would not fit in registers."""
    while wide > 1 and wide * 2 * K > BACK_REGISTER_TAPS:
        wide //= 2
    return wide


def back_strip(B: int, N: int, D: int, wide: int, multiprocessors: int) -> int:
    """Returns the rows per strip of the backward pass. Long strips leave few partial sums; short strips fill the card."""
    strip = STRIP
    while strip > 2 * BACK_RUN and B * over(N, strip) * over(D, wide * THREADS) < 8 * multiprocessors:
        strip //= 2
    return strip


def over(a: int, b: int) -> int:
    """Returns the quotient, rounded up."""
    return -(-a // b)
