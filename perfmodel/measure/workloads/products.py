"""Matrix products by torch, plain and batched, in every data type with a product."""

from __future__ import annotations

from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

ROWS_CHECKED = 64


def build(bench: Bench) -> Program:
    """out (batch, m, n) = a (batch, m, k) b (batch, k, n). ``gemm`` adds c (m, n)."""
    size = bench.shape
    m, k, n, batch = size["m"], size["k"], size["n"], size.get("batch", 1)
    if bench.case.dtype in ("fp8", "int8"):
        return _narrow(bench, m, k, n, batch)
    lead = (batch,) if batch > 1 else ()
    a, b = bench.normal(*lead, m, k), bench.normal(*lead, k, n)
    if bench.op == "gemm":
        c = bench.normal(m, n)
        return Program(lambda: bench.torch.addmm(c, a, b), lambda out: _rows(bench, out, a, b, c))
    return Program(lambda: bench.torch.matmul(a, b), lambda out: _rows(bench, out, a, b))


def _rows(bench: Bench, out: Any, a: Any, b: Any, c: Any = None) -> Pairs:
    """Compares some rows of the first and the last product of the batch."""
    first = [(out, a, b)] if a.dim() == 2 else [(out[i], a[i], b[i]) for i in {0, a.shape[0] - 1}]
    for found, left, right in first:
        step = max(1, left.shape[0] // ROWS_CHECKED)
        added = 0 if c is None else c[::step].double()
        yield "the product", found[::step], left[::step].double() @ right.double() + added


def _narrow(bench: Bench, m: int, k: int, n: int, batch: int) -> Program:
    """fp8 and int8 products, which torch offers through separate functions."""
    if batch > 1 or bench.op == "gemm" or bench.device != "cuda":
        raise bench.refuse(
            f"torch has no such product in {bench.case.dtype}", "matmul with batch 1 on a GPU is accepted"
        )
    torch = bench.torch
    if bench.case.dtype == "int8":
        a = torch.randint(-8, 8, (m, k), device=bench.device, dtype=torch.int8)
        b = torch.randint(-8, 8, (n, k), device=bench.device, dtype=torch.int8).t()
        return Program(lambda: torch._int_mm(a, b), lambda out: _rows(bench, out, a, b))
    a, b = bench.normal(m, k), bench.normal(n, k).t()
    one = torch.ones((), device=bench.device)
    return Program(
        lambda: torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16), lambda out: _rows(bench, out, a, b)
    )
