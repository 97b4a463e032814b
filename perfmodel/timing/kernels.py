"""Which mechanism times a kernel: decided by the fact that its operation states, never by a name or a shape.

A kernel of the model may be several launches of a library; each is a ``Part``. A fact without a mechanism, such as a
recurrence, is priced by its bytes with a wide range, and reports list it as unmodelled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from math import ceil
from typing import Any, NamedTuple

from perfmodel.arithmetic import Size, floor_div, largest, maximum, minimum, padded_rows, total
from perfmodel.op import WEIGHTS, Op
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
    Routed,
    Rows,
    Scatter,
    Sort,
    Stage,
    Stream,
    TopK,
    Update,
    Windows,
    number,
)
from perfmodel.runs import each as each_fact
from perfmodel.timing import instructions, parameters, products, tiles, torch_rows
from perfmodel.timing.blocks import elementwise, in_order
from perfmodel.timing.branches import by_paths
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part, limited
from perfmodel.timing.power import rate
from perfmodel.timing.rows import Row
from perfmodel.timing.stack_tiles import Sides, of_experts
from perfmodel.timing.terms import Body, Term, quicker
from perfmodel.timing.weights import Mechanism

# A mechanism: the launches of a kernel from the card, its fact, its operation, the data type and the implementation.
Mechanic = Callable[[Card, Any, Op, str, str], tuple[Part, ...]]
OWN = ("ours", "fused")
UNMODELLED = "unmodelled"
ROUNDING = 1e-6
_data = Mechanism("kernels")
PRODUCT, PRODUCT_CODE = _data.weights("product", "product code")
SPECIAL = _data.group("special")
GROUPED, SORT_S = _data.weights("grouped", "sort s")
TILE_ROWS, DIVISOR = _data.facts("tile rows", "divisor")
UNPACK, UNPACKED_ROW = _data.weights("unpack", "unpacked row")


def parts(card: Card, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """The launches of one kernel of the model, in order."""
    facts = each_fact(op.runs)
    if len(facts) == 1:
        return _mechanism(facts[0])(card, facts[0], op, dtype, impl)
    gemms = [product for product in map(_gemm, facts) if product is not None]
    if facts and len(gemms) == len(facts):
        return _products(card, gemms, op, dtype)
    return (_unmodelled(card, op),)


def _mechanism(fact: Fact) -> Mechanic:
    if isinstance(fact, Stage):
        return _stage
    if isinstance(fact, Rows) and fact.function not in ROWS:
        return _by_bytes
    if type(fact) in _FAMILIES:
        return family(_FAMILIES[type(fact)])[type(fact)]
    return _MECHANISMS.get(type(fact), _by_bytes)


def family(name: str) -> dict[type, Mechanic]:
    """The mechanisms of a file."""
    found: dict[type, Mechanic] = import_module(f"perfmodel.timing.{name}").MECHANISMS
    return found


def _gemm(fact: Fact) -> Gemm | None:
    """The product behind a fact, if it is one."""
    if isinstance(fact, Stage):
        return _gemm(fact.kernel)
    if isinstance(fact, GroupedGemm):
        return fact.even()
    return fact if isinstance(fact, Gemm) else None


class Bytes(NamedTuple):
    """Bytes of all outer tensors of an operation: read, written, both, and the weights among those read."""

    read: Any
    write: Any
    both: Any
    weights: Any


def _bytes(op: Op) -> Bytes:
    moved = [(t.read_byte, t.write_byte, t.kind in WEIGHTS) for t in op.tensors if not t.spill]
    return Bytes(
        total(read for read, _, _ in moved),
        total(write for _, write, _ in moved),
        sum(read + write for read, write, _ in moved),
        sum(read for read, _, held in moved if held),
    )


def _stream_part(card: Card, op: Op, special: str = "") -> Part:
    """An elementwise kernel: bytes once in and out, instructions behind them."""
    read, write, byte, weights = _bytes(op)
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


def _product(card: Card, fact: Gemm, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    if impl in OWN and fact.converts:
        return _unpacked(card, fact, op)
    if impl == "torch" and fact.converts:
        from perfmodel.timing import weight_only

        return (weight_only.by_torch(card, fact, _bytes(op)),)
    return _products(card, [fact], op, dtype)


def _unpacked(card: Card, fact: Gemm, op: Op) -> tuple[Part, ...]:
    """This package's product with packed weights: each weight is converted once and multiplied for each row, without the
    tensor engine.
    """
    read, write, byte, weights = _bytes(op)
    lanes = (UNPACK + UNPACKED_ROW * number(fact.m)) * number(fact.k) * number(fact.n) * number(fact.batch)
    return (Part(lambda found: elementwise(card, read, write, lanes, found, "unpack and multiply"), byte, weights),)


def _grouped(card: Card, fact: GroupedGemm, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Products of experts: a grouped product of a library, that of torch, or the Triton kernel of serving stacks.

    The Triton kernel sorts the rows by expert first. Half of that time is counted for each of two products.
    """
    if impl == "torch":
        from perfmodel.timing import grouped

        if grouped.by_torch(card, fact, dtype):
            assert fact.routed is not None
            own = (grouped.tile(fact, fact.routed),)
            return grouped.parts(card, *_products(card, [grouped.padded(fact)], op, dtype, own))
    if impl != "serving":
        return _products(card, [fact.even()], op, dtype)
    term = Term("sort rows by expert", SORT_S)
    sort = Part(lambda found: Body(term.seconds, (term,), "experts", "sort rows by expert"), 0)
    aligned = 0 if number(fact.k) % DIVISOR == 0 else 1
    (product,) = _products(card, [_padded(card, fact)._replace(aligned=aligned)], op, dtype, _expert_tiles(card, fact))
    assert product.limited is not None
    whole = product.limited

    def body(card: Card, found: float) -> Body:
        return whole(_slower(card, dtype), found)._replace(mechanism="experts")

    return (sort, product._replace(body=partial(body, card), limited=body))


