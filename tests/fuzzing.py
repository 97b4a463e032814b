"""Random inputs for every command and every kind of file, and the checks that each answer must pass.

The files are shipped configs, cases, measurements and GPU files. A mutation changes their structure: a value, a key or
a branch is replaced, removed, repeated or moved. ``trial`` runs one input in this process and returns what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from command import Ran, perfmodel

from perfmodel import limits, ops
from perfmodel.symbols import SYMBOLS

ROOT = Path(__file__).parent.parent
LIMIT_S = 5
MOST_NODES = 4000

VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 0.5, -0.0, 1.5, 1e308, 1e-320, 5e-324, 10**15, 10**15 + 1, 10**30, 2**63, -(10**18),
    float("nan"), float("inf"), "", "nan", "inf", "-inf", "1e400", "abc", "fp16", "fp32", "float32", "8k", "N", "N==N",
    "N-S", "D-2*D", "H/3", "0-1", "1/0", "null", "\x1b[31m", "\x9b31m", "\ud800", "\u2028", "\u202e", "é", "a\nb", [], {}, [[]],
    [None], [1000], ["x"], {"x": 1}, {"name": "x"}, "1e-300 MHz", "1e30 TB/s", "1 B", "1e-320 B/s", "1e-310 FLOP/s", "1e308 FLOP/s",
    "1 GB/s", "1 Hz", "0 GB", "1 W", "matmul", "attention", "softmax", "train", "bf16",
)  # fmt: skip
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMS = ("json", "json", "json", "table", "table", "csv", "markdown")


__all__ = ["Fault", "Input", "Ran", "inputs", "trial"]


class Input(NamedTuple):
    """Arguments of one run, and the contents of its files by name. ``{0}`` in an argument is the path of file 0, and
    ``{out}`` the folder of its output.
    """

    arguments: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()
    stdin: str = ""


class Fault(NamedTuple):
    """What is wrong with a run: its kind, and where or what it is."""

    kind: str
    what: str


class Late(BaseException):
    """Raised in a run that exceeds its time limit."""


# --- sources


class _Text(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads every YAML scalar as text, as perfmodel does."""


_Text.yaml_implicit_resolvers = {}


@cache
def _pages(pattern: str) -> tuple[tuple[str, str], ...]:
    return tuple((path.name, path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob(pattern)))


def _yaml(random: random.Random, pattern: str) -> Any:
    return _tree(random.choice([page for name, page in _pages(pattern) if name != "short-names.yaml"]))


@cache
def _tree(page: str) -> Any:
    return yaml.load(page, Loader=_Text)


@cache
def _lines(pattern: str) -> tuple[str, ...]:
    return tuple(line for _, page in _pages(pattern) for line in page.splitlines() if line.strip())


# --- mutations


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < MOST_NODES:
        node = waiting.pop()
        items = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        for key, value in items:
            found.append((node, key))
            waiting.append(value)
    return found


def value(random: random.Random) -> Any:
    """Returns a value that a file should not have, or only rarely has."""
    draw = random.random()
    if draw < 0.6:
        return random.choice(VALUES)
    if draw < 0.75:
        return random.randint(0, 64)
    if draw < 0.85:
        return random.choice(list(SYMBOLS))
    return random.choice((1, -1)) * 10 ** random.uniform(-330, 300)


