"""Checks of measured kernels against a share of their bound or of their expected time.

A kernel passes if the whole range between its quartiles reaches the share, and fails if none of it does. Otherwise there
is no verdict: nothing was measured, nothing is known of the kernel, or the noise is too large to tell. No verdict is not
a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from perfmodel.aten.calls import Launched
from perfmodel.cases import case
from perfmodel.errors import InputError, said
from perfmodel.hardware import Gpu
from perfmodel.prediction import predicted, priced
from perfmodel.records import measured_s, quartiles_s
from perfmodel.roofline import rates
from perfmodel.timing import parameters
from perfmodel.traces.kernel_names import short
from perfmodel.units import Gate
from perfmodel.validation import RESOLUTION, WRONG, compare, described

if TYPE_CHECKING:
    from perfmodel.traces.rows import Row

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
WORST_FIRST = (FAIL, UNKNOWN, PASS)
BOUND, EXPECTED = "bound", "expected"
# A kernel can be faster than expected, but not faster than its bound.
SHARES = {
    BOUND: Gate("a share of the bound", 1e-6, 1.0),
    EXPECTED: Gate("a share of the expected time", 1e-6, 10.0),
}
BUSY = "the device was busy with other work"


class Limit(NamedTuple):
    """The share that every kernel must reach, of its ``bound`` or of its ``expected`` time."""

    share: float
    of: str = BOUND

    def __str__(self) -> str:
        return f"{100 * self.share:.4g} % of the {'bound' if self.of == BOUND else 'expected time'}"


class Reference(NamedTuple):
    """The time that a kernel is compared with, in seconds; None if it is unknown. ``bound`` is the resource that sets
    the lower bound: memory or an engine.
    """

    lower_s: float | None = None
    expected_s: float | None = None
    bound: str | None = None


class Time(NamedTuple):
    """A measured time with its quartiles, in seconds. Without quartiles all three are equal and ``spread`` is False."""

    median_s: float
    low_s: float
    high_s: float
    spread: bool = True


class Judged(NamedTuple):
    """One kernel: its case or its line in a trace, its times, and the verdict with its reason."""

    line: Mapping[str, Any]
    reference: Reference
    time: Time | None
    limit: Limit
    verdict: str
    reason: str = ""

    @property
    def reference_s(self) -> float | None:
        return self.reference.lower_s if self.limit.of == BOUND else self.reference.expected_s

    @property
    def limit_s(self) -> float | None:
        """The longest time that passes."""
        return None if self.reference_s is None else self.reference_s / self.limit.share

    def _reached(self, time_s: float | None) -> float | None:
        return self.reference_s / time_s if self.reference_s and time_s else None

    @property
    def reached(self) -> float | None:
        """The share that the median reaches."""
        return self._reached(self.time and self.time.median_s)

    @property
    def reached_low(self) -> float | None:
        """The share that the third quartile reaches."""
        return self._reached(self.time and self.time.high_s)

    @property
    def reached_high(self) -> float | None:
        """The share that the first quartile reaches."""
        return self._reached(self.time and self.time.low_s)

    @property
    def headroom_s(self) -> float | None:
        """Seconds above the bound, of the measured time or else of the expected time."""
        time_s = self.time.median_s if self.time else self.reference.expected_s
        return None if time_s is None or self.reference.lower_s is None else time_s - self.reference.lower_s


class Checked(NamedTuple):
    """All kernels, the worst first. ``allow_unknown``: kernels without a verdict do not fail the check."""

    limit: Limit
    kernels: tuple[Judged, ...]
    allow_unknown: bool = False
    notes: tuple[str, ...] = ()

    def count(self, verdict: str) -> int:
        """Returns the number of kernels with this verdict."""
        return sum(one.verdict == verdict for one in self.kernels)

    @property
    def passed(self) -> bool:
        """Whether no kernel fails, at least one passes, and those without a verdict are allowed."""
        return not self.count(FAIL) and bool(self.count(PASS)) and (self.allow_unknown or not self.count(UNKNOWN))


def judge(line: Mapping[str, Any], reference: Reference, time: Time | None, limit: Limit, failed: str = "") -> Judged:
    """Returns the verdict on one kernel. ``failed`` is the reason why it has no time or no bound."""
    undecided = Judged(line, reference, time, limit, UNKNOWN)
    if failed:
        return undecided._replace(verdict=FAIL if WRONG in failed else UNKNOWN, reason=failed)
    if time is None:
        return undecided._replace(reason="it has no measured time")
    low, high, share = undecided.reached_low, undecided.reached_high, limit.share
    if low is None or high is None:
        reason = "its bound is 0: L2 can hold all its data" if undecided.reference_s == 0 else "its work is not known"
        return undecided._replace(reason=reason)
    if reference.lower_s is not None and time.median_s * (1 + RESOLUTION) < reference.lower_s:
        return undecided._replace(reason="it was measured below its bound: check GPU, data type and protocol")
    if low >= share:
        return undecided._replace(verdict=PASS)
    if high < share:
        return undecided._replace(verdict=FAIL)
    return undecided._replace(reason="the limit lies between its quartiles")


def of_records(
    records: Iterable[Mapping[str, Any]], gpu: Gpu, limit: Limit, environment: Mapping[str, Any] | None = None
) -> list[Judged]:
    """Returns the verdict on every record. On a busy device a slow kernel has none; nor has a fast one, if the roofs of
    the card were measured in the same run.
    """
    found = compare(records, gpu, environment)
    judged = []
    for one in found.cases:
        reference = Reference(one.lower_s, one.expected_s, one.prediction.total and one.prediction.total.bound)
        verdict = judge(one.record, reference, None if one.failed else time_of(one.record), limit, one.failed)
        wrong = verdict.verdict == FAIL and one.failed
        unsure = {FAIL, PASS} if found.excused else {FAIL}
        if found.busy and not wrong and verdict.verdict in unsure:
            verdict = verdict._replace(verdict=UNKNOWN, reason=BUSY)
        judged.append(verdict)
    return judged


def time_of(record: Mapping[str, Any]) -> Time | None:
    """Returns the measured time of a record or of a case."""
    median_s = measured_s(record)
    if median_s is None:
        return None
    low_s, high_s = quartiles_s(record) or (median_s, median_s)
    return Time(median_s, low_s, high_s, quartiles_s(record) is not None)


def of_trace(document: Mapping[str, Any], limit: Limit, where: str) -> list[Judged]:
    """Returns the verdict on every kernel in the document of ``perfmodel trace --format json``."""
    kernels = document.get("kernels")
    if not isinstance(kernels, list) or not kernels or not all(isinstance(one, dict) for one in kernels):
        raise InputError(
            where, "it has no list of kernels", "a profiler trace, or the JSON of 'perfmodel trace', is accepted",
            "Check the file.",
        )  # fmt: skip
    return [_of_kernel(one, limit, where) for one in kernels]


def of_rows(rows: Sequence[Row], limit: Limit, where: str) -> list[Judged]:
    """Returns the verdict on every kernel of a profiler's trace."""
    kernels = [
        {
            "name": row.name, "count": row.calls, "op": row.op, "shape": dict(row.shape), "dtype": row.dtype, "module": row.module,
            "measured_s": row.measured_s, "lower_s": row.lower_s, "expected_s": row.expected_s, "bound": row.bound,
        }
        for row in rows
    ]  # fmt: skip
    return of_trace({"kernels": kernels}, limit, where)