def _expert_tiles(card: Card, fact: GroupedGemm) -> tuple[Sides, ...]:
    """The tiles of a stack's kernel for experts; those of a library where the operation does not state how rows are routed.

    NB the operation does not say which side is the inner width of the experts, so that a model's width may be taken for it.
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
    return card._replace(tilings={**card.tilings, dtype: how._replace(issue=GROUPED * how.issue)})


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

    NB the expected number of a uniform choice is smaller where experts have few tiles. Measured routers are not uniform, and
    half a tile is nearer to their times.
    """
    if not routed.routing:
        return rows / high + 0.5
    padded = padded_rows(routed.E, routed.A, number(routed.tokens), high, routed.routing)
    # Both numbers are expected ones, so their quotient may miss a whole number of tiles by a rounding error.
    return padded / high / fact.groups - ROUNDING


def alike(op: Op) -> tuple[Any, ...] | None:
    """What determines the launches and the counts of matrix products: those with equal values need equal times.

    Products of B sequences of N tokens are alike whose B x N is equal. None for other kernels.
    """
    gemms = _plain(op)
    if not gemms:
        return None
    sizes = tuple((products.Product.of(fact), fact.rotates) for fact in gemms)
    byte = (*_bytes(op), op.traffic_byte())
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
    """The time of the FLOPs of matrix products at the rate that the power limit allows, which the time by tiles is never
    below. 0 for other kernels and for products with a vector, which need no tiles.
    """
    sizes = [products.Product.of(fact) for fact in _plain(op)]
    if not sizes or any(size.m == 1 or size.n == 1 for size in sizes):
        return 0.0
    counted = sum(count for (_, product), count in op.flops_by_kind().items() if product)
    flops = min(counted, sum(2.0 * size.batch * size.m * size.k * size.n for size in sizes))
    return float(flops / rate(card, dtype, 0.0))


def _products(card: Card, facts: list[Gemm], op: Op, dtype: str, own: tuple[Sides, ...] = ()) -> tuple[Part, ...]:
    """Matrix products; several under one operation run one after another."""
    read, write, byte, weights = _bytes(op)
    plain = [products.Product.of(fact) for fact in facts]
    reads = read / sum(size.batch * size.operands_byte for size in plain)
    writes = write / sum(size.batch * size.result_byte for size in plain)
    sizes = [size._replace(reads=reads, writes=writes, tiles=own) for size in plain]
    rotating = sum(number((f.k, f.n, f.batch, f.items.right)) if f.rotates else 0 for f in facts)

    tried: list[dict[float, tiles.Shortlist]] = [{} for _ in sizes]

    def body(card: Card, found: Size) -> Body:
        bodies = [_quicker(card, size, dtype, found, own) for size, own in zip(sizes, tried, strict=True)]
        if len(bodies) == 1:
            return bodies[0]
        terms = tuple(term for each in bodies for term in each.terms)
        return Body(sum(each.seconds for each in bodies), terms, bodies[0].mechanism, bodies[0].choice)

    code_s = PRODUCT_CODE * card.dram_latency_s
    return (limited(card, body, byte, fresh_byte=weights, right_byte=rotating, among_s=code_s),)


