"""Number of matrix products of a workload: as kernels run them, and with one product for each head.

A textbook gives each head its own three projections, scores and weighted sum: 3 H + 2 H products of attention. Programs
join the heads: one product with H times the columns, or one batched product. Both counts are of the unfused form.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel import block, runs
from perfmodel.errors import InputError
from perfmodel.runs import Gemm, GroupedGemm, Stage, number
from perfmodel.workload import Workload

HEADS = ("H", "H_kv")
Matrices = tuple[Gemm | GroupedGemm, ...]


class Line(NamedTuple):
    """The products of one kernel, for one repeat. ``heads`` is the symbol of the heads into which its result splits, or
    nothing.
    """

    name: str
    repeat: int
    products: int
    heads: str
    by_head: int


class Products(NamedTuple):
    """The products of a workload in one phase. The totals are over all repeats."""

    workload: Workload
    phase: str
    dims: dict[str, Any]
    lines: tuple[Line, ...]

    @property
    def products(self) -> int:
        return sum(line.repeat * line.products for line in self.lines)

    @property
    def by_head(self) -> int:
        return sum(line.repeat * line.by_head for line in self.lines)

    @property
    def terms(self) -> dict[str, int]:
        """Number of products by the symbol of their heads: ``{"H": 5, "": 3}`` means 5 H + 3."""
        found = dict.fromkeys((*HEADS, ""), 0)
        for line in self.lines:
            found[line.heads] += line.repeat * line.products
        return {name: count for name, count in found.items() if count}


def products(workload: Workload, *, phase: str | None = None, settings: Mapping[str, Any] | None = None,
             form: str | None = None) -> Products:  # fmt: skip
    """Returns the matrix products of every kernel of the unfused form. A batched or grouped product
    counts once."""
    phase = phase or workload.default_phase
    dims = workload.dims(phase, settings)
    steps = workload.steps_in(phase, workload.form_in(phase, form) or None)
    same = dims.get("H") == dims.get("H_kv", dims.get("H"))
    now, both, queries = (_results(steps, phase, dims, names) for names in ((), HEADS, HEADS[:1]))
    lines = tuple(
        _line(kernel, gemms, _heads(gemms, twice, more, same), dims)
        for (kernel, gemms), (_, twice), (_, more) in zip(now, both, queries, strict=True)
        if gemms
    )
    if not lines:
        raise InputError(
            f"--products {workload.name}", "no kernel is a matrix product", "a workload with matrix products is accepted",
            "Choose another one.",
        )  # fmt: skip
    return Products(workload, phase, dims, lines)


def _line(kernel: block.Kernel, gemms: Matrices, heads: str, dims: Mapping[str, Any]) -> Line:
    return Line(kernel.name, kernel.repeat, len(gemms), heads, len(gemms) * (dims[heads] if heads else 1))


def _results(steps: tuple[block.Step, ...], phase: str, dims: Mapping[str, Any], doubled: tuple[str, ...]
             ) -> list[tuple[block.Kernel, Matrices]]:  # fmt: skip
    """Returns each kernel with its products, at twice as many heads of the same size."""
    at = {"causal": 0, **dims, **{name: 2 * dims[name] for name in doubled if name in dims}}
    running = block.kernels(steps, at, fused=False, backward=phase == "train", checked=not doubled)
    return [(kernel, tuple(_gemms(kernel))) for kernel in running]


def _gemms(kernel: block.Kernel) -> Iterator[Gemm | GroupedGemm]:
    for fact in runs.each(kernel.op.runs):
        inner = fact.kernel if isinstance(fact, Stage) else fact
        if isinstance(inner, Gemm | GroupedGemm):
            yield inner


def _heads(now: Matrices, both: Matrices, queries: Matrices, same: bool) -> str:
    """Returns the symbol of the heads with which the results of a kernel grow, or nothing.

    Twice as many heads double the result or the batch of a product that splits into one for each head. A product that
    adds over the heads, such as the output projection, keeps both. ``same``: there are as many key heads as query heads.
    """
    if not _doubled(now, both):
        return ""
    return HEADS[0] if same or _doubled(now, queries) else HEADS[1]


def _doubled(now: Matrices, then: Matrices) -> bool:
    return any(sum(map(size, then)) == 2 * sum(map(size, now)) for size in (_batch, _elements))


def _batch(matrix: Gemm | GroupedGemm) -> int:
    return number(matrix.batch) if isinstance(matrix, Gemm) else number(matrix.groups)


def _elements(matrix: Gemm | GroupedGemm) -> int:
    rows = matrix.m if isinstance(matrix, Gemm) else matrix.rows
    return number(rows) * number(matrix.n) * (number(matrix.batch) if isinstance(matrix, Gemm) else 1)
