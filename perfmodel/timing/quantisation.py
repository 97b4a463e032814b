"""Kernels that quantise the left operand of a product, as serving stacks launch them before it.

``static``: one block per row, which multiplies by a known scale. ``token``: one block per row, which reads its row once for
the largest element and once more to convert it; where many rows fill the card, one warp per row. ``tensor``: a block per part of the matrix finds the largest element,
smaller kernels make the scale from it, and an elementwise kernel converts.

Fitted on half of the fp8 products of an H100 SXM (vLLM 0.24, SGLang 0.5 and TRT-LLM 1.3, ai-dynamo/aiconfigurator 095f58a);
``static`` also holds on a B200 and an L40S. ``block``: an elementwise kernel that finds a scale for each run of elements.

This package's own kernels are streams: a row with one scale stays in registers.
"""

from __future__ import annotations

from math import ceil

from perfmodel.arithmetic import Size, floor_div, maximum
from perfmodel.op import Op
from perfmodel.runs import TORCH_SCALES, Quantisation, number
from perfmodel.timing.blocks import WARP, Launch, elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import OWN, Part
from perfmodel.timing.weights import Mechanism

_data = Mechanism("quantisation")
BY_US = (*OWN, *TORCH_SCALES)  # before a product by torch, this package quantises
STATIC_THREADS, STATIC_LEAST, TOKEN_THREADS, TOKEN_VECTOR = _data.facts(
    "static threads", "static least", "token threads", "token vector"
)
SCALE_BYTE, SMALL = _data.facts("scale byte", "small")
TOKEN_WARPS, TOKEN_FILLED, WARP_VECTOR = _data.facts("token warps", "token filled", "warp vector")
STATIC_ROW, STATIC_ELEMENT, TOKEN_ROW, TOKEN_ELEMENT = _data.weights(
    "static row", "static element", "token row", "token element"
)
GROUP_ELEMENT, LARGEST, OWN_ELEMENT = _data.weights("group element", "largest", "own element")


def quantised(card: Card, fact: Quantisation, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of one quantisation, in order. Their range is that of a stack."""
    rows, cols = number(fact.rows), number(fact.cols)
    read, write = rows * cols * float(fact.item), rows * cols * float(fact.result)
    if impl in BY_US and fact.scales in ("static", "token", "block"):
        scales = 0.0 if fact.scales == "static" else rows * ceil(cols / _run(fact, cols)) * float(fact.scale)
        return (_flat(card, read, write + scales, OWN_ELEMENT * rows * cols, "own", "quantise"),)
    if fact.scales in ("static", "token"):
        filled = rows >= TOKEN_FILLED * TOKEN_WARPS * card.multiprocessors
        many = fact.scales == "token" and impl not in BY_US and filled
        return in_order(card, (_by_warps if many else _by_rows)(fact, rows, cols, read, write))
    if fact.scales == "block":
        scales = rows * ceil(cols / fact.run) * float(fact.scale)
        return (_flat(card, read, write + scales, GROUP_ELEMENT * rows * cols, "block", "scale per group"),)
    own = impl in BY_US
    largest = _flat(card, read, 0.0, (OWN_ELEMENT if own else LARGEST) * rows * cols, "tensor", "largest element")
    scale = _flat(card, SCALE_BYTE, SCALE_BYTE, 0.0, "tensor", "scale")
    # This package clears one word and finds the scale in the kernel that converts.
    small = 1 if own else SMALL
    found, cast = (largest, *(scale,) * small), _flat(card, read, write, 0.0, "tensor", "quantise")
    return {"largest": found, "cast": (cast,)}.get(fact.scales, (*found, cast))


def _run(fact: Quantisation, cols: Size) -> Size:
    """Elements of a row with one scale."""
    return number(fact.run) if fact.scales == "block" else cols


def _by_rows(fact: Quantisation, rows: int, cols: int, read: float, write: float) -> Launch:
    """One block for each row."""
    if fact.scales == "static":
        work = STATIC_ROW + STATIC_ELEMENT * maximum(STATIC_LEAST, cols / STATIC_THREADS)
        return Launch("static scale", rows, STATIC_THREADS, read, write, work, mechanism="quantisation static")
    steps = ceil(cols / TOKEN_THREADS / TOKEN_VECTOR)
    work = TOKEN_ROW + 2 * steps * TOKEN_VECTOR * TOKEN_ELEMENT
    return Launch(
        "scale per row", rows, TOKEN_THREADS, read, write, work, steps, 1.0, near_waits=steps, again_byte=read,
        held_byte=cols * float(fact.item), mechanism="quantisation token",
    )  # fmt: skip


def _by_warps(fact: Quantisation, rows: int, cols: int, read: float, write: float) -> Launch:
    """One warp for each row."""
    steps = ceil(cols / WARP / WARP_VECTOR)
    work = TOKEN_ROW + 2 * steps * WARP_VECTOR * TOKEN_ELEMENT
    return Launch(
        "scale per row, by warps", ceil(rows / TOKEN_WARPS), WARP * TOKEN_WARPS, read, write, work, steps, near_waits=steps,
        again_byte=read, held_byte=TOKEN_WARPS * cols * float(fact.item), mechanism="quantisation token",
    )  # fmt: skip


def _flat(card: Card, read: float, write: float, lanes: float, scales: str, name: str) -> Part:
    """An elementwise kernel."""
    return Part(
        lambda found: elementwise(card, read, write, lanes, found, name)._replace(mechanism=f"quantisation {scales}"),
        floor_div(read + write, 1),
    )


MECHANISMS = {Quantisation: quantised}
