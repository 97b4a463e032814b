"""Kernels that quantise the left operand of a product, as serving stacks launch them before it.

``static``: one block per row, which multiplies by a known scale. ``token``: one block per row, which reads its row once for
the largest element and once more to convert it. ``tensor``: a block per part of the matrix finds the largest element,
smaller kernels make the scale from it, and an elementwise kernel converts.

Fitted on half of the fp8 products of an H100 SXM (vLLM 0.24, SGLang 0.5 and TRT-LLM 1.3, ai-dynamo/aiconfigurator 095f58a);
``static`` also holds on a B200 and an L40S. ``block``: an elementwise kernel that finds a scale for each 128 elements.
"""

from __future__ import annotations

from math import ceil

from perfmodel.op import Op
from perfmodel.runs import Quantisation, number
from perfmodel.timing.blocks import Launch, elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

# Instructions of a thread per row and per element of a static scale: places are computed by divisions of 64 bits. A thread
# always works through two elements.
STATIC_THREADS, STATIC_ROW, STATIC_ELEMENT, STATIC_LEAST = 1024, 114.0, 66.0, 2
TOKEN_THREADS, TOKEN_ROW, TOKEN_ELEMENT, TOKEN_VECTOR = 256, 60.0, 8.0, 8
GROUP, SCALE_BYTE, GROUP_ELEMENT = (
    128,
    4,
    60.0,
)  # elements of a row with one scale, bytes of a scale, instructions per element
# Instructions per element of the largest element of a matrix, and the small kernels that turn it into a scale.
LARGEST, SMALL, SMALL_BYTE = 44.0, 5, 8


def quantised(card: Card, fact: Quantisation, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of one quantisation, in order. Their range is that of a stack."""
    rows, cols = number(fact.rows), number(fact.cols)
    read, write = rows * cols * float(fact.item), rows * cols * float(fact.result)
    if fact.scales in ("static", "token"):
        return in_order(card, _by_rows(fact, rows, cols, read, write))
    if fact.scales == "block":
        scales = rows * ceil(cols / GROUP) * SCALE_BYTE
        return (_flat(card, read, write + scales, GROUP_ELEMENT * rows * cols, "scale per group"),)
    largest = _flat(card, read, 0.0, LARGEST * rows * cols, "largest element")
    scale = _flat(card, SMALL_BYTE, SMALL_BYTE, 0.0, "scale")
    return (largest, *(scale,) * SMALL, _flat(card, read, write, 0.0, "quantise"))


def _by_rows(fact: Quantisation, rows: int, cols: int, read: float, write: float) -> Launch:
    """One block for each row."""
    if fact.scales == "static":
        work = STATIC_ROW + STATIC_ELEMENT * max(STATIC_LEAST, cols / STATIC_THREADS)
        return Launch("static scale", rows, STATIC_THREADS, read, write, work, mechanism="stack")
    steps = ceil(cols / TOKEN_THREADS / TOKEN_VECTOR)
    work = TOKEN_ROW + 2 * steps * TOKEN_VECTOR * TOKEN_ELEMENT
    return Launch(
        "scale per row", rows, TOKEN_THREADS, read, write, work, steps, 2.0, near_waits=steps, again_byte=read,
        held_byte=cols * float(fact.item), mechanism="stack",
    )  # fmt: skip


def _flat(card: Card, read: float, write: float, lanes: float, name: str) -> Part:
    """An elementwise kernel."""
    return Part(
        lambda found: elementwise(card, read, write, lanes, found, name)._replace(mechanism="stack"), int(read + write)
    )


MECHANISMS = {Quantisation: quantised}
