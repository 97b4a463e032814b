"""Compares measurements with the model, by case, and summarises the errors by operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import mean, median
from typing import Any, NamedTuple

from perfmodel.case_files import Refused, any_case
from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.hardware import Gpu, all_gpus
from perfmodel.paths import report
from perfmodel.prediction import Prediction, predictions
from perfmodel.records import measured_s
from perfmodel.step_cases import STEP, StepCase, case_name, plan_words

# Timers resolve about half a microsecond: a time is below the bound only if it is shorter by more than this share.
RESOLUTION = 0.02
WRONG = "wrong result"
FAILED_SHARE = 0.1  # largest share of cases without a time in a validation that passes
# Largest relative spread of the stream's times, before and after the cases, on a device without other work.
QUIET = {"cpu": 0.25, "cuda": 0.1}
CPU_SHARE = 0.8  # minimum share of the processor's time that a stream gets on a quiet machine


class Compared(NamedTuple):
    """One case: its measurement and its prediction."""

    record: Mapping[str, Any]
    prediction: Prediction

    @property
    def measured_s(self) -> float | None:
        return measured_s(self.record)

    @property
    def lower_s(self) -> float | None:
        return self.prediction.total.lower_s if self.prediction.total else None

    @property
    def expected_s(self) -> float | None:
        return self.prediction.expected.expected_s if self.prediction.expected else None

    @property
    def error(self) -> float | None:
        """expected / measured - 1."""
        return self.expected_s / self.measured_s - 1 if self.expected_s and self.measured_s else None

    @property
    def of_roofline(self) -> float | None:
        """lower / measured: the share of the fastest possible speed."""
        return self.lower_s / self.measured_s if self.lower_s and self.measured_s else None

    @property
    def of_expected(self) -> float | None:
        """expected / measured: 1 if the kernels run as fast as the model expects."""
        return self.expected_s / self.measured_s if self.expected_s and self.measured_s else None

    @property
    def headroom_s(self) -> float | None:
        """Seconds above the lower bound: the most that a faster program can save. Negative if ``below``."""
        return self.measured_s - self.lower_s if self.lower_s and self.measured_s else None

    @property
    def below(self) -> bool:
        """Whether the measured time is below the lower bound: then the model or its data are wrong."""
        return self.of_roofline is not None and self.of_roofline > 1 + RESOLUTION

    @property
    def inside(self) -> bool | None:
        """Whether the measured time is inside the expected range."""
        expected = self.prediction.expected
        return expected.low_s <= self.measured_s <= expected.high_s if expected and self.measured_s else None

    @property
    def failed(self) -> str:
        """The reason why there is no time; empty if there is one."""
        return str(self.record.get("error", "")) or self.prediction.error


class Summary(NamedTuple):
    """Summary of one operation's cases. Errors are of the expected time, relative to the measured time."""

    name: str
    cases: int
    mean_absolute_error: float | None
    median_absolute_error: float | None
    bias: float | None
    below_share: float
    inside_share: float | None
    of_roofline: float


class Streams(NamedTuple):
    """Times of one memory stream, measured before and after the cases of a run."""

    low_us: float
    high_us: float
    quiet: float
    roof_us: float = 0.0  # the time at the memory roof, if the same run measured that roof
    cpu_share: float = 1.0  # processor time of the stream, divided by what its threads could use

    @property
    def spread(self) -> float:
        return self.high_us / self.low_us - 1

    @property
    def busy(self) -> bool:
        """Whether other work ran on the device, during the cases or while the roofs were measured."""
        roof_passed = self.low_us < self.roof_us * (1 - RESOLUTION)
        return self.spread > self.quiet or self.cpu_share < CPU_SHARE or roof_passed