def _of_kernel(kernel: Mapping[str, Any], limit: Limit, where: str) -> Judged:
    lower_s, expected_s, measured = (_seconds(kernel, f"{name}_s", where) for name in ("lower", "expected", "measured"))
    time = None if not measured else Time(measured, measured, measured, spread=False)
    known = Reference(lower_s, expected_s or None, str(kernel["bound"]) if kernel.get("bound") else None)
    return judge(kernel, known if kernel.get("op") else Reference(), time, limit)


def _seconds(kernel: Mapping[str, Any], name: str, where: str) -> float | None:
    value = kernel.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
        raise InputError(f"{where}: kernels: {name}", f"{said(value)} is not a time", "seconds are accepted")
    return value


def selected(kernels: Iterable[Judged], patterns: Iterable[str]) -> list[Judged]:
    """Returns the kernels whose name, operation or module matches one of the patterns; all without patterns."""
    wanted, found = tuple(patterns), list(kernels)
    if not wanted:
        return found
    kept = [one for one in found if any(fnmatchcase(name, text) for name in names(one.line) for text in wanted)]
    if not kept:
        known = dict.fromkeys(name for one in found for name in names(one.line)[:1])
        raise InputError(
            f"--only {' '.join(wanted)}",
            "no kernel matches",
            f"{', '.join(list(known)[:8])} are here",
            "Write one of these names, or its beginning and '*'.",
        )
    return kept


