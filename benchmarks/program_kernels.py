"""Errors of the kernels of programs by operation, the search for their weights, and unseen cases.

python benchmarks/program_kernels.py RECORDS [RECORDS ...]            errors of the even cases, the odd cases and both
python benchmarks/program_kernels.py --fit movement.PLACE,movement.SERIAL --op copy,add_bias RECORDS
python benchmarks/program_kernels.py --draw SEED > cases.jsonl        random cases for 'perfmodel validate --suite'

The search changes one weight at a time by a factor and keeps what lowers the mean |log(expected / measured)| of the even
cases. Weights are names of a file of perfmodel/timing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from math import exp, log
from random import Random
from statistics import mean, median
from typing import Any, NamedTuple

from perfmodel.cases import Case, case
from perfmodel.prediction import predicted
from perfmodel.records import case_of, measured_s, read
from perfmodel.roofline import rates
from perfmodel.timing import parameters
from perfmodel.validation import card_of

TYPES = ("bf16", "fp16", "fp32")
STEP, SMALLEST, ROUNDS = 0.35, 0.02, 8


class Measured(NamedTuple):
    """A case, its place in its file and its time."""

    place: int
    case: Case
    seconds: float


class Model:
    """The expected times of cases on the card of the records, with its family's knowledge."""

    def __init__(self, files: Iterable[str]) -> None:
        self.cases: list[Measured] = []
        for file in files:
            run = read(file)
            self.gpu = card_of(run.environment)
            found = (record for record in run.records if "error" not in record)
            self.cases += [Measured(i, case(case_of(r)), measured_s(r)) for i, r in enumerate(found)]
        self.card, self.rates = parameters.card(self.gpu, "family"), {}

    def ratio(self, one: Measured) -> float:
        dtype = one.case.dtype
        if dtype not in self.rates:
            self.rates[dtype] = rates(self.gpu, dtype)
        return predicted(one.case, self.rates[dtype], self.card)[1].expected_s / one.seconds

    def distance(self, cases: Iterable[Measured]) -> float:
        return mean(abs(log(self.ratio(one))) for one in cases)


def halves(cases: Iterable[Measured]) -> tuple[list[Measured], list[Measured]]:
    every = list(cases)
    return [c for c in every if c.place % 2 == 0], [c for c in every if c.place % 2]


def table(model: Model) -> None:
    """Mean error of the even and the odd cases, and the mean of all with its sign."""
    print("| operation | cases | even | odd | bias |\n|---|---:|---:|---:|---:|")
    by_name: dict[str, list[Measured]] = {}
    for one in model.cases:
        by_name.setdefault(one.case.op, []).append(one)
    for name, cases in sorted(by_name.items()):
        print(f"| {name} | {len(cases)} | {' | '.join(map(_percent, _errors(model, cases)))} |")
    print(f"| all | {len(model.cases)} | {' | '.join(map(_percent, _errors(model, model.cases)))} |")
    print(f"\nmedian {median(abs(model.ratio(one) - 1) for one in model.cases):.1%}")


def _errors(model: Model, cases: list[Measured]) -> tuple[float | None, ...]:
    even, odd = ([abs(model.ratio(one) - 1) for one in half] for half in halves(cases))
    return mean(even) if even else None, mean(odd) if odd else None, mean(model.ratio(one) - 1 for one in cases)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def fit(model: Model, names: list[str], operations: list[str]) -> None:
    """Prints the weights that the search ends with, and the distances of both halves before and after."""
    even, odd = halves(one for one in model.cases if one.case.op in operations)
    best, step = model.distance(even), STEP
    print(f"before: even {best:.3f}, odd {model.distance(odd):.3f}")
    for _ in range(ROUNDS):
        moved = False
        for name in names:
            for factor in (exp(step), exp(-step)):
                value = weight(name)
                weight(name, value * factor)
                found = model.distance(even)
                if found < best - 1e-5:
                    best, moved = found, True
                else:
                    weight(name, value)
        step = step if moved else step / 2
        if step < SMALLEST:
            break
    print(
        f"after: even {best:.3f}, odd {model.distance(odd):.3f}", {name: float(f"{weight(name):.3g}") for name in names}
    )


def weight(name: str, value: float | None = None) -> float:
    """Returns or changes a weight such as movement.PLACE or reductions.VALUE[sum]."""
    module, variable = name.split(".")
    variable, _, key = variable.rstrip("]").partition("[")
    holder: Any = vars(import_module(f"perfmodel.timing.{module}"))
    holder, at = (holder[variable], key) if key else (holder, variable)
    if value is not None:
        holder[at] = value
    return float(holder[at])


