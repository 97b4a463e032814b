"""Convolution, pooling, interpolation and normalisation of images, as torch and cuDNN launch them (2.9 to 2.11).

Convolution: an implicit matrix product over the patches. The tensor cores of cuDNN expect the channels last, so tensors
in half precision are turned before and the result after; in fp32 the vector engine reads them as they are. With one
channel per group torch's depthwise kernel computes one output per thread.

Pooling: one thread per result (backward, per input), which finds its place by divisions and reads its window through
the cache. Bilinear and bicubic interpolation have one thread per pixel of a plane, which walks over all planes.

Batch normalisation: one block per channel takes the statistics, a small kernel updates the running ones, and a third
applies them; backward, one block per channel reads everything twice. Group normalisation: one block per group of one
image takes the moments, a small kernel folds them into a scale and a shift per channel, and an elementwise kernel with
broadcast operands applies them; backward there is a block per channel of one image instead, and one more kernel for
gamma and beta.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from perfmodel.op import Op
from perfmodel.runs import Convolution2d, Normalised, Windows, number
from perfmodel.timing import movement, tiles
from perfmodel.timing.blocks import Launch, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.convolution import OUTPUT, TAP
from perfmodel.timing.part import Part
from perfmodel.timing.terms import Body

# Fitted on the suite of programs' kernels (an H100, 2026-11, torch 2.11; the cases for fitting); TURN, RESULT_WAITS
# and PLANE_WAITS are first guesses. A change of layout: instructions per element.
TURN = 24.0
# Pooling and interpolation: instructions per result of either, and per pixel of a window; memory waits of a thread.
POOL, RESULT, PIXEL, RESULT_WAITS = 350.0, 70.0, 8.0, 2.0
# Gradients: of an average over windows, instructions relative to those of a maximum; of an interpolation, per pixel that
# is added atomically.
AVERAGE_BACK, ADDED_PIXEL = 1.7, 85.0
# Interpolation by planes: instructions and memory waits per plane of a thread.
PLANE, PLANE_WAITS = 11.0, 0.7
# Statistics: instructions per element (running mean and variance per channel, per group, plain sums), memory waits per
# element of a thread.
MOMENT, GROUP_MOMENT, SUMS, MOMENT_WAITS = 88.0, 22.0, 33.0, 1.0
# The elementwise kernel of known statistics: instructions per element.
APPLY = 80.0
# The gradient by one block per channel: instructions per element and pass.
GRADIENT = 40.0

CHANNEL_THREADS, RESULT_THREADS, PLANE_THREADS = 512, 256, 1024


def convolution2d(card: Card, fact: Convolution2d, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The changes of layout around the product, or the depthwise kernel."""
    groups, per_group = number(fact.groups), number(fact.gemm.k)
    read, write = float(op.read_byte()), float(op.write_byte())
    taps = number((fact.K_h, fact.K_w))
    if groups > 1 and groups == number(fact.C):
        outputs = number((fact.B, fact.C_out, fact.h_out, fact.w_out))
        blocks = ceil(outputs / RESULT_THREADS)
        lanes = OUTPUT.get(dtype, OUTPUT["fp32"]) + TAP * taps
        kernel = Launch("depthwise", blocks, RESULT_THREADS, read, write, lanes, 2.0, mechanism="layout")
        return in_order(card, kernel)
    plain = tiles.Product.of(fact.gemm)
    size = plain._replace(
        reads=read / (plain.batch * plain.operands_byte), writes=write / (plain.batch * plain.result_byte)
    )
    product = Part(partial(_product, card, size, dtype), int(read + write))
    if dtype not in card.tilings or per_group == 0 or dtype == "tf32":
        return (product,)
    turns = [_turn(float(t.size_byte)) for t in op.tensors if t.reads and len(t.shape) == 4]
    back = [_turn(float(t.size_byte)) for t in op.tensors if t.writes]
    return (*in_order(card, *turns), product, *in_order(card, *back))


def _product(card: Card, size: tiles.Product, dtype: str, found: float) -> Body:
    return tiles.body(card, size, dtype, found=found)


