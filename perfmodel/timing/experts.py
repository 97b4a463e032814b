"""Products of experts: the rows are sorted by expert, and padded to whole tiles for each expert.

torch runs one kernel for all experts where ``grouped`` knows it. Serving stacks run a Triton kernel, whose tiles depend
on the number of tokens. Any other implementation runs a batch of equal products.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from perfmodel.arithmetic import Size, maximum, padded_rows
from perfmodel.op import Op
from perfmodel.runs import Gemm, GroupedGemm, Routed, number
from perfmodel.timing import grouped as by_torch
from perfmodel.timing.card import Card
from perfmodel.timing.gemms import in_turn
from perfmodel.timing.part import Part
from perfmodel.timing.stack_tiles import Sides, of_experts
from perfmodel.timing.terms import Body, Term
from perfmodel.timing.weights import Mechanism

_data = Mechanism("experts")
ISSUE, SORT_S = _data.weights("issue", "sort s")
TILE_ROWS, DIVISOR = _data.facts("tile rows", "divisor")
ROUNDING = 1e-6


def grouped(card: Card, fact: GroupedGemm, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The kernels of the products of experts. Triton's kernel sorts the rows first; half of that time counts for each of
    two products.
    """
    if impl == "torch" and by_torch.runs(card, fact, dtype):
        (product,) = in_turn(card, [by_torch.padded(fact)], op, dtype, (by_torch.tile(fact),))
        return by_torch.parts(card, product)
    if impl != "serving":
        return in_turn(card, [fact.even()], op, dtype)
    term = Term("sort rows by expert", SORT_S)
    sort = Part(lambda found: Body(term.seconds, (term,), "experts", "sort rows by expert"), 0)
    aligned = 0 if number(fact.k) % DIVISOR == 0 else 1
    (product,) = in_turn(card, [_padded(card, fact)._replace(aligned=aligned)], op, dtype, _expert_tiles(card, fact))
    assert product.limited is not None
    whole = product.limited

    def body(card: Card, found: float) -> Body:
        return whole(_slower(card, dtype), found)._replace(mechanism="experts")

    return (sort, product._replace(body=partial(body, card), limited=body))


def _expert_tiles(card: Card, fact: GroupedGemm) -> tuple[Sides, ...]:
    """The tiles of a stack's kernel for experts; none where the operation does not state how rows are routed.

    NB the operation does not say which side is the inner width of the experts: a model's width may be taken for it.
    """
    if fact.routed is None:
        return ()
    k, n = number(fact.k), number(fact.n)
    return of_experts(card.generation, number(fact.routed.tokens), number(fact.routed.E), (k, n, n // 2))


def _slower(card: Card, dtype: str) -> Card:
    """The card at the rate that Triton's kernel for experts reaches inside a tile."""
    if dtype not in card.tilings:
        return card
    how = card.tilings[dtype]
    return card._replace(tilings={**card.tilings, dtype: how._replace(issue=ISSUE * how.issue)})


def _padded(card: Card, fact: GroupedGemm) -> Gemm:
    """The batch of products over whole tiles of rows, of which every expert with rows fills at least one."""
    even, own, routed = fact.even(), _expert_tiles(card, fact), fact.routed
    if fact.summed or routed is None:
        return even
    high = own[0].tile_m if len(own) == 1 else TILE_ROWS
    if routed.balanced:
        return even._replace(m=high * ceil(number(even.m) / high))
    tiles_each = maximum(1.0, _tiles_each(fact, routed, number(even.m), high))
    whole = ceil(tiles_each)
    return even._replace(m=high * whole, batch=maximum(1, ceil(number(even.batch) * tiles_each / whole)))


def _tiles_each(fact: GroupedGemm, routed: Routed, rows: Size, high: int) -> Size:
    """Mean tiles of an expert with rows: the expected number where the routing is stated, otherwise half a tile is empty.

    NB a uniform choice would give fewer tiles where experts have few. Measured routers are not uniform, and half a tile
    is closer to their times.
    """
    if not routed.routing:
        return rows / high + 0.5
    padded = padded_rows(routed.E, routed.A, number(routed.tokens), high, routed.routing)
    # Both numbers are expected ones, so their quotient may miss a whole number of tiles by a rounding error.
    return padded / high / fact.groups - ROUNDING


MECHANISMS = {GroupedGemm: grouped}
