"""Records of cases that all ranks measure together: each result is checked before it is timed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from perfmodel.measure.ranks import RankError, Ranks
from perfmodel.records import SCHEMA, case_of

Line = dict[str, Any]


class Measurable(Protocol):
    """A case in memory on every rank."""

    def wrong(self) -> str:
        """Runs the case and returns what is wrong with its result; empty if nothing is."""

    def measured(self) -> Line:
        """Returns the fields of the record, the same on all ranks."""


def records(
    ranks: Ranks, cases: Iterable[Mapping[str, Any]], make: Callable[[Ranks, Mapping[str, Any]], Measurable]
) -> Iterator[Line]:
    """Yields the record of every case, the same on all ranks. An error on one rank is the error of the case."""
    for line in cases:
        ranks.begin()
        yield {"schema": SCHEMA, **case_of(line), **_found(ranks, line, make)}
        gc.collect()
        if ranks.cuda:
            ranks.torch.cuda.empty_cache()


def _found(
    ranks: Ranks, line: Mapping[str, Any], make: Callable[[Ranks, Mapping[str, Any]], Measurable]
) -> Mapping[str, Any]:
    """Returns the fields of a case's times, or of its error."""
    try:
        one = ranks.agreed(lambda: make(ranks, line))
        told = next(filter(None, ranks.gathered(ranks.agreed(one.wrong))), "")
        return {"error": told} if told else one.measured()
    except RankError as error:
        return {"error": str(error)}
