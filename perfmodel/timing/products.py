"""A matrix product as the mechanisms see it: its sizes, the alignment of its rows, and the figures that do not depend
on a tile.
"""

from typing import NamedTuple

from perfmodel.arithmetic import Size, maximum, minimum
from perfmodel.runs import Gemm, number
from perfmodel.timing.card import Card
from perfmodel.timing.power import rate as powered_rate
from perfmodel.timing.stack_tiles import Sides
from perfmodel.timing.stream import NOTHING_LEFT, first_latency_s, rate
from perfmodel.timing.tile_sizes import WIDE
from perfmodel.timing.weights import Mechanism

ALIGNMENTS = (WIDE, 4, 2, 1)  # bytes: wide copies, narrow copies (4, 2), through registers
LEFT_IN_L2 = Mechanism("products").weight("left in l2")


class Product(NamedTuple):
    """A batch of products (m, k) by (k, n), and bytes per element of both operands and the result.

    ``reads`` and ``writes`` are the bytes that the operation moves, divided by those of the operands and the result. They
    are below 1 for a convolution, whose inputs overlap, and above 1 where a bias or an accumulator is read too.
    ``aligned``, ``odd``, ``scales`` and ``converts`` are as in ``Gemm``. ``tiles``: those of a kernel with tiles of its
    own, which no library chooses.
    """

    m: Size
    k: Size
    n: Size
    batch: Size = 1
    left: float = 2
    right: float = 2
    result: float = 2
    reads: Size = 1.0
    writes: Size = 1.0
    aligned: int = 0
    odd: bool = False
    scales: str = ""
    converts: bool = False
    tiles: tuple[Sides, ...] = ()

    @classmethod
    def of(cls, fact: Gemm) -> "Product":
        """Returns the product that a fact describes, as numbers."""
        sizes = (number(size) for size in fact[:4])
        items = (item if isinstance(item, int) else 1.0 * item for item in fact.items)
        m, k, n, batch = sizes
        left, right, result = items
        return cls(
            m, k, n, batch, left, right, result,
            aligned=fact.aligned, odd=fact.odd, scales=fact.scales, converts=fact.converts,
        )  # fmt: skip

    @property
    def operands_byte(self) -> Size:
        """Bytes of both operands of one product of the batch."""
        return self.m * self.k * self.left + self.k * self.n * self.right

    @property
    def result_byte(self) -> Size:
        """Bytes of one result of the batch."""
        return self.m * self.n * self.result


def alignment(size: Product) -> int:
    """Bytes to which the rows of all matrices are aligned."""
    left_byte, right_byte = size.k * size.left, size.n * size.right
    return size.aligned or next((byte for byte in ALIGNMENTS if not left_byte % byte + right_byte % byte), 1)


class Limits(NamedTuple):
    """The figures of a product that do not depend on the tile. ``aligned``: alignment in bytes. ``powered_s``: time under
    the power limit. ``compulsory_s``: time of the bytes that move once. ``latency_s``: of the first access. ``left_s``:
    memory time of the results that are still in L2 at the end.
    """

    aligned: int
    powered_s: Size
    compulsory_s: Size
    bandwidth_byte_per_s: Size
    latency_s: Size
    left_s: Size


def limits(card: Card, size: Product, dtype: str, found: Size) -> Limits:
    """The figures of a product that every tile shares."""
    aligned = alignment(size) if dtype in card.tilings else WIDE
    operand_byte = size.batch * size.operands_byte * size.reads
    result_byte = size.batch * size.result_byte * size.writes
    bandwidth = rate(card, operand_byte, result_byte)
    left_byte = minimum(result_byte, LEFT_IN_L2 * card.l2_byte)
    flops = 2.0 * size.batch * size.m * size.n * size.k
    powered_s = flops / powered_rate(card, dtype, flops)
    compulsory_s, left_s = (
        byte * (1.0 - found) / bandwidth for byte in (operand_byte + result_byte - left_byte, left_byte)
    )
    return Limits(aligned, powered_s, compulsory_s, bandwidth, first_latency_s(card, found), left_s)


def reread_s(card: Card, size: Product, given: Limits) -> tuple[Size, Size]:
    """Times to read each operand from memory once more, 0 where both stay in L2."""
    left_byte, right_byte = size.m * size.k * size.left, size.k * size.n * size.right
    again = (
        (left_byte + right_byte > NOTHING_LEFT * card.l2_byte) * size.batch * size.reads / given.bandwidth_byte_per_s
    )
    return again * left_byte, again * right_byte


def again_s(reread: tuple[Size, Size], sides: tuple[Size, Size], wave: tuple[Size, Size]) -> Size:
    """Time to read operands again for each wave of tiles, which covers so many rows and columns of the result."""
    further_m, further_n = (maximum(1.0, side / covered) - 1.0 for side, covered in zip(sides, wave, strict=True))
    return reread[0] * further_n + reread[1] * further_m
