"""Matrix products: plain, batched, accumulating and tiled.

C = A B with A (m, k) and B (k, n) takes one multiply-add for each of the m k n index combinations. Each matrix moves at
least once: m k + k n + m n elements. A square product of size n does 2 n³ FLOPs on 3 n² elements, 2 n / 3 FLOPs per
element of traffic. The intensity grows with n, so large products are compute-bound.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size, ceil_div
from perfmodel.op import Engine, Op, Tensor, Work, contract
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import Gemm, Items

_GRADIENTS = (
    Backward("matmul", (("m", "m"), ("k", "n"), ("n", "k")), keeps=("b",)),
    Backward("matmul", (("m", "k"), ("k", "m"), ("n", "n")), keeps=("a",)),
)


@operation(
    summary="C = A B, plain or batched",
    example=Example(
        at={"m": 2, "k": 3, "n": 4, "batch": 5},
        flops=240,
        traffic=260,
        because="5 x 2 x 3 x 4 = 120 multiply-adds; A 6, B 12, C 8 elements, 5 times, 2 bytes each",
    ),
    sources=("Golub and Van Loan, Matrix Computations, section 1.1",),
    backward=_GRADIENTS,
)
def matmul(m: Size, k: Size, n: Size, batch: Size = 1, act: Size = 2) -> Op:
    """Moves every matrix of the batch once. The backward pass is two products of the same size, dA = dC Bᵀ and dB = Aᵀ
    dC.
    """
    return Op(
        tensors=(
            Tensor("a", (batch, m, k), act, reads=1),
            Tensor("b", (batch, k, n), act, reads=1),
            Tensor("c", (batch, m, n), act, writes=1),
        ),
        work=(Work("product", contract(batch, m, k, n), Engine.TENSOR),),
        runs=Gemm(m, k, n, batch, Items(act, act, act), rotates="b"),
    )


@operation(
    summary="C = A B + C, the accumulating product (GEMM)",
    example=Example(
        at={"m": 2, "k": 3, "n": 4},
        flops=48,
        traffic=68,
        because="2 x 3 x 4 = 24 multiply-adds (the old C starts the sum); A 6, B 12, C 8 read and 8 written, 2 bytes each",
    ),
    sources=("Dongarra et al. 1990, the level 3 BLAS",),
    backward=_GRADIENTS,
)
def gemm(m: Size, k: Size, n: Size, act: Size = 2) -> Op:
    """C is read and written. A square product of size n in fp64 has intensity 2n³ / (4n² x 8) = n / 16."""
    return Op(
        tensors=(
            Tensor("a", (m, k), act, reads=1),
            Tensor("b", (k, n), act, reads=1),
            Tensor("c", (m, n), act, reads=1, writes=1),
        ),
        work=(Work("product", contract(m, k, n), Engine.TENSOR),),
        runs=Gemm(m, k, n, items=Items(act, act, act), rotates="b"),
    )


@operation(
    summary="C = A B in output tiles: each operand is read once per tile of the other one",
    example=Example(
        at={"m": 4, "k": 2, "n": 6, "tile_m": 2, "tile_n": 3, "tile_k": 1, "M": 10},
        flops=96,
        traffic=128,
        because="48 multiply-adds; 2 columns of tiles read A (8 elements) 2 times, 2 rows of tiles read B (12) 2 times, "
        "C has 24: 16 + 24 + 24 elements, 2 bytes each",
    ),
    sources=("Kirk and Hwu, Programming Massively Parallel Processors, chapter 5", "Hong and Kung 1981"),
    valid=(
        Valid(
            "(tile_m * tile_k + tile_k * tile_n) * act <= M",
            "a slice of A (tile_m x tile_k) and one of B (tile_k x tile_n) must fit in the on-chip memory M",
        ),
    ),
    backward=(
        Backward("tiled_matmul", (("m", "m"), ("k", "n"), ("n", "k")), keeps=("b",)),
        Backward("tiled_matmul", (("m", "k"), ("k", "m"), ("n", "n")), keeps=("a",)),
    ),
)
def tiled_matmul(m: Size, k: Size, n: Size, tile_m: Size, tile_n: Size, tile_k: Size, M: Size, act: Size = 2) -> Op:
    """A is read ceil(n / tile_n) times and B ceil(m / tile_m) times: 2 m k n / t elements for square tiles of t.

    Without tiling (tiles of 1) each multiply-add reads two elements. NB repeated reads that hit in L2 never reach
    device memory. If all of them do, the compulsory bytes remain.
    """
    return Op(
        tensors=(
            Tensor("a", (m, k), act, reads=ceil_div(n, tile_n)),
            Tensor("b", (k, n), act, reads=ceil_div(m, tile_m)),
            Tensor("c", (m, n), act, writes=1),
        ),
        work=(Work("product", contract(m, k, n), Engine.TENSOR),),
        runs=Gemm(m, k, n, items=Items(act, act, act), rotates="b"),
    )
