"""Predictions of cases: counts, bounds and the expected time over all kernels of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from perfmodel import block, eager, systems
from perfmodel.analysis import Total
from perfmodel.aten.calls import Launched
from perfmodel.block import Kernel, Step
from perfmodel.case_files import Refused
from perfmodel.cases import Case
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import Gpu
from perfmodel.roofline import Bounds, Rates, lower_under, overlapping, rates, together
from perfmodel.runs import Collective
from perfmodel.step_cases import StepCase
from perfmodel.step_prediction import Captured
from perfmodel.step_prediction import predicted as step_predicted
from perfmodel.symbols import BY_CARD, SYMBOLS
from perfmodel.timing import parameters as known
from perfmodel.timing.card import Card
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.expectation import Expected
from perfmodel.timing.sequence import expected
from perfmodel.timing.terms import Term
from perfmodel.totals import total as totalled
from perfmodel.vocabulary import implementations

if TYPE_CHECKING:
    from perfmodel.timing.influences import Influence

FIXED = ("item", "flag", "routing")  # kinds of symbols that are no sizes
AT_ONCE = 1 << 17  # cases that are read before they are predicted together
FEW = 6  # up to so many cases of a kind are predicted one by one
# The number of the kind of a case, and the values of all its symbols.
Same = tuple[int, tuple[Any, ...]]


class Prediction(NamedTuple):
    """A case with its totals and expected time, or the reason why there are none. ``peak_byte``: of a step."""

    line: Mapping[str, Any]
    total: Total | None
    error: str = ""
    expected: Expected | None = None
    roof_notes: tuple[str, ...] = ()
    peak_byte: int | None = None


class Model:
    """A GPU's rates and notes by data type, and the parameters of its time model."""

    def __init__(self, gpu: Gpu, knowledge: str | None = None) -> None:
        self.gpu, self.knowledge, self.timed = gpu, knowledge, known.card(gpu, knowledge)
        self._rates: dict[str, Rates] = {}
        self._notes: dict[tuple[str, str, str], tuple[str, ...]] = {}

    def rates(self, dtype: str) -> Rates:
        if dtype not in self._rates:
            self._rates[dtype] = rates(self.gpu, dtype)
        return self._rates[dtype]

    def notes(self, dtype: str, attention: str = "", computes: str = "") -> tuple[str, ...]:
        """The notes on a data type, on a back end of attention that another one replaces, and on the type in which
        quantised products run.
        """
        asked = dtype, attention, computes
        if asked not in self._notes:
            from perfmodel.timing.backends import stand_in

            told = stand_in(attention, dtype, self.timed.generation) if attention else ""
            own = self.rates(dtype).notes_of((computes,))
            self._notes[asked] = (*own, f"{told}.") if told else own
        return self._notes[asked]

    def notes_on(self, case: Case) -> tuple[str, ...]:
        """The notes on a case."""
        attention = back_end(case) if "flash" in implementations(case.op) else ""
        computes = next((step.operation.computes for step in case.steps if step.operation.computes), "")
        return self.notes(case.dtype, attention, computes)


def predictions(
    cases: Iterable[Case | StepCase | Refused],
    gpu: Gpu,
    *,
    knowledge: str | None = None,
    captured: Captured | None = None,
) -> Iterator[Prediction]:
    """One for every case, in order; a case that cannot be done does not stop the others.

    ``captured`` returns the program of a step of transformers.
    """
    model, given = Model(gpu, knowledge), iter(cases)
    while asked := tuple(islice(given, AT_ONCE)):
        known_places: dict[Same, int] = {}
        kinds: dict[tuple[Any, ...], int] = {}
        places = [
            known_places.setdefault(_same(c, kinds), len(known_places)) if isinstance(c, Case) else -1 for c in asked
        ]
        done = _at_once(asked, places, known_places, model)
        for case, place in zip(asked, places, strict=True):
            if isinstance(case, Refused):
                yield Prediction(case.line, None, case.error)
                continue
            try:
                if isinstance(case, StepCase):
                    total, time, peak_byte = step_predicted(case, gpu, knowledge, captured)
                    yield Prediction(case.line, total, "", time, model.notes(case.dtype), peak_byte)
                    continue
                found = done[place]
                if found is None:
                    found = done[place] = predicted(case, model.rates(case.dtype), model.timed)
                yield Prediction(case.line, found[0], "", found[1], model.notes_on(case))
            except PerfmodelError as error:
                yield Prediction(case.line, None, f"{case.where}: {error}")


def _at_once(
    asked: Sequence[Case | StepCase | Refused], places: Sequence[int], same: Iterable[Same], model: Model
) -> list[tuple[Total, Expected] | None]:
    """The predictions of distinct cases, as far as they are found together: of kinds with many cases."""
    alike: dict[int, list[int]] = {}
    values: list[tuple[Any, ...]] = []
    for place, (kind, own_values) in enumerate(same):
        alike.setdefault(kind, []).append(place)
        values.append(own_values)
    done: list[tuple[Total, Expected] | None] = [None] * len(values)
    if max(map(len, alike.values()), default=0) <= FEW:
        return done
    from perfmodel.bulk import figures

    distinct = dict(zip(reversed(places), reversed(asked), strict=True))  # the first of equal ones
    for own in alike.values():
        first = distinct[own[0]]
        if len(own) > FEW and isinstance(first, Case):
            try:
                found = figures.of_values(first, [values[place] for place in own], model)
            except PerfmodelError:
                continue  # every case tells why
            for place, one in zip(own, found, strict=False):  # none of a collective
                done[place] = one
    return done


