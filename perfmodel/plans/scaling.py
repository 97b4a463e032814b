"""Strong and weak scaling: speed-up and efficiency over the number of GPUs, with the laws of Amdahl and Gustafson.

Strong scaling keeps the batch: S(p) = T(1) / T(p), and Amdahl (1967) gives 1 / (s + (1 - s) / p) for a serial share s of the
time on one GPU. Weak scaling keeps the batch of each data-parallel replica: S(p) is the ratio of the rates, and Gustafson
(1988) gives s + (1 - s) p. The share is fitted by least squares of relative errors. Where the first
point has several GPUs, p and S(p) count in multiples of it, scaled so that its efficiency is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.plan import Plan
from perfmodel.plans.step import Model

HALF = 0.5
MOST_POINTS = 200


class Point(NamedTuple):
    """One number of GPUs."""

    gpus: int
    estimate: Estimate
    speedup: float
    efficiency: float


class Law(NamedTuple):
    """A fitted law: its name, its serial share, and its largest relative difference from the points."""

    name: str
    serial: float
    error: float

    def speedup(self, p: float) -> float:
        if self.name == "Amdahl":
            return 1.0 / (self.serial + (1.0 - self.serial) / p)
        return self.serial + (1.0 - self.serial) * p


class Scaling(NamedTuple):
    """The points, the fitted laws, and where and why the efficiency falls below one half."""

    model: Model
    strong: bool
    points: tuple[Point, ...]
    laws: tuple[Law, ...]
    half: Point | None
    because: str
    skipped: tuple[str, ...]


def counts(text: str) -> list[int]:
    """Numbers of GPUs from text such as ``gpus=1:1024:x2`` or ``gpus=8:64:8``."""
    where = f"--over {shown(text)}"
    refused = InputError(where, "it is not a range of GPUs", "gpus=FROM:TO:xFACTOR or gpus=FROM:TO:STEP is accepted",
                         "Write, for example, --over gpus=1:1024:x2.")  # fmt: skip
    name, _, values = text.partition("=")
    parts = values.split(":")
    if name.strip() != "gpus" or len(parts) not in (2, 3):
        raise refused
    step = parts[2] if len(parts) == 3 else "x2"
    try:
        first, last, by = int(parts[0]), int(parts[1]), int(step.removeprefix("x"))
    except ValueError:
        raise refused from None
    if not 1 <= first <= last <= 10**7 or by < (2 if step.startswith("x") else 1):
        raise refused
    found = [first]
    while (after := found[-1] * by if step.startswith("x") else found[-1] + by) <= last:
        found.append(after)
        if len(found) > MOST_POINTS:
            raise InputError(
                where, "it has too many points", f"at most {MOST_POINTS} are accepted", "Use a larger step."
            )
    return found


def plan_at(gpus: int, given: Plan) -> Plan | None:
    """The given degrees with as many replicas as a number of GPUs has; None where the degrees do not divide it."""
    fixed = given.tp * given.pp * given.cp
    return None if gpus % fixed else given._replace(dp=gpus // fixed)


def scaling(make: Callable[[int], Model], gpus: Iterable[int], given: Plan, *, strong: bool, batch: int) -> Scaling:
    """The estimates over numbers of GPUs. ``make(B)`` returns the model at a global batch."""
    found, skipped = list[tuple[int, Estimate, Model]](), dict[str, list[int]]()
    for p in gpus:
        plan = plan_at(p, given)
        if plan is None:
            reason = f"not a multiple of tp x pp x cp = {given.tp * given.pp * given.cp}"
            skipped.setdefault(reason, []).append(p)
            continue
        model = make(batch if strong else batch * plan.dp)
        try:
            found.append((p, model.estimate(plan), model))
        except InputError as error:
            skipped.setdefault(error.found, []).append(p)
    told = tuple(f"{_gpus(numbers)}: {reason}" for reason, numbers in skipped.items())
    if not found:
        raise InputError("scale", f"no number of GPUs has a legal plan: {told[0]}", "at least one is needed",
                         "Change --over or the degrees of the plan.")  # fmt: skip
    points = _points(found, strong)
    half = next((point for point in points if point.efficiency < HALF), None)
    laws = (_law("Amdahl" if strong else "Gustafson", points),) if len(points) > 1 else ()
    return Scaling(found[0][2], strong, points, laws, half, _because(points[0], half) if half else "", told)


def _gpus(numbers: Sequence[int]) -> str:
    """The numbers of GPUs in words, such as ``1, 2 and 4 GPUs``."""
    if numbers == [1]:
        return "1 GPU"
    *others, last = (f"{number:,}" for number in numbers)
    return f"{', '.join(others)} and {last} GPUs" if others else f"{last} GPUs"


def _points(found: Sequence[tuple[int, Estimate, Model]], strong: bool) -> tuple[Point, ...]:
    p0, first, _ = found[0]
    points = []
    for p, one, _ in found:
        ratio = first.expected_s / one.expected_s if strong else one.tokens_per_s / first.tokens_per_s
        points.append(Point(p, one, ratio * p0, ratio * p0 / p))
    return tuple(points)


def _law(name: str, points: Sequence[Point]) -> Law:
    """Least squares of the relative error of 1/S = s + (1 - s)/p, or of S = s + (1 - s) p, with s between 0 and 1."""
    p0 = points[0].gpus
    pairs = [(point.gpus / p0, point.speedup / p0) for point in points]
    strong = name == "Amdahl"
    terms = [(s * (1 - 1 / p), 1 - s / p) if strong else ((1 - p) / s, 1 - p / s) for p, s in pairs]
    square = sum(a * a for a, _ in terms)
    serial = min(1.0, max(0.0, sum(a * b for a, b in terms) / square)) if square else 0.0
    law = Law(name, serial, 0.0)
    return law._replace(error=max(abs(law.speedup(p) / s - 1) for p, s in pairs))


def _because(first: Point, half: Point) -> str:
    """The term that grew most as a share of the time."""
    before = {term.name: term.seconds / first.estimate.expected_s for term in first.estimate.terms}
    grown = {
        term.name: term.seconds / half.estimate.expected_s - before.get(term.name, 0.0) for term in half.estimate.terms
    }
    name = max(grown, key=lambda key: grown[key])
    share = next(term.seconds for term in half.estimate.terms if term.name == name) / half.estimate.expected_s
    return f"{name}: {100 * share:.0f} % of the time on {half.gpus:,} GPUs, {100 * before.get(name, 0.0):.0f} % on {first.gpus:,}"
