"""Errors of expected times against measurements: python benchmarks/accuracy.py [--data FOLDER] [RECORDS.jsonl ...]

Reads stored runs of ``perfmodel validate``, and public measurements if their folder exists. Prints by card, operation and
type: mean and median absolute percentage error, bias, the share in the expected range, and the share below the bound.

For public cards a second line leaves the card out of the fit. Rows and elementwise kernels use the mean of the fitted
figures of the other cards (stream, L2, settling clock). All others use the parameters of another generation.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any, NamedTuple

from perfmodel import records, validation
from perfmodel.cases import case
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import gpu
from perfmodel.prediction import predicted
from perfmodel.roofline import rates
from perfmodel.timing import parameters
from perfmodel.units import ITEM_BYTES

AT_MOST = 400  # cases per operation and card, drawn with a fixed seed


class Measurement(NamedTuple):
    """A public measurement as a case of ``perfmodel predict``."""

    card: str
    group: str
    line: dict[str, Any]
    measured_s: float
    copies: int = 1  # copies of the weights, used in rotation


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


# --- readers of public data

ELEMENTWISE = {
    "add": "add",
    "addu": "scale",
    "mul": "mul",
    "mulu": "scale",
    "div": "div",
    "divu": "scale",
    "relu": "relu",
    "gelu": "gelu",
    "tanh": "tanh",
}
NEUSIGHT_CARDS = {"Tesla_T4": "t4", "Tesla_V100-PCIE-32GB": "v100-pcie-32gb", "NVIDIA_A100-PCIE-40GB": "a100-pcie-40gb"}
# "paged": on Ampere vLLM reads its pages with FlashAttention-2, and TRT-LLM with its own kernel of that generation.
# "serving": SGLang on Ampere, and all stacks on Hopper.

PAGED = (("a100_sxm", "vllm"), ("a100_sxm", "trtllm"))
# TRT-LLM decoding on the A100: half of its records over 0.5 GB are faster than the data-sheet bandwidth allows.
IMPOSSIBLE = ("a100_sxm", "trtllm")
# Copies of the weights that a benchmark rotates if one copy fits in L2. The hit rate is that of all copies together.
ROTATED = 5
LAYERS = "matmul fp16, layers"
SHORTEST_S = 20e-6  # shorter times are too coarse, because the data are in whole microseconds
SERVING_CARDS = {
    "a100_sxm": "a100-sxm4-80gb", "h100_sxm": "h100-sxm5-80gb", "l40s": "l40s", "b200_sxm": "b200-sxm-180gb",
}  # fmt: skip


def neusight(folder: Path) -> Iterator[Measurement]:
    """Single calls in fp32, timed with events around each call, including the launch by the host."""
    for path in sorted(folder.glob("neusight/train/*/*.csv.gz")):
        op, card = path.parent.name, NEUSIGHT_CARDS.get(path.name.removesuffix(".csv.gz"))
        if card is None:
            continue
        with gzip.open(path, "rt") as file:
            for row in csv.DictReader(file):
                line = _neusight_case(
                    op, {key: int(float(row[key])) for key in ("B", "M", "N", "K", "H") if row.get(key)}
                )
                if line is not None:
                    yield Measurement(card, f"{line['op']} {line['dtype']}", line, float(row["Latency"]) * 1e-3)


def _neusight_case(op: str, size: dict[str, int]) -> dict[str, Any] | None:
    common = {"dtype": "fp32", "protocol": "eager", "impl": "torch", "torch": "2.1"}
    if op == "bmm":
        return {"op": "matmul", "shape": {"batch": size["B"], "m": size["M"], "k": size["N"], "n": size["K"]}, **common}
    if op == "linear":
        return {"op": "matmul", "shape": {"m": size["B"] * size["M"], "k": size["N"], "n": size["K"]}, **common}
    if op in ("softmax", "ln"):
        return {"op": {"ln": "layernorm"}.get(op, op), "shape": {"rows": size["B"], "cols": size["H"]}, **common}
    if op in ELEMENTWISE:
        return {"op": "elementwise", "kind": ELEMENTWISE[op], "shape": {"numel": size["B"] * size["H"]}, **common}
    return None


def serving(folder: Path) -> Iterator[Measurement]:
    """Products and attention of serving stacks, replayed as graphs with a warm cache."""
    try:
        import pandas
    except ImportError:
        print("(pandas and pyarrow are not installed: the tables of serving stacks are skipped)", file=sys.stderr)
        return
    for path in sorted(folder.glob("aiconfigurator/*/*/*/*/*.parquet")):
        stack = (path.relative_to(folder).parts[1], path.relative_to(folder).parts[3])
        card = SERVING_CARDS[stack[0]]
        if stack == IMPOSSIBLE and path.name.startswith("generation"):
            continue
        for row in pandas.read_parquet(path).to_dict("records"):
            line = _serving_case(path.name, row, "paged" if stack in PAGED else "serving")
            if line is not None:
                name = (
                    line["op"]
                    if line["op"] != "attention"
                    else "attention decode"
                    if line["shape"]["N"] == 1
                    else "attention prompt"
                )
                copies = ROTATED if line["op"] == "matmul" else 1
                known = f"{name} {line['dtype']}" + (", quantised inside" if line["dtype"] == "fp8" else "")
                yield Measurement(card, known, line, float(row["latency"]) * 1e-3, copies)


def layers(folder: Path) -> Iterator[Measurement]:
    """Products of layers of language models in fp16 on an A100, times of kernels alone. Nothing was fitted to them."""
    for path in sorted(folder.glob("vidur/compute/a100/*/*/mlp.csv.gz")):
        with gzip.open(path, "rt") as file:
            for row in csv.DictReader(file):
                D, F, ranks = (int(row[key]) for key in ("n_embd", "n_expanded_embd", "num_tensor_parallel_workers"))
                heads = int(row["n_head"]) + 2 * int(row["n_kv_head"])
                gated = 2 if row["use_gated_mlp"] == "True" else 1
                for name, k, n in (
                    ("attn_pre_proj", D, D // int(row["n_head"]) * heads // ranks),
                    ("attn_post_proj", D // ranks, D),
                    ("mlp_up_proj", D, gated * F // ranks),
                    ("mlp_down_proj", F // ranks, D),
                ):
                    measured_s = float(row[f"time_stats.{name}.median"] or 0.0) * 1e-3
                    shape = {"m": int(row["num_tokens"]), "k": k, "n": n}
                    line = {"op": "matmul", "shape": shape, "dtype": "fp16", "impl": "torch", "protocol": "cold"}
                    if measured_s >= SHORTEST_S:
                        yield Measurement("a100-sxm4-80gb", LAYERS, line, measured_s)


def _serving_case(name: str, row: dict[str, Any], by: str = "serving") -> dict[str, Any] | None:
    if name == "gemm_perf.parquet" and row["gemm_dtype"] in ("bfloat16", "fp8"):
        shape = {key: int(row[key]) for key in ("m", "k", "n")}
        return {
            "op": "matmul",
            "shape": shape,
            "dtype": {"bfloat16": "bf16"}.get(row["gemm_dtype"], "fp8"),
            "impl": "torch",
            "protocol": "warm",
        }
    if (
        name in ("context_attention_perf.parquet", "generation_attention_perf.parquet")
        and row["attn_dtype"] == "bfloat16"
    ):
        if row.get("window_size") not in (None, 0, -1) or row["kv_cache_dtype"] != "bfloat16":
            return None
        decode = name.startswith("generation")
        if not decode and row["step"]:
            return None
        N = 1 if decode else int(row["isl"])
        S = int(row["step"]) + 1 if decode else N
        shape = {
            "B": int(row["batch_size"]),
            "H": int(row["num_heads"]),
            "H_kv": int(row["num_key_value_heads"]) or int(row["num_heads"]),
            "N": N,
            "S": S,
            "d": int(row["head_dim"]),
        }
        return {
            "op": "attention",
            "shape": shape,
            "dtype": "bf16",
            "impl": by,
            "causal": not decode,
            "protocol": "warm",
        }
    return None


def drawn(found: Iterable[Measurement]) -> list[Measurement]:
    """Draws at most ``AT_MOST`` measurements per card and group."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in found:
        groups.setdefault((one.card, one.group), []).append(one)
    random = Random(1)
    return [
        one for group in groups.values() for one in (group if len(group) <= AT_MOST else random.sample(group, AT_MOST))
    ]


