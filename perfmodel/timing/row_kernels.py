"""Softmax, normalisations and their gradients: the launches of PyTorch's kernels or of this package's own."""

from __future__ import annotations

from perfmodel.op import Op
from perfmodel.runs import Rows, number
from perfmodel.timing import torch_rows
from perfmodel.timing.blocks import elementwise, in_order
from perfmodel.timing.card import Card
from perfmodel.timing.part import OWN, Part, item_byte
from perfmodel.timing.rows import Row
from perfmodel.timing.weights import Mechanism

PRODUCT = Mechanism("row_kernels").weight("product")


def row_kernels(card: Card, fact: Rows, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Softmax and normalisation, and their gradients."""
    row = Row(number(fact.rows), number(fact.cols), item_byte(fact.item))
    if fact.function == "log_softmax":
        result = number(fact.rows) * number(fact.cols) * float(fact.item if fact.result is None else fact.result)
        first: tuple[Part, ...] = ()
        if dtype == "bf16" and not fact.backward and result > row.byte:
            from perfmodel.timing import movement

            # Only fp16 is converted on the way.
            first, row = in_order(card, movement.cast(row.rows * row.cols, row.byte, result, 2)), row._replace(item=4)
        launch = torch_rows.softmax_backward(row) if fact.backward else torch_rows.softmax(row, card.before)
        return (*first, *in_order(card, launch._replace(write_byte=result)))
    if fact.backward:
        return _backward(card, fact, row, impl)
    if impl in OWN or fact.own:
        from perfmodel.timing import own_rows

        return own_rows.forward(card, f"{fact.function}_forward", row, mask_byte=number(fact.mask) if fact.mask else 0)
    if fact.function == "softmax":
        return in_order(card, torch_rows.softmax(row, card.before)._replace(mechanism="rows softmax"))
    return in_order(card, *torch_rows.norm(row, fact.function == "rmsnorm", card.before))


def _backward(card: Card, fact: Rows, row: Row, impl: str) -> tuple[Part, ...]:
    """torch multiplies y and dy in a kernel of its own before the softmax's gradient."""
    if fact.own or (impl in OWN and fact.function != "rmsnorm"):
        from perfmodel.timing import own_rows

        own_norm = fact.function == "layernorm"
        return own_rows.norm_backward(card, row) if own_norm else own_rows.forward(card, "softmax_backward", row)
    if fact.function == "softmax":
        lanes = PRODUCT * row.rows * row.cols
        product = Part(lambda found: elementwise(card, 2 * row.byte, row.byte, lanes, found, "y dy"), 3 * row.byte)
        return (product, *in_order(card, torch_rows.softmax_backward(row)))
    rms = fact.function == "rmsnorm"
    inputs = (torch_rows.norm_backward(row, rms),) if fact.part != "weights" else ()
    weights = torch_rows.weights(row, rms, card.multiprocessors) if fact.part != "input" else ()
    return in_order(card, *inputs, *weights)


MECHANISMS = {Rows: row_kernels}
