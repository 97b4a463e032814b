"""Fits figures of a GPU generation to measurements: python benchmarks/fit.py [--data FOLDER] [GENERATION ...]

Every generation has a list of figures that its measurements can tell. They start from the values of a neighbouring generation
and move, one at a time, while the objective falls: the mean absolute logarithm of expected by measured time, averaged over
groups, plus a penalty for each factor between a figure and its neighbour's. Half of the shapes, drawn by a hash, is never
fitted to. All other figures stay as the family's file has them.

Prints each figure (neighbour, fitted, in the file, and what the half kept apart loses without it), the errors of both halves
before and after, and the errors of every source that is left out of the fit.
Then prints the ranges that hold the middle 83 % of the fitted half, and what the files' ranges hold of the half kept apart. It writes nothing: a fitted figure is rounded and copied to the file by hand, with its source.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import log
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from public import Measurement, Prepared, measurements

from perfmodel import records, validation
from perfmodel.hardware import gpu
from perfmodel.records import case_of
from perfmodel.timing import factors, families, parameters
from perfmodel.timing.card import Card
from perfmodel.timing.families import Family

Figure = tuple[str, str]
Figures = Mapping[Figure, float]
Set = list[Prepared]
PENALTY = 0.004  # of the objective, per factor of e between a figure and its neighbour's
STEPS = (1.3, 1.1, 1.03)
COVERED = 0.83  # share of the cases that a range should hold
FITTED = 250  # cases of a group, at most
PRODUCT = tuple(("tensor", name) for name in ("lead", "draw", "sharing", "drain"))


class Fit(NamedTuple):
    """What is fitted of a generation: figures, the generation that they start from, and the groups of measurements."""

    neighbour: str
    figures: tuple[Figure, ...]
    groups: tuple[str, ...]


FITS = {
    "volta": Fit("turing", (("power", "vector"),), ("matmul fp32",)),
    "turing": Fit("volta", (("power", "vector"), ("power", "fp16")), ("matmul",)),
    "ampere": Fit("hopper", (("power", "bf16"), ("launch", "warm"), *PRODUCT), ("matmul bf16", "matmul fp16")),
    "ada": Fit(
        "ampere",
        (
            ("power", "bf16"), ("launch", "warm"), ("l2", "capacity"), *PRODUCT, ("tensor", "start"), ("tensor", "split"),
            *(("fp8", name) for name in ("edge", "draw", "sharing", "drain")),
        ),
        ("matmul",),
    ),
    "hopper": Fit(
        "ampere",
        (
            ("power", "bf16"), ("launch", "warm"), ("attention", "serving"), *PRODUCT, ("fp8", "lead"), ("fp8", "draw"),
            *(("fp8 block", name) for name in ("lead", "draw", "issue")),
        ),
        ("matmul bf16", "matmul fp8", "attention"),
    ),
    "blackwell": Fit(
        "hopper",
        (("power", "bf16"), ("launch", "warm"), ("attention", "serving"), ("fp8", "lead"), ("power", "fp8"), *PRODUCT),
        ("matmul", "attention"),
    ),
}  # fmt: skip
# Stored records that take part, by generation: cases of operations, with the knowledge of the family alone.
STORED = {"hopper": ("h200-full.jsonl", "h200-drawn.jsonl")}
STORED_OPS = ("matmul", "attention")


def changed(known: Family, figures: Figures) -> Family:
    """The family with other values of some figures."""
    sections = {name: dict(values) for name, values in known.sections.items()}
    for (section, name), value in figures.items():
        sections.setdefault(section, {})[name] = value
    return known._replace(sections=sections)


def value(known: Family, figure: Figure) -> float:
    """A figure of a family; scales without a section of their own have that of their data type, and a data type without one
    that of the tensor engine.
    """
    section, name = figure
    places = (section, section.partition(" ")[0], "tensor")
    return next(known.sections[place][name] for place in places if name in known.sections.get(place, {}))


def cards(names: Iterable[str], known: Family) -> dict[str, Card]:
    return {name: factors.from_family(gpu(name), "family", known) for name in names}


def times(found: Set, known: Family) -> list[float]:
    """Expected by measured time of every case."""
    of = cards({ready.one.card for ready in found}, known)
    return [ready.expected(of[ready.one.card]).expected_s / ready.one.measured_s for ready in found]


def error(found: Set, known: Family) -> float:
    """The mean absolute percentage error."""
    return mean(abs(ratio - 1.0) for ratio in times(found, known))


def fitted(groups: Sequence[Set], known: Family, start: Figures) -> dict[Figure, float]:
    """Coordinate descent from the neighbour's values."""

    def objective(figures: Figures) -> float:
        family = changed(known, figures)
        loss = mean(mean(abs(log(ratio)) for ratio in times(group, family)) for group in groups)
        return loss + PENALTY * sum(abs(log(figures[one] / start[one])) for one in figures)

    best, least = dict(start), objective(start)
    for step in STEPS:
        moved = True
        while moved:
            moved = False
            for figure in start:
                for factor in (step, 1.0 / step):
                    tried = {**best, figure: best[figure] * factor}
                    loss = objective(tried)
                    if loss < least - 1e-5:
                        best, least, moved = tried, loss, True
    return best