def back_end(case: Case) -> str:
    """The implementation, which stands for a back end of attention where the case has one."""
    return case.words.get("impl", "")


# Fields of a case that its kind consists of, besides its words and its symbols.
_KIND = itemgetter(
    *map(
        Case._fields.index,
        (
            "op",
            "dtype",
            "protocol",
            "fused",
            "forward",
            "backward",
            "older_rows",
            "by_card",
            "system",
            "ranks_per_node",
        ),
    )
)


def _same(case: Case, kinds: dict[tuple[Any, ...], int]) -> Same:
    """Returns the key of a prediction: the kind of a case, which does not depend on its sizes, and all values."""
    symbols, values = tuple(case.dims), tuple(case.dims.values())
    kind = _KIND(case), tuple(case.words.values()), symbols, _fixed(symbols)(values)
    return kinds.setdefault(kind, len(kinds)), values


@cache
def _fixed(symbols: tuple[str, ...]) -> Callable[[tuple[Any, ...]], Any]:
    """Takes the values of the symbols that are no sizes."""
    places = [place for place, name in enumerate(symbols) if SYMBOLS[name].kind in FIXED]
    return itemgetter(*places) if places else lambda values: ()


def predicted(case: Case, card: Rates, timed: Card) -> tuple[Total, Expected]:
    """Counts, bounds and expected time of one case, over all the kernels that its implementation launches.

    ``bound`` and the time without overlap belong to the operation and the card, whatever the protocol. The lower bound
    of a protocol whose data may still be in L2 charges memory only for what L2 cannot hold.
    """
    timed = timed._replace(before=True) if case.older_rows else timed
    asked = launched(case, sizes(case, card))
    if isinstance(asked[0].op.runs, Collective):
        return _collective(case, asked[0], asked[0].op.runs, card)
    judged, whole = bounded(asked, case, card)
    time = expected(timed, judged, case.dtype, impl=back_end(case), protocol=case.protocol)[1]
    return totalled(asked, whole), time


def sizes(case: Case, card: Rates) -> dict[str, Any]:
    """All sizes of a case, those that depend on the card included."""
    return {**BY_CARD, **card.gpu.sizes(), **case.dims} if case.by_card else dict(case.dims)


def launched(case: Case, dims: Mapping[str, Any], checked: bool | block.Check = True) -> tuple[Kernel, ...]:
    """The kernels that the implementation of a case launches at these sizes."""
    running = block.kernels(case.steps, dims, fused=case.fused, backward=case.backward, checked=checked)
    return tuple(k for k in eager.launched(running, back_end(case), case.dtype) if case.forward or not k.forward)


def bounded(asked: Sequence[Kernel], case: Case, card: Rates) -> tuple[list[tuple[Kernel, Any]], Bounds]:
    """Every kernel with its lower bound, and the bounds of all together."""
    apart = [lower_under(kernel.op, card, case.protocol) for kernel in asked]
    whole = together((bound, kernel.repeat) for bound, kernel in zip(apart, asked, strict=True))
    return [(kernel, bound.lower_s) for kernel, bound in zip(asked, apart, strict=True)], whole


def _collective(case: Case, kernel: Kernel, fact: Collective, card: Rates) -> tuple[Total, Expected]:
    """A collective on the system of its case. An eager call adds the host's time."""
    system = systems.of(card.gpu, case.system or None)
    forced, local = "" if fact.chosen else fact.algorithm, case.ranks_per_node
    found = collective_s(
        system,
        card.gpu,
        fact.kind,
        fact.byte,
        fact.gpus,
        ranks_per_node=local,
        algorithm=forced,
        library=back_end(case),
    )
    bounds = lower_under(kernel.op, card, case.protocol)
    lower_s = max(found.lower_s, float(overlapping(0, kernel.op.engine_flops(), card).lower_s))
    bounds = bounds._replace(lower_s=lower_s, link_s=max(found.lower_s, float(bounds.link_s)))
    host_s = found.host_s if case.protocol == "eager" else 0.0
    terms = (Term("host launch", host_s), *found.terms) if host_s else found.terms
    expected_s, low_s, high_s = (max(lower_s, one + host_s) for one in (found.expected_s, found.low_s, found.high_s))
    return totalled([kernel], bounds), Expected(expected_s, low_s, high_s, terms, unclamped_s=found.expected_s + host_s)


def priced(launched: Launched, gpu: Gpu, protocol: str) -> tuple[Bounds, Expected]:
    """Bounds and expected time of one kernel that is no case, such as a custom one."""
    bounds = lower_under(launched.op, rates(gpu, launched.dtype), protocol)
    step = Step(launched.operation, cast(Any, None))  # the time model reads no step
    running = Kernel(launched.operation, launched.operation, 1, launched.op, step)
    timed = known.card(gpu, None)
    judged = ((running, float(bounds.lower_s)),)
    return bounds, expected(timed, judged, launched.dtype, impl=launched.impl, protocol=protocol)[1]


def influences(case: Case | StepCase | Refused, gpu: Gpu, knowledge: str | None = None) -> list[Influence]:
    """Returns the influence of each parameter on the time of a case; empty for a whole step and a case without a time."""
    from perfmodel.timing.influences import influences as of_time

    if isinstance(case, (Refused, StepCase)):
        return []

    def seconds(card: Gpu) -> float:
        return predicted(case, rates(card, case.dtype), known.card(card, knowledge))[1].expected_s

    return of_time(seconds, gpu)