def _turn(byte: float) -> Launch:
    """A kernel that moves the channels to the other end, tile by tile through shared memory."""
    blocks = max(1, ceil(byte / 4096))
    return Launch("layout", blocks, 256, byte, byte, TURN * byte / 2 / (blocks * 256), 1.0, 1.0, mechanism="layout")


def windows(card: Card, fact: Windows, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """One thread per result, or per pixel of a plane."""
    outputs, inputs, taps = number(fact.outputs), number(fact.inputs), number(fact.taps)
    read, write = float(op.read_byte()), float(op.write_byte())
    first = (
        (movement.filled(card, inputs, float(fact.item)),) if fact.backward and fact.function == "interpolate" else ()
    )
    if fact.function == "interpolate" and taps > 1 and isinstance(fact.outputs, tuple):
        planes, pixels = number(fact.outputs[:2]), number(fact.outputs[2:])
        if not fact.backward:
            blocks = ceil(pixels / PLANE_THREADS)
            lanes = RESULT + planes * (PLANE + PIXEL * taps)
            kernel = Launch(
                "planes", blocks, PLANE_THREADS, read, write, lanes, max(1.0, PLANE_WAITS * planes), mechanism="images"
            )  # fmt: skip
            return in_order(card, kernel)
    threads = inputs if fact.backward and fact.function != "interpolate" else outputs
    blocks = ceil(threads / RESULT_THREADS)
    lanes = (RESULT if fact.function == "interpolate" else POOL) + PIXEL * taps * outputs / threads
    if fact.backward and fact.function == "average":
        lanes *= AVERAGE_BACK
    elif fact.backward and fact.function == "interpolate" and taps > 1:
        lanes += ADDED_PIXEL * taps
    kernel = Launch("results", blocks, RESULT_THREADS, read, write, lanes, RESULT_WAITS, mechanism="images")
    return (*first, *in_order(card, kernel))


def normalised(card: Card, fact: Normalised, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Statistics and their application."""
    B, C, pixels, item = number(fact.B), number(fact.C), number(fact.pixels), float(fact.item)
    elements = B * C * pixels
    size = elements * item
    apply = Launch(
        "apply", ceil(elements / 2048), CHANNEL_THREADS, size, size, APPLY * elements / (ceil(elements / 2048) * 512),
        1.5, mechanism="images",
    )  # fmt: skip
    if fact.part == "inference":
        return in_order(card, apply)
    small = Launch("small", ceil(C / 128), 128, 16.0 * C, 16.0 * C, 40.0, 1.0, mechanism="images")
    if fact.groups is None:
        each = ceil(B * pixels / CHANNEL_THREADS)
        if fact.part == "backward":
            waits = 1.0 + MOMENT_WAITS * each
            kernel = Launch(
                "one block per channel", C, CHANNEL_THREADS, 2 * size, size, 2 * each * GRADIENT, waits, 4.0,
                near_waits=waits, again_byte=2 * size, held_byte=2.0 * B * pixels * item, mechanism="images",
            )  # fmt: skip
            return in_order(card, kernel)
        moments = _moments(C, B * pixels, size, MOMENT)
        return in_order(card, moments, small, apply)
    groups = number(fact.groups)
    folded = small._replace(blocks=ceil(B * C / 128), read_byte=16.0 * B * C, write_byte=8.0 * B * C)
    strided = movement.strided(elements, item, size, size, movement.places(movement.USUAL_DIMS, 4))
    if fact.part == "backward":
        sums = _moments(B * C, pixels, 2 * size, SUMS)
        last = movement.strided(elements, item, 2 * size, size, movement.places(movement.USUAL_DIMS, 6))
        return in_order(card, sums, folded, folded, last, small)
    return in_order(card, _moments(B * groups, C // groups * pixels, size, GROUP_MOMENT), folded, strided)


def _moments(blocks: int, each: int, byte: float, lanes: float) -> Launch:
    """One block per set of so many elements, read once."""
    threads = CHANNEL_THREADS if each >= CHANNEL_THREADS else 32
    own = ceil(each / threads)
    return Launch(
        "statistics", blocks, threads, byte, 8.0 * blocks, 60.0 + own * lanes, max(1.0, MOMENT_WAITS * own), 4.0,
        mechanism="images",
    )  # fmt: skip


MECHANISMS = {Convolution2d: convolution2d, Windows: windows, Normalised: normalised}
