"""The kernels of one attention call, in order: the main one, and the small ones that a library launches around it.

cuDNN clears its counters, dropout takes a seed, and a split decoding step joins its results. A gradient starts with the row
sums of dout and out and ends with the conversion of dq, which is accumulated in fp32. Where query heads share keys, the
gradients of every head's keys and values are written and then added.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, floor_div
from perfmodel.op import Op
from perfmodel.runs import Heads
from perfmodel.timing import families
from perfmodel.timing.attention import backward, forward, masked_decode, streams
from perfmodel.timing.backends import BackEnd, back_end
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part, limited, moved_bytes
from perfmodel.timing.walks import Attended
from perfmodel.timing.weights import Mechanism

_data = Mechanism("attention")
TINY_BYTE = _data.fact("tiny byte")
FEW, SUMS, CONVERSION, HEADS = _data.weights("few", "sums", "conversion", "heads")


def heads(card: Card, fact: Heads, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of the back end that an implementation names."""
    how = back_end(impl, dtype, families.generation(card.gpu), card.serving_share)
    return launches(card, how, Attended.of(fact), dtype, moved_bytes(op).both, fact.backward)


def launches(card: Card, how: BackEnd, size: Attended, dtype: str, byte: Size, gradient: bool) -> tuple[Part, ...]:
    """The kernels of one call, in order."""
    if gradient:
        return _gradients(card, how, size, dtype, byte)
    code_s = 0.0 if streams(how, size) else how.cold * card.dram_latency_s
    kernel = limited(card, lambda card, found: forward(card, how, size, dtype, found), byte, code_s=code_s)
    first = (_tiny(card),) * (size.dropout + (how.clears and not streams(how, size)))
    if masked_decode(how, size) and size.heads <= FEW * card.multiprocessors:
        numel = size.heads * size.value_width
        return (*first, kernel, _stream(card, 8 * numel, size.item * numel, HEADS * numel, "join the parts"))
    return (*first, kernel)


def _gradients(card: Card, how: BackEnd, size: Attended, dtype: str, byte: Size) -> tuple[Part, ...]:
    """The row sums, the main kernel, the sums over the heads of a group, and the conversion of dq."""
    item = size.item
    queries, outputs = size.heads * size.queries * size.width, size.heads * size.queries * size.value_width
    sums = _stream(card, 2 * item * outputs, 4 * queries, SUMS * outputs, "row sums")
    kernel = limited(card, lambda card, found: backward(card, how, size, dtype), byte)
    group = size.heads // size.kv_heads
    shared: tuple[Part, ...] = ()
    if group > 1:
        shared = tuple(
            _stream(card, item * numel * group, item * numel, HEADS * numel * group, "sum over a group of heads")
            for numel in (size.kv_heads * size.visible * width for width in (size.width, size.value_width))
        )
    return (
        *(_tiny(card),) * how.clears,
        sums,
        kernel,
        *shared,
        _stream(card, 4 * queries, item * queries, CONVERSION * queries, "dq"),
    )


def _tiny(card: Card) -> Part:
    """A kernel that writes a few bytes."""
    return Part(lambda found: elementwise(card, 0.0, TINY_BYTE, 0.0, found, "counters and seeds"), TINY_BYTE)


def _stream(card: Card, read: Size, write: Size, lanes: Size, name: str = "") -> Part:
    """An elementwise kernel on the result of the previous kernel. NB it runs at the memory rate even where L2 holds the
    data (12 to 34 MB, measured on an H100).
    """
    return Part(lambda found: elementwise(card, read, write, lanes, 0.0, name), floor_div(read + write, 1))


MECHANISMS = {Heads: heads}