@by_paths
def _quicker(card: Card, size: products.Product, dtype: str, found: Size, tried: dict[float, tiles.Shortlist]) -> Body:
    """Tiles; or for a matrix and a vector the kernel without them, if it is quicker and tiles are not at their best."""
    vector = bool(minimum(size.m, size.n) == 1)
    if not vector or (dtype in card.tilings and products.alignment(size) == products.ALIGNMENTS[0]):
        return tiles.body(card, size, dtype, found, tried)
    from perfmodel.timing import vectors

    tiled = tiles.body(card, size, dtype, found, tried)
    return quicker(tiled, vectors.body(card, size, found)._replace(mechanism=tiled.mechanism))


def _rows(card: Card, fact: Rows, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    """Softmax and normalisation, and their gradients."""
    row = Row(number(fact.rows), number(fact.cols), float_or_int(fact.item))
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
        return _rows_backward(card, fact, row, impl)
    if impl in OWN or fact.own:
        from perfmodel.timing import own_rows

        return own_rows.forward(card, f"{fact.function}_forward", row, mask_byte=number(fact.mask) if fact.mask else 0)
    if fact.function == "softmax":
        return in_order(card, torch_rows.softmax(row, card.before)._replace(mechanism="rows softmax"))
    return in_order(card, *torch_rows.norm(row, fact.function == "rmsnorm", card.before))


def float_or_int(item: Any) -> Any:
    """Bytes per element: a whole number stays one; the sub-byte types are fractions."""
    return int(item) if item == int(item) else float(item)


def _rows_backward(card: Card, fact: Rows, row: Row, impl: str) -> tuple[Part, ...]:
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


def _attention(card: Card, fact: Heads, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    from perfmodel.timing import attention, backends
    from perfmodel.timing.walks import Attended

    size = Attended.of(fact)
    how = backends.back_end(impl, dtype, parameters.generation(card.gpu), card.serving_share)
    byte = _bytes(op).both
    return attention.launches(card, how, size, dtype, byte, fact.backward)


def _convolution(card: Card, fact: Depthwise, op: Op, dtype: str, impl: str) -> tuple[Part, ...]:
    from perfmodel.timing import convolution

    B, N, D, K = (number(size) for size in (fact.B, fact.N, fact.D, fact.K))
    item, back = float_or_int(fact.item), fact.part == "backward"
    byte = _bytes(op).both
    if fact.part == "pad":
        return (Part(lambda found: convolution.pad(card, B, N, N + 2 * (K - 1), D, item, found), byte),)
    if impl in ("torch", "torch_channels_first"):
        run = convolution.torch_backward if back else convolution.by_torch
        return (Part(lambda found: run(card, B, N, D, K, item, dtype, turned=impl == "torch"), byte),)
    own = convolution.own_backward if back else convolution.own
    return (Part(lambda found: own(card, B, N, D, K, item, found), byte),)


ROWS = ("softmax", "log_softmax", "layernorm", "rmsnorm")
# The files of the other mechanisms, imported when a kernel needs one.
_FAMILIES: dict[type, str] = {
    **dict.fromkeys((Copy, Concatenate, Fill, Random), "movement"),
    **dict.fromkeys((Reduction, Cumulative), "reductions"),
    **dict.fromkeys((Sort, TopK), "orders"),
    **dict.fromkeys((Gather, Scatter, Picked), "scattered"),
    **dict.fromkeys((Convolution2d, Windows, Normalised), "images"),
    Update: "updates",
    Collective: "exchange",
    Quantisation: "quantisation",
}
_MECHANISMS: dict[type, Mechanic] = {
    Gemm: _product,
    GroupedGemm: _grouped,
    Rows: _rows,
    Heads: _attention,
    Stream: _stream,
    Depthwise: _convolution,
}
