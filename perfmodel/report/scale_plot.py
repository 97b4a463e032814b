"""Speed-up and efficiency over the number of GPUs, with the ideal line and the fitted laws."""

from __future__ import annotations

from typing import Any

from perfmodel.plans.scaling import Scaling
from perfmodel.report import picture
from perfmodel.report.picture import COLOURS, DASHES, FAINT, GRID, INK, WIDTH_PT

HEIGHT_PT = 230.0
POINTS_PER_INCH = 72.0


def draw(answer: Scaling, path: str) -> str:
    """Draws the picture and writes it as PNG, SVG or PDF by its ending."""
    picture.checked(path, "--plot")
    with picture.settings():
        figure = _figure(answer)
    picture.save(figure, path, "--plot")
    return path


def _figure(answer: Scaling) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PT / POINTS_PER_INCH, HEIGHT_PT / POINTS_PER_INCH), layout="constrained")
    left, right = figure.subplots(1, 2)
    gpus = [point.gpus for point in answer.points]
    first = gpus[0]
    left.plot(gpus, gpus, color=FAINT, linewidth=0.8, label="ideal")
    right.axhline(1.0, color=FAINT, linewidth=0.8)
    for number, law in enumerate(answer.laws):
        own = [first * law.speedup(p / first) for p in gpus]
        style: dict[str, Any] = {"color": COLOURS[1 + number], "linestyle": DASHES[1], "linewidth": 1.0}
        left.plot(gpus, own, label=f"{law.name}'s law, serial share {100 * law.serial:.3g} %", **style)
        right.plot(gpus, [s / p for s, p in zip(own, gpus, strict=True)], **style)
    left.plot(
        gpus,
        [point.speedup for point in answer.points],
        "o-",
        color=COLOURS[0],
        markersize=3,
        linewidth=1.2,
        label="expected",
    )
    right.plot(gpus, [point.efficiency for point in answer.points], "o-", color=COLOURS[0], markersize=3, linewidth=1.2)
    right.axhline(0.5, color=INK, linewidth=0.5, linestyle=DASHES[3])
    _axes(answer, left, right, gpus)
    return figure


def _axes(answer: Scaling, left: Any, right: Any, gpus: list[int]) -> None:
    kind = "Strong" if answer.strong else "Weak"
    left.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="speed-up")
    right.set(xscale="log", xlabel="GPUs", ylabel="efficiency", ylim=(0, 1.1))
    some = gpus[:: 1 + len(gpus) // 8]
    for axis in (left.xaxis, right.xaxis, left.yaxis):
        axis.set_ticks(some, labels=[f"{p:,}" for p in some])
        axis.set_ticks([], minor=True)
    for axes in (left, right):
        axes.grid(color=GRID, linewidth=0.4)
    left.set_ylim(gpus[0] / 1.5, gpus[-1] * 1.5)
    left.legend(loc="upper left", fontsize=7)
    left.set_title(
        f"{kind} scaling of {answer.model.workload.name}, {answer.model.gpu.title}",
        loc="left",
        fontsize=8,
        weight="bold",
    )