# --- comparison with the model


def timed(sheet: Any, knowledge: str, family: str | None = None) -> Any:
    """Returns the card at a state of knowledge, with the parameters of its own generation or of another."""
    if family is None:
        return parameters.card(sheet, knowledge)
    return parameters.from_family(sheet, knowledge, parameters.family(family))


def rotating(card: Any, line: Mapping[str, Any], copies: int) -> Any:
    """Returns the card for a product that rotates several copies of its weights, with the share of L2 that remains for
    one.
    """
    shape, item = line["shape"], ITEM_BYTES[line["dtype"]]
    weight = item * shape["k"] * shape["n"]
    if weight > card.gpu.caches["l2"].value:
        return card
    working = weight + item * shape["m"] * (shape["k"] + shape["n"])
    return card._replace(l2_byte=card.l2_byte * working / (working + (copies - 1) * weight))


# Figures that were fitted per card for rows and elementwise kernels. In-band ECC costs 1/8 of the rate of GDDR6.
PER_CARD = {"stream": ("read", "copy", "add", "write"), "l2": ("capacity", "byte_per_clock"), "clock": ("settle",)}
SINGLE_CALLS = {"v100-pcie-32gb": 1.0, "a100-pcie-40gb": 1.0, "t4": 7 / 8}


def left_out(name: str, host: bool) -> Any:
    """Returns the card with the mean of the figures of the other cards. If ``host`` is false, the launch overhead is
    replaced too.

    An unknown host is assumed to be the fastest of the others. This has the smallest error, because most hosts are
    close to the fastest.
    """
    sheet = gpu(name)
    own = parameters.family(parameters.generation(sheet))
    others = {card: parameters.family(parameters.generation(gpu(card))) for card in SINGLE_CALLS if card != name}
    sections = {section: dict(values) for section, values in own.sections.items()}
    for section, keys in PER_CARD.items():
        for key in keys:
            shares = (
                of.value(section, key) / (SINGLE_CALLS[card] if section == "stream" else 1)
                for card, of in others.items()
            )
            sections[section][key] = mean(shares) * (SINGLE_CALLS[name] if section == "stream" else 1)
    if not host:
        for key in sections["host"]:
            sections["host"][key] = min(of.value("host", key) for of in others.values())
    return parameters.from_family(sheet, "family", own._replace(sections=sections))


