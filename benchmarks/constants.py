"""What each constant of the time model moves: every one is doubled, and the times of a broad set of cases are compared.

python benchmarks/constants.py [--file NAME]             a table of constants, those that move nothing first, and counts
python benchmarks/constants.py --states                 the number of figures of each generation
python benchmarks/constants.py --cover > tests/cover.jsonl    a small set of cases that every constant of a mechanism moves

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

from program_kernels import Drawn

from perfmodel import block, patterns, systems
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call, Operand
from perfmodel.case_files import read
from perfmodel.cases import Case, case
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import Gpu, gpu
from perfmodel.prediction import predicted
from perfmodel.programs.pricing import Prices
from perfmodel.programs.program import Host, Program, Resident, Step
from perfmodel.programs.run import on
from perfmodel.roofline import rates
from perfmodel.step_cases import step_case
from perfmodel.step_prediction import predicted as planned
from perfmodel.timing import families, parameters
from perfmodel.timing.changes import changed
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.registry import Parameter, every, mechanism, place
from perfmodel.timing.sequence import expected
from perfmodel.traces.tracing import trace

RESULTS = Path(__file__).parent / "results"
NO_HOST = Host()
KEYS = ("op", "kind", "shape", "dtype", "impl", "direction", "causal", "window", "activation", "protocol", "torch")
WITHOUT_OURS = ("rmsnorm_backward", "log_softmax", "log_softmax_backward")
# A card of every generation; the first three have all cases.
CARDS = ("h100-sxm", "a100-sxm4-80gb", "t4", "h200", "l40s", "b200", "v100-pcie-32gb", "mi300x")
GENERAL = 3
# Further cards of these generations, whose power limits and clocks differ.
FURTHER = ("a100-pcie-40gb", "l4", "h100-pcie", "v100-sxm2-32gb", "rtx-4090")
LATEST = "b200"
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
    *({"op": "attention", "shape": {"B": 1, "H": 1, "N": 1, "S": 1 << 18, "d": 128}, "dtype": "bf16", "impl": i}
      for i in ("flash", "serving", "paged")),
    *({"op": "expert_linear", "shape": {"B": 1, "N": n, "D_in": 4096, "D_out": 4096, "E": 8, "A": 2}, "dtype": "bf16", "impl": "serving"}
      for n in (2, 64, 600, 4096)),
    *({"op": "linear", "shape": {"B": 1, "N": n, "D_in": d, "D_out": 4096}, "dtype": "fp8", "impl": f"{scale}_scale"}
      for n, d in ((16, 4096), (4096, 4096), (30000, 1024), (60000, 8192)) for scale in ("static", "token", "tensor", "block")),
    *({"op": "linear_int4", "shape": {"B": 1, "N": n, "D_in": 4096, "D_out": 4096, "group": 128}, "dtype": "fp16", "impl": "serving"}
      for n in (1, 64, 4096)),
    *({"op": "selective_scan", "shape": {"B": 1, "N": 512, "D": 512, "X": 16}, "dtype": "fp16"},),
)  # fmt: skip


def lines() -> Iterator[str]:
    """Cases: a few stored records of each kind, and ``MORE``."""
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(text)
            if "op" in record and isinstance(record.get("shape"), dict) and "error" not in record:
                line = {key: record[key] for key in KEYS if key in record}
                kinds.setdefault(tuple(str(line.get(key, "")) for key in KEYS if key != "shape"), []).append(line)
    for found in kinds.values():
        found.sort(key=lambda line: sum(value for value in line["shape"].values() if isinstance(value, int)))
        yield from (json.dumps(line) for line in {id(line): line for line in (found[0], found[-1])}.values())
    yield from map(json.dumps, (*MORE, *around(), *beyond()))
    for seed in (1, 2, 3):
        yield from map(json.dumps, Drawn(seed).every())


def around() -> Iterator[dict[str, Any]]:
    """Sizes on both sides of every limit that libraries have, as far as records do not reach them."""
    for op, cols, rows in product(("sort", "top_k"), (100, 200, 3000, 6000, 20000, 1_500_000), (1, 100, 200, 4096)):
        if rows * cols < 1 << 28:
            yield {
                "op": op,
                "shape": {"rows": rows, "cols": cols, **({"chosen": 8} if op == "top_k" else {})},
                "dtype": "fp32",
            }
    for op, cols, dtype in product(
        ("softmax", "softmax_backward", "layernorm", "rmsnorm", "layernorm_backward", "rmsnorm_backward", "log_softmax",
         "log_softmax_backward"),
        (96, 1024, 1500, 2048, 3000, 4094, 6000, 9216, 12000, 25000, 60000), ("fp32", "bf16"),
    ):  # fmt: skip
        for impl in ("torch", "ours") if op not in WITHOUT_OURS else ("torch",):
            yield {"op": op, "shape": {"rows": 4096, "cols": cols}, "dtype": dtype, "impl": impl}
    for causal, heads, n in product((False, True), (4, 24, 40, 132), (128, 700, 1500)):
        for impl in ("flash", "serving", "paged", "efficient", "cudnn"):
            shape = {"B": 1, "H": heads, "N": n, "S": 3000, "d": 80}
            yield {"op": "attention", "shape": shape, "dtype": "fp16", "impl": impl, "causal": causal}
    for op, outer, axis, inner in product(("reduce_sum", "argmax"), (1, 64, 4096), (64, 300, 100_000), (1, 64)):
        yield {"op": op, "shape": {"rows": outer, "cols": axis, "inner": inner}, "dtype": "fp32"}
    for rows, run in product((8, 24, 2000, 5000, 100_000), (1, 8, 4096)):
        for op in ("gather", "scatter", "scatter_add"):
            yield {"op": op, "shape": {"rows": rows, "cols": run}, "dtype": "fp32"}
        yield {"op": "embedding_backward", "shape": {"B": 1, "N": rows, "D": run, "V": 32000}, "dtype": "fp32"}


def beyond() -> Iterator[dict[str, Any]]:
    """More sizes: split keys, long filters, large optimizers and batches, concatenations."""
    for d, causal, n, keys in product((64, 80, 128), (False, True), (1, 300), (600, 900, 131072)):
        for impl in ("flash", "serving", "paged"):
            shape = {"B": 1, "H": 8, "H_kv": 1, "N": n, "S": keys, "d": d}
            yield {"op": "attention", "shape": shape, "dtype": "bf16", "impl": impl, "causal": causal}
    for taps, channels in product((3, 5, 7, 9, 12, 15), (768, 1001)):
        yield {"op": "conv1d", "shape": {"B": 4, "N": 4096, "D": channels, "K": taps}, "dtype": "fp32", "impl": "fused"}
    yield {"op": "softmax_backward", "shape": {"rows": 4096, "cols": 1000}, "dtype": "fp64"}
    yield {"op": "layernorm", "shape": {"rows": 4096, "cols": 1900}, "dtype": "fp32", "torch": "2.1"}
    yield {"op": "adam_step", "shape": {"params": 10**11, "tensors": 400, "state": 4}, "dtype": "fp32"}
    yield {"op": "batch_norm", "shape": {"B": 16384, "C": 64, "pixels": 49}, "dtype": "fp32"}
    for rows, cols in product((16, 100, 3000, 100_000), (129, 160, 200, 250)):
        yield {"op": "reduce_max", "shape": {"rows": rows, "cols": cols}, "dtype": "fp32"}
    yield from (
        {"op": "concatenate", "shape": {"numel": 1 << n, "run": 1 << (n - 1)}, "dtype": "fp32", "protocol": "warm"}
        for n in (22, 23, 24)
    )
    for m, k in product((64, 128, 512), (16384, 65536, 262144)):
        yield {"op": "matmul", "shape": {"m": m, "k": k, "n": m}, "dtype": "fp32"}
    yield {"op": "concatenate", "shape": {"numel": 1 << 28, "run": 1 << 27}, "dtype": "fp32"}


Times = dict[int, tuple[float, float]]  # by number: the expected time and the upper end of its range


class Cases:
    """Cases on cards, numbered."""

    def __init__(self, cards: Iterable[Gpu], knowledge: str | None = None) -> None:
        self.knowledge = knowledge
        cases = [one for one in read(list(lines()), "cases") if isinstance(one, Case)]
        self.pairs = [(card, case) for card in cards for case in cases]
        # The attention kernels of serving stacks on Blackwell are its own.
        own = [case for case in cases if case.words.get("impl") == "serving"]
        self.pairs += [(gpu(LATEST), case) for case in own]
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
    places = [(gpu(name), systems.of(gpu(name), system)) for name, system in PLACES.items()]
    places += [(card, system._replace(scale_up=system.network)) for card, system in places if system.network]
    for card, system in places:
        for kind, ranks, byte in product(patterns.KINDS, (2, 4, 8, 16), (1 << 10, 1 << 17, 3 << 19, 1 << 23, 1 << 29)):
            try:
                time = collective_s(system, card, kind, byte, ranks)
                found.append((time.expected_s + time.host_s, time.high_s))
            except PerfmodelError:
                found.append((0.0, 0.0))
    return dict(enumerate(found))


def tensor(*shape: int, dtype: str = "bf16", number: int = 0) -> Operand:
    whole = compact(shape, dtype)
    return whole._replace(storage=number, storage_byte=whole.byte)


def turned(one: Operand) -> Operand:
    """The tensor with its last two dimensions exchanged."""
    *rest, a, b = one.strides
    return one._replace(strides=(*rest, b, a))


def aten() -> Iterator[Call]:
    """Calls of torch that no case can state: masks, dropout, conversions on the way, convolutions in groups."""
    q, x, y = tensor(2, 16, 1024, 128), tensor(1 << 20), tensor(4096, 4096)
    for queries, heads, p in product((1, 1024), (2, 16, 48), (0.0, 0.1)):
        a, k = tensor(2, heads, queries, 128), tensor(2, heads, 1024, 128)
        mask = tensor(2, heads, queries, 1024)
        yield Call("scaled_dot_product_attention", (a, k, k, mask, p, False), {}, (a,))
        yield Call("scaled_dot_product_attention", (a, k, k, None, p, False), {}, (a,))
    yield Call("native_dropout", (q, 0.1, True), {}, (q, q._replace(dtype="bool")))
    yield from (Call(name, (x,), {}, (x,)) for name in ("sqrt", "rsqrt", "log", "exp", "erf", "tanh", "reciprocal"))
    yield Call("add", (turned(y), y._replace(dtype="fp32")), {}, (y._replace(dtype="fp32"),))
    yield Call("_to_copy", (turned(y),), {"dtype": "fp32"}, (y._replace(dtype="fp32"),))
    for groups, dtype in product((1, 4, 64), ("bf16", "fp32")):
        image, kernel = tensor(8, 64, 56, 56, dtype=dtype), tensor(64, 64 // groups, 3, 3, dtype=dtype)
        yield Call("convolution", (image, kernel, None, (1, 1), (1, 1), (1, 1), False, (0, 0), groups), {}, (image,))
    for channels in (4, 12):
        few = tensor(64, channels, 3, 3)
        given = tensor(8, channels, 224, 224), few, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1
        yield Call("convolution", given, {}, (tensor(8, 64, 224, 224),))
    yield Call(
        "mm",
        (tensor(4096, 4096), turned(tensor(50257, 4096))._replace(shape=(4096, 50257))),
        {},
        (tensor(4096, 50257),),
    )


def calls() -> Times:
    """Those calls, each alone, on every generation."""
    found = {}
    for name in CARDS:
        prices = Prices(gpu(name))
        for at, one in enumerate(aten()):
            timed = [prices.time(kernel, 0.0) for kernel in prices.kernels(one)]
            found[hash((name, at))] = sum(one.seconds for one in timed), max((one.spread for one in timed), default=0.0)
    return found


def program(part: int = 1) -> Program:
    """A training step in small: products, an activation, views, a value that the host reads, a value of each phase."""

    def step(name: str, *given: Any, out: Operand, host: Host = NO_HOST, phase: str = "forward") -> Step:
        return Step(Call(name, given, {}, (out,)), "layer", phase, 0, host, (), f"aten::{name}")

    rows = 8192 // part
    sizes = (rows, 4096), (4096, 4096), (rows, 4096), (rows, 4096), (4096, 64), (rows, 64), (rows, 64)
    x, w, h, r, v, y, z = (tensor(*shape, number=number) for number, shape in enumerate(sizes, 1))
    steps = (
        step("mm", x, w, out=h, host=Host(modules=2, views=1)),
        *(step("gelu", h, out=r) for _ in range(8)),
        *(step("view", r, out=r, phase="backward") for _ in range(2)),
        *(step("sort", y, out=z, phase="optimizer") for _ in range(2)),
        step("gelu", h, out=r, phase="optimizer", host=Host(waits=True)),
        *(step("gelu", h, out=r, phase="optimizer") for _ in range(4)),
        step("mm", r, v, out=y, phase="backward", host=Host(views=1)),
    )
    held = {one.storage: Resident(one.storage_byte, "parameter") for one in (x, w, v)}
    return Program("sketch", steps, held)


def latent() -> Times:
    """Latent attention of serving stacks, which no case can state, on every generation."""
    shape = {"B": 8, "H": 128, "S": 4096, "r": 512, "d_r": 64}
    found = {}
    for name, n in product(CARDS, (1, 256)):
        one = case({"op": "mla_latent_attention", "shape": {**shape, "N": n}, "dtype": "bf16", "protocol": "warm"})
        kernels = [(kernel, 0.0) for kernel in block.kernels(one.steps, one.dims)]
        time = expected(parameters.card(gpu(name)), kernels, one.dtype, impl="serving", protocol="warm")[1]
        found[hash((name, n))] = time.expected_s, time.high_s
    return found


def steps() -> Times:
    """Steps of a workload under a plan, on every generation: their range is that of kernels of any kind."""
    step = {
        "op": "step",
        "config": "llama-2-7b-layer",
        "phase": "prefill",
        "dtype": "fp16",
        "shape": {"B": 2, "N": 512},
        "impl": "layers",
        "protocol": "warm",
    }
    asked = step_case(step)
    found = (planned(asked, gpu(name), None, None).expected for name in CARDS)
    return {number: (time.expected_s, time.high_s) for number, time in enumerate(found)}


def programs() -> Times:
    """The program by every run, bound by the card and by the host."""
    found = []
    for name, run, part in product(("h100-sxm", "t4", "h200"), ("eager", "graph", "compiled"), (1, 1024)):
        total = on(program(part), gpu(name), run).total
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

    def __init__(self, cards: Iterable[str] = CARDS[:GENERAL]) -> None:
        self.cases = Cases(map(gpu, cards))
        bare = gpu("t4")._replace(name="bare", multiprocessor={}, clocks={})  # a data sheet without these figures
        self.others = Cases([*map(gpu, CARDS[GENERAL:]), bare])
        self.further = Cases(map(gpu, FURTHER), "family")
        self.before = self.cases.times()
        self._of_family: dict[str, tuple[Cases, Times]] = {}
        self._of_mechanism: dict[str, list[int]] = {}

    def move(self, one: Parameter) -> float:
        """The largest relative move of the times if the constant is doubled; infinite where the code then fails."""
        assert isinstance(one.value, float)
        name = Path(one.file).stem
        if one.kind in ("fact", "weight") and name not in ("programs", "collectives"):
            bound = self.bound(name)
            for asked in (bound[:: 1 + len(bound) // ENOUGH], bound):
                found = doubled(one, partial(self.cases.times, asked), {key: self.before[key] for key in asked})
                if found:
                    return found
            return doubled(one, calls) or doubled(one, programs) or doubled(one, self.others.times)
        if one.kind == "family":
            cases, before = self._family(name)
            for asked in (list(before)[:: 1 + 3 * len(before) // ENOUGH], list(before)):
                found = doubled(one, partial(cases.times, asked), {key: before[key] for key in asked})
                if found:
                    return found
            return (
                doubled(one, calls)
                or doubled(one, steps)
                or doubled(one, latent)
                or doubled(one, self.others.times)
                or doubled(one, self.further.times)
            )
        return doubled(one, collectives if one.kind == "link" or name == "collectives" else programs) or doubled(
            one, traces
        )

    def _family(self, name: str) -> tuple[Cases, Times]:
        """All cases on a card of the generation, or by the data sheet alone, and their times."""
        if name not in self._of_family:
            own = [card for card in CARDS if families.generation(gpu(card)) == name]
            cases = Cases(map(gpu, own[:1]), "datasheet" if name == families.ANY else "family")
            self._of_family[name] = cases, cases.times()
        return self._of_family[name]

    def bound(self, name: str) -> list[int]:
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
    """The largest move of these times if the constant is doubled, or halved where doubling moves none."""
    before = times() if before is None else before
    value = float(one.value)
    for other in (2.0 * value, 0.5 * value) if value else (1.0,):
        try:
            with changed(one, other):
                found = moved(before, times())
        except (ArithmeticError, ValueError, IndexError, KeyError, TypeError, StopIteration):
            return float("inf")
        if found:
            return found
    return 0.0


def cover(sets: Sets) -> Iterator[str]:
    """A small set of cases, each with its card and the constants of mechanisms that move it when doubled."""
    chosen: dict[int, list[str]] = {}
    for one in every():
        if one.kind in ("fact", "weight") and isinstance(one.value, float):
            bound = sets.bound(Path(one.file).stem)
            for asked in (list(chosen), bound[:: 1 + len(bound) // ENOUGH]):
                best = most_moved(one, sets, asked)
                if best is not None:
                    chosen.setdefault(best, []).append(place(one))
                    break
    for number, constants in sorted(chosen.items()):
        card, case = sets.cases.pairs[number]
        yield json.dumps({"gpu": card.name, "case": case.line, "constants": constants})


def most_moved(one: Parameter, sets: Sets, asked: Iterable[int]) -> int | None:
    """The number of the case that a doubled constant moves most, if it moves any."""
    try:
        with changed(one, 2.0 * float(one.value)):
            after = sets.cases.times(asked)
    except (ArithmeticError, ValueError, IndexError, KeyError, TypeError, RuntimeError, StopIteration):
        return None
    moves = {key: moved({key: sets.before[key]}, {key: time}) for key, time in after.items()}
    best = max(moves, key=lambda key: moves[key], default=None)
    return best if best is not None and moves[best] > 1e-9 else None


def states() -> None:
    """Prints the figures of each generation, which a card uses beside the weights of mechanisms: all, and those of its file.

    ``generic`` holds with the knowledge of the data sheet alone, the others with that of the family. Readings of a card replace
    some of them.
    """
    own = Counter(Path(one.file).stem for one in every() if one.kind == "family")
    print("\n| generation | figures | in its file |\n|---|---:|---:|")
    for name in (*families.GENERATIONS, families.ANY):
        print(f"| {name} | {sum(map(len, families.family(name).sections.values()))} | {own[name]} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", default="", help="only constants of files whose path contains this")
    parser.add_argument("--cover", action="store_true", help="print a small set of cases for the tests instead")
    parser.add_argument("--states", action="store_true", help="print the number of figures of each generation instead")
    asked = parser.parse_args()
    if asked.states:
        states()
        return
    if asked.cover:
        print("\n".join(cover(Sets(("h100-sxm", "t4")))))
        return
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