def names(line: Mapping[str, Any]) -> list[str]:
    """Returns the names by which a kernel can be selected."""
    plain = [short(str(line["name"]))] if line.get("name") else []
    return [*plain, *(str(line[key]) for key in ("name", "kind", "op", "module") if line.get(key))]


def title(line: Mapping[str, Any]) -> str:
    """Returns a kernel as one line of text."""
    if not line.get("name"):
        return described(line)
    shape = " ".join(f"{name}={size}" for name, size in (line.get("shape") or {}).items())
    return " ".join(filter(None, (short(str(line["name"]), 48), str(line.get("op") or ""), shape)))


def checked(
    kernels: Iterable[Judged], limit: Limit, *, allow_unknown: bool = False, notes: Iterable[str] = ()
) -> Checked:
    """Returns all kernels: those that fail, those without a verdict, those that pass; of each, the most headroom first."""

    def badness(one: Judged) -> tuple[int, float]:
        return WORST_FIRST.index(one.verdict), -(one.headroom_s or 0.0)

    ordered = tuple(sorted(kernels, key=badness))
    points = sum(one.time is not None and not one.time.spread for one in ordered)
    told = (
        [f"Noise is unknown for {points} of {len(ordered)} kernels: their times have no quartiles."] if points else []
    )
    return Checked(limit, ordered, allow_unknown, (*notes, *told))


# --- what a kernel is measured against


def reference_of_case(line: Mapping[str, Any], gpu: Gpu) -> Reference:
    """Returns bound and expected time of a case."""
    read = case(line)
    total, time = predicted(read, rates(gpu, read.dtype), parameters.card(gpu, None))
    return Reference(total.lower_s, time.expected_s, total.bound)


def reference_of(launched: Launched, gpu: Gpu, protocol: str) -> Reference:
    """Returns bound and expected time of a custom kernel."""
    bounds, time = priced(launched, gpu, protocol)
    return Reference(float(bounds.lower_s), time.expected_s, bounds.bound)


def limit(share: Any, of: str = BOUND, where: str = "share") -> Limit:
    """Returns a checked limit: a number, or text such as ``0.8`` or ``80%``."""
    if of not in SHARES:
        raise InputError("of", f"{said(of)} is not known", f"one of {', '.join(SHARES)} is accepted", "Correct it.")
    if isinstance(share, str):
        share = _number(share, where)
    gate = SHARES[of]
    if not gate.admits(share):
        action = f"Write {share / 100:g} for {share:g} %." if gate.admits(_hundredth(share)) else "Correct it."
        raise InputError(where, f"{said(share)} is not a share", gate.accepted, action)
    return Limit(float(share), of)


def _hundredth(share: Any) -> Any:
    return share / 100 if isinstance(share, (int, float)) else share


def _number(text: str, where: str) -> float:
    digits, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(digits) / (100 if percent else 1)
    except ValueError:
        raise InputError(where, f"{said(text)} is not a share", "0.8 or 80% is accepted", "Correct it.") from None
