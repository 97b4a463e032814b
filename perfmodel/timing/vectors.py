"""A matrix by a vector: every element of the matrix is read once, multiplied and added. There are no tiles to fill."""

from __future__ import annotations

from perfmodel.arithmetic import Size, maximum
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.card import Card
from perfmodel.timing.products import ALIGNMENTS, Product, alignment
from perfmodel.timing.terms import Body, Term
from perfmodel.timing.weights import Mechanism

LANES, SINGLY, SUMS_S = Mechanism("vectors").weights("lanes", "singly", "sums s")


def body(card: Card, size: Product, found: Size) -> Body:
    """The time of a batch of products of a matrix and a vector, of which L2 holds the share ``found``."""
    read = size.batch * size.operands_byte * size.reads
    write = size.batch * size.result_byte * size.writes
    each = LANES if alignment(size) == ALIGNMENTS[0] else SINGLY
    lanes = each * size.batch * size.k * maximum(size.m, size.n)
    stream = elementwise(card, read, write, lanes, found, "matrix by vector")
    terms = (*stream.terms, Term("sums of a row", SUMS_S))
    return stream._replace(seconds=stream.seconds + SUMS_S, terms=terms, mechanism="tiles")
