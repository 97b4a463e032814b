"""What each constant of the time model moves: every one is doubled, and the times of a broad set of cases are compared.

python benchmarks/constants.py [--file NAME]     a table of all constants, those that move nothing first, and counts

The set: stored records of every operation, implementation, direction, data type and protocol, kernels that were never
measured, collectives on every system, and a small program, on cards of every generation. A constant that moves nothing
has no effect on any answer, or the set has a gap.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from perfmodel import patterns, systems
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call
from perfmodel.cases import Case, read
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import gpu
from perfmodel.prediction import predicted
from perfmodel.programs.program import Host, Program, Resident, Step
from perfmodel.programs.run import on
from perfmodel.roofline import rates
from perfmodel.timing import parameters
from perfmodel.timing.changes import changed
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.registry import Parameter, every, mechanism, place
from perfmodel.traces.tracing import trace

RESULTS = Path(__file__).parent / "results"
NO_HOST = Host()
KEYS = ("op", "kind", "shape", "dtype", "impl", "direction", "causal", "window", "activation", "protocol", "torch")
EACH = 2  # records of each kind: the smallest and the largest
# A card of every generation; the first three have all cases.
CARDS = ("h100-sxm", "a100-sxm4-80gb", "t4", "h200", "l40s", "b200", "v100-pcie-32gb", "mi300x")
GENERAL = 3
ENOUGH = 800  # times of a mechanism that are compared at first; all of them if none moves
# Where collectives run: a card, and a system or what its data sheet says.
PLACES = {
    "a100-sxm4-80gb": "dgx-a100", "b200": "dgx-b200", "h100-sxm": "dgx-h100", "l40s": "l40s-pcie-8", "t4": "t4-cloud-4",
    "v100-sxm2-32gb": None, "h100-pcie": None, "mi300x": None, "epyc-7763": None,
}  # fmt: skip

# Kernels that no stored record has.
MORE: tuple[dict[str, Any], ...] = (
    *({"op": "softmax", "shape": {"rows": 4096, "cols": n}, "dtype": d, "torch": "2.1"}
      for n in (512, 1500, 4096, 20001) for d in ("fp32", "fp16")),
    *({"op": "layernorm", "shape": {"rows": 4096, "cols": n}, "dtype": "fp32", "torch": "2.1"} for n in (512, 3583, 4096)),
    *({"op": "attention", "shape": {"B": 4, "H": 32, "H_kv": 8, "N": n, "S": 4096, "d": d}, "dtype": "bf16",
       "impl": i, "causal": n > 1, "protocol": p}
      for n in (1, 4096) for d in (64, 96, 128, 256) for i in ("serving", "paged", "flash", "cudnn", "efficient")
      for p in ("cold", "warm")),
    *({"op": "attention", "shape": {"B": 2, "H": 16, "N": 2048, "S": 2048, "d": 128}, "dtype": "bf16", "impl": i,
       "direction": "backward"} for i in ("flash", "cudnn", "efficient", "serving")),
    *({"op": "matmul", "shape": {"m": m, "k": 4096, "n": n}, "dtype": d, "protocol": p}
      for m, n in ((1, 4096), (1, 4097), (64, 4096), (4096, 4096), (4096, 50257), (4099, 4102))
      for d in ("fp16", "bf16", "fp32", "tf32", "fp8", "int8", "fp64") for p in ("cold", "warm", "eager", "rotating")),
    *({"op": "matmul", "shape": {"m": 256, "k": 256, "n": 256, "batch": 64}, "dtype": d, "protocol": p}
      for d in ("fp16", "fp32") for p in ("cold", "eager")),
    *({"op": "matmul", "shape": {"m": 32768, "k": 16384, "n": 16384}, "dtype": d} for d in ("fp16", "bf16", "tf32", "fp8", "int8", "fp32", "fp64")),
    *({"op": op, "shape": {"rows": 64, "cols": 64}, "dtype": "fp16", "protocol": "eager"} for op in ("softmax", "layernorm")),
    *({"op": "elementwise", "kind": k, "shape": {"numel": n}, "dtype": "fp16", "protocol": "eager"} for k in ("gelu", "add") for n in (4096, 1 << 22)),
    *({"op": "selective_scan", "shape": {"B": 1, "N": 512, "D": 512, "X": 16}, "dtype": "fp16"},),
)  # fmt: skip


def lines() -> Iterator[str]:
    """Cases: a few stored records of each kind, and ``MORE``."""
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(text)
            if "op" in record and "error" not in record:
                line = {key: record[key] for key in KEYS if key in record}
                kinds.setdefault(tuple(str(line.get(key, "")) for key in KEYS if key != "shape"), []).append(line)
    for found in kinds.values():
        found.sort(key=lambda line: sum(value for value in line["shape"].values() if isinstance(value, int)))
        yield from (json.dumps(line) for line in {id(line): line for line in (found[0], found[-1])}.values())
    yield from map(json.dumps, MORE)


Times = dict[int, tuple[float, float]]  # by number: the expected time and the upper end of its range


class Cases:
    """Cases on cards, numbered."""

    def __init__(self, cards: Iterable[str], knowledge: str | None = None) -> None:
        self.knowledge = knowledge
        cases = [one for one in read(list(lines()), "cases") if isinstance(one, Case)]
        self.pairs = [(gpu(card), case) for card in cards for case in cases]
        self.rates = {(card.name, case.dtype): rates(card, case.dtype) for card, case in self.pairs}

    def times(self, asked: Iterable[int] | None = None) -> Times:
        found = {}
        for number in range(len(self.pairs)) if asked is None else asked:
            card, case = self.pairs[number]
            try:
                timed = parameters.card(card, self.knowledge)
                time = predicted(case, self.rates[card.name, case.dtype], timed)[1]
                found[number] = time.expected_s, time.high_s
            except PerfmodelError:
                continue
        return found


def collectives() -> Times:
    """Collectives of every size on every system, and on cards without a system of their own."""
    found = []
    for name, system in PLACES.items():
        card = gpu(name)
        for kind, ranks, byte in product(patterns.KINDS, (2, 4, 8, 16), (1 << 10, 1 << 17, 1 << 23, 1 << 29)):
            try:
                time = collective_s(systems.of(card, system), card, kind, byte, ranks)
                found.append((time.expected_s + time.host_s, time.high_s))
            except PerfmodelError:
                found.append((0.0, 0.0))
    return dict(enumerate(found))


def program() -> Program:
    """A training step in small: products, an activation, views, a value that the host reads."""

    def tensor(number: int, *shape: int) -> Any:
        whole = compact(shape, "bf16")
        return whole._replace(storage=number, storage_byte=whole.byte)

    def step(name: str, *given: Any, out: Any, host: Host = NO_HOST, phase: str = "forward") -> Step:
        return Step(Call(name, given, {}, (out,)), "layer", phase, 0, host, (), f"aten::{name}")

    x, w, h, r, v, y = (
        tensor(i, *s)
        for i, s in enumerate(((4096, 4096), (4096, 4096), (4096, 4096), (4096, 4096), (4096, 64), (4096, 64)), 1)
    )
    steps = (
        step("mm", x, w, out=h, host=Host(modules=2, views=1)),
        step("relu", h, out=r),
        step("mm", r, v, out=y, phase="backward", host=Host(views=1)),
        step("relu", y, out=tensor(7, 4096, 64), phase="optimizer"),
    )
    held = {one.storage: Resident(one.storage_byte, "parameter") for one in (x, w, v)}
    return Program("sketch", steps, held)


def programs() -> Times:
    """The small program by every run on two cards."""
    found = []
    for name, run in product(("h100-sxm", "t4"), ("eager", "graph", "compiled")):
        total = on(program(), gpu(name), run).total
        found.append((total.expected_s, total.kernel_s))
    return dict(enumerate(found))


def traces() -> Times:
    """What recording a stored trace cost the host."""
    found = trace([str(RESULTS / "traces" / "bert-inference.json.gz")], gpu("h100-sxm"))
    return {number: (one.spans.recording_s, 0.0) for number, one in enumerate(found.ranks)}


def moved(before: Times, after: Times) -> float:
    """The largest relative move of a time or of its range."""
    pairs = [(b, a) for key in before.keys() & after.keys() for b, a in zip(before[key], after[key], strict=True)]
    return max((abs(a / b - 1.0) if b else float(a != b) for b, a in pairs), default=0.0)


class Sets:
    """The cases that each kind of constant may move."""

    def __init__(self) -> None:
        self.cases = Cases(CARDS[:GENERAL])
        self.before = self.cases.times()
        self._of_family: dict[str, Cases] = {}
        self._of_mechanism: dict[str, list[int]] = {}

    def move(self, one: Parameter) -> float:
        """The largest relative move of the times if the constant is doubled; infinite where the code then fails."""
        assert isinstance(one.value, float)
        name = Path(one.file).stem
        if one.kind in ("fact", "weight") and name not in ("programs", "collectives"):
            bound = self._bound(name)
            for asked in (bound[:: 1 + len(bound) // ENOUGH], bound):
                found = doubled(one, partial(self.cases.times, asked), {key: self.before[key] for key in asked})
                if found:
                    return found
            return doubled(one, programs)
        if one.kind == "family":
            return doubled(one, self._family(name).times)
        return doubled(one, collectives if one.kind == "link" or name == "collectives" else programs) or doubled(
            one, traces
        )

    def _family(self, name: str) -> Cases:
        """All cases on a card of the generation, or by the data sheet alone."""
        if name not in self._of_family:
            own = [card for card in CARDS if parameters.generation(gpu(card)) == name]
            self._of_family[name] = Cases(own[:1])
        return self._of_family[name]

    def _bound(self, name: str) -> list[int]:
        """The cases that a mechanism's file moves if all of its weights grow."""
        if name not in self._of_mechanism:
            weights = [one for one in mechanism(name).values() if one.kind == "weight" and isinstance(one.value, float)]
            with ExitStack() as stack:
                for one in weights:
                    stack.enter_context(changed(one, 1.3 * float(one.value)))
                after = self.cases.times()
            found = [key for key, old in self.before.items() if after.get(key) != old]
            self._of_mechanism[name] = found or list(self.before)
        return self._of_mechanism[name]


