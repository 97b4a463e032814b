"""Copies, concatenations, fills, choices by mask, comparisons and random numbers by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

CHECKED = 1 << 20
VALUE = 0.5


def build(bench: Bench) -> Program:
    """The kernel of torch for the operation."""
    return _PROGRAMS[bench.op](bench)


def some(tensor: Any) -> Any:
    """Some elements of a tensor, evenly spaced in memory."""
    return tensor.reshape(-1)[:: max(1, tensor.numel() // CHECKED)]


def _copy(bench: Bench) -> Program:
    """A source whose runs are repeated (fewer elements than the result), or in another order, or contiguous."""
    numel, distinct, run = (bench.shape[name] for name in ("numel", "distinct", "run"))
    if numel % distinct or distinct % run:
        raise bench.refuse("the runs do not divide the elements", "whole runs and whole repeats are accepted")
    repeats, runs = numel // distinct, distinct // run
    x = bench.normal(distinct)
    if repeats > 1:
        view = x.view(runs, 1, run).expand(runs, repeats, run)
    else:
        tall = max(p for p in range(1, int(runs**0.5) + 1) if runs % p == 0)
        view = x.view(tall, runs // tall, run).transpose(0, 1)
    dtype, torch = bench.type_of("out"), bench.torch
    form = torch.contiguous_format

    def copied() -> Any:
        return view.clone(memory_format=form) if dtype == x.dtype else view.to(dtype, memory_format=form)

    def compare(out: Any) -> Pairs:
        yield "the copy", some(out), some(view).to(dtype).double()

    return Program(copied, compare)


def _concatenate(bench: Bench) -> Program:
    """Two tensors of rows of ``run`` elements, along the last dimension."""
    numel, run = bench.shape["numel"], bench.shape["run"]
    rows, rest = divmod(numel, 2 * run)
    if rest:
        raise bench.refuse("the pieces do not divide the elements", "an even number of pieces is accepted")
    a, b = bench.normal(rows, run), bench.normal(rows, run)

    def compare(out: Any) -> Pairs:
        yield "the first tensor", out[:, :run], a.double()
        yield "the second tensor", out[:, run:], b.double()

    return Program(lambda: bench.torch.cat((a, b), -1), compare)


def _fill(bench: Bench) -> Program:
    torch = bench.torch
    y = torch.empty(bench.shape["numel"], device=bench.device, dtype=bench.dtype)

    def compare(out: Any) -> Pairs:
        yield "the tensor", some(out), torch.full_like(some(out), VALUE).double()

    return Program(lambda: y.fill_(VALUE), compare)


def _where(bench: Bench) -> Program:
    mask, a, b = bench.mask(bench.shape["numel"]), *(bench.normal(bench.shape["numel"]) for _ in range(2))

    def compare(out: Any) -> Pairs:
        chosen = some(mask).double()
        yield "the choice", some(out), some(a).double() * chosen + some(b).double() * (1 - chosen)

    return Program(lambda: bench.torch.where(mask, a, b), compare)


def _masked_fill(bench: Bench) -> Program:
    mask, x = bench.mask(bench.shape["numel"]), bench.normal(bench.shape["numel"])

    def compare(out: Any) -> Pairs:
        chosen = some(mask).double()
        yield "the filled tensor", some(out), some(x).double() * (1 - chosen) + VALUE * chosen

    return Program(lambda: x.masked_fill(mask, VALUE), compare)


def _compare(bench: Bench) -> Program:
    a, b = bench.normal(bench.shape["numel"]), bench.normal(bench.shape["numel"])

    def compare(out: Any) -> Pairs:
        yield "the comparison", some(out), ((some(a).double() - some(b).double()).sign() + 1).div(2).floor()

    return Program(lambda: a > b, compare)


def _integer(bench: Bench) -> Program:
    a, b = (bench.indices(bench.shape["numel"], below=1 << 20) for _ in range(2))

    def compare(out: Any) -> Pairs:
        yield "the sum", some(out), some(a).double() + some(b).double()

    return Program(lambda: a + b, compare)


def _random(bench: Bench) -> Program:
    """Uniform numbers: all between 0 and 1, and their mean within five standard errors of 1/2."""
    torch = bench.torch
    y = torch.empty(bench.shape["numel"], device=bench.device, dtype=bench.dtype)

    def compare(out: Any) -> Pairs:
        wide = out.double()
        yield "the numbers in range", ((wide >= 0) & (wide <= 1)).double(), torch.ones_like(wide)
        near = (wide.mean() - 0.5).abs() < 5 / (12 * out.numel()) ** 0.5 + 2e-3
        yield "the mean", near.view(1).double(), torch.ones(1, device=bench.device).double()

    return Program(y.uniform_, compare)


def _broadcast(bench: Bench) -> Program:
    """A bias added to every row, or a mask to the scores of every head."""
    size = bench.shape
    if bench.op == "add_bias":
        x, other = bench.normal(size["B"], size["N"], size["D"]), bench.normal(size["D"])
    else:
        x, other = bench.normal(*(size[name] for name in "BHNS")), bench.normal(size["N"], size["S"])

    def compare(out: Any) -> Pairs:
        yield "the sum", some(out), some(x).double() + some(other.double().expand_as(x))

    return Program(lambda: x + other, compare)


_PROGRAMS: dict[str, Callable[[Bench], Program]] = {
    "copy": _copy,
    "concatenate": _concatenate,
    "fill": _fill,
    "where": _where,
    "masked_fill": _masked_fill,
    "compare": _compare,
    "integer": _integer,
    "random": _random,
    "add_bias": _broadcast,
    "causal_mask": _broadcast,
}
