"""Sensitivity of an estimate to each parameter: relative change of the time per relative change of the parameter."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from perfmodel import figures
from perfmodel.figures import Figure, LinkFigure
from perfmodel.hardware import Gpu
from perfmodel.timing.changes import changed, forget
from perfmodel.timing.registry import Parameter, described, mechanism
from perfmodel.timing.weights import FOLDER, GIVEN

STEP = 0.01  # by which a parameter is moved
LEAST = 1e-9  # influences below this are rounding


class Influence(NamedTuple):
    """A parameter and the relative change of the time per relative change of it."""

    parameter: Parameter
    share: float


def influences(seconds: Callable[[Gpu], float], gpu: Gpu) -> list[Influence]:
    """Returns the influence of each parameter that enters a time on a card, the largest first.

    Whole numbers, such as the threads of a warp or the multiprocessors of a card, are not moved. Files are read again
    first, so that the candidates are the figures that this time reads. A mechanism is skipped if moving all of its weights
    at once does not change the time.
    """
    forget()
    figures.READ.clear()
    base = seconds(gpu)
    found = []
    for parameter in _candidates(lambda: seconds(gpu)):
        assert isinstance(parameter.value, float)
        with changed(parameter, parameter.value * (1.0 + STEP)):
            share = (seconds(gpu) / base - 1.0) / STEP if base else 0.0
        if abs(share) > LEAST:
            found.append(Influence(_full(parameter), share))
    for parameter, other in _sheet(gpu):
        share = (seconds(other) / base - 1.0) / STEP if base else 0.0
        if abs(share) > LEAST:
            found.append(Influence(parameter, share))
    return sorted(found, key=lambda one: -abs(one.share))


def _sheet(gpu: Gpu) -> Iterator[tuple[Parameter, Gpu]]:
    """Yields the figures of the data sheet, each with the card on which it is 1 % larger."""

    def stated(figure: Figure | LinkFigure, name: str, unit: str, means: str) -> Parameter:
        source = gpu.sources.get(figure.source, figure.source)
        return Parameter(gpu.file, name, "data sheet", float(figure.value), unit, means, source)

    def more(figure: Figure) -> Figure:
        return figure._replace(value=figure.value * (1.0 + STEP))

    bandwidth = gpu.bandwidth_byte_per_s
    yield (
        stated(bandwidth, "bandwidth", "B/s", "memory bandwidth"),
        gpu._replace(bandwidth_byte_per_s=more(bandwidth)),
    )
    if gpu.power:
        yield stated(gpu.power, "power", "W", "power limit"), gpu._replace(power=more(gpu.power))
    for name, figure in gpu.clocks.items():
        other = gpu._replace(clocks={**gpu.clocks, name: more(figure)})
        yield stated(figure, f"clocks.{name}", "Hz", f"{name} clock"), other
    for name, figure in gpu.caches.items():
        yield (
            stated(figure, f"caches.{name}", "B", name.upper()),
            gpu._replace(caches={**gpu.caches, name: more(figure)}),
        )
    for engine, table in gpu.peaks.items():
        for name, figure in table.items():
            peaks = {**gpu.peaks, engine: {**table, name: more(figure)}}
            means = f"peak of the {engine} engine in {name}"
            yield stated(figure, f"peaks.{engine}.{name}", "FLOP/s", means), gpu._replace(peaks=peaks)
    for name, link in gpu.links.items():
        rate = link.one_way_byte_per_s
        wider = link._replace(value=link.value * (1.0 + STEP), one_way_byte_per_s=rate * (1.0 + STEP) if rate else rate)
        other = gpu._replace(links={**gpu.links, name: wider})
        yield stated(link, f"links.{name}", "B/s", "links, both directions"), other


def _candidates(seconds: Callable[[], float]) -> list[Parameter]:
    """Returns the parameters that may affect the time, without units, meanings and sources."""
    base = seconds()
    found = []
    for file, own in list(GIVEN.items()):
        path = os.path.join(FOLDER, f"{file}.yaml")
        weights = [Parameter(path, name, "weight", one, "", "", "") for name, one in own.items() if type(one) is float]
        with ExitStack() as stack:
            for number, one in enumerate(weights, 1):
                assert isinstance(one.value, float)
                stack.enter_context(changed(one, one.value * (1.0 + STEP * (1.0 + number / 10))))
            moves = seconds() != base
        found += weights if moves else []
    found += [Parameter(file, name, "", value, "", "", "") for (file, name), value in list(figures.READ.items())]
    return [one for one in found if one.value]


def _full(parameter: Parameter) -> Parameter:
    """Returns the parameter with its unit, meaning and source."""
    if parameter.kind == "weight":
        return mechanism(os.path.basename(parameter.file).removesuffix(".yaml"))[parameter.name]
    assert isinstance(parameter.value, float)
    return described(parameter.file, parameter.name, parameter.value)


def most_uncertain(found: Iterable[Influence]) -> Influence | None:
    """Returns the parameter whose spread changes the time most; None if no spread is known."""
    known = (one for one in found if one.parameter.spread)
    return max(known, key=lambda one: abs(one.share) * (one.parameter.spread or 0.0), default=None)