def doubled(one: Parameter, times: Callable[[], Times], before: Times | None = None) -> float:
    """The largest move of these times if the constant is doubled."""
    before = times() if before is None else before
    value = float(one.value)
    try:
        with changed(one, 2.0 * value if value else 1.0):
            return moved(before, times())
    except (ArithmeticError, ValueError, IndexError, KeyError, TypeError, StopIteration):
        return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", default="", help="only constants of files whose path contains this")
    asked = parser.parse_args()
    sets = Sets()
    counts: Counter[str] = Counter()
    rows: list[tuple[float, Parameter]] = []
    for one in every():
        counts[one.kind] += 1
        if isinstance(one.value, float) and asked.file in one.file:
            rows.append((sets.move(one), one))
            print(f"{place(one)}: {100 * rows[-1][0]:.3g} %", file=sys.stderr)
    rows.sort(key=lambda row: row[0])
    print("| constant | value | largest move when doubled |\n|---|---:|---:|")
    for move, one in rows:
        print(f"| {place(one)} | {one.value:g} {one.unit} | {100 * move:.3g} % |")
    print(f"\n{', '.join(f'{kind}: {number}' for kind, number in counts.items())}; set of {len(sets.before)} times")
    print(f"{sum(move == 0.0 for move, _ in rows)} of {len(rows)} constants move nothing")


if __name__ == "__main__":
    main()
