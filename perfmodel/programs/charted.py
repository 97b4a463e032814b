"""A program on a card as the data of a roofline chart: one point per kernel of equal sizes."""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel import chart
from perfmodel.op import Engine
from perfmodel.paths import label
from perfmodel.programs.run import Answer, Row
from perfmodel.programs.summary import sizes
from perfmodel.roofline import MEMORY, rates
from perfmodel.units import ITEM_BYTES

MOST = 12  # points with names; all others are one


def card(answer: Answer, most: int = MOST) -> chart.Card:
    """Returns the card's roofs for the data types of the products, and the kernels with the longest times as points."""
    gpu = answer.gpu
    types = dict.fromkeys(row.dtype for row in answer.rows if row.contraction_flops and row.dtype in ITEM_BYTES)
    shown = [rates(gpu, dtype) for dtype in types or ("fp32",)]
    roofs = {roof.name: roof.flop_per_s for rate in shown for roof in rate.roofs.values()}
    slopes = [chart.Slope(MEMORY, gpu.bandwidth_byte_per_s.value)]
    slopes += [chart.Slope(name, gpu.caches[key].value) for key, name in chart.CACHES.items() if key in gpu.caches]
    return chart.Card(
        name=gpu.name,
        title=gpu.title,
        slopes=tuple(slopes),
        roofs=tuple(chart.Roof(name, peak) for name, peak in sorted(roofs.items(), key=lambda item: -item[1])),
        points=tuple(_points(answer, most)),
        notes=(f"{gpu.title}: {label(gpu.file)}, {gpu.knowledge}.",),
    )


def _points(answer: Answer, most: int) -> list[chart.Point]:
    groups: dict[str, list[Row]] = {}
    for row in answer.rows:
        groups.setdefault(f"{row.operation} {sizes(row)}", []).append(row)
    ordered = sorted(groups.items(), key=lambda pair: -_seconds(pair[1]))
    found = [_point(name, rows, answer) for name, rows in ordered[:most]]
    rest = [row for _, rows in ordered[most:] for row in rows]
    if rest:
        share = _seconds(rest) / answer.total.kernel_s
        found.append(_point(f"others ({len(rest)} kernels, {100 * share:.0f} % of the time)", rest, answer))
    return found


def _point(name: str, rows: Sequence[Row], answer: Answer) -> chart.Point:
    flops, seconds = sum(row.flops for row in rows), _seconds(rows)
    moved = sum(row.read_byte + row.write_byte for row in rows)
    share = seconds / answer.total.kernel_s if answer.total.kernel_s else 0.0
    if not flops or not moved or not seconds:
        return chart.Point(name, 0.0, 0.0, group=answer.program.name, bound=MEMORY, expected_s=seconds, share=share)
    first = rows[0]
    rate = rates(answer.gpu, first.dtype if first.dtype in ITEM_BYTES else "fp32")
    roof = rate.roofs[Engine.TENSOR if first.contraction_flops else Engine.VECTOR]
    bound = min(rate.bandwidth_byte_per_s * flops / moved, roof.flop_per_s)
    return chart.Point(
        name=name, intensity=flops / moved, flop_per_s=max(bound, flops / seconds), group=answer.program.name,
        bound=first.bound, roof=roof.name, expected_s=seconds, reached=flops / seconds, share=share,
    )  # fmt: skip


def _seconds(rows: Sequence[Row]) -> float:
    return sum(row.expected_s for row in rows)
