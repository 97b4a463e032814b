"""The grouped product of experts that torch runs on Hopper: one kernel of CUTLASS for all experts, in bf16.

A small kernel writes sizes and addresses of all experts first. The product then runs tiles of one size in clusters of
two tiles along the rows. The mean number of rows of an expert determines the size (``GroupMM.cu`` of torch 2.11). The
rows of an expert are padded to whole clusters. A multiprocessor holds one tile, and the tiles are not tuned to the
sizes. The kernel therefore reaches less of the tensor rate and of the memory rate than a plain product.
"""

from functools import partial

from perfmodel.arithmetic import Size, maximum, minimum, padded_rows, whole
from perfmodel.runs import Gemm, GroupedGemm, number
from perfmodel.timing.card import Card
from perfmodel.timing.part import Part
from perfmodel.timing.stack_tiles import Sides
from perfmodel.timing.terms import Body, Term
from perfmodel.timing.tile_sizes import WIDE
from perfmodel.timing.weights import Mechanism

_data = Mechanism("grouped")
SMALL, LARGE = (Sides(*pair, 1, 2, 1) for pair in _data.pairs("tiles"))
FEW, CLUSTER = _data.facts("few", "cluster")
PREPARE_S, RATE, MEMORY = _data.weights("prepare s", "rate", "memory")
ITEM = 2  # bytes of an element
GENERATION, DTYPE = "hopper", "bf16"


def runs(card: Card, fact: GroupedGemm, dtype: str) -> bool:
    """Whether torch runs this kernel, so that its tiles are known."""
    plain = not (fact.summed or fact.converts) and fact.routed is not None
    return plain and card.generation == GENERATION and dtype == DTYPE


def tile(fact: GroupedGemm) -> Sides:
    """The tile of all experts."""
    assert fact.routed is not None
    few = number(fact.rows) <= FEW * number(fact.routed.E)
    return SMALL if few or number(fact.n) <= FEW else LARGE


def padded(fact: GroupedGemm) -> Gemm:
    """The batch of products over whole clusters: the expected number of clusters, as equal products.

    Rows of padding are not read, so an element of the left operand has fewer bytes.
    """
    routed, even = fact.routed, fact.even()
    assert routed is not None
    high = CLUSTER * tile(fact).tile_m
    rows = padded_rows(routed.E, routed.A, number(routed.tokens), high, routed.routing)
    each = maximum(1, whole(rows / high / number(even.batch)))
    batch = maximum(1, whole(rows / high / each))
    left = float(even.items.left) * number(fact.rows) / (high * each * batch)
    items = even.items._replace(left=minimum(float(even.items.left), left))
    wide = (number(fact.k) * ITEM % WIDE == 0) & (number(fact.n) * ITEM % WIDE == 0)
    return even._replace(m=high * each, batch=batch, items=items, aligned=WIDE if wide else ITEM)


def slower(card: Card) -> Card:
    """Returns the card with the rates that this kernel reaches."""
    how = card.tilings[DTYPE]
    tilings = {**card.tilings, DTYPE: how._replace(issue=RATE * how.issue)}
    return card._replace(
        tilings=tilings, read_byte_per_s=MEMORY * card.read_byte_per_s, copy_byte_per_s=MEMORY * card.copy_byte_per_s,
        add_byte_per_s=MEMORY * card.add_byte_per_s,
    )  # fmt: skip


def parts(card: Card, product: Part) -> tuple[Part, ...]:
    """Returns the kernel that writes the sizes, and the product."""
    term = Term("sizes of the experts", PREPARE_S)
    first = Part(lambda found: Body(term.seconds, (term,), "experts", "sizes of the experts"), 0)
    whole = product.limited
    assert whole is not None

    def body(card: Card, found: Size) -> Body:
        return whole(slower(card), found)._replace(mechanism="experts")

    return first, product._replace(body=partial(body, card), limited=body)
