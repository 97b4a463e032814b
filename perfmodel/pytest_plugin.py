"""pytest plugin: the fixture ``perfmodel_at_least`` measures a kernel and asserts a share of its bound.

pytest loads this module in every session of an environment that has perfmodel. It imports nothing else before a test
uses the fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perfmodel.checking import Judged, Reference
    from perfmodel.kernels.description import Kernel
    from perfmodel.measure.stopwatch import Samples

FIXTURE = "perfmodel_at_least"
MARKER = "perfmodel"
DEFAULTS: Mapping[str, Any] = {
    "share": 0.8, "of": "bound", "case": None, "gpu": "auto", "protocol": None, "allow_unknown": False,
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option for machines that must have their GPU."""
    parser.getgroup("perfmodel").addoption(
        "--perfmodel-require-gpu",
        action="store_true",
        help="Fail tests of perfmodel_at_least where the GPU is missing, instead of skipping them.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker, whose keywords are defaults of the fixture."""
    line = f"{MARKER}({', '.join(DEFAULTS)}): the test measures a kernel; the keywords are defaults of {FIXTURE}."
    config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that measure, and lets pytest-xdist run them in one process, one after another."""
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        if FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(MARKER)
            if grouped:
                item.add_marker(pytest.mark.xdist_group("gpu"))


@pytest.fixture
def perfmodel_at_least(request: pytest.FixtureRequest) -> Callable[..., Judged]:
    """Returns a function that measures a kernel and asserts that it reaches a share of its bound.

    ``perfmodel_at_least(kernel, *args, share=0.8, of="bound", case={"op": ..., "shape": ..., "dtype": ...})`` calls
    ``kernel(*args)``. The case says what the kernel computes; a kernel with the decorator ``perfmodel.kernel`` needs none.
    ``gpu`` is ``auto``, ``cpu`` or a name; ``protocol`` is ``cold``, ``warm`` or ``eager``. Without the GPU the test is
    skipped. Without a verdict the assertion fails, or the test is skipped with ``allow_unknown``.
    """
    marks = [mark.kwargs for mark in request.node.iter_markers(MARKER)]

    def at_least(kernel: Callable[..., Any], *args: Any, **options: Any) -> Judged:
        __tracebackhide__ = True
        asked = {**DEFAULTS}
        for given in (*reversed(marks), options):
            asked |= _known(given)
        return _at_least(request, kernel, args, asked)

    return at_least


def _known(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuses keywords that the fixture does not have."""
    from perfmodel.errors import UsageError, did_you_mean

    for name in given:
        if name not in DEFAULTS:
            raise UsageError(
                FIXTURE, f"'{name}' is not a keyword", f"{', '.join(DEFAULTS)} are accepted",
                did_you_mean(name, DEFAULTS) or "Pass arguments of the kernel by position.",
            )  # fmt: skip
    return given


def _at_least(
    request: pytest.FixtureRequest, kernel: Callable[..., Any], args: tuple[Any, ...], asked: Mapping[str, Any]
) -> Judged:
    __tracebackhide__ = True
    from perfmodel.checking import PASS, UNKNOWN, judge, limit
    from perfmodel.errors import NoDeviceError
    from perfmodel.measure.call import meter, time_of

    wanted = limit(asked["share"], asked["of"])
    line, reference_on = _work(kernel, args, asked)
    try:
        device = meter(str(asked["gpu"]))
    except NoDeviceError as error:
        if request.config.getoption("--perfmodel-require-gpu"):
            raise
        pytest.skip(f"{FIXTURE}: {error.where}: {error.found}")
    reference = reference_on(device.card)
    samples = device.samples(lambda: kernel(*args), line["protocol"])
    found = judge(line, reference, time_of(samples), wanted)
    figures = {"reached": found.reached, "measured_s": samples.median_us * 1e-6, "headroom_s": found.headroom_s}
    request.node.user_properties += [(f"perfmodel_{name}", value) for name, value in figures.items()]
    if found.verdict == UNKNOWN and asked["allow_unknown"]:
        pytest.skip(f"{FIXTURE}: no verdict: {found.reason}")
    if found.verdict != PASS:
        raise AssertionError(_message(found, samples, device.card.title))
    return found


def _work(
    kernel: Any, args: tuple[Any, ...], asked: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[Any], Reference]]:
    """The case of the kernel, and its bound and expected time as a function of the card."""
    from perfmodel.checking import reference_of, reference_of_case
    from perfmodel.errors import UsageError

    described: Kernel | None = getattr(kernel, "perfmodel", None)
    protocol = {"protocol": asked["protocol"] or (asked["case"] or {}).get("protocol", "cold")}
    if asked["case"] is not None:
        line = {**asked["case"], **protocol}
        return line, lambda card: reference_of_case(line, card)
    if described is None:
        raise UsageError(
            FIXTURE, "case= is missing", "a case, or a kernel with the decorator perfmodel.kernel, is accepted",
            'Add, for example, case={"op": "softmax", "shape": {"rows": 8192, "cols": 8192}, "dtype": "fp16"}.',
        )  # fmt: skip
    arguments = described.bound(args, {})
    tensors = {name: value for name, value in arguments.items() if hasattr(value, "dtype")}
    sizes = described.read(arguments)
    if described.op:
        line = {**described.case(sizes, tensors), **protocol}
        return line, lambda card: reference_of_case(line, card)
    launched = described.launched(sizes, tensors)
    line = {"op": launched.operation, "shape": dict(launched.sizes), "dtype": launched.dtype, **protocol}
    return line, lambda card: reference_of(launched, card, protocol["protocol"])


def _message(found: Judged, samples: Samples, device: str) -> str:
    """Returns what was measured, what is required, and the difference."""
    from perfmodel.checking import UNKNOWN, title
    from perfmodel.units import scaled

    def seconds(value: float | None) -> str:
        return scaled(value or 0.0, "s", 4)

    time, of = found.time, "bound" if found.limit.of == "bound" else "expected time"
    assert time is not None
    lines = [
        f"{title(found.line)} on {device}: {found.reached or 0:.1%} of the {of}, {found.limit} is required",
        f"measured  {seconds(time.median_s)}, quartiles {seconds(time.low_s)} to {seconds(time.high_s)} "
        f"({samples.spread:.1%} of the median, {len(samples.times_us)} runs)",
        f"limit     {seconds(found.limit_s)}",
        f"bound     {seconds(found.reference.lower_s)} ({found.reference.bound}); headroom {seconds(found.headroom_s)}",
        f"expected  {seconds(found.reference.expected_s)}",
    ]
    if found.verdict == UNKNOWN:
        lines.append(f"No verdict, which is not a pass: {found.reason}.")
    return "\n".join(lines)
