"""One suggested change, and the functions that the finders share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perfmodel.aten.calls import Call
from perfmodel.traces.pricing import SHAPES, Model, Priced
from perfmodel.traces.spans import Spans

# Share of the step below which a saving is not worth a line.
LEAST_SHARE = 0.002


class Advice(NamedTuple):
    """A change and the seconds that it saves in a step: the model's time before it less the model's time after it.

    ``measured_s`` is the measured time of the kernels that it changes. ``check`` says how to find out.
    """

    what: str
    saves_s: float
    because: str
    check: str
    before_s: float = 0.0
    after_s: float = 0.0
    measured_s: float = 0.0
    kind: str = ""


class Context(NamedTuple):
    """A step with its kernels in order, and the model that computes the expected time of alternatives."""

    priced: Sequence[Priced]
    spans: Spans
    model: Model

    @property
    def known(self) -> list[Priced]:
        """The groups that have a formula and a price."""
        return [one for one in self.priced if one.price is not None and one.group.known]


def near(one: Priced) -> bool:
    """Whether a group's kernels find what they read in L2."""
    return one.price is not None and one.price.near


def seconds(one: Priced) -> float:
    """The expected time of a group."""
    return one.price.expected_s if one.price else 0.0


def total(found: Sequence[Priced]) -> float:
    """The expected time of groups together."""
    return sum(map(seconds, found))


def measured(found: Sequence[Priced]) -> float:
    """The measured time of groups together."""
    return sum(one.group.measured_s for one in found)


def operator(one: Priced) -> str:
    """The operator's name without its namespace, or the operation's where the trace hides the operator."""
    if one.group.source != SHAPES and one.group.known:
        return one.group.main.operation
    return one.group.operator.rpartition("::")[2]


def call_of(one: Priced) -> Call | None:
    """The call of a group whose shapes the trace has."""
    return one.group.call


def ms(value_s: float) -> str:
    """Seconds in milliseconds, three digits."""
    return f"{value_s * 1e3:.3g} ms"


def many(count: int, noun: str) -> str:
    """A number with its noun, such as ``1 copy`` or ``3 copies``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
