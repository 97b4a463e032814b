"""Matrix products of an operation: by tiles, or with packed weights by a kernel of this package or of torch.

Several products under one operation run one after another and count as one launch. A product of a matrix and a vector
may run a kernel without tiles.
"""

from __future__ import annotations

from typing import Any

from perfmodel.arithmetic import Size, minimum
from perfmodel.op import Op
from perfmodel.runs import Fact, Gemm, GroupedGemm, Stage, number
from perfmodel.runs import each as each_fact
from perfmodel.timing import tiles
from perfmodel.timing.blocks import elementwise
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.part import OWN, Part, limited, moved_bytes
from perfmodel.timing.power import rate
from perfmodel.timing.products import ALIGNMENTS, Product, alignment
from perfmodel.timing.stack_tiles import Sides
from perfmodel.timing.terms import Body, quicker
from perfmodel.timing.weights import Mechanism

CODE, UNPACK, UNPACKED_ROW = Mechanism("gemms").weights("code", "unpack", "unpacked row")


def product(card: Card, fact: Gemm, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """A matrix product by a library, or with packed weights by this package or by torch."""
    if impl in OWN and fact.converts:
        return _unpacked(card, fact, op)
    if impl == "torch" and fact.converts:
        from perfmodel.timing import weight_only

        return (weight_only.by_torch(card, fact, moved_bytes(op)),)
    return in_turn(card, [fact], op, dtype)


def _unpacked(card: Card, fact: Gemm, op: Op) -> tuple[Part, ...]:
    """This package's product with packed weights: each weight is converted once and multiplied for each row, without the
    tensor engine.
    """
    read, write, byte, weights = moved_bytes(op)
    lanes = (UNPACK + UNPACKED_ROW * number(fact.m)) * number(fact.k) * number(fact.n) * number(fact.batch)
    return (Part(lambda found: elementwise(card, read, write, lanes, found, "unpack and multiply"), byte, weights),)


def in_turn(card: Card, facts: list[Gemm], op: Op, dtype: str, own: tuple[Sides, ...] = ()) -> tuple[Part, ...]:
    """Matrix products; several under one operation run one after another."""
    read, write, byte, weights = moved_bytes(op)
    plain = [Product.of(fact) for fact in facts]
    reads = read / sum(size.batch * size.operands_byte for size in plain)
    writes = write / sum(size.batch * size.result_byte for size in plain)
    sizes = [size._replace(reads=reads, writes=writes, tiles=own) for size in plain]
    rotating = sum(number((f.k, f.n, f.batch, f.items.right)) if f.rotates else 0 for f in facts)

    tried: list[tiles.Tried] = [{} for _ in sizes]

    def body(card: Card, found: Size) -> Body:
        bodies = [_quicker(card, size, dtype, found, own) for size, own in zip(sizes, tried, strict=True)]
        if len(bodies) == 1:
            return bodies[0]
        terms = tuple(term for each in bodies for term in each.terms)
        return Body(sum(each.seconds for each in bodies), terms, bodies[0].mechanism, bodies[0].choice)

    code_s = CODE * card.dram_latency_s
    return (limited(card, body, byte, fresh_byte=weights, right_byte=rotating, among_s=code_s),)


@by_paths
def _quicker(card: Card, size: Product, dtype: str, found: Size, tried: tiles.Tried) -> Body:
    """Returns the time by tiles. For a matrix and a vector, returns that of the kernel without tiles if it is shorter
    and the rows are misaligned.
    """
    vector = bool(minimum(size.m, size.n) == 1)
    if not vector or (dtype in card.tilings and alignment(size) == ALIGNMENTS[0]):
        return tiles.body(card, size, dtype, found, tried)
    from perfmodel.timing import vectors

    tiled = tiles.body(card, size, dtype, found, tried)
    return quicker(tiled, vectors.body(card, size, found)._replace(mechanism=tiled.mechanism))


def gemm(fact: Fact) -> Gemm | None:
    """The product behind a fact, if it is one."""
    if isinstance(fact, Stage):
        return gemm(fact.kernel)
    if isinstance(fact, GroupedGemm):
        return fact.even()
    return fact if isinstance(fact, Gemm) else None


def alike(op: Op) -> tuple[Any, ...] | None:
    """Returns a key of the products of an operation; operations with equal keys have equal times.

    Products of B sequences of N tokens are alike whose B x N is equal. None for other kernels.
    """
    gemms = _plain(op)
    if not gemms:
        return None
    sizes = tuple((Product.of(fact), fact.rotates) for fact in gemms)
    byte = (*moved_bytes(op), op.traffic_byte())
    return sizes, byte, *op.flops_by_kind().items()


def _plain(op: Op) -> list[Gemm]:
    """The products that an operation runs; none if it runs another kernel too."""
    facts = each_fact(op.runs)
    gemms = [
        fact.even() if isinstance(fact, GroupedGemm) else fact
        for fact in facts
        if isinstance(fact, (Gemm, GroupedGemm))
    ]
    return gemms if len(gemms) == len(facts) else []


def powered_s(card: Card, op: Op, dtype: str) -> float:
    """Returns the time of the FLOPs of products at the rate under the power limit, which is a lower limit of the time
    by tiles. 0 for other kernels, and for products with a vector, which have no tiles.
    """
    sizes = [Product.of(fact) for fact in _plain(op)]
    if not sizes or any(size.m == 1 or size.n == 1 for size in sizes):
        return 0.0
    counted = sum(count for (_, product), count in op.flops_by_kind().items() if product)
    flops = min(counted, sum(2.0 * size.batch * size.m * size.k * size.n for size in sizes))
    return float(flops / rate(card, dtype, 0.0))


MECHANISMS = {Gemm: product}