def mutated(random: random.Random, tree: Any) -> Any:
    """Returns the tree after one to three changes of its structure, or of its numbers alone, which are more often
    accepted.
    """
    tree = json.loads(json.dumps(tree))
    if random.random() < 0.4:
        numbers = [(holder, key) for holder, key in _places(tree) if _NUMBER.match(str(holder[key]))]
        for holder, key in random.sample(numbers, min(len(numbers), random.choice((1, 1, 2, 5)))):
            holder[key] = _scaled(random, holder[key], MODERATE)
        return tree
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = _places(tree)
        if not places:
            break
        holder, key = random.choice(places)
        match random.choice(("value", "value", "value", "number", "remove", "rename", "move", "repeat")):
            case "value":
                holder[key] = value(random)
            case "number":
                holder[key] = _scaled(random, holder[key])
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                other, name = random.choice(places)
                holder[str(name) if isinstance(other, dict) else random.choice(list(SYMBOLS))] = holder.pop(key)
            case "move" | "rename":
                other, name = random.choice(places)
                holder[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
            case "repeat" if isinstance(holder, list):
                holder.insert(key, json.loads(json.dumps(holder[key])))
            case _:
                holder[key] = [holder[key]]
    return tree


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


MODERATE = (0.25, 0.5, 2, 3, 4, 8, 10)
EXTREME = (*(10**power for power in (-300, -20, -3, -1, 1, 3, 12, 30, 300)), -1, 0, 2, 3, 0.5, -1, 0, 2, 3, 0.5)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?( ?[A-Za-z/]+)?$")


def _scaled(random: random.Random, old: Any, factors: Sequence[float] = EXTREME) -> Any:
    """Returns a number times one of the factors, in text or as a number."""
    factor = random.choice(factors)
    if isinstance(old, bool) or not isinstance(old, (int, float, str)):
        return factor
    if isinstance(old, str):
        found = re.match(r"\s*([0-9.eE+-]*[0-9])(.*)", old, re.DOTALL)
        try:
            return f"{float(found[1]) * factor:.17g}{found[2]}" if found else f"{factor}"
        except (ValueError, OverflowError):
            return f"{factor}"
    product = float(old) * factor if abs(old) < 1e300 else math.inf
    return int(product) if isinstance(old, int) and abs(product) < 1e18 else product


def spoiled(random: random.Random, text: str) -> str:
    """Returns the text after one change of its characters, most often none."""
    if not text or random.random() < 0.9:
        return text
    at = random.randrange(len(text))
    word = str(random.choice(VALUES))
    return random.choice(
        (text[:at], text[:at] + word + text[at:], text[:at] + text[at + 1 :], text[:at] + word + text[at + 9 :])
    )


# --- files


def _file(random: random.Random, name: str, tree: Any) -> tuple[str, bytes]:
    text = spoiled(random, json.dumps(mutated(random, tree), ensure_ascii=random.random() < 0.5))
    return name, text.encode("utf-8", "surrogatepass" if random.random() < 0.02 else "replace")


def _config(random: random.Random) -> tuple[str, bytes]:
    if random.random() < 0.7:
        return _file(random, "model.json", json.loads(random.choice(_pages("configs/*.json"))[1]))
    return _file(random, "model.yaml", _yaml(random, "configs/*.yaml"))


def _card(random: random.Random) -> tuple[str, bytes]:
    return _file(random, "card.yaml", _yaml(random, "hardware/[!h]*.yaml"))


def _measured(random: random.Random) -> tuple[str, bytes]:
    return _file(random, "h200-sxm-141gb.measured.yaml", _yaml(random, "hardware/*.measured.yaml"))


def _listing(random: random.Random, name: str, first: list[Any], pattern: str) -> tuple[str, bytes]:
    lines = [*first, *(json.loads(random.choice(_lines(pattern))) for _ in range(random.randint(0, 3)))]
    lines = [line for line in lines if first or "environment" not in line]
    texts = [
        json.dumps(mutated(random, line) if random.random() < 0.5 else line, ensure_ascii=random.random() < 0.5)
        for line in lines
    ]
    return name, "\n".join(spoiled(random, text) for text in texts).encode("utf-8", "surrogatepass")


def _cases(random: random.Random) -> tuple[str, bytes]:
    return _listing(
        random, "cases.jsonl", [], "configs/cases.jsonl" if random.random() < 0.5 else "benchmarks/results/*quick.jsonl"
    )


def _records(random: random.Random) -> tuple[str, bytes]:
    environments = [line for line in _lines("benchmarks/results/*quick.jsonl") if '"environment"' in line[:40]]
    return _listing(random, "run.jsonl", [json.loads(random.choice(environments))], "benchmarks/results/*quick.jsonl")


# --- commands


def _size(random: random.Random) -> str:
    if random.random() < 0.5:
        return random.choice(("1", "2", "8", "64", "1000", "4Ki", "32Ki", "N", "4*D", str(2 ** random.randint(0, 40))))
    return random.choice(("0", "-1", "1", "2", "3", "7", "64", "1000", "8k", "1e15", "1e-320", "1e400", "nan", "N", "S", "D-2*D",
                          "N==N", "N<S", "N-S", "4*D", "H/3", "N%S", "min(N,S)", "0.5", "10**9", str(random.randint(1, 4096)),
                          str(10 ** random.randint(1, 16))))  # fmt: skip


def _settings(random: random.Random, symbols: Sequence[str] = (), most: int = 2) -> list[str]:
    """Returns settings, most often of these symbols."""
    number = random.choice((0, 0, 1, 1, 2)[: 3 if most == 1 else 5])
    return [f"--set={_symbol(random, symbols)}={_size(random)}" for _ in range(number)]


def _symbol(random: random.Random, symbols: Sequence[str]) -> str:
    return random.choice(symbols if symbols and random.random() < 0.9 else list(SYMBOLS))


def _options(random: random.Random, **choices: Any) -> list[str]:
    """Returns each option with one of its values, most often without it."""
    found = []
    for name, values in choices.items():
        if random.random() < 0.3:
            chosen = random.choice(values)
            found.append(f"--{name.replace('_', '-')}" + ("" if chosen is None else f"={chosen}"))
    return found


PHASES = ("prefill", "decode", "train") * 3 + ("x",)
DTYPES = ("fp16", "bf16", "fp32", "fp64", "fp8", "int8", "int4", "fp4", "tf32") * 2 + ("x",)
GPUS = ("t4", "a100", "h100", "h200", "mi300x", "epyc-7763", "textbook-a100")
CONFIGS = ("gpt2-124m", "llama-2-7b-layer", "mlp-4096", "conv1d-8192", "flash-table-flash", "attention-stages")
CHEAP_OPS = ("matmul", "softmax", "linear", "layernorm", "gelu", "attention", "conv1d", "embedding")
RANGES = (
    "1:8",
    "1:64:3",
    "64:4096:64",
    "16:16Ki:log",
    "1:1000:log",
    "1:1e15",
    "8:1",
    "1:4:0",
    "0:3",
    "x:y",
    "1:1e15:5:log",
    "1:1e15:20:log",
)
PICTURES, ROWS = ("p.png", "p.svg", "p.pdf", "p.x", "no/p.png", ""), ("r.csv", "r.jsonl", "r.jsonl", "r", "no/r.csv")
COMMON = {"phase": PHASES, "dtype": DTYPES, "unfused": (None,), "causal": (None,)}


def _written(random: random.Random, option: str, names: tuple[str, ...], share: float) -> list[str]:
    """Returns an option with an output file, in this share of the cases. Pictures take most of the time of a run."""
    return [f"{option}={{out}}/{random.choice(names)}"] if random.random() < share else []


def _last(files: list[tuple[str, bytes]]) -> str:
    """Returns the place of the last file, for an argument."""
    return f"{{{len(files) - 1}}}"


def _gpu(random: random.Random, files: list[tuple[str, bytes]]) -> str:
    """Returns a card, which may be a changed file."""
    if random.random() < 0.7:
        return random.choice(GPUS)
    files.append(_card(random))
    return _last(files)


def _workload(random: random.Random, files: list[tuple[str, bytes]]) -> str:
    if random.random() < 0.5:
        return random.choice(CONFIGS)
    files.append(_config(random))
    return _last(files)


def drawn(random: random.Random) -> Input:
    """Returns a random input."""
    files: list[tuple[str, bytes]] = []
    command = random.choices(list(_COMMANDS), [weight for weight, _ in _COMMANDS.values()])[0]
    arguments = _COMMANDS[command][1](random, files)
    form = [f"--format={random.choice(FORMS)}"] if command in _FORMATTED else []
    return Input((command, *form, *arguments), tuple(files))


def _flops(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    gpu = [f"--gpu={_gpu(random, files)}"] if random.random() < 0.7 else []
    if random.random() < 0.1:
        return ["--symbolic", f"--op={random.choice(CHEAP_OPS)}", *_settings(random), *_options(random, **COMMON)]
    more = _options(random, **COMMON, count=("all", "leading"), logits=("all", "last"), verbose=(None,))
    return [f"--config={_workload(random, files)}", *gpu, *_settings(random), *more]


def _operation(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    name = random.choice(sorted(ops.FAMILY_OF))
    settings = _settings(random, ops.find(name).arguments)
    return [f"--op={name}", f"--gpu={_gpu(random, files)}", *settings, *_options(random, **COMMON)]


def _memory(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    more = _options(random, phase=PHASES, zero=range(5), recompute=("none", "selective", "full"), solve=("B", "N", "L", "x"),
                    reserve=("0", "10%", "4 GB", "-1", "1e-320", "nan%", "200%"))  # fmt: skip
    return [f"--config={_workload(random, files)}", *_settings(random), f"--gpu={_gpu(random, files)}", *more]


def _serve(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    sizes = ("1", "16", "300", "4Ki", "0", "-1", "1e9", "x")
    shares = ("0", "0.5", "1", "nan", "inf", "-1", "1e-320", "1e308")
    more = _options(random, tp=("1", "2", "8", "3", "100000"), prompt=sizes, output=sizes, chunk=sizes, block=sizes, batch=sizes,
                    rate=shares, prefix=shares, ttft=shares, tpot=shares, prompt_cv=shares, acceptance=shares, draft=("gpt2", "x"),
                    disaggregated=("scale-up", "network"), verbose=(None,))  # fmt: skip
    return [f"--config={_workload(random, files)}", f"--gpu={_gpu(random, files)}", *more]


def _predict(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    gpu = _gpu(random, files)
    files.append((_cases if random.random() < 0.7 else _records)(random))
    return [
        f"--cases={_last(files)}",
        f"--gpu={gpu}",
        *_options(random, knowledge=("datasheet", "family", "calibrated")),
    ]


def _measured_card(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    """Readings beside a GPU file."""
    files.append(("h200-sxm-141gb.yaml", (ROOT / "hardware" / "h200-sxm-141gb.yaml").read_bytes()))
    files.append(_measured(random))
    files.append(("cases.jsonl", "\n".join(random.choices(_lines("configs/cases.jsonl"), k=3)).encode()))
    return ["--cases={2}", "--gpu={0}"]


def _validate(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    gpu = [f"--gpu={_gpu(random, files)}"] if random.random() < 0.3 else []
    files.append(_records(random))
    return [f"--from={_last(files)}", *gpu, *_written(random, "--plot", PICTURES, 0.01)]


def _check(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    gpu = [f"--gpu={_gpu(random, files)}"] if random.random() < 0.5 else []
    files.append((_records if random.random() < 0.6 else _cases)(random))
    share = random.choice(("0.8", "80%", "0.01", "1", "0", "nan", "1e308", "-1", "x"))
    more = _options(random, of=("bound", "expected"), only=("*", "matmul", "x"), allow_unknown=(None,))
    return [f"--{random.choice(('from', 'from', 'from', 'trace'))}={_last(files)}", *gpu, f"--min={share}", *more]


def _compare(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    part = random.choice(("attention", "softmax", "mlp", "layernorm", "x"))
    speed = (
        [f"--speedup={part}={random.choice(('2', '1e-320', '1e308', '0', 'nan', '-1', '1e-300', '0.5'))}"]
        if random.random() < 0.5
        else []
    )
    gpus = [f"--gpu={_gpu(random, files)}" for _ in range(random.choice((0, 1, 2)))]
    return [
        f"--config={_workload(random, files)}",
        f"--config={random.choice(CONFIGS)}",
        *gpus,
        *speed,
        *_settings(random),
    ]


def _roofline(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    gpus = [f"--gpu={_gpu(random, files)}" for _ in range(random.choice((1, 1, 1, 2)))]
    config = [f"--config={_workload(random, files)}"] if random.random() < 0.5 else []
    drawn = random.random() < 0.12
    point = random.choice(
        ("x:1G:1M:1ms", "x:1:1:1e-300", "a:b:1:1:1", "x:1e308:1:1", "x::", "x:1:1:nan", "\x1b:1:1:1ns")
    )
    points = [f"--point={point}"] if random.random() < 0.15 else []
    if random.random() < 0.15:
        files.append(_records(random))
        points.append(f"--from={_last(files)}")
    return [*gpus, *config, *points, *(["plot", *_written(random, "--output", PICTURES, 1.0)] if drawn else ["show"])]


def _asked(random: random.Random, files: list[tuple[str, bytes]], configs: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Returns an operation or a workload as an option, and its symbols if they are known."""
    if random.random() < 0.5:
        name = random.choice(sorted(ops.FAMILY_OF) if random.random() < 0.5 else CHEAP_OPS)
        return f"--op={name}", ops.find(name).arguments
    if configs:
        return f"--config={random.choice(configs)}", ()
    return f"--config={_workload(random, files)}", ("B", "N")


def _sweep(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    what, symbols = _asked(random, files, ())
    over = [f"--over={_symbol(random, symbols)}={random.choice(RANGES)}" for _ in range(random.choice((1, 1, 2)))]
    rows = _written(random, "--output", ROWS, 0.3)
    picture = _written(random, "--plot", PICTURES, 0.04)
    more = [*rows, *picture, *(["--expected"] if random.random() < 0.1 else [])]
    options = _options(random, **COMMON) if random.random() < 0.5 else []
    return [what, f"--gpu={_gpu(random, files)}", *over, *_settings(random, symbols, 1), *options, *more]


def _solve(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    what, symbols = _asked(random, files, ("mlp-4096", "conv1d-8192", "attention-stages"))
    options = _options(random, **COMMON) if random.random() < 0.5 else []
    for_ = f"--for={_symbol(random, symbols)}"
    return [what, f"--gpu={_gpu(random, files)}", for_, *_settings(random, symbols), *options]


def _explain(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    name = random.choice(CHEAP_OPS)
    settings = _settings(random, ops.find(name).arguments)
    return [name, *settings, *_options(random, latex=(None,), gpu=GPUS)]


def _occupancy(random: random.Random, files: list[tuple[str, bytes]]) -> list[str]:
    counts = ("1", "32", "33", "255", "1024", "0", "-1", "1000000000000000000000", "x")
    shared = random.choice(("0", "1", "48Ki", "48 KiB", "227KiB", "1e300 B", "1.5B", "-1", "nan", ""))
    threads, registers = random.choice(counts), random.choice(counts)
    return [f"--gpu={_gpu(random, files)}", f"--threads={threads}", f"--registers={registers}", f"--shared={shared}"]


_COMMANDS: dict[str, tuple[float, Callable[[random.Random, list[tuple[str, bytes]]], list[str]]]] = {
    "flops": (8, _flops), "memory": (3, _memory), "predict": (5, _predict), "validate": (6, _validate), "compare": (3, _compare), "serve": (2, _serve),
    "check": (2, _check), "occupancy": (1, _occupancy),
    "roofline": (2, _roofline), "sweep": (2, _sweep), "solve": (1, _solve), "explain": (0.3, _explain),
}  # fmt: skip
_FORMATTED = set(_COMMANDS) - {"roofline", "solve", "explain", "sweep"}


def inputs(seed: int) -> Iterator[Input]:
    """Yields random inputs without end, the same for the same seed."""
    number = 0
    while True:
        random_ = random.Random(f"{seed} {number}")
        number += 1
        draw = random_.random()
        if draw < 0.08:
            files: list[tuple[str, bytes]] = []
            arguments = _measured_card(random_, files)
            yield Input(("predict", f"--format={random_.choice(FORMS)}", *arguments), tuple(files))
        elif draw < 0.16:
            files = []
            arguments = _operation(random_, files)
            yield Input(("flops", f"--format={random_.choice(FORMS)}", *arguments), tuple(files))
        else:
            yield drawn(random_)


# --- one run


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raises Late after these seconds of processor time, which other processes do not change, or many of the clock."""

    def late(*_: Any) -> None:
        raise Late

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(12 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _algebra(seconds: float) -> Iterator[None]:
    """Shortens the time of algebra, so that each run must end by itself."""
    before, limits.ALGEBRA_S = limits.ALGEBRA_S, seconds
    try:
        yield
    finally:
        limits.ALGEBRA_S = before


def trial(given: Input, folder: Path) -> list[Fault]:
    """Runs an input and returns its faults."""
    for name, contents in given.files:
        (folder / name).write_bytes(contents)
    paths = [str(folder / name) for name, _ in given.files]
    out = folder / "out"
    out.mkdir()
    places = {**{str(i): path for i, path in enumerate(paths)}, "out": str(out)}
    arguments = [re.sub(r"\{(\d|out)\}", lambda found: places[found[1]], text) for text in given.arguments]
    try:
        with _within(LIMIT_S), _algebra(LIMIT_S - 1), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="sympy|mpmath")  # their own code
            ran = perfmodel(*arguments, stdin=given.stdin)
    except Late:
        return [Fault("hang", arguments[0])]
    except Exception as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "perfmodel" in frame.filename and "tests" not in frame.filename
        ]
        place = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "?"
        return [Fault("traceback", f"{type(error).__name__} at {place}")]
    finally:
        for path in paths:
            Path(path).unlink(missing_ok=True)
        written = {path.name: path.read_bytes() for path in out.iterdir()}
        shutil.rmtree(out)
    faults = list(_output_faults(arguments[0], ran.code, written))
    if ran.code not in (0, 1, 2, 3, 4):
        faults.append(Fault("exit code", f"{arguments[0]}: {ran.code}"))
    if ran.code != 0 and not ran.err and ran.code != 1:
        faults.append(Fault("no message", arguments[0]))
    if found := CONTROL.search(ran.out + ran.err):
        faults.append(Fault("control character", f"{arguments[0]}: {found[0]!r}"))
    if "--format=json" in arguments and ran.out:
        faults += _json_faults(arguments[0], ran.out)
    elif not any(re.search(rb"[\"-](nan|inf)\"", contents) for _, contents in given.files) and re.search(
        r"(?<![\w'=])(nan|inf|-inf)(?![\w'])", ran.out
    ):  # a name in a file may be shown again
        faults.append(Fault("NaN", f"{arguments[0]}: text"))
    return faults


def _output_faults(command: str, code: int | None, written: dict[str, bytes]) -> Iterator[Fault]:
    """Checks files: whole pictures, rows without NaN, and none after an error."""
    for name, contents in written.items():
        if code not in (0, 3):
            yield Fault("partial file", f"{command}: {name}")
        if name.startswith("p."):
            start, end = WHOLE[name[1:]]
            if not (contents.startswith(start) and contents.rstrip().endswith(end)):
                yield Fault("broken picture", f"{command}: {name}")
            continue
        text = contents.decode()
        if found := CONTROL.search(text.replace("\r\n", "\n")):
            yield Fault("control character", f"{command}: {name}: {found[0]!r}")
        if name == "r.jsonl":
            for line in text.splitlines():
                yield from _json_faults(command, line)
        elif re.search(r"(?:^|,)-?(nan|inf)(?:,|$)", text, re.MULTILINE):
            yield Fault("NaN", f"{command}: {name}")


# The first and last bytes of each kind of picture.
WHOLE = {
    ".png": (b"\x89PNG", b"IEND\xaeB\x60\x82"), ".svg": (b"<?xml", b"</svg>"), ".pdf": (b"%PDF", b"%%EOF"),
}  # fmt: skip


def _json_faults(command: str, text: str) -> list[Fault]:
    found: list[Fault] = []
    try:
        document = json.loads(text, parse_constant=lambda name: found.append(Fault("NaN", f"{command}: {name}")))
    except ValueError:
        return [Fault("not JSON", command)]
    return found or list(_figures(command, document))


# Keys of counts and times, which a document of a known input must hold as non-negative numbers.
_COUNTS = re.compile(r"(?!intensity|spare_|peak_|l2_|dram_)(.*_byte|flops|.*_flops|total|active|embedding|repeat)$")


def _figures(command: str, document: Any) -> Iterator[Fault]:
    """Checks counts: whole and not negative; times: finite, positive, the lower bound at most the others."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict) and not {"error", "failed"} & node.keys():
            waiting += [part for key, part in node.items() if key not in ("environment", "shape")]
            for key, one in node.items():
                if isinstance(one, bool) or not isinstance(one, (int, float)):
                    continue
                if not math.isfinite(one) or (one < 0 and _COUNTS.fullmatch(key)):
                    yield Fault("figure", f"{command}: {key} is negative or infinite")
                if command == "flops" and _COUNTS.fullmatch(key) and not isinstance(one, int):
                    yield Fault("figure", f"{command}: {key} is not whole")
            if {"lower_s", "no_overlap_s"} <= node.keys() and "expected_s" in node and "op" in node:
                lower, above = node["lower_s"], node["no_overlap_s"]
                if lower is not None and above is not None and not 0 <= lower <= above * (1 + 1e-9):
                    yield Fault("figure", f"{command}: lower_s above no_overlap_s")
