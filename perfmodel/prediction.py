"""What a card must take for a case, and what it will: counts, bounds and the expected time over all its kernels."""

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
from perfmodel.timing import parameters as known
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.sequence import expected


class Prediction(NamedTuple):
    """A case with its totals and its expected time, or with the reason why there are none."""

    line: Mapping[str, Any]
    total: Total | None
    error: str = ""
    expected: Expected | None = None
    roof_notes: tuple[str, ...] = ()


def predictions(cases: Iterable[Case | Refused], gpu: Gpu, *, knowledge: str | None = None) -> Iterator[Prediction]:
    """One for every case, in order; a case that cannot be done does not stop the others."""

    @cache
    def card(dtype: str) -> Rates:
        return rates(gpu, dtype)

    timed = known.card(gpu, knowledge)
    for number, case in enumerate(cases):
        if isinstance(case, Refused):
            if number == 0 and is_environment(case.line):
                continue
            yield Prediction(case.line, None, case.error)
            continue
        try:
            rate = card(case.dtype)
            total, time = predicted(case, rate, timed)
            yield Prediction(case.line, total, expected=time, roof_notes=rate.notes)
        except PerfmodelError as error:
            yield Prediction(case.line, None, f"{case.where}: {error}")


# What says of a line that it tells where a file was measured, and what says that it was meant as a case or a sweep's row.
_ENVIRONMENT = {"environment", "gpu", "driver"}
_CASE = {"op", "shape", "config"}


def is_environment(line: Mapping[str, Any]) -> bool:
    """Whether a line describes the card and the software of the measurements below it."""
    return bool(_ENVIRONMENT & line.keys()) and not _CASE & line.keys()


def predicted(case: Case, card: Rates, timed: Card) -> tuple[Total, Expected]:
    """Counts, bounds and expected time of one case, over all its kernels.

    Warm, what the last cache holds from the run before need not come from memory, nor what it keeps go there.
    """
    cache = card.gpu.caches.get("l2") if case.protocol == "warm" else None
    resident_byte = cache.value if cache else 0
    running = block.kernels(case.steps, case.dims, fused=case.fused, backward=case.backward)
    asked = tuple(kernel for kernel in running if case.forward or not kernel.forward)
    rows = tuple(row(kernel, "all", bounds(kernel.op, card, resident_byte)) for kernel in asked)
    total = summed(rows, sum(r.compulsory_byte * r.repeat for r in rows))
    impl = str(case.line.get("impl", ""))
    time = expected(timed, asked, case.dtype, impl=impl, protocol=case.protocol, lower_s=total.lower_s or 0.0)
    return total, time
