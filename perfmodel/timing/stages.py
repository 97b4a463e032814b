"""Attention as eager stages: what runs between the products and the softmax, each in a kernel with its launch.

``naive``: the scores are scaled into a new tensor; under a causal mask a mask is made and the scores are copied and
filled, at the price of an index per element. ``math``, torch's own fallback: the same in fp32, where a row that is masked
everywhere is looked for and set to zero. The gradient passes through the mask and the scale once more.
"""

from __future__ import annotations

from perfmodel.op import Op
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

EAGER = ("naive", "math")
STAGES = ("scores", "softmax", "output", "dv", "dprobs", "softmax gradient", "dq", "dk")
PLAIN = 8.0  # instructions of a plain elementwise kernel per element
INDEXED = 125.0  # of one that finds a broadcast element by divisions (fitted on an H200)


def around(card: Card, name: str, op: Op, item: int, impl: str) -> tuple[Part, ...]:
    """The kernels that follow a stage."""
    if name in ("scores", "softmax gradient"):
        table = op.tensor("scores" if name == "scores" else "dscores")
        elements = int(table.elements)
        masked = op.work[0].amount.dims[2] < int(table.shape[-1]) * int(table.shape[-2])
        small = int(table.shape[-1]) * int(table.shape[-2])
        scale = () if impl == "math" else (_stream(card, elements, item, item),)
        if not masked:
            return scale
        mask = (_stream(card, small, 0, 1), _stream(card, small, 1, 1))
        if impl == "math":
            return (*mask, _stream(card, elements, item, item, INDEXED))
        return (*scale, *mask, _stream(card, elements, item, item), _stream(card, elements, item, item, INDEXED))
    if name == "softmax" and impl == "math":
        elements = int(op.tensors[0].elements)
        return (
            _stream(card, elements, item, 1),
            _stream(card, elements, 1, 0),
            _stream(card, elements, item, item, INDEXED),
        )
    return ()


def _stream(card: Card, elements: int, read: int, write: int, lanes: float = PLAIN) -> Part:
    """An elementwise kernel of so many bytes in and out per element."""
    return Part(
        lambda found: elementwise(card, elements * read, elements * write, elements * lanes, found),
        elements * (read + write),
    )
