"""Row kernels of torch: which kernels it launches for softmax and normalisation, from its CUDA sources (2.1 to 2.11).

Softmax: a warp handles rows of up to 2048 elements, padded to a power of two. A block of 1024 threads handles up to
9216 elements in registers. Longer rows go through shared memory where 48 KiB hold the row, otherwise through three
passes. torch before 2.3 (``before``) uses a warp up to 1024 elements and three passes beyond. Before the gradient, a
separate kernel multiplies y and dy.

LayerNorm and RMSNorm: 128 threads per row, four elements per step, two passes. The first pass of RMSNorm in fp32 has
four steps in flight, the others one. The second pass loads weights element by element: the first blocks of a
multiprocessor wait for them at every step. Where the row length is not a multiple of four, one kernel computes the
statistics and another applies them. Gradients also take two passes. In rows of odd length, the first pass gives each
thread four neighbouring elements, so that a load touches several cache lines. The weight gradients are summed down 32
columns per block; a thread has eight rows in flight.

A thread issues the instructions of the machine code of torch 2.11 for compute capability 9.0. The load-store units serve a
cache line per clock, which is as long as four instructions: the larger of both counts.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, floor_div, maximum, minimum, where
from perfmodel.timing.blocks import BARRIER_CLOCKS, SCHEDULERS, Launch
from perfmodel.timing.branches import by_paths
from perfmodel.timing.rows import Row
from perfmodel.timing.weights import Mechanism

_data = Mechanism("torch_rows")
WARP_ROW, WARP_ELEMENT, BLOCK_ROW = _data.weights("warp row", "warp element", "block row")
REGISTER_ELEMENT, SHARED_ELEMENT, PASS_ELEMENT = _data.weights("register element", "shared element", "pass element")
LAYER_ROW, RMS_ROW, WIDE_ROW, NORMALISE = _data.weights("layer row", "rms row", "wide row", "normalise sharpness")
BACK_ROW, LAYER_BACK_ELEMENT, RMS_BACK_ELEMENT = _data.weights("back row", "layer back element", "rms back element")
SUMS_START, SUMS_ELEMENT, RMS_SUMS_ELEMENT = _data.weights("sums start", "sums element", "rms sums element")
CONVERT_SOFTMAX, CONVERT_NORM, PADDING = _data.weights("convert softmax", "convert norm", "padding")
OWN_REGISTERS, ELEMENT_REGISTERS = _data.weights("own registers", "element registers")
BACK_AHEAD, PARTS_AHEAD, ENDS, SERIAL_CLOCKS = _data.weights("back ahead", "parts ahead", "ends", "serial clocks")
BACK_ENDS, BACK_ENDS_ROW = _data.weights("back ends", "back ends row")

WARP_COLS, WARP_COLS_BEFORE, BACK_COLS, BACK_BYTE = _data.facts(
    "warp cols", "warp cols before", "back cols", "back byte"
)
REGISTERS_EACH, REGISTERS, VECTOR_BYTE = _data.facts("registers each", "registers", "vector byte")
SHARED_BYTE = _data.fact("shared byte")
NORM_VECTOR, NORM_THREADS, UNROLLED = _data.facts("norm vector", "norm threads", "unrolled")
COLUMNS, MANY_ROWS, ROWS_AT_ONCE, MOST_BLOCKS = _data.facts("columns", "many rows", "rows at once", "most blocks")
WARP_BACK_ROW, WARP_BACK_ELEMENT, BACK_CONVERT = _data.weights("warp back row", "warp back element", "back convert")
BLOCK_BACK_ROW, BLOCK_BACK_ELEMENT = _data.weights("block back row", "block back element")
MOMENTS_ROW, MOMENT, ODD_ROW = _data.weights("moments row", "moment", "odd row")
# Instructions per step or element, of two-byte and of four-byte elements.
LAYER_STEP, RMS_STEP, LAYER_ODD, RMS_ODD = (
    dict(zip((2, 4), _data.weights(f"{name} half", name), strict=True))
    for name in ("layer step", "rms step", "layer odd", "rms odd")
)
ODD_BACK, ODD_BACK_LINES = (
    dict(zip((2, 4), _data.weights(f"{name} half", name), strict=True)) for name in ("odd back", "odd back lines")
)
LINE = SCHEDULERS  # instructions that issue while the load-store units serve one cache line


@by_paths
def softmax(row: Row, before: bool = False) -> Launch:
    """The kernel that torch launches for rows of this length."""
    rows, cols, item = row
    narrow = CONVERT_SOFTMAX if item < 4 else 0.0
    if cols <= (WARP_COLS_BEFORE if before else WARP_COLS):
        return _warps("one warp per row", row, 1, WARP_ROW, WARP_ELEMENT + narrow)
    each, wide = ceil(cols / 1024), VECTOR_BYTE // item
    size = 1.0 * row.byte
    if each <= REGISTERS_EACH and not before:
        work = BLOCK_ROW + each * (REGISTER_ELEMENT + narrow)
        resident = where(each > 6, 1, 2)
        return Launch("one block per row, in registers", rows, 1024, size, size, work, 1.0, 4, resident=resident)
    threads = _threads(cols // wide) if before else 1024
    steps = ceil(cols / threads / wide)
    work = BLOCK_ROW + steps * wide * (SHARED_ELEMENT + narrow)
    if cols % wide == 0 and cols * item < SHARED_BYTE and not before:
        return Launch("one block per row, in shared memory", rows, 1024, size, size, work, steps, 4)
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
    size, narrow = 1.0 * row.byte, BACK_CONVERT if item < 4 else 0.0
    if cols <= BACK_COLS and cols * item <= BACK_BYTE:
        return _warps("one warp per row", row, 2, WARP_BACK_ROW, WARP_BACK_ELEMENT + narrow)._replace(phased=True)
    wide, element = VECTOR_BYTE // item, BLOCK_BACK_ELEMENT + narrow
    threads = _threads(cols // wide)
    if cols % wide == 0 and cols * item < SHARED_BYTE:
        steps = ceil(cols / threads / wide)
        work = BLOCK_BACK_ROW + steps * wide * element
        return Launch("one block per row, in shared memory", rows, threads, 2 * size, size, work, 2 * steps, 3)
    # A misaligned row starts with one element per thread, up to the first aligned one (in the mean half a vector away).
    head = where(cols % wide == 0, 0, 1)
    rest = maximum(0, cols + head * (wide // 2 - threads))
    vectors, tail = rest // (wide * threads), ceil(rest % (wide * threads) / threads)
    single = head + (tail if item < 4 else tail // UNROLLED + tail % UNROLLED)
    work = BLOCK_BACK_ROW + head * BACK_ENDS_ROW + (vectors * wide + BACK_ENDS * (head + tail)) * element
    return Launch(
        "one block per row, two passes", rows, threads, 2 * size, size, work, 2 * (vectors + single), 3,
        again_byte=size, held_byte=2.0 * cols * item,
    )  # fmt: skip


def norm(row: Row, rms: bool, before: bool = False) -> tuple[Launch, ...]:
    """The kernels of a LayerNorm or RMSNorm."""
    rows, cols, item = row
    size, half = 1.0 * row.byte, item < 4
    if cols % NORM_VECTOR == 0:
        return (_normalised(row, rms, before),)
    first, second = ceil(cols / 512), ceil(cols / 256)
    element = (RMS_ODD if rms else LAYER_ODD)[2 if half else 4]
    return (
        Launch("statistics", rows, 512, size, 8 * rows, MOMENTS_ROW + first * MOMENT, first, 3),
        Launch("normalise", rows, 256, size, size, ODD_ROW + second * element, second, sharpness=NORMALISE),
    )


def _normalised(row: Row, rms: bool, before: bool) -> Launch:
    """LayerNorm or RMSNorm of rows of whole vectors. A load of a weight touches as many cache lines as a vector's."""
    rows, cols, item = row
    size, steps = 1.0 * row.byte, ceil(cols / NORM_THREADS / NORM_VECTOR)
    issued = (RMS_STEP if rms else LAYER_STEP)[2 if item < 4 else 4]
    lines = (3 + NORM_VECTOR * (1 if rms else 2)) * item
    busy, each = maximum(issued, LINE * lines), ceil(cols / NORM_THREADS) / NORM_VECTOR
    own = (RMS_ROW if rms else LAYER_ROW) * (WIDE_ROW if item == 4 else 1.0)
    if before and cols // 512 % UNROLLED == UNROLLED - 1 and cols % 512:
        own += UNROLLED * issued  # some threads run the unrolled loop, others its remainder: both take time
    ahead = rms and item == 4
    return Launch(
        "128 threads per row, two passes", rows, NORM_THREADS, size, size,
        own + each * busy, steps // UNROLLED + steps % UNROLLED if ahead else steps, 4,
        own + steps * issued, steps, size, cols * float(item), shared_waits=steps,
        slow_lines=each * (maximum(issued, 2 * LINE * lines) - busy),
    )  # fmt: skip


