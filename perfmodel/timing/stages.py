"""Attention as eager stages: what runs between the products and the softmax, each in a kernel with its launch.

``naive``: the scores are scaled into a new tensor; under a causal mask a mask is made and the scores are copied and
filled. ``math``, torch's own fallback, turns half-precision inputs into fp32, gives every query head its own keys and
values, scales queries and keys, adds the mask as a matrix, and after the softmax looks for rows that are masked
altogether: compares every probability's score with minus infinity, reduces the answers along the rows and chooses between
zero and the probability. The gradients pass through choice, mask, scale and casts once more.

An operand that repeats over heads or along a row is read by broadcast: such a kernel works out by divisions where each
element stands, and that, not the memory, decides. Where there is a single query a head, its scores are one row, which
no alignment of the keys' number holds up.
"""

from __future__ import annotations

from perfmodel.op import Op
from perfmodel.timing import tiles
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part

EAGER = ("naive", "math")
STAGES = ("scores", "softmax", "output", "dv", "dprobs", "softmax gradient", "dq", "dk")
WIDE = 4  # bytes of fp32
PLAIN = 8.0  # instructions of a plain elementwise kernel per element
# Fitted on an H200 (2026-11, torch 2.11): a kernel that finds a broadcast element by divisions, and one that compares
# with a scalar that lies on the card.
INDEXED, COMPARED = 117.0, 65.0
REDUCED = 10.0  # of "is the whole row masked", per element
ALIGNED = 8  # elements: the step of keys that every product has a kernel for


def around(card: Card, name: str, op: Op, item: int, impl: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The kernels before and behind a stage."""
    if impl == "math":
        return _before_math(card, name, op), _after_math(card, name, op)
    if name not in ("scores", "softmax gradient"):
        return (), ()
    elements, small, masked = _table(op, name)
    scale = _stream(card, elements, item, item)
    if not masked:
        return (), (scale,)
    filled = (_stream(card, elements, item, item), _stream(card, elements, item, item, INDEXED))
    if name == "softmax gradient":
        return (), (*filled, scale)
    return (), (scale, _stream(card, small, 0, 1), _stream(card, small, 1, 1), *filled)


def _before_math(card: Card, name: str, op: Op) -> tuple[Part, ...]:
    """Casts of what comes in, keys and values of every head, and the scale."""
    if name == "dv":
        dout = op.tensor("dout")
        return _cast(card, int(dout.elements), dout.item, WIDE)
    if name != "scores":
        return ()
    q, k = op.tensor("q"), op.tensor("k")
    queries, keys, every = int(q.elements), int(k.elements), int(k.elements) * (int(q.shape[1]) // int(k.shape[1]))
    casts = (*_cast(card, queries, q.item, WIDE), *_cast(card, keys, k.item, WIDE) * 2)
    spread = (_stream(card, every, WIDE, WIDE),) * 2 if every > keys else ()
    return (*casts, _stream(card, queries, WIDE, WIDE), *spread, _stream(card, every, WIDE, WIDE))


def _after_math(card: Card, name: str, op: Op) -> tuple[Part, ...]:
    if name == "scores":
        elements, small, masked = _table(op, name)
        if not masked:
            return ()
        mask = (_stream(card, small, 0, 1), _stream(card, small, 1, 1), _stream(card, 1, 0, WIDE))
        return (*mask, _stream(card, small, 1, WIDE), _stream(card, elements, WIDE, WIDE, INDEXED))
    if name == "softmax":
        elements = int(op.tensors[0].elements)
        return (
            _stream(card, 1, 0, WIDE),
            _stream(card, elements, WIDE, 1, COMPARED),
            _stream(card, elements, 1, 0, REDUCED),
            _stream(card, 1, 0, WIDE),
            _stream(card, elements, WIDE, WIDE, INDEXED),
        )
    if name == "dprobs":
        return (_stream(card, int(op.tensor("dprobs").elements), WIDE, WIDE, INDEXED),)
    if name in ("dq", "dk"):
        made = op.tensor(name)
        return (_stream(card, int(made.elements), WIDE, WIDE), *_cast(card, int(made.elements), WIDE, made.item))
    if name in ("output", "dv"):
        made = op.tensor("out" if name == "output" else "dv")
        return _cast(card, int(made.elements), WIDE, made.item)
    return ()


def _table(op: Op, name: str) -> tuple[int, int, bool]:
    """Elements of the scores, of one head's, and whether a mask hides some of them."""
    table = op.tensor("scores" if name == "scores" else "dscores")
    small = int(table.shape[-1]) * int(table.shape[-2])
    return int(table.elements), small, bool(op.work[0].amount.dims[2] < small)


def single(card: Card, name: str, op: Op, item: int, dtype: str) -> Part | None:
    """The scores of a single query: both operands run along the head's width, whatever the number of keys."""
    q, k = op.tensors[0], op.tensors[1]
    if name != "scores" or int(q.shape[1]) != int(k.shape[1]) or int(q.shape[2]) != 1:
        return None
    batch, keys, width = int(k.shape[0]) * int(k.shape[1]), -(-int(k.shape[2]) // ALIGNED) * ALIGNED, int(k.shape[3])
    byte = batch * item * (width + width * keys + keys)
    return Part(lambda found: tiles.body(card, 1, width, keys, batch, item, dtype, found=found), byte)


def _cast(card: Card, elements: int, read: int, write: int) -> tuple[Part, ...]:
    """From one type to another, where they differ."""
    return (_stream(card, elements, read, write),) if read != write else ()


def _stream(card: Card, elements: int, read: int, write: int, lanes: float = PLAIN) -> Part:
    """An elementwise kernel of so many bytes in and out per element."""
    return Part(
        lambda found: elementwise(card, elements * read, elements * write, elements * lanes, found),
        elements * (read + write),
    )
