"""Indexing: rows of a table that are read or written by index.

Only the selected rows move, whatever the size of the table. Memory moves sectors of 32 bytes, so a row of less than one
sector costs a whole one if its neighbours are not selected. With one column, the rows are single elements.
"""

from __future__ import annotations

from perfmodel.arithmetic import Size
from perfmodel.mixes import NOTHING, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each
from perfmodel.operation import Example, operation
from perfmodel.runs import Gather, Scatter

LIBRARY = ("Paszke et al. 2019 (PyTorch)",)


@operation(
    summary="y = rows of a table, selected by index",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=0,
        traffic=72,
        because="no arithmetic; 3 indices of 8 bytes, 3 rows of 4 elements read and written, 2 bytes each",
    ),
    sources=LIBRARY,
)
def gather(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """The row of a repeated index counts each time."""
    return Op(
        tensors=(
            Tensor("index", (rows,), index, reads=1),
            Tensor("selected", (rows, cols), act, reads=1),
            Tensor("y", (rows, cols), act, writes=1),
        ),
        work=(Work("look-up", each(NOTHING, rows, cols), Engine.VECTOR),),
        runs=Gather(rows, cols, act, index),
    )


@operation(
    summary="rows written to a table by index",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=0,
        traffic=72,
        because="no arithmetic; 3 indices of 8 bytes, 3 rows of 4 elements read and written, 2 bytes each",
    ),
    sources=LIBRARY,
)
def scatter(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """The rest of the table keeps its values and is not moved."""
    return Op(
        tensors=(
            Tensor("index", (rows,), index, reads=1),
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("selected", (rows, cols), act, writes=1),
        ),
        work=(Work("store", each(NOTHING, rows, cols), Engine.VECTOR),),
        runs=Scatter(rows, cols, act, index),
    )


@operation(
    summary="rows added to a table by index",
    example=Example(
        at={"rows": 3, "cols": 4},
        flops=12,
        traffic=96,
        because="12 additions; 3 indices of 8 bytes; 3 rows of 4 elements read, and 3 of the table read and written, 2 bytes",
    ),
    sources=LIBRARY,
)
def scatter_add(rows: Size, cols: Size, act: Size = 2, index: Size = 8) -> Op:
    """Rows of equal index are added to the same row of the table, one atomic addition per element."""
    return Op(
        tensors=(
            Tensor("index", (rows,), index, reads=1),
            Tensor("x", (rows, cols), act, reads=1),
            Tensor("selected", (rows, cols), act, reads=1, writes=1),
        ),
        work=(Work("add", each(SUM, rows, cols), Engine.VECTOR),),
        runs=Scatter(rows, cols, act, index, adds=True),
    )