def stored(generation: str) -> list[Measurement]:
    """Records of this project's own runs."""
    found = []
    for name in STORED.get(generation, ()):
        run = records.read(str(Path(__file__).parent / "results" / name))
        card = validation.card_of(run.environment)
        for record in run.records:
            if card is not None and record.get("op") in STORED_OPS and "median_us" in record:
                line = case_of(record)
                group = f"{record['op']} {record['dtype']}, {Path(name).stem}"
                found.append(
                    Measurement(Path(card.file).stem, group, (line,), record["median_us"] * 1e-6, 1, Path(name).stem)
                )
    return found


def grouped(found: Iterable[Measurement], groups: tuple[str, ...]) -> dict[str, Set]:
    """Cases by card, group and source."""
    sets: dict[str, Set] = {}
    for one in found:
        if one.group.startswith(groups):
            name = f"{one.card}: {one.group.partition(', ')[0]}, {one.source}"
            sets.setdefault(name, []).append(Prepared.of(one))
    return sets


def report(generation: str, found: Sequence[Measurement]) -> None:
    """Fits one generation and prints what comes of it."""
    how = FITS[generation]
    known, neighbour = families.family(generation), families.family(how.neighbour)
    own = [one for one in (*found, *stored(generation)) if families.generation(gpu(one.card)) == generation]
    sets = grouped(own, how.groups)
    inside = {name: [ready for ready in ones if not ready.one.held_out][:FITTED] for name, ones in sets.items()}
    apart = {name: [ready for ready in ones if ready.one.held_out] for name, ones in sets.items()}
    inside, apart = (
        {name: ones for name, ones in half.items() if inside[name] and apart[name]} for half in (inside, apart)
    )
    start = {figure: value(neighbour, figure) for figure in how.figures}
    best = fitted(list(inside.values()), known, start)
    family, theirs = changed(known, best), changed(known, start)
    print(f"\n## {generation}, from {how.neighbour}: {len(best)} figures\n")
    print("| figure | neighbour | fitted | file | error apart without it |\n|---|---:|---:|---:|---:|")
    whole = [ready for ones in apart.values() for ready in ones]
    print(f"| all | | {error(whole, family):.1%} | {error(whole, known):.1%} | {error(whole, theirs):.1%} |")
    for figure, found_value in best.items():
        without = changed(known, {**best, figure: start[figure]})
        print(
            f"| {'.'.join(figure)} | {start[figure]:.3g} | {found_value:.3g} | {value(known, figure):.3g} | "
            f"{error(whole, without):.1%} |"
        )
    print(
        "\n| measurements | cases | neighbour's figures | file, apart | fitted, in sample | fitted, apart | source left out |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, ones in apart.items():
        others = [cases for other, cases in inside.items() if other.rpartition(", ")[2] != name.rpartition(", ")[2]]
        left_out = f"{error(ones, changed(known, fitted(others, known, start))):.1%}" if others else "-"
        print(
            f"| {name} | {len(ones)} | {error(ones, theirs):.1%} | {error(ones, known):.1%} | {error(inside[name], family):.1%} | "
            f"{error(ones, family):.1%} | {left_out} |"
        )


class Ranged(NamedTuple):
    """A measurement's mechanism, the half range that would hold it, and whether the range holds it."""

    mechanism: str
    needed: float
    inside: bool

    @classmethod
    def of(cls, ready: Prepared) -> Ranged:
        card = parameters.card(gpu(ready.one.card), "family")
        time, measured_s = ready.expected(card), ready.one.measured_s
        ratio = measured_s / time.expected_s
        longest = max(time.bodies, key=lambda body: body.seconds)
        half = (max(ratio, 1 / ratio) - 1) / factors.WIDER["family"]
        return cls(longest.mechanism, half, time.low_s <= measured_s <= time.high_s)


def ranges(found: Sequence[Measurement]) -> None:
    """Prints the half range of each mechanism that holds the middle share of the fitted half, and what the ranges of the files
    hold of both halves.
    """
    print(
        "\n## Ranges\n\n| card and kind | longest mechanism | half range | in the file | cases | held, fitted half | held, apart |"
        "\n|---|---|---:|---:|---:|---:|---:|"
    )
    groups: dict[tuple[str, str], tuple[list[Ranged], list[Ranged]]] = {}
    for one in found:
        groups.setdefault((one.card, one.group), ([], []))[one.held_out].append(Ranged.of(Prepared.of(one)))
    for (card, group), (fitted_half, apart) in sorted(groups.items()):
        mechanism = Counter(one.mechanism for one in fitted_half).most_common(1)[0][0]
        halves = sorted(one.needed for one in fitted_half if one.mechanism == mechanism)
        half = halves[min(len(halves) - 1, round(COVERED * len(halves)))]
        held = parameters.card(gpu(card), "family").half_range(mechanism) / factors.WIDER["family"]
        shares = (mean(one.inside for one in ones) for ones in (fitted_half, apart))
        print(
            f"| {card}: {group} | {mechanism} | {half:.3f} | {held:.3g} | {len(fitted_half) + len(apart)} | "
            + " | ".join(f"{share:.0%}" for share in shares)
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generations", nargs="*", choices=[[], *FITS], help="by default all that have measurements")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the public measurements")
    given = parser.parse_args()
    found = measurements(given.data) if given.data.is_dir() else []
    if not found:
        print(f"(no public measurements in {given.data}: stored records alone)", file=sys.stderr)
    for generation in given.generations or FITS:
        if any(families.generation(gpu(one.card)) == generation for one in found) or generation in STORED:
            report(generation, found)
    if found:
        ranges(found)


if __name__ == "__main__":
    main()