@by_paths
def norm_backward(row: Row, rms: bool) -> Launch:
    """The kernel of the input gradient."""
    rows, cols, item = row
    narrow = 2 * CONVERT_NORM if item < 4 else 0.0
    element = RMS_BACK_ELEMENT if rms else LAYER_BACK_ELEMENT
    size = 1.0 * row.byte
    if cols % NORM_VECTOR == 0:
        steps, four = ceil(cols / NORM_THREADS / NORM_VECTOR), NORM_VECTOR * (element + narrow)
        waits, work = steps / BACK_AHEAD, BACK_ROW + ceil(cols / NORM_THREADS) / NORM_VECTOR * four
        return Launch(
            "128 threads per row, two passes", rows, NORM_THREADS, 2 * size, size, work, waits, 4,
            BACK_ROW + steps * four, waits, 2 * size, 2 * cols * float(item),
        )  # fmt: skip
    issued, lines = ODD_BACK[2 if item < 4 else 4], ODD_BACK_LINES[2 if item < 4 else 4]
    each = cols / NORM_THREADS
    return Launch(
        "128 threads per row, by elements", rows, NORM_THREADS, 2 * size, size,
        BACK_ROW + each * maximum(issued, LINE * lines), ceil(each / NORM_VECTOR), 4, BACK_ROW + each * issued, ceil(each),
        2 * size, 2.0 * cols * item,
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
            down / 4,
            ceil(down / PARTS_AHEAD),
        )
        return (first, *(last,) * outputs)
    tall = where(rows < 64, 1, where(rows < 128, 8, where(rows < 256, 16, 32)))
    each = ceil(rows / tall)
    work = SUMS_START + each * element
    return (
        Launch(
            f"columns, {across} blocks of {32 * tall}", across, 32 * tall, size, outputs * cols * item, work, ceil(each / ROWS_AT_ONCE), 2
        ),
    )  # fmt: skip


def _warps(name: str, row: Row, inputs: int, own: float, element: float) -> Launch:
    """A kernel in which a warp, or part of one, keeps a row in registers, padded to a power of two; two rows if short."""
    rows, cols, _ = row
    held = _power_of_two(cols)
    threads = minimum(32, held)
    each, batch = held // threads, where(held <= 128, 2, 1)
    registers = minimum(255, OWN_REGISTERS + ELEMENT_REGISTERS * inputs * each * batch)
    filled = (1.0 - PADDING) * cols / held + PADDING
    return Launch(
        name, ceil(rows / (128 // threads * batch)), 128, 1.0 * inputs * row.byte, 1.0 * row.byte,
        own + each * batch * element * filled, resident=maximum(1, floor_div(REGISTERS / (128 * registers), 1)),
    )  # fmt: skip


def _threads(vectors: Size) -> Size:
    """torch's block size for a row of so many 16-byte vectors: a power of two, at most two vectors per thread if
    possible.
    """
    return minimum(1024, maximum(32, _power_of_two(ceil(minimum(vectors, 1024) / 2))))


def _power_of_two(count: Size) -> Size:
    return 1 << maximum(0, count - 1).bit_length()
