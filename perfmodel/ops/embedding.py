"""Embedding: table rows selected by token. A look-up moves only the selected rows; it is not a matrix product."""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING, SUM
from perfmodel.op import Engine, Kind, Op, Tensor, Work, each
from perfmodel.operation import Backward, Example, Valid, operation
from perfmodel.runs import Gather, Scatter


@operation(
    summary="a row of the table for every token",
    example=Example(
        at={"B": 1, "N": 3, "D": 4, "V": 100},
        flops=0,
        traffic=72,
        because="no arithmetic; 3 indices of 8 bytes, 3 rows of 4 elements read and written, 2 bytes each",
    ),
    sources=("Radford et al. 2019 (GPT-2)",),
    backward=(Backward("embedding_backward"),),
    per_token=True,
)
def embedding(B: Size, N: Size, D: Size, V: Size, act: Size = 2, weight: Size = 2, index: Size = 8) -> Op:
    """The table has V D parameters, of which B N rows are read. The row of a repeated token counts each time."""
    return Op(
        tensors=(
            Tensor("tokens", (B, N), index, reads=1),
            Tensor("table", (V, D), weight, kind=Kind.PARAMETER),
            Tensor("rows", (B, N, D), weight, reads=1, kind=Kind.WEIGHT),
            Tensor("y", (B, N, D), act, writes=1),
        ),
        work=(Work("look-up", each(NOTHING, B, N, D), Engine.VECTOR),),
        runs=Gather((B, N), D, weight, index),
    )


@operation(
    summary="a row of a table of learned positions for every position, shared by all sequences",
    example=Example(
        at={"N": 3, "T": 5, "D": 4, "V": 8},
        flops=0,
        traffic=72,
        because="no arithmetic; 3 indices of 8 bytes, rows 3 to 5 of the table, 3 x 4 elements read and written, 2 bytes each",
    ),
    sources=("Radford et al. 2019 (GPT-2)",),
    valid=(
        Valid("T <= V", "a learned table has V positions, so T may not exceed V"),
        Valid("N <= T", "the N positions end at position T, so N may not exceed T"),
    ),
    backward=(Backward("embedding_backward", (("B", "1"),)),),
)
def positions(N: Size, T: Size, D: Size, V: Size, act: Size = 2, weight: Size = 2, index: Size = 8) -> Op:
    """Rows of the N positions that end at position T. A table of V positions has none beyond V."""
    return embedding.function(1, N, D, V, act, weight, index)


@operation(
    summary="gradient of an embedding: each token's dy added to its row",
    example=Example(
        at={"B": 1, "N": 3, "D": 4, "V": 100},
        flops=12,
        traffic=896,
        because="12 additions; 3 indices of 8 bytes; dy 12 elements, 12 of the gradient read and written, and its 400 "
        "first set to zero, 2 bytes each",
    ),
    sources=("Goodfellow et al. 2016, section 12.4",),
)
def embedding_backward(B: Size, N: Size, D: Size, V: Size, act: Size = 2, weight: Size = 2, index: Size = 8) -> Op:
    """A dense gradient of V D elements is cleared, and dy is added to B N of its rows."""
    return Op(
        tensors=(
            Tensor("tokens", (B, N), index, reads=1),
            Tensor("dy", (B, N, D), act, reads=1),
            Tensor("dtable", (V, D), weight, writes=1),
            Tensor("rows", (B, N, D), weight, read_elements=B * N * D, write_elements=B * N * D),
        ),
        work=(Work("add", each(SUM, B, N, D), Engine.VECTOR),),
        runs=Scatter((B, N), D, weight, index, adds=True, cleared=(V, D), ordered=True),
    )
