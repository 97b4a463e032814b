"""Convolution, pooling, interpolation and normalisation of images, as torch and cuDNN launch them (2.9 to 2.11).

Convolution: an implicit matrix product over the patches. The tensor cores of cuDNN expect the channels last. In half
precision, kernels before and after the product change the layout. In fp32 the vector engine reads them as they are.
With one channel per group torch's depthwise kernel computes one output per thread.

Pooling: one thread per result (backward, per input), which computes its address by divisions and reads its window
through the cache. Bilinear and bicubic interpolation have one thread per pixel of a plane, which loops over all planes.

Batch normalisation: one block per channel takes the statistics, a small kernel updates the running ones, and a third
applies them; backward, one block per channel reads everything twice. Group normalisation: one block per group of one
image computes the moments. A small kernel converts them to a scale and a shift per channel, and an elementwise kernel
applies these. Backward, one block per channel of one image computes the sums, and one more kernel computes gamma and
beta.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, floor_div, maximum, minimum, where
from perfmodel.op import Op
from perfmodel.runs import Convolution2d, Normalised, Windows, number
from perfmodel.timing import movement, tiles
from perfmodel.timing.blocks import Launch, few, in_order, starting
from perfmodel.timing.card import Card
from perfmodel.timing.convolution import OUTPUT
from perfmodel.timing.part import Part, limited
from perfmodel.timing.products import Product
from perfmodel.timing.terms import Body, Term
from perfmodel.timing.weights import Mechanism

_data = Mechanism("images")
TURN, IMPLICIT, IMPLICIT_VECTOR, FEW_TAP_S = _data.weights("turn", "implicit", "implicit vector", "few tap s")
RESULT, RESULT_WAITS, PIXEL = *_data.weights("result", "result waits"), _data.group("pixel")
BACK, BACK_PIXEL = _data.group("back"), _data.group("window")
NEAREST, NEAREST_WAITS, NEAREST_BACK = _data.weights("nearest", "nearest waits", "nearest back")
PLANE_START, PLANE, PLANE_WAITS, PLANE_PIXEL = _data.weights("plane start", "plane", "plane waits", "plane pixel")
SPREAD, ATOMIC, NARROW_ATOMIC = _data.weights("spread", "atomic", "narrow atomic")
GROUPED, GROUPED_TAP, DEPTHWISE_TAP = _data.weights("grouped", "grouped tap", "depthwise tap")
MOMENT, MOMENT_WAITS, SUMS, SUMS_WAITS = _data.weights("moment", "moment waits", "sums", "sums waits")
APPLY, APPLY_WAITS, APPLY_FIRST = _data.weights("apply", "apply waits", "apply first")
GRADIENT, GRADIENT_WAITS = _data.weights("gradient", "gradient waits")

CHANNEL_THREADS, RESULT_THREADS, PLANE_THREADS = _data.facts("channel threads", "result threads", "plane threads")
SMALL_THREADS, MOST_BLOCKS, BICUBIC = _data.facts("small threads", "most blocks", "bicubic")
FEW_CHANNELS, TILE_CHANNELS = _data.facts("few channels", "tile channels")


def convolution2d(card: Card, fact: Convolution2d, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The changes of layout around the product, or the depthwise kernel."""
    groups, channels = number(fact.groups), number(fact.C)
    read, write = 1.0 * op.read_byte(), 1.0 * op.write_byte()
    taps = number((fact.K_h, fact.K_w)) * (channels // groups)
    outputs = number((fact.B, fact.C_out, fact.h_out, fact.w_out))
    own: tuple[Part, ...]
    if groups > 1:
        blocks = ceil(outputs / RESULT_THREADS)
        depthwise = groups == channels
        lanes = OUTPUT.get(dtype, OUTPUT["fp32"]) + DEPTHWISE_TAP * taps if depthwise else GROUPED + GROUPED_TAP * taps
        own = in_order(card, Launch("groups", blocks, RESULT_THREADS, read, write, lanes, mechanism="images"))
        if depthwise:
            return own
    else:
        on_tensor = dtype in card.tilings
        padded = fact._replace(C=_eights(channels), C_out=_eights(number(fact.C_out))) if on_tensor else fact
        plain = Product.of(padded.gemm)
        size = plain._replace(
            reads=read / (plain.batch * plain.operands_byte), writes=write / (plain.batch * plain.result_byte)
        )
        few_s = where(channels < FEW_CHANNELS, FEW_TAP_S * number((fact.K_h, fact.K_w)), 0.0) if on_tensor else 0.0
        own = (
            limited(card, lambda card, found: _product(card, size, dtype, few_s, found), floor_div(read + write, 1)),
        )
    if dtype not in card.tilings or dtype == "tf32":
        return own
    turns = [_turn(1.0 * t.size_byte, number(t.shape[1])) for t in op.tensors if t.reads and len(t.shape) > 1]
    back = [_turn(1.0 * t.size_byte, number(t.shape[1])) for t in op.tensors if t.writes and len(t.shape) > 1]
    return (*in_order(card, *turns), *own, *in_order(card, *back))


def _eights(channels: int) -> int:
    """Returns the channels rounded up to 16 bytes in half precision, as the tensor kernels load them."""
    return ceil(channels / 8) * 8


def _product(card: Card, size: Product, dtype: str, few_s: float, found: float) -> Body:
    body = tiles.body(card, size, dtype, found)
    more_s = body.seconds * ((IMPLICIT if dtype in card.tilings else IMPLICIT_VECTOR) - 1.0) + few_s
    terms = (*body.terms, Term("addresses of patches", more_s))
    return body._replace(seconds=body.seconds + more_s, terms=terms, mechanism="images")


def _turn(byte: float, channels: int) -> Launch:
    """A kernel that moves the channels to the other end, tile by tile through shared memory.

    A tile is whole even where there are fewer channels, and the result has whole groups of eight.
    """
    blocks = maximum(1, ceil(byte / 4096))
    lanes = TURN * byte / 2 * ceil(channels / TILE_CHANNELS) * TILE_CHANNELS / channels / (blocks * 256)
    return Launch("layout", blocks, 256, byte, byte * _eights(channels) / channels, lanes, 1.0, 1.0, mechanism="images")


def windows(card: Card, fact: Windows, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One thread per result, or per pixel of a plane."""
    outputs, inputs, taps = number(fact.outputs), number(fact.inputs), number(fact.taps)
    read, write = 1.0 * op.read_byte(), 1.0 * op.write_byte()

    def each(threads: int, lanes: float, waits: float = RESULT_WAITS) -> Launch:
        blocks = ceil(threads / RESULT_THREADS)
        return Launch("results", blocks, RESULT_THREADS, read, write, lanes, waits, mechanism="images")

    if fact.function != "interpolate":
        if not fact.backward:
            return in_order(card, each(outputs, RESULT + PIXEL[fact.function] * taps))
        return in_order(card, each(inputs, BACK[fact.function] + BACK_PIXEL[fact.function] * taps * outputs / inputs))
    if taps == 1:
        return in_order(card, each(inputs, NEAREST_BACK) if fact.backward else each(outputs, NEAREST, NEAREST_WAITS))
    planes = number(fact.outputs[:2]) if isinstance(fact.outputs, tuple) else 1
    item = float(fact.item)
    added = ATOMIC * (NARROW_ATOMIC if item < 4 else 1.0) * taps
    if fact.backward and taps < BICUBIC:
        return (movement.filled(card, inputs, item), *in_order(card, each(outputs, SPREAD + added)))
    blocks = ceil(outputs / planes / PLANE_THREADS)
    lanes = PLANE_START * taps + planes * (PLANE + (added if fact.backward else PLANE_PIXEL * taps))
    waits = 1.0 + PLANE_WAITS * planes
    walk = in_order(card, Launch("planes", blocks, PLANE_THREADS, read, write, lanes, waits, mechanism="images"))
    return (movement.filled(card, inputs, item), *walk) if fact.backward else walk


def normalised(card: Card, fact: Normalised, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels that compute the statistics and apply them."""
    B, C, pixels, item = number(fact.B), number(fact.C), number(fact.pixels), float(fact.item)
    size = B * C * pixels * item
    if fact.groups is None:
        return in_order(card, *_batch(fact.part, B, C, pixels, size))
    groups = number(fact.groups)
    folded = few("folded", ceil(B * C / 128), 128, 16 * B * C, 8 * B * C, "images")
    operands, reads = (6, 2) if fact.part == "backward" else (4, 1)
    lanes = movement.places(movement.USUAL_DIMS, operands)
    applied = movement.strided(B * C * pixels, item, reads * size, size, lanes)
    if fact.part == "backward":
        sums = _rows(B * C, pixels, 2 * size, SUMS, SUMS_WAITS)
        return in_order(card, sums, folded, folded, applied, folded._replace(blocks=ceil(C / 128)))
    moments = _rows(B * groups, C // groups * pixels, size, MOMENT, MOMENT_WAITS)
    return in_order(card, moments, folded, applied)


def _batch(part: str, B: int, C: int, pixels: int, size: float) -> tuple[Launch, ...]:
    """Statistics by one block per channel; their application by blocks per channel and image."""
    if part == "backward":
        across = _threads(pixels)
        each = ceil(pixels / across) * ceil(B / (CHANNEL_THREADS // across))
        waits, held = 1.0 + GRADIENT_WAITS * each, 2 * size / C
        return (
            Launch(
                "one block per channel", C, CHANNEL_THREADS, 2 * size, size, 2 * each * GRADIENT, waits, 1.0,
                near_waits=waits, again_byte=2 * size, held_byte=held, mechanism="images",
            ),
        )  # fmt: skip
    across = _threads(pixels)
    tall = maximum(1, SMALL_THREADS // across)
    images = maximum(1, minimum(MOST_BLOCKS // C, ceil(B / tall)))
    own = ceil(pixels / across) * ceil(B / (images * tall))
    applied = Launch(
        "apply", C * images, across * tall, size, size, maximum(starting(across * tall), APPLY * own),
        APPLY_FIRST + APPLY_WAITS * own, mechanism="images",
    )  # fmt: skip
    update = few("statistics of channels", ceil(C / 128), 128, 16 * C, 16 * C, "images")
    if part == "inference":
        return (update, applied)
    return (_rows(C, B * pixels, size, MOMENT, MOMENT_WAITS), update, applied)


def _threads(pixels: Size) -> Size:
    """Threads along a channel's pixels, a quarter of them at most 512, at least 32 or 64."""
    wide = minimum(CHANNEL_THREADS, maximum(32, 1 << maximum(0, ceil(pixels / 4) - 1).bit_length()))
    return maximum(wide, where(pixels <= 32, 32, SMALL_THREADS))


def _rows(blocks: int, each: int, byte: float, lanes: float, waits: float) -> Launch:
    """One block per set of so many elements, read once."""
    threads = where(each >= CHANNEL_THREADS, CHANNEL_THREADS, 32)
    own = ceil(each / threads)
    return Launch(
        "statistics", blocks, threads, byte, 8 * blocks, own * lanes, 1.0 + waits * own, 1.0, mechanism="images"
    )  # fmt: skip


MECHANISMS = {Convolution2d: convolution2d, Windows: windows, Normalised: normalised}