class Drawn:
    """Random shapes, uniform in the logarithm, with one data type and one protocol each."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def near(self, low: int, high: int, step: int = 1) -> int:
        return max(step, round(low * (high / low) ** self.random.random() / step) * step)

    def line(self, op: str, types: tuple[str, ...] = TYPES, **shape: int) -> dict[str, Any]:
        protocol = "warm" if self.random.random() < 0.2 else "cold"
        return {"op": op, "shape": shape, "dtype": self.random.choice(types), "protocol": protocol, "impl": "torch"}

    def every(self) -> Iterator[dict[str, Any]]:
        """Random cases of every operation."""
        yield from (*self.movement(), *self.elements(), *self.rows(), *self.orders(), *self.images(), *self.training())

    def movement(self) -> Iterator[dict[str, Any]]:
        near, line = self.near, self.line
        for _ in range(4):
            run, pieces, repeats = near(16, 1 << 14), near(64, 1 << 11), near(2, 8)
            yield line("copy", numel=run * pieces, distinct=run * pieces, run=run)
            yield line("copy", numel=run * pieces * repeats, distinct=run * pieces, run=run * pieces)
            yield line("copy", ("fp32", "bf16"), numel=near(1 << 16, 1 << 26), out=self.random.choice((2, 4)))
            run = near(32, 2048, self.random.choice((1, 8)))
            yield line("concatenate", numel=2 * near(64, 1 << 14) * run, run=run)

    def elements(self) -> Iterator[dict[str, Any]]:
        near, line = self.near, self.line
        for op in ("fill", "where", "masked_fill", "compare", "integer"):
            yield line(op, numel=near(1 << 16, 1 << 26))
        for _ in range(2):
            yield line("add_bias", B=1, N=near(64, 8192), D=near(256, 8192))
            keys = near(64, 1500)
            yield line("causal_mask", B=near(1, 4), H=near(4, 32), N=keys, S=keys)
        for op in ("gather", "scatter", "scatter_add"):
            yield line(op, rows=near(1 << 14, 1 << 24), cols=1)
            yield line(op, rows=near(32, 1 << 15), cols=near(64, 4096, self.random.choice((1, 8))))
            yield line(op, rows=near(1, 16), cols=near(512, 8192, 8))
        yield line("embedding_backward", B=1, N=near(64, 3000), D=near(256, 4096, 8), V=near(1000, 60000))

    def rows(self) -> Iterator[dict[str, Any]]:
        near, line = self.near, self.line
        for op in ("reduce_sum", "reduce_max", "argmax"):
            for _ in range(2):
                rows = near(1, 1 << 16)
                yield line(op, rows=rows, cols=near(max(2, (1 << 16) // rows), max(4, (1 << 26) // rows)))
                yield line(op, rows=near(1, 64), cols=near(16, 2048), inner=near(16, 2048))
        yield line("cumulative_sum", ("fp32",), rows=1, cols=near(1 << 14, 1 << 25))
        yield line("cumulative_sum", ("fp32",), rows=near(2, 4096), cols=near(64, 1 << 13))
        for op in ("log_softmax", "log_softmax_backward", "nll_loss", "nll_loss_backward"):
            for _ in range(2):
                yield line(op, rows=near(16, 4096), cols=near(100, 100000))

    def orders(self) -> Iterator[dict[str, Any]]:
        near, line = self.near, self.line
        for _ in range(2):
            yield line("top_k", rows=near(1, 64), cols=near(20000, 150000), chosen=near(1, 100))
            yield line("top_k", rows=near(64, 8192), cols=near(64, 700), chosen=near(1, 16))
            yield line("sort", rows=near(1, 400), cols=near(5000, 150000))
            yield line("sort", rows=near(16, 8192), cols=near(16, 3000))

    def images(self) -> Iterator[dict[str, Any]]:
        near, line, half = self.near, self.line, ("bf16", "fp16")
        for window, stride in ((1, 1), (3, 1), (3, 2), (5, 1)):
            side = near(14, 64, 2)
            sizes = _square(side, side // stride, window) | {
                "C": near(16, 512, 16),
                "C_out": near(16, 512, 16),
                "groups": 1,
            }
            for op in ("conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"):
                yield line(op, half, B=near(1, 32), **sizes)
        for op in ("max_pool2d", "max_pool2d_backward", "average_pool2d", "average_pool2d_backward"):
            side = near(16, 128, 4)
            yield line(op, B=near(1, 32), C=near(16, 256), **_square(side, side // 2, self.random.choice((2, 3))))
        for op in ("interpolate", "interpolate_backward"):
            for taps in (1, 4):
                side = near(14, 128)
                sizes = {"h": side, "w": side, "h_out": 2 * side, "w_out": 2 * side, "taps": taps}
                yield line(op, ("fp32", "bf16"), B=near(1, 8), C=near(16, 128), **sizes)
        for op in ("batch_norm", "batch_norm_inference", "batch_norm_backward"):
            for _ in range(2):
                yield line(op, ("bf16", "fp32"), B=near(2, 64), C=near(16, 1024), pixels=near(49, 3136))
        for op in ("group_norm", "group_norm_backward"):
            for _ in range(2):
                yield line(op, B=near(1, 8), C=near(32, 1024, 32), groups=32, pixels=near(64, 4096))

    def training(self) -> Iterator[dict[str, Any]]:
        for _ in range(3):
            params, tensors = self.near(1 << 16, 1 << 27, 8), self.near(4, 400)
            for op in ("adam_step", "sgd_step", "foreach", "gradient_norm"):
                made = self.line(op, params=params, tensors=tensors)
                state = {"state": 4 if made["dtype"] == "fp32" else 2}
                own = {"adam_step": state, "foreach": {"reads": self.near(1, 3)}}.get(op, {})
                yield made | {"shape": made["shape"] | own}


def _square(side: int, result: int, window: int) -> dict[str, int]:
    return {"h": side, "w": side, "h_out": result, "w_out": result, "K_h": window, "K_w": window}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("records", nargs="*")
    asked.add_argument("--draw", type=int, metavar="SEED")
    asked.add_argument("--fit", metavar="WEIGHTS")
    asked.add_argument("--op", metavar="OPERATIONS", default="")
    given = asked.parse_args()
    if given.draw is not None:
        for line in Drawn(given.draw).every():
            print(json.dumps(line))
    elif given.fit:
        fit(Model(given.records), given.fit.split(","), given.op.split(","))
    else:
        table(Model(given.records))


if __name__ == "__main__":
    main()
