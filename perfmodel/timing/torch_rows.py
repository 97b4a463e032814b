"""Row kernels of torch: which kernels it launches for softmax and normalisation, from its CUDA sources (2.1 to 2.11).

Softmax: a warp handles rows of up to 2048 elements, padded to a power of two. A block of 1024 threads handles up to
9216 elements in registers. Longer rows go through shared memory where 48 KiB hold the row, otherwise through three
passes. torch before 2.3 (``before``) uses a warp up to 1024 elements and three passes beyond. The gradient first
multiplies y and dy in a kernel of its own.

LayerNorm and RMSNorm: 128 threads per row, four elements per step, two passes. Where the row length is not a multiple
of four, one kernel computes the statistics and another applies them. Their gradients also take two passes, by single
elements in rows of odd length. The weight gradients are summed down 32 columns per block; a thread has eight rows in
flight.

Instruction counts are those of the compiled kernels, fitted on an H200 (2026-11, torch 2.11). They do not depend on the
card.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, floor_div, maximum, minimum, where
from perfmodel.timing.blocks import BARRIER_CLOCKS, Launch
from perfmodel.timing.branches import by_paths
from perfmodel.timing.rows import Row

# Instructions of a thread per row (two reductions with their shuffles) and per element.
WARP_ROW, WARP_ELEMENT, WARP_BACK_ELEMENT = 38.0, 48.0, 36.0
BLOCK_ROW, REGISTER_ELEMENT, SHARED_ELEMENT, PASS_ELEMENT, BACK_ELEMENT = 25.0, 72.0, 43.0, 39.0, 12.0
LAYER_ROW, LAYER_ELEMENT, RMS_ROW, RMS_ELEMENT = 250.0, 32.0, 100.0, 13.0
MOMENTS_ROW, MOMENT, RMS_MOMENTS_ROW, RMS_MOMENT = 270.0, 11.0, 270.0, 1.6
ODD_ROW, ODD_ELEMENT = 4.0, 100.0
BACK_ROW, LAYER_BACK_ELEMENT, RMS_BACK_ELEMENT = 120.0, 44.0, 39.0
ODD_BACK_ELEMENT = 68.0
SUMS_START, SUMS_ELEMENT, RMS_SUMS_ELEMENT = 320.0, 14.0, 9.6
# Conversion from and to half precision, per element of each tensor.
CONVERT_SOFTMAX, CONVERT_NORM = 2.5, 0.55
# Cost of a padded element relative to a real one; registers of a thread, fixed and per element.
PADDING = 0.32
OWN_REGISTERS, ELEMENT_REGISTERS = 28.0, 1.25
# Per-row instructions of a norm with four-byte elements relative to two-byte elements.
WIDE_ROW = 1.5
# Loop steps of a thread whose loads are in flight together.
LAYER_AHEAD, RMS_AHEAD, BACK_AHEAD, ODD_AHEAD, PARTS_AHEAD = 0.61, 0.9, 1.7, 1.2, 80.0
# Memory waits for the ends of a misaligned row.
ENDS = 11.0
# Before torch 2.3 a block adds the results of its warps serially, at so many clocks each.
SERIAL_CLOCKS = 30.0

WARP_COLS, WARP_COLS_BEFORE, BACK_COLS, BACK_BYTE = 2048, 1024, 1024, 4096
REGISTERS_EACH = 9
SHARED_BYTE = 48 * 1024 - 128
MULTIPROCESSOR_BYTE = 228 * 1024
REGISTERS = 65536
VECTOR_BYTE = 16
NORM_VECTOR, NORM_THREADS, UNROLLED = 4, 128, 4
COLUMNS, MANY_ROWS, ROWS_AT_ONCE, MOST_BLOCKS = 32, 65536, 8, 32768


@by_paths
def softmax(row: Row, before: bool = False) -> Launch:
    """The kernel that torch launches for rows of this length."""
    rows, cols, item = row
    narrow = CONVERT_SOFTMAX if item < 4 else 0.0
    if cols <= (WARP_COLS_BEFORE if before else WARP_COLS):
        return _warps("one warp per row", row, 1, WARP_ELEMENT + narrow)
    each, wide = ceil(cols / 1024), VECTOR_BYTE // item
    size = 1.0 * row.byte
    if each <= REGISTERS_EACH and not before:
        work = BLOCK_ROW + each * (REGISTER_ELEMENT + narrow)
        seats = where(each > 6, 1, 2)
        return Launch("one block per row, in registers", rows, 1024, size, size, work, 1.0, 4, seats=seats)
    threads = _threads(cols // wide) if before else 1024
    steps = ceil(cols / threads / wide)
    work = BLOCK_ROW + steps * wide * (SHARED_ELEMENT + narrow)
    if cols % wide == 0 and cols * item < SHARED_BYTE and not before:
        seats = MULTIPROCESSOR_BYTE // (cols * item + 1152)
        return Launch("one block per row, in shared memory", rows, 1024, size, size, work, steps, 4, seats=seats)
    work = BLOCK_ROW + steps * wide * (PASS_ELEMENT + narrow)
    waits = steps + (ENDS if cols % wide else 0.0)
    barriers = 4 + (2 * (32 + threads / 32) * SERIAL_CLOCKS / BARRIER_CLOCKS if before else 0.0)
    return Launch(
        "one block per row, three passes", rows, threads, size, size, work, waits, barriers,
        near_waits=2 * waits, again_byte=2 * size, held_byte=cols * item,
    )  # fmt: skip


@by_paths
def softmax_backward(row: Row) -> Launch:
    """The reduction that follows the product of y and dy."""
    rows, cols, item = row
    size, narrow = 1.0 * row.byte, CONVERT_SOFTMAX if item < 4 else 0.0
    if cols <= BACK_COLS and cols * item <= BACK_BYTE:
        return _warps("one warp per row", row, 2, WARP_BACK_ELEMENT + narrow)
    wide = VECTOR_BYTE // item
    threads = _threads(cols // wide)
    steps = ceil(cols / threads / wide)
    work = BLOCK_ROW / 2 + steps * wide * (BACK_ELEMENT + narrow)
    if cols % wide == 0 and cols * item < SHARED_BYTE:
        seats = MULTIPROCESSOR_BYTE // (cols * item + 1152)
        return Launch(
            "one block per row, in shared memory", rows, threads, 2 * size, size, work, 2 * steps, 3, seats=seats
        )
    ends = ENDS if cols % wide else 0.0
    return Launch(
        "one block per row, two passes", rows, threads, 2 * size, size, work, 2 * steps + ends, 3,
        near_waits=steps + ends, again_byte=size, held_byte=2.0 * cols * item,
    )  # fmt: skip


def norm(row: Row, rms: bool, before: bool = False) -> tuple[Launch, ...]:
    """The kernels of a LayerNorm or RMSNorm."""
    rows, cols, item = row
    size, narrow = 1.0 * row.byte, CONVERT_NORM if item < 4 else 0.0
    if cols % NORM_VECTOR == 0:
        own, element = (RMS_ROW, RMS_ELEMENT) if rms else (LAYER_ROW, LAYER_ELEMENT)
        own *= WIDE_ROW if item == 4 else 1.0
        if before and cols // 512 % UNROLLED == UNROLLED - 1 and cols % 512:
            own += (
                UNROLLED * NORM_VECTOR * element
            )  # some threads run the unrolled loop, others its remainder: both take time
        return (_two_passes(row, 1, own, NORM_VECTOR * (element + narrow), RMS_AHEAD if rms else LAYER_AHEAD),)
    own, element = (RMS_MOMENTS_ROW, RMS_MOMENT) if rms else (MOMENTS_ROW, MOMENT)
    first, second = ceil(cols / 512), ceil(cols / 256)
    return (
        Launch("statistics", rows, 512, size, 8.0 * rows, own + first * (element + narrow), first, 3),
        Launch("normalise", rows, 256, size, size, ODD_ROW + second * (ODD_ELEMENT + narrow), second),
    )


def norm_backward(row: Row, rms: bool) -> Launch:
    """The kernel of the input gradient."""
    rows, cols, item = row
    narrow = 2 * CONVERT_NORM if item < 4 else 0.0
    element = RMS_BACK_ELEMENT if rms else LAYER_BACK_ELEMENT
    if cols % NORM_VECTOR == 0:
        return _two_passes(row, 2, BACK_ROW, NORM_VECTOR * (element + narrow), BACK_AHEAD)
    size = 1.0 * row.byte
    work = BACK_ROW + cols / NORM_THREADS * (ODD_BACK_ELEMENT + narrow)
    return Launch(
        "128 threads per row, by elements", rows, NORM_THREADS, 2 * size, size, work, ceil(cols / 512), 4,
        near_waits=ceil(cols / NORM_THREADS / ODD_AHEAD), again_byte=2 * size, held_byte=2.0 * cols * item,
    )  # fmt: skip


def weights(row: Row, rms: bool, multiprocessors: int) -> tuple[Launch, ...]:
    """The kernels of the weight gradients: the sum of every column over all rows."""
    rows, cols, item = row
    element = (RMS_SUMS_ELEMENT if rms else SUMS_ELEMENT) + (2 * CONVERT_NORM if item < 4 else 0.0)
    across, size, outputs = ceil(cols / COLUMNS), 2.0 * row.byte, 1 if rms else 2
    if rows > MANY_ROWS and cols // COLUMNS < multiprocessors // 2:
        down = maximum(1, minimum(MOST_BLOCKS // across, ceil(rows / 32)))
        each = ceil(rows / down)
        part = 1.0 * down * cols * item
        first = Launch(
            f"columns, {across} x {down} blocks", across * down, 32, size, outputs * part, SUMS_START + each * element,
            ceil(each / 32),
        )  # fmt: skip
        last = Launch(
            "reduce partial sums",
            maximum(1, across // 4),
            512,
            part,
            cols * item,
            200 + down / 4,
            ceil(down / PARTS_AHEAD),
        )
        return (first, *(last,) * outputs)
    tall = 1 if rows < 64 else 8 if rows < 128 else 16 if rows < 256 else 32
    each = ceil(rows / tall)
    work = SUMS_START + each * element
    return (
        Launch(
            f"columns, {across} blocks of {32 * tall}", across, 32 * tall, size, outputs * cols * item, work, ceil(each / ROWS_AT_ONCE), 2
        ),
    )  # fmt: skip


def _two_passes(row: Row, inputs: int, own: float, four: float, ahead: float) -> Launch:
    """A kernel in which 128 threads walk their row twice, four elements per step."""
    rows, cols, item = row
    steps = ceil(cols / NORM_THREADS / NORM_VECTOR)
    size = 1.0 * row.byte
    return Launch(
        "128 threads per row, two passes", rows, NORM_THREADS, inputs * size, size,
        own + ceil(cols / NORM_THREADS) / NORM_VECTOR * four, steps / ahead, 4, own + steps * four,
        steps / ahead, inputs * size, inputs * cols * float(item),
    )  # fmt: skip


def _warps(name: str, row: Row, inputs: int, element: float) -> Launch:
    """A kernel in which a warp, or part of one, keeps a row in registers, padded to a power of two; two rows if short."""
    rows, cols, _ = row
    held = _power_of_two(cols)
    threads = minimum(32, held)
    each, batch = held // threads, where(held <= 128, 2, 1)
    registers = minimum(255.0, OWN_REGISTERS + ELEMENT_REGISTERS * inputs * each * batch)
    filled = (1.0 - PADDING) * cols / held + PADDING
    return Launch(
        name, ceil(rows / (128 // threads * batch)), 128, 1.0 * inputs * row.byte, 1.0 * row.byte,
        WARP_ROW + each * batch * element * filled, seats=maximum(1, floor_div(REGISTERS / (128 * registers), 1)),
    )  # fmt: skip


def _threads(vectors: Size) -> Size:
    """torch's block size for a row of so many 16-byte vectors: a power of two, at most two vectors per thread if
    possible.
    """
    return minimum(1024, maximum(32, _power_of_two(ceil(minimum(vectors, 1024) / 2))))


def _power_of_two(count: Size) -> Size:
    return 1 << maximum(0, count - 1).bit_length()
