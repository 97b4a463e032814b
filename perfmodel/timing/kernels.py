"""Selects the mechanism of a kernel by the fact that its operation states, never by a name or a shape.

A kernel of the model may be several launches of a library; each is a ``Part``. A fact without a mechanism, such as a
recurrence, is priced by its bytes with a wide range, and reports list it as unmodelled.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from perfmodel.arithmetic import floor_div, largest
from perfmodel.op import Op
from perfmodel.runs import (
    Collective,
    Concatenate,
    Convolution2d,
    Copy,
    Cumulative,
    Depthwise,
    Fact,
    Fill,
    Gather,
    Gemm,
    GroupedGemm,
    Heads,
    Normalised,
    Picked,
    Quantisation,
    Random,
    Reduction,
    Rows,
    Scatter,
    Sort,
    Stage,
    Stream,
    TopK,
    Update,
    Windows,
)
from perfmodel.runs import each as each_fact
from perfmodel.timing import instructions
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part, moved_bytes
from perfmodel.timing.rows import ROWS
from perfmodel.timing.weights import Mechanism

# A mechanism: the launches of a kernel from the card, its fact, its operation, the data type and the implementation.
Mechanic = Callable[[Card, Any, Op, str, str], tuple[Part, ...]]
UNMODELLED = "unmodelled"
SPECIAL = Mechanism("kernels").group("special")


def parts(card: Card, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The launches of one kernel of the model, in order."""
    facts = each_fact(op.runs)
    if len(facts) == 1:
        return _mechanism(facts[0])(card, facts[0], op, dtype, impl)
    if facts:
        from perfmodel.timing.gemms import gemm, in_turn

        products = [product for product in map(gemm, facts) if product is not None]
        if len(products) == len(facts):
            return in_turn(card, products, op, dtype)
    return (_unmodelled(card, op),)


def _mechanism(fact: Fact) -> Mechanic:
    if isinstance(fact, Stage):
        return _stage
    if isinstance(fact, Rows) and fact.function not in ROWS:
        return _by_bytes
    if isinstance(fact, Stream):
        return _stream
    if type(fact) in _FAMILIES:
        return family(_FAMILIES[type(fact)])[type(fact)]
    return _by_bytes


def family(name: str) -> dict[type, Mechanic]:
    """The mechanisms of a file."""
    found: dict[type, Mechanic] = import_module(f"perfmodel.timing.{name}").MECHANISMS
    return found


def _stream_part(card: Card, op: Op, special: str = "") -> Part:
    """An elementwise kernel: bytes once in and out, instructions behind them."""
    read, write, byte, weights = moved_bytes(op)
    elements = largest([0, *(t.elements for t in op.tensors if not t.spill and (t.reads or t.writes))])
    lanes = SPECIAL[special] * elements if special else instructions.of_op(op, elements)
    return Part(lambda found: elementwise(card, read, write, lanes, found), byte, weights)


def _unmodelled(card: Card, op: Op) -> Part:
    """A kernel without a mechanism: its bytes as a stream, with the wide range of what is not modelled."""
    stream = _stream_part(card, op)
    return stream._replace(body=lambda found: stream.body(found)._replace(mechanism=UNMODELLED, choice="by bytes"))


def _by_bytes(card: Card, fact: Fact, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    return (_unmodelled(card, op),)


def _stream(card: Card, fact: Stream, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    if fact.special in ("strided", "cast"):
        from perfmodel.timing import movement

        return movement.strided_stream(card, fact, op)
    if fact.special == "copied":
        result = 1.0 * op.write_byte()
        copy = Part(lambda found: elementwise(card, result, result, 0.0, found, "copy"), floor_div(2 * result, 1))
        return (copy, _stream_part(card, op))
    return (_stream_part(card, op, fact.special),)


def _stage(card: Card, fact: Stage, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    return _mechanism(fact.kernel)(card, fact.kernel, op, dtype, impl)


# The files of the mechanisms, imported when a kernel needs one.
_FAMILIES: dict[type, str] = {
    Gemm: "gemms",
    GroupedGemm: "experts",
    Rows: "row_kernels",
    Heads: "heads",
    Depthwise: "convolution",
    **dict.fromkeys((Copy, Concatenate, Fill, Random), "movement"),
    **dict.fromkeys((Reduction, Cumulative), "reductions"),
    **dict.fromkeys((Sort, TopK), "orders"),
    **dict.fromkeys((Gather, Scatter, Picked), "scattered"),
    **dict.fromkeys((Convolution2d, Windows, Normalised), "images"),
    Update: "updates",
    Collective: "exchange",
    Quantisation: "quantisation",
}
