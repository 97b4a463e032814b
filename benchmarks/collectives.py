"""Errors of expected times of collectives: python benchmarks/collectives.py --data FOLDER [--fit LINK] [RECORDS.jsonl ...]

Reads the public tables of NCCL in FOLDER (ai-dynamo/aiconfigurator 095f58a and microsoft/vidur 7d47513). Half of the points
of each table, drawn by a fixed seed, are for fitting; errors are those of the other half. A second part judges tables
that nothing was fitted to, and each card by the figures of the other generations. ``--fit`` fits the figures of one
link and prints them as a file of ``hardware/links``. RECORDS are runs of ``validate --suite collectives``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from math import exp, log
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import NamedTuple

from perfmodel import patterns, records, systems
from perfmodel.hardware import gpu
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.links import Link, Protocol, link

SEED = 20261126
LARGE = 1 << 20
SYSTEMS = {"a100_sxm": "dgx-a100", "h100_sxm": "dgx-h100", "b200_sxm": "dgx-b200", "l40s": "l40s-pcie-8"}
KINDS = {
    "all_gather": "all_gather",
    "all_reduce": "all_reduce",
    "alltoall": "all_to_all",
    "reduce_scatter": "reduce_scatter",
}
# Tables of which half is for fitting; the others judge only.
FITTED = {
    "nvlink3": "a100_sxm/comm/nccl/2.27.3",
    "nvlink4": "h100_sxm/comm/nccl/2.27.3",
    "nvlink5": "b200_sxm/comm/nccl/2.27.3",
    "pcie4": "l40s/comm/nccl/2.27.3",
}
APART = {"h100, second run": "h100_sxm/comm/nccl/2.29.2"}


class Point(NamedTuple):
    """A measured collective: bytes of the tensor that each rank gives to the call."""

    system: str
    kind: str
    byte: int
    ranks: int
    seconds: float
    large: bool


def table(folder: Path, path: str) -> list[Point]:
    """Reads a table of aiconfigurator; its sizes are elements of the whole tensor. Repetitions become their median."""
    import pandas

    frame = pandas.read_parquet(folder / "aiconfigurator" / path / "nccl_perf.parquet")
    frame["total"] = frame.message_size * frame.nccl_dtype.map({"half": 2, "int8": 1})
    found = frame.groupby(["op_name", "num_gpus", "total"]).latency.median().reset_index()
    system = SYSTEMS[path.partition("/")[0]]
    return [
        _point(system, KINDS[row.op_name], int(row.total), int(row.num_gpus), row.latency * 1e-3)
        for row in found.itertuples()
    ]


def _point(system: str, kind: str, total: int, ranks: int, seconds: float) -> Point:
    byte = total // ranks if kind == "all_gather" else total
    return Point(system, kind, byte, ranks, seconds, total >= LARGE)


def vidur(folder: Path, name: str, kind: str) -> list[Point]:
    """Reads one node of a table of vidur; its sizes are bytes."""
    import pandas

    frame = pandas.read_csv(folder / "vidur" / "network_a100_dgx" / f"{name}.csv.gz")
    frame = frame[frame.num_workers == frame.devices_per_node]
    found = frame.groupby(["num_workers", "size"])[f"time_stats.{name}.median"].median().reset_index()
    return [_point("dgx-a100", kind, int(row[1]), int(row[0]), row[2] * 1e-3) for row in found.itertuples(index=False)]


def halves(points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
    """Returns the points for fitting and the points for judging, drawn by the seed."""
    random, parts = Random(SEED), ([], [])  # type: ignore[var-annotated]
    for point in points:
        parts[random.random() < 0.5].append(point)
    return parts


def error(point: Point, figures: Link | None = None) -> float:
    """Returns expected divided by measured, less 1."""
    found = collective_s(SYSTEM[point.system], CARD[point.system], point.kind, point.byte, point.ranks, figures=figures)
    return found.expected_s / point.seconds - 1


SYSTEM = {name: systems.system(name) for name in SYSTEMS.values()}
CARD = {name: gpu(system.gpus[0]) for name, system in SYSTEM.items()}


def report(name: str, points: list[Point], figures: Link | None = None) -> None:
    """Prints the errors of a set: from 1 MiB, and below."""
    for large, label in ((True, ">= 1 MiB"), (False, "< 1 MiB")):
        for kind in ("", *sorted({point.kind for point in points})):
            errors = [error(p, figures) for p in points if p.large == large and kind in ("", p.kind)]
            if errors:
                absolute = [abs(one) for one in errors]
                print(
                    f"| {name} | {label} | {kind or 'all'} | {len(errors)} | {mean(absolute):.1%} | {median(absolute):.1%} | "
                    f"{max(absolute):.0%} | {mean(errors):+.1%} |"
                )


# --- fitting: a random search with shrinking steps on the logarithms of the figures

Vector = dict[str, float]


def vector(own: Link) -> Vector:
    """Returns the figures that are fitted, by name."""
    found = {"launch": own.launch_s}
    found |= {"contention": own.contention} if own.contention else {}
    groups = {"ring": own.ring, "pair": own.pair, "switch": (own.switch,) if own.switch else ()}
    for group, protocols in groups.items():
        for one in protocols:
            for field in ("start_s", "hop_s", "share", "own"):
                if getattr(one, field):
                    found[f"{group} {one.name} {field}"] = getattr(one, field)
    return found


def with_vector(own: Link, values: Mapping[str, float]) -> Link:
    """Returns the link with these figures."""

    def changed(group: str, one: Protocol) -> Protocol:
        own_fields = {
            f: values[f"{group} {one.name} {f}"]
            for f in ("start_s", "hop_s", "share", "own")
            if f"{group} {one.name} {f}" in values
        }
        return one._replace(**own_fields)

    return own._replace(
        launch_s=values["launch"],
        contention=values.get("contention", own.contention),
        ring=tuple(changed("ring", one) for one in own.ring),
        pair=tuple(changed("pair", one) for one in own.pair),
        switch=changed("switch", own.switch) if own.switch else None,
    )


def fit(own: Link, points: list[Point], rounds: int = 60) -> Link:
    """Returns the link with the least mean absolute logarithmic error."""

    def loss(values: Vector) -> float:
        figures = with_vector(own, values)
        return mean(abs(log(1 + error(point, figures))) for point in points)

    values, random = vector(own), Random(SEED)
    best = loss(values)
    for round_ in range(rounds):
        scale = 0.3 * 0.9**round_
        for name in (*values, *[""] * len(values)):  # one figure, then all at once
            moved = [name] if name else [one for one in values if random.random() < 0.3]
            tried = values | {one: values[one] * exp(random.gauss(0.0, scale)) for one in moved}
            if (found := loss(tried)) < best:
                best, values = found, tried
    print(f"mean absolute logarithmic error {best:.4f}", file=sys.stderr)
    return with_vector(own, values)


def between(links: list[Link], template: Link) -> Link:
    """Returns the geometric mean of the figures of other generations."""
    vectors = [vector(one) for one in links]
    own = vector(template)
    found = {}
    for name, value in own.items():
        known = [one[name] for one in vectors if name in one]
        found[name] = exp(mean(map(log, known))) if known else value
    return with_vector(template, found)


def written(own: Link) -> Iterator[str]:
    """Yields the lines of a file of ``hardware/links``."""
    contention = f", contention: {own.contention:.3g}" if own.contention else ""
    yield f"common: {{from: nccl, launch: {own.launch_s * 1e6:.3g}, host: {own.host_s * 1e6:.3g}{contention}, spread: {own.spread:g}, spread_small: {own.spread_small:g}}}"
    for group, protocols in (("ring", own.ring), ("pair", own.pair)):
        yield f"{group}:"
        yield from (f"  {one.name}: {_leaf(one)}" for one in protocols)
    yield f"message: {_leaf(own.message)}"
    if own.switch:
        yield f"switch: {_leaf(own.switch)}"


def _leaf(one: Protocol) -> str:
    parts = [("start", one.start_s * 1e6), ("hop", one.hop_s * 1e6), ("share", one.share), ("own", one.own)]
    return "{from: nccl, " + ", ".join(f"{name}: {value:.3g}" for name, value in parts if value) + "}"


def stored(path: str) -> list[Point]:
    """Reads the records of ``validate --suite collectives`` under the graph protocol."""
    run = records.read(path)
    kept = [one for one in run.records if "error" not in one and one.get("protocol") == "warm"]
    return [
        Point(
            str(one["system"]),
            one["op"],
            one["shape"]["byte"],
            one["shape"]["gpus"],
            one["median_us"] * 1e-6,
            one["shape"]["byte"] >= LARGE,
        )
        for one in kept
    ]


def main() -> None:
    """Prints the tables, or fits one link."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fit", choices=tuple(FITTED))
    parser.add_argument("records", nargs="*")
    given = parser.parse_args()
    if given.fit:
        fitting, _ = halves(table(given.data, FITTED[given.fit]))
        print("\n".join(written(fit(link(given.fit), fitting))))
        return
    print("| set | bytes | collective | points | mean | median | worst | bias |\n|---|---|---|---|---|---|---|---|")
    kept = {name: halves(table(given.data, path))[1] for name, path in FITTED.items()}
    for name, points in kept.items():
        report(f"{name}, half kept apart", points)
    for name, path in APART.items():
        report(name, table(given.data, path))
    report("a100 of vidur", vidur(given.data, "all_reduce", patterns.ALL_REDUCE))
    report("a100 of vidur", vidur(given.data, "send_recv", patterns.SEND_RECV))
    nvlink = [name for name in FITTED if name.startswith("nvlink")]
    for name in nvlink:
        others = between([link(other) for other in nvlink if other != name], link(name))
        report(f"{name} by the other generations", kept[name], others)
    for path in given.records:
        report(Path(path).stem, stored(path))


if __name__ == "__main__":
    main()
