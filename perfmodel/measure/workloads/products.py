"""Matrix products by torch, plain and batched, in every data type with a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench
from perfmodel.runs import STACK_SCALES, TORCH_SCALES

ROWS_CHECKED = 64
BLOCK = 128
# cuBLAS reads a column of scales, one for each row, and the scales of a row of blocks from multiples of 16 bytes. torch accepts
# no padding between columns (1 x 128 and 128 x 128 scales of ``torch._scaled_mm``).
SCALES_ROWS, SCALES_INPUTS = 4, 4 * BLOCK
BLOCKS_ACCEPTED = f"rows in multiples of {SCALES_ROWS}, inputs in multiples of {SCALES_INPUTS} and columns in multiples of {BLOCK} are accepted"


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
        return Program(lambda: bench.torch.addmm(c, a, b), lambda out: _rows(bench, out, a, b, c), (b,))
    return Program(lambda: bench.torch.matmul(a, b), lambda out: _rows(bench, out, a, b), (b,))


def _rows(bench: Bench, out: Any, a: Any, b: Any, c: Any = None) -> Pairs:
    """Compares some rows of the first and the last product of the batch."""
    first = [(out, a, b)] if a.dim() == 2 else [(out[i], a[i], b[i]) for i in {0, a.shape[0] - 1}]
    for found, left, right in first:
        step = max(1, left.shape[0] // ROWS_CHECKED)
        added = 0 if c is None else c[::step].double()
        yield "the product", found[::step], left[::step].double() @ right.double() + added


def _narrow(bench: Bench, m: int, k: int, n: int, batch: int) -> Program:
    """fp8 and int8 products, which torch offers through separate functions."""
    if bench.impl in STACK_SCALES:
        raise bench.refuse(
            f"{bench.impl} stands for the kernels of a serving stack, which this package does not run",
            f"torch_{bench.impl} is accepted in fp8: kernels of this package and of torch",
        )
    if batch > 1 or bench.op == "gemm" or bench.device != "cuda":
        raise bench.refuse(
            f"torch has no such product in {bench.case.dtype}", "matmul with batch 1 on a GPU is accepted"
        )
    torch = bench.torch
    if bench.case.dtype == "int8":
        a = torch.randint(-8, 8, (m, k), device=bench.device, dtype=torch.int8)
        b = torch.randint(-8, 8, (n, k), device=bench.device, dtype=torch.int8).t()
        return Program(lambda: torch._int_mm(a, b), lambda out: _rows(bench, out, a, b), (b,))
    if bench.impl in TORCH_SCALES:
        return _scaled(bench, m, k, n, TORCH_SCALES[bench.impl])
    a, b = bench.normal(m, k), bench.normal(n, k).t()
    one = torch.ones((), device=bench.device)
    return Program(
        lambda: torch._scaled_mm(a, b, one, one, out_dtype=torch.bfloat16), lambda out: _rows(bench, out, a, b), (b,)
    )


def in_blocks(rows: int, inputs: int, columns: int) -> bool:
    """Whether torch multiplies 8-bit floats of these sizes with scales of 1 x 128 and 128 x 128 elements."""
    return not (rows % SCALES_ROWS or inputs % SCALES_INPUTS or columns % BLOCK)


def _scaled(bench: Bench, m: int, k: int, n: int, scales: str) -> Program:
    """A product of 8-bit floats with its left operand quantised from bfloat16 before it, by a kernel of this package.

    The reference quantises in the same way, so it holds the product to its arithmetic.
    """
    torch, made = bench.torch, {"device": bench.device}
    if scales == "block" and not in_blocks(m, k, n):
        raise bench.refuse("torch has no such product of blocks", BLOCKS_ACCEPTED)
    a, b = bench.normal(m, k).to(torch.bfloat16), bench.normal(n, k)
    shape = {"token": (1, n), "block": (n // BLOCK, k // BLOCK)}.get(scales, (1,))
    right = (torch.rand(shape, **made) + 0.5) * k**-0.5
    right = right.t() if scales == "block" else right
    quantise = _quantiser(bench, scales)

    def run() -> Any:
        x, left = quantise(a)
        return torch._scaled_mm(x, b.t(), left, right, out_dtype=torch.bfloat16)

    def compare(out: Any) -> Pairs:
        x, left = quantise(a)
        step = max(1, m // ROWS_CHECKED)
        wide = (x.double() * _spread(left, m, k))[::step]
        yield "the product", out[::step], wide @ (b.t().double() * _spread(right, k, n))

    return Program(run, compare, (b,))


def _quantiser(bench: Bench, scales: str) -> Callable[[Any], tuple[Any, Any]]:
    """Returns the function from the left operand to its 8-bit floats and their scales."""
    from perfmodel.measure.kernels import quantise

    narrow = bench.torch.float8_e4m3fn
    if scales == "static":
        factor, scale = (bench.torch.full((1,), value, device=bench.device) for value in (64.0, 1 / 64.0))
        return lambda a: (quantise.quantise_static(a, factor).view(narrow), scale)
    kernels: dict[str, Callable[[Any], tuple[Any, Any]]] = {
        "token": quantise.quantise_token,
        "tensor": quantise.quantise_tensor,
        "block": lambda a: quantise.quantise_block(a, BLOCK, turned=True),
    }

    def run(a: Any) -> tuple[Any, Any]:
        found, own = kernels[scales](a)
        return found.view(narrow), own.t() if scales == "block" else own

    return run


def _spread(scales: Any, rows: int, cols: int) -> Any:
    """The scale of every element in float64: one for all, for a row or column, or for a block."""
    wide = scales.double()
    if wide.dim() < 2:
        return wide
    for axis, size in enumerate((rows, cols)):
        wide = wide.repeat_interleave(size // wide.shape[axis], axis)
    return wide