class Outcome(NamedTuple):
    """All cases, the summaries by operation, and the failures."""

    cases: tuple[Compared, ...]
    summaries: tuple[Summary, ...]
    streams: Streams | None = None

    @property
    def busy(self) -> bool:
        return self.streams is not None and self.streams.busy

    @property
    def below(self) -> list[Compared]:
        """Cases that were faster than their bound."""
        return [one for one in self.cases if one.below]

    @property
    def excused(self) -> bool:
        """Whether times below the bound are not model errors, because the roofs were measured on a busy device."""
        return self.busy and self.streams is not None and self.streams.roof_us > 0

    @property
    def broken(self) -> list[str]:
        """Returns the reasons why a validation fails: wrong results, times below the bound, and too many cases without
        a time.
        """
        wrong = [one for one in self.cases if WRONG in one.failed]
        below = [] if self.excused else self.below
        failed = sum(bool(one.failed) for one in self.cases)
        many = failed > FAILED_SHARE * len(self.cases)
        return [
            *([f"{failed} of {len(self.cases)} cases have no time, more than {FAILED_SHARE:.0%}"] if many else []),
            *(f"{described(one.record)}: {one.failed}" for one in wrong),
            *(
                f"{described(one.record)}: measured {one.measured_s:.4g} s, below the bound of {one.lower_s:.4g} s"
                for one in below
            ),
        ]


def compare(
    records: Iterable[Mapping[str, Any]], gpu: Gpu, environment: Mapping[str, Any] | None = None, **options: Any
) -> Outcome:
    """Returns every record with its prediction for the card; ``environment`` is that of the run."""
    kept = list(records)
    found = predictions((_read(record) for record in kept), gpu, **options)
    cases = tuple(Compared(record, prediction) for record, prediction in zip(kept, found, strict=True))
    return Outcome(cases, tuple(_summaries(cases)), streams(environment or {}, gpu))


def streams(environment: Mapping[str, Any], gpu: Gpu) -> Streams | None:
    """Returns the times of the streams of a run; None if fewer than two were measured."""
    found = [probe for probe in environment.get("streams", ()) if "median_us" in probe]
    if len(found) < 2:
        return None
    roofs_measured = gpu.knowledge == "calibrated"
    return Streams(
        low_us=min(probe["p25_us"] for probe in found),
        high_us=max(probe["p75_us"] for probe in found),
        quiet=QUIET.get(str(environment.get("device")), max(QUIET.values())),
        roof_us=max(probe["byte"] for probe in found) / gpu.bandwidth_byte_per_s.value * 1e6 if roofs_measured else 0.0,
        cpu_share=min(probe.get("cpu_share", 1.0) for probe in found),
    )


def _read(record: Mapping[str, Any]) -> Case | StepCase | Refused:
    try:
        return any_case(record)
    except InputError as error:
        return Refused(record, str(error))


def _summaries(cases: Iterable[Compared]) -> Iterable[Summary]:
    groups: dict[str, list[Compared]] = {}
    for one in cases:
        if one.of_roofline is not None:
            groups.setdefault(family(one.record), []).append(one)
    for name, group in groups.items():
        errors = [one.error for one in group if one.error is not None]
        inside = [one.inside for one in group if one.inside is not None]
        yield Summary(
            name=name,
            cases=len(group),
            mean_absolute_error=mean(map(abs, errors)) if errors else None,
            median_absolute_error=median(map(abs, errors)) if errors else None,
            bias=mean(errors) if errors else None,
            below_share=sum(one.below for one in group) / len(group),
            inside_share=sum(inside) / len(inside) if inside else None,
            of_roofline=median(one.of_roofline or 0.0 for one in group),
        )


def card_of(environment: Mapping[str, Any]) -> Gpu | None:
    """Returns the card whose names include the device of the run; None if there is none or more than one."""
    known = [gpu for gpu in all_gpus() if str(environment.get("gpu", "")) in gpu.matches]
    if len(known) != 1:
        return None
    report(known[0].name, known[0].file)
    return known[0]


def family(record: Mapping[str, Any]) -> str:
    """Returns the operation, and the implementation unless it is torch's; of a step its phase and its plan."""
    if record.get("op") == STEP:
        return f"{record['phase']} {record['impl']} {plan_words(record)}"
    impl = record.get("impl", "")
    return f"{record['op']} {impl}" if impl and impl != "torch" else str(record["op"])


def described(record: Mapping[str, Any]) -> str:
    """Returns a case as one line of text."""
    shape = " ".join(f"{name}={size}" for name, size in record.get("shape", {}).items())
    names = ("kind", "dtype", "impl", "activation", "direction", "protocol")
    words = [str(record[name]) for name in names if name in record]
    causal = ["causal"] if record.get("causal") in (True, "true") else []
    causal += [f"window {record['window']}"] if record.get("window") is not None else []
    plan = [plan_words(record)] if record.get("op") == STEP else []
    name = case_name(record) if plan else str(record.get("op", "?"))
    return " ".join([name, shape, *plan, *words, *causal])
