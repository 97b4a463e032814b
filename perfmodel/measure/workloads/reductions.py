"""Sums, maxima and their places, running sums, orders and largest elements by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

ROWS_CHECKED = 64
MOST_SUM = 4096


def build(bench: Bench) -> Program:
    """The kernel of torch for the operation, over the middle axis of (rows, cols, inner)."""
    size = bench.shape
    x = bench.normal(size["rows"], size["cols"], *((size["inner"],) if "inner" in size else ()))
    step = max(1, x.shape[0] // ROWS_CHECKED)
    return _PROGRAMS[bench.op](bench, x, slice(None, None, step))


def _sum(bench: Bench, x: Any, part: slice) -> Program:
    """The elements are positive, so that nothing cancels, and small, so that no sum overflows in fp16."""
    x, dtype = x.abs_().mul_(min(1.0, MOST_SUM / x.shape[1])), bench.type_of("out")

    def compare(out: Any) -> Pairs:
        wide = bench.torch.zeros(out[part].shape, device=bench.device).double()
        for piece in x[part].split(1 << 14, 1):
            wide = wide + piece.double().sum(1)
        yield "the sum", out[part], wide

    return Program(lambda: x.sum(1, dtype=dtype), compare)


def _max(bench: Bench, x: Any, part: slice) -> Program:
    def compare(out: Any) -> Pairs:
        yield "the maximum", out[part], x[part].double().sort(1).values[:, -1]

    return Program(lambda: x.amax(1), compare)


def _argmax(bench: Bench, x: Any, part: slice) -> Program:
    def compare(out: Any) -> Pairs:
        found = x[part].gather(1, out[part].unsqueeze(1)).squeeze(1)
        yield "the element at the place", found, x[part].double().sort(1).values[:, -1]

    return Program(lambda: x.argmax(1), compare)


def _cumulative(bench: Bench, x: Any, part: slice) -> Program:
    x = x.abs_()

    def compare(out: Any) -> Pairs:
        yield "the running sum", out[part], x[part].double().cumsum(1)

    return Program(lambda: x.cumsum(1), compare)


def _top_k(bench: Bench, x: Any, part: slice) -> Program:
    chosen = bench.shape["chosen"]

    def compare(out: Any) -> Pairs:
        values, places = out
        yield "the largest elements", values[part], x[part].double().sort(1, descending=True).values[:, :chosen]
        yield "the elements at the places", x[part].gather(1, places[part]), values[part].double()

    return Program(lambda: tuple(x.topk(chosen)), compare)


def _sort(bench: Bench, x: Any, part: slice) -> Program:
    torch = bench.torch

    def compare(out: Any) -> Pairs:
        values, places = out[0][part], out[1][part]
        yield "the elements at the places", x[part].gather(1, places), values.double()
        rising = (values[:, 1:] >= values[:, :-1]).double()
        yield "the order", rising, torch.ones_like(rising)
        once = torch.zeros(values.shape, device=bench.device).scatter_(1, places, 1.0)
        yield "the places", once, torch.ones_like(once)

    return Program(lambda: tuple(x.sort(1)), compare)


_PROGRAMS: dict[str, Callable[[Bench, Any, slice], Program]] = {
    "reduce_sum": _sum,
    "reduce_max": _max,
    "argmax": _argmax,
    "cumulative_sum": _cumulative,
    "top_k": _top_k,
    "sort": _sort,
}
