"""What a card must take for a case: counts and bounds over all its kernels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from perfmodel import block
from perfmodel.analysis import Total, row, summed
from perfmodel.cases import Case, Refused
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import Gpu
from perfmodel.roofline import Rates, bounds, rates


class Prediction(NamedTuple):
    """A case with its totals, or with the reason why there are none."""

    line: Mapping[str, Any]
    total: Total | None
    error: str = ""
    expected: Any = None


def predictions(cases: Iterable[Case | Refused], gpu: Gpu) -> Iterator[Prediction]:
    """One for every case, in order; a case that cannot be done does not stop the others."""

    @cache
    def card(dtype: str) -> Rates:
        return rates(gpu, dtype)

    for case in cases:
        if isinstance(case, Refused):
            yield Prediction(case.line, None, case.error)
            continue
        try:
            yield Prediction(case.line, predicted(case, card(case.dtype)))
        except PerfmodelError as error:
            yield Prediction(case.line, None, f"{case.where}: {error}")


def predicted(case: Case, card: Rates) -> Total:
    """Counts and bounds of one case, over all its kernels."""
    running = block.kernels(case.steps, case.dims, fused=case.fused, backward=case.backward)
    asked = (kernel for kernel in running if case.forward or not kernel.forward)
    rows = tuple(row(kernel, "all", bounds(kernel.op, card)) for kernel in asked)
    return summed(rows, sum(r.compulsory_byte * r.repeat for r in rows))
