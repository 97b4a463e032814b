"""Torch's products of half precision with 4-bit or 8-bit integer weights: converted again for every few rows.

``torch._weight_int4pack_mm`` takes tiles of 8 rows, and fewer instructions where there is one row.
``torch._weight_int8pack_mm`` multiplies without the tensor engine, for groups of 4 rows. Their times grow with the rows
from the first tile on. Kernels of serving stacks convert a weight once for 64 rows or more.
"""

from math import ceil

from perfmodel.arithmetic import Size, where
from perfmodel.runs import Gemm, number
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.part import Bytes, Part
from perfmodel.timing.terms import Body
from perfmodel.timing.weights import Mechanism

_data = Mechanism("weight_only")
INT4_ROWS, INT8_ROWS = _data.facts("int4 rows", "int8 rows")
INT4_WEIGHT, INT4_TILE, INT4_ROW, INT8_TILE = _data.weights("int4 weight", "int4 tile", "int4 row", "int8 tile")


def by_torch(card: Card, fact: Gemm, moved: Bytes) -> Part:
    """Returns the kernel of a product that moves these bytes."""
    rows = number(fact.m)
    if float(fact.items.right) < 1:
        tiles = where(rows > 1, INT4_TILE * ceil(rows / INT4_ROWS), INT4_ROW)
        each, name = INT4_WEIGHT + tiles, "4-bit weights"
    else:
        each, name = INT8_TILE * ceil(rows / INT8_ROWS), "8-bit weights"
    lanes = each * number(fact.k) * number(fact.n) * number(fact.batch)

    def body(found: Size) -> Body:
        return elementwise(card, moved.read, moved.write, lanes, found, f"multiply by {name}")._replace(
            mechanism="weight only"
        )

    return Part(body, moved.both, moved.weights)
