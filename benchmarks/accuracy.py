"""Errors of expected times against measurements: python benchmarks/accuracy.py [--data FOLDER] [RECORDS.jsonl ...]

Reads stored runs of ``perfmodel validate``, and public measurements if their folder exists. Prints by card, operation and
type: mean and median absolute percentage error, bias, the share in the expected range, and the share below the bound.

For public cards a second line leaves the card out of the fit. Rows and elementwise kernels use the mean of the fitted
figures of the other cards (stream, L2, settling clock). All others use the parameters of another generation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from public import LATENT, LAYERS, Prepared, measurements

from perfmodel import records, validation
from perfmodel.cases import case
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import gpu
from perfmodel.prediction import predicted
from perfmodel.roofline import rates
from perfmodel.timing import factors, families, parameters

AT_MOST = 400  # cases per operation and card, drawn with a fixed seed


class Tally(NamedTuple):
    """Errors of a group of measurements."""

    errors: list[float]
    inside: list[bool]
    below: list[bool]

    def row(self) -> str:
        """Formats count, mean and median error, bias, share in range and share below the bound."""
        if not self.errors:
            return "-"
        absolute = [abs(error) for error in self.errors]
        return (
            f"{len(self.errors)} | {mean(absolute):.1%} | {median(absolute):.1%} | {mean(self.errors):+.1%} | "
            f"{mean(self.inside):.0%} | {mean(self.below):.1%}"
        )


# --- comparison with the model


def timed(sheet: Any, knowledge: str, family: str | None = None) -> Any:
    """Returns the card at a state of knowledge, with the parameters of its own generation or of another."""
    if family is None:
        return parameters.card(sheet, knowledge)
    return factors.from_family(sheet, knowledge, families.family(family))


# Figures that were fitted per card for rows and elementwise kernels.
PER_CARD = {"stream": ("read", "copy", "add", "write"), "l2": ("capacity", "byte_per_clock"), "clock": ("settle",)}
SINGLE_CALLS = ("v100-pcie-32gb", "a100-pcie-40gb", "t4")


def left_out(name: str, host: bool) -> Any:
    """Returns the card with the mean of the figures of the other cards. If ``host`` is false, the launch overhead is
    replaced too.

    An unknown host is assumed to be the fastest of the others. This has the smallest error, because most hosts are
    close to the fastest.
    """
    sheet = gpu(name)
    own = families.family(families.generation(sheet))
    others = {card: families.family(families.generation(gpu(card))) for card in SINGLE_CALLS if card != name}
    sections = {section: dict(values) for section, values in own.sections.items()}
    for section, keys in PER_CARD.items():
        for key in keys:
            sections[section][key] = mean(of.value(section, key) for of in others.values())
    if not host:
        for key in sections["host"]:
            sections["host"][key] = min(of.value("host", key) for of in others.values())
    return factors.from_family(sheet, "family", own._replace(sections=sections))


def tallied(
    found: Iterable[Prepared], knowledge: str, family: str | None = None, card: Any = None
) -> dict[tuple[str, str], Tally]:
    """Returns errors by card and group at a state of knowledge, with the card's own family or another."""
    tallies: dict[tuple[str, str], Tally] = {}
    for ready in found:
        one = ready.one
        time = ready.expected(card or timed(gpu(one.card), knowledge, family))
        tally = tallies.setdefault((one.card, one.group), Tally([], [], []))
        tally.errors.append(time.expected_s / one.measured_s - 1)
        tally.inside.append(time.low_s <= one.measured_s <= time.high_s)
        tally.below.append(one.measured_s < ready.lower_s * (1 - validation.RESOLUTION))
    return tallies


HEAD = "| what | state | cases | mean | median | bias | inside | below bound |\n|---|---|---:|---:|---:|---:|---:|---:|"
OTHERS = {
    "l40s": "ampere",
    "b200-sxm-180gb": "hopper",
    "t4": "volta",
    "v100-pcie-32gb": "turing",
    "a100-pcie-40gb": "volta",
    "a100-sxm4-80gb": "hopper",
    "h100-sxm5-80gb": "ampere",
}


# Kinds to which no figure was fitted.
APART = (LAYERS, LATENT)


def public(folder: Path) -> None:
    """Prints the public cards with their own family, the half of the shapes that no figure is fitted to, and the parameters of
    another generation.
    """
    found = [Prepared.of(one) for one in measurements(folder)]
    apart = tallied([one for one in found if one.one.held_out], "family")
    own, sheet = tallied(found, "family"), tallied(found, "datasheet")
    others: dict[tuple[str, str], Tally] = {}
    for name, habits in OTHERS.items():
        others |= tallied([one for one in found if one.one.card == name], "family", habits)
    without: dict[bool, dict[tuple[str, str], Tally]] = {True: {}, False: {}}
    for name in SINGLE_CALLS:
        single = [
            one
            for one in found
            if one.one.card == name and one.one.line["op"] in ("elementwise", "softmax", "layernorm")
        ]
        for host in (True, False):
            without[host] |= tallied(single, "family", card=left_out(name, host))
    print("\n### Public measurements\n\n" + HEAD)
    for at in sorted(own):
        rests = "not fitted to these" if at[1].startswith(APART) else "half of these fitted"
        print(f"| {at[0]}: {at[1]} | family, {rests} | {own[at].row()} |")
        print(f"| | the half kept apart | {apart[at].row()} |")
        if at in without[True]:
            print(f"| | card left out, host given | {without[True][at].row()} |")
            print(f"| | card and host left out | {without[False][at].row()} |")
        else:
            print(f"| | card left out, family {OTHERS[at[0]]} | {others[at].row()} |")
        print(f"| | datasheet | {sheet[at].row()} |")


def stored(path: str) -> None:
    """Prints a stored run at every state of knowledge of its card."""
    run = records.read(path)
    card = validation.card_of(run.environment)
    if card is None:
        print(f"({path}: no single GPU file describes its card)", file=sys.stderr)
        return
    print(f"\n### {card.title}, {Path(path).name}\n\n" + HEAD)
    groups: dict[str, dict[str, Tally]] = {}
    for record in run.records:
        read = case(records.case_of(record)) if "median_us" in record else None
        if read is None:
            continue
        measured_s = record["median_us"] * 1e-6
        for knowledge in ("calibrated", "family", "datasheet"):
            try:
                total, expected = predicted(read, rates(card, read.dtype), timed(card, knowledge))
            except PerfmodelError:
                continue
            lower_s = total.lower_s or 0.0
            for group in (validation.family(record), "all"):
                tally = groups.setdefault(group, {}).setdefault(knowledge, Tally([], [], []))
                tally.errors.append(expected.expected_s / measured_s - 1)
                tally.inside.append(expected.low_s <= measured_s <= expected.high_s)
                tally.below.append(measured_s < lower_s * (1 - validation.RESOLUTION))
    for group, states in sorted(groups.items()):
        for knowledge, tally in states.items():
            print(f"| {group} | {knowledge} | {tally.row()} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="*", help="stored runs; by default those of benchmarks/results")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the public measurements")
    given = parser.parse_args()
    here = Path(__file__).parent / "results"
    for path in given.records or sorted(map(str, here.glob("*.jsonl"))):
        stored(path)
    if given.data.is_dir():
        public(given.data)
    else:
        print(f"\n(no public measurements in {given.data}: this part is skipped)", file=sys.stderr)


if __name__ == "__main__":
    main()