def tallied(
    found: Iterable[Measurement], knowledge: str, family: str | None = None, card: Any = None
) -> dict[tuple[str, str], Tally]:
    """Returns errors by card and group at a state of knowledge, with the card's own family or another."""
    tallies: dict[tuple[str, str], Tally] = {}
    for one in found:
        read, sheet = case(one.line), gpu(one.card)
        timing = card or timed(sheet, knowledge, family)
        if one.copies > 1:
            timing = rotating(timing, one.line, one.copies)
        total, expected = predicted(read, rates(sheet, read.dtype), timing)
        lower_s = total.lower_s or 0.0
        tally = tallies.setdefault((one.card, one.group), Tally([], [], []))
        tally.errors.append(expected.expected_s / one.measured_s - 1)
        tally.inside.append(expected.low_s <= one.measured_s <= expected.high_s)
        tally.below.append(one.measured_s < lower_s * (1 - validation.RESOLUTION))
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


COPIED = ("l40s", "b200-sxm-180gb")  # their generations copy most parameters from others


def public(folder: Path) -> None:
    """Prints the public cards with their own family and with the parameters of another generation."""
    found = drawn([*neusight(folder), *serving(folder), *layers(folder)])
    own, others, sheet = tallied(found, "family"), {}, tallied(found, "datasheet")
    for name, habits in OTHERS.items():
        others |= tallied([one for one in found if one.card == name], "family", habits)
    without: dict[bool, dict[tuple[str, str], Tally]] = {True: {}, False: {}}
    for name in SINGLE_CALLS:
        single = [
            one for one in found if one.card == name and one.line["op"] in ("elementwise", "softmax", "layernorm")
        ]
        for host in (True, False):
            without[host] |= tallied(single, "family", card=left_out(name, host))
    print("\n### Public measurements\n\n" + HEAD)
    for at in sorted(own):
        rests = "not fitted to these" if at[1] == LAYERS or at[0] in COPIED else "fitted to these"
        print(f"| {at[0]}: {at[1]} | family, {rests} | {own[at].row()} |")
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
