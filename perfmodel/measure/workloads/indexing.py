"""Rows selected by index, written by index and added by index, by torch."""

from __future__ import annotations

from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

CHECKED = 4096
TABLE_BYTE = 1 << 31  # largest table


def build(bench: Bench) -> Program:
    """A table of at least as many rows as are selected. With one column, the element-wise form."""
    if bench.op == "embedding_backward":
        return _embedding_backward(bench)
    rows, cols = bench.shape["rows"], bench.shape["cols"]
    most = max(rows, min(4 * rows, TABLE_BYTE // (cols * bench.dtype.itemsize)))
    shape = (most,) if cols == 1 else (most, cols)
    return {"gather": _gather, "scatter": _scatter, "scatter_add": _scatter_add}[bench.op](
        bench, bench.normal(*shape), rows
    )


def _gather(bench: Bench, table: Any, rows: int) -> Program:
    torch, index = bench.torch, bench.indices(rows, below=table.shape[0])
    part = slice(None, None, max(1, rows // CHECKED))

    def compare(out: Any) -> Pairs:
        one = torch.stack([table[i] for i in index[part].tolist()[:256]])
        yield "the selected rows", out[part][:256], one.double()

    if table.dim() == 1:
        return Program(lambda: torch.gather(table, 0, index), compare)
    return Program(lambda: torch.nn.functional.embedding(index, table), compare)


def _scatter(bench: Bench, table: Any, rows: int) -> Program:
    """All indices differ, so the result does not depend on the order of the writes."""
    index, x = bench.permutation(table.shape[0])[:rows], bench.normal(rows, *table.shape[1:])
    part = slice(None, None, max(1, rows // CHECKED))

    def compare(out: Any) -> Pairs:
        yield "the written rows", out[index[part]], x[part].double()

    if table.dim() == 1:
        return Program(lambda: table.scatter_(0, index, x), compare)
    return Program(lambda: table.index_copy_(0, index, x), compare)


def _scatter_add(bench: Bench, table: Any, rows: int) -> Program:
    """The table grows in every run. The comparison starts it anew, so it is no output that may be overwritten."""
    index, x = bench.permutation(table.shape[0])[:rows], bench.normal(rows, *table.shape[1:])
    part = slice(None, None, max(1, rows // CHECKED))

    def run() -> Any:
        if table.dim() == 1:
            table.scatter_add_(0, index, x)
        else:
            table.index_add_(0, index, x)
        return ()

    def compare(out: Any) -> Pairs:
        table.fill_(1.0)
        run()
        yield "the sums", table[index[part]], 1.0 + x[part].double()

    return Program(run, compare)


def _embedding_backward(bench: Bench) -> Program:
    B, N, D, V = (bench.shape[name] for name in "BNDV")
    index, dy = bench.indices(B * N, below=V), bench.normal(B * N, D)
    gradient = bench.torch.ops.aten.embedding_dense_backward

    def compare(out: Any) -> Pairs:
        cols = slice(None, None, max(1, D // 16))
        wanted = bench.torch.zeros(V, dy[:, cols].shape[1], device=bench.device).double()
        yield "the table's gradient", out[:, cols], wanted.index_add_(0, index, dy[:, cols].double())

    return Program(lambda: gradient(dy, index, V, -1, False), compare)
