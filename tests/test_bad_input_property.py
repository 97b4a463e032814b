"""For any input a command answers or fails with one line: no traceback, no hang, no NaN in JSON.

Files are generated from scratch (text, bytes, YAML and JSON of any shape) and by mutating real files: lines and words
are deleted, duplicated, swapped and replaced. The result must be exit code 0 with an answer, or 1 or 2 with a message.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
from pathlib import Path

import pytest
from command import check_message, perfmodel
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perfmodel import ops
from perfmodel.cli import COMMANDS
from perfmodel.symbols import SYMBOLS

ROOT = Path(__file__).parent.parent
CONFIGS = [(ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8") for name in
           ("mlp-4096", "gpt2-124m", "llama-2-7b-layer", "decoder-block", "flash-table-flash")]  # fmt: skip
CARDS = [
    (ROOT / "hardware" / f"{name}.yaml").read_text(encoding="utf-8") for name in ("t4", "a100-sxm4-80gb", "mi300x")
]

SECONDS = 10
thrown = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
costly = settings(thrown, max_examples=12)


@contextlib.contextmanager
def within(seconds):
    """Fails if the test does not end in time."""

    def late(*_):
        pytest.fail(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused_constant(name):
    pytest.fail(f"{name} stands in JSON")


def check_outcome(*arguments, stdin=""):
    """Checks for an answer, or for one message per error."""
    with within(SECONDS):
        ran = perfmodel(*arguments, stdin=stdin)
    if ran.code == 0:
        assert ran.out
    else:
        assert ran.code in (1, 2), ran
        assert ran.err
        for line in ran.err.splitlines(keepends=True):
            check_message(line)
    if "json" in arguments and ran.out:
        json.loads(ran.out, parse_constant=refused_constant)
    return ran


# --- generated inputs

NASTY_WORDS = (
    "0 -1 1.5 nan inf -inf .nan .inf 1e400 1e-400 1e15 1e16 8k 8K 8Ki 0.5k 1_000 _ + - * / // % ** ( ) (( )) [ ] { } {} "
    "[] , : :: = == <= < > ! !! & * | > - -- --- ... # @ ` ' \" \\ ~ ; null true yes no on D/H D/ H*d N S F 4*D D-D 1/0 N%0 "
    "N//0 min(N,S) max() min(1) H_kv causal fp16 fp17 GB/s 0GB/s mlp matmul steps sizes prefill train decode apart each "
    "value from !!python/object/apply:os.system <<: &a *a \ufeff \u0663 \x85 \u2028 \ud7ff \x1b[31m a\nb \t \r \r\n \x00"
)
NASTY = st.sampled_from(NASTY_WORDS.split(" "))
NUMBERS = st.integers(-3, 10**18).map(str) | st.integers(10**29, 10**31).map(str) | st.just("9" * 5000)
WORDS = NASTY | NUMBERS | st.text(max_size=8)
NAMES = WORDS | st.sampled_from([*SYMBOLS, *ops.FAMILY_OF]) | st.sampled_from(["t4", "a100", "gpt2-124m", "mlp-4096"])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**20) | st.floats() | st.text(max_size=6) | st.sampled_from(list(SYMBOLS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(list(SYMBOLS)), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
KEY_WORDS = (
    "title sources notes dtype dtypes sizes phases steps name op repeat flow kernels count mask keeps prefill value"
)
KEYS = st.sampled_from(KEY_WORDS.split(" "))
yaml_pages = st.dictionaries(
    KEYS,
    st.recursive(
        WORDS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.sampled_from(list(SYMBOLS)), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=8,
).map(lambda page: json.dumps(page, ensure_ascii=False))


@st.composite
def spoiled(draw, texts):
    """Returns a real file after one to four mutations."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        accident = draw(st.sampled_from(("line", "twice", "swap", "word", "insert", "cut")))
        lines = text.split("\n")
        i, j = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        place = draw(st.integers(0, len(text)))
        if accident == "line":
            del lines[i]
        elif accident == "twice":
            lines.insert(j, lines[i])
        elif accident == "swap":
            lines[i], lines[j] = lines[j], lines[i]
        elif accident == "word":
            words = lines[i].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(WORDS)
            lines[i] = " ".join(words)
        text = "\n".join(lines)
        if accident == "insert":
            text = text[:place] + draw(WORDS) + text[place:]
        elif accident == "cut":
            text = text[:place]
    return text


numbers = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("thrown")


def file_of(folder, content, ending=".yaml"):
    """Returns a new file for each content, because contents read from a path may be cached."""
    path = folder / f"{next(numbers)}{ending}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return str(path)


FORMS = st.sampled_from(("json", "json", "table", "csv", "markdown"))

# --- files


@settings(thrown, max_examples=120)
@given(text=spoiled(CONFIGS), form=FORMS, phase=st.sampled_from((None, "prefill", "train")), unfused=st.booleans())
def test_a_spoiled_workload(folder, text, form, phase, unfused):
    options = [*(["--phase", phase] if phase else []), *(["--unfused"] if unfused else [])]
    check_outcome("flops", "--config", file_of(folder, text), "--gpu", "t4", "--format", form, *options)


@settings(thrown, max_examples=100)
@given(text=spoiled(CARDS), form=FORMS)
def test_a_spoiled_card(folder, text, form):
    check_outcome("flops", "--config", "mlp-4096", "--gpu", file_of(folder, text), "--format", form)


@thrown
@given(
    text=yaml_pages
    | st.text()
    | st.lists(WORDS, max_size=12).map(" ".join)
    | st.lists(WORDS, max_size=12).map("\n".join)
)
@example(text="phases: {}\ntitle: a\nsteps: [{op: mlp}]")
def test_made_up_text_as_a_workload(folder, text):
    check_outcome("flops", "--config", file_of(folder, text), "--format", "json")


@thrown
@given(content=st.binary(max_size=200), gpu=st.booleans())
def test_bytes_as_a_file(folder, content, gpu):
    path = file_of(folder, content)
    check_outcome("flops", *(("--config", "mlp-4096", "--gpu", path) if gpu else ("--config", path)))


@thrown
@given(value=json_values, text=st.none() | st.text(max_size=40))
def test_json_as_a_workload(folder, value, text):
    check_outcome("flops", "--config", file_of(folder, json.dumps(value) if text is None else text, ".json"))


CASE = {
    "op": "attention",
    "shape": {"B": 1, "H": 4, "H_kv": 2, "N": 8, "S": 8, "d": 4},
    "dtype": "bf16",
    "causal": True,
}
OTHER = {"op": "layer", "shape": {"B": 1, "N": 8, "D": 16, "H": 4}, "direction": "train", "impl": "naive"}


@st.composite
def cases(draw):
    """Returns a valid case with some of its parts replaced by anything."""
    case = dict(draw(st.sampled_from((CASE, OTHER))))
    case["shape"] = dict(case["shape"])
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from((case, case["shape"])))
        key = draw(st.sampled_from([*target, "x"]) | st.text(max_size=4) | st.sampled_from(list(SYMBOLS)))
        target[key] = draw(json_values | st.integers(1, 16))
        if not isinstance(case["shape"], dict):
            break
    return json.dumps(case)


@settings(thrown, max_examples=90)
@given(lines=st.lists(cases() | json_values.map(json.dumps) | st.text(max_size=30), min_size=1, max_size=4), form=FORMS)
@example(lines=['{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "note": 1e999}'], form="json")
def test_cases_of_any_kind(folder, lines, form):
    check_outcome("predict", "--cases", file_of(folder, "\n".join(lines), ".jsonl"), "--gpu", "t4", "--format", form)


@thrown
@given(content=st.binary(max_size=100))
def test_bytes_as_cases(folder, content):
    check_outcome("predict", "--cases", file_of(folder, content, ".jsonl"), "--gpu", "t4")


# --- arguments

SIZES = st.integers(1, 64).map(str) | st.sampled_from(
    ("N", "S", "D", "H", "4*D", "N//2", "D/H", "8k", "0", "1", "1e15")
)
LIKELY = st.builds(
    "{}={}".format, st.sampled_from(("B", "N", "S", "H", "H_kv", "D", "d", "F", "V", "L", "W", "causal", "act")), SIZES
)
ANYTHING = st.builds("{}={}".format, NAMES, NAMES | st.lists(NAMES, max_size=4).map("".join)) | NAMES
SETTINGS = (st.lists(LIKELY, max_size=4) | st.lists(LIKELY | ANYTHING, max_size=3)).map(
    lambda texts: [part for text in texts for part in ("--set", text)]
)


@settings(thrown, max_examples=120)
@given(
    given_settings=SETTINGS, config=st.sampled_from(("gpt2-124m", "llama-2-7b-layer", "flash-table-flash")), form=FORMS
)
def test_settings_of_any_kind(given_settings, config, form):
    check_outcome("flops", "--config", config, "--gpu", "t4", "--format", form, *given_settings)


@thrown
@given(config=NAMES, gpu=NAMES, phase=NAMES, form=NAMES)
def test_names_of_any_kind(config, gpu, phase, form):
    check_outcome("flops", f"--config={config}", f"--gpu={gpu}")
    check_outcome("flops", "--config=mlp-4096", f"--gpu={gpu}", f"--phase={phase}")
    check_outcome("flops", "--config=mlp-4096", f"--format={form}")


@thrown
@given(
    arguments=st.lists(
        NAMES | st.sampled_from(("--gpu", "--config", "--set", "--help", "--causal", "--", "-o")), max_size=4
    ),
    command=st.sampled_from(("", "flops", "gpus", "ops", "models", "symbols", "predict", "roofline")),
)
def test_arguments_in_any_order(command, arguments):
    check_outcome(*([command] if command else []), *arguments)


@costly
@given(op=st.sampled_from(("matmul", "softmax", "conv1d")) | NAMES, given_settings=SETTINGS)
@example(op="attention", given_settings=["--set", "causal=1"])
@example(op="rope", given_settings=["--set", "d=3"])
def test_explaining_anything(op, given_settings):
    check_outcome("explain", "--gpu=t4", *given_settings, "--", op)


@costly
@given(
    op=st.sampled_from(("matmul", "softmax", "attention")),
    symbol=st.sampled_from("mknNSdB") | NAMES,
    given_settings=SETTINGS,
)
@example(op="matmul", symbol="n", given_settings=["--set", "m=1"])
def test_solving_for_anything(op, symbol, given_settings):
    check_outcome("solve", "--op", op, "--gpu", "t4", f"--for={symbol}", "--format", "json", *given_settings)


LIKELY_RANGES = st.builds(
    "{}={}:{}{}".format, st.sampled_from("mkn"), SIZES, SIZES, st.sampled_from(("", ":3", ":log", ":5:log"))
)
RANGES = LIKELY_RANGES | st.builds("{}={}:{}".format, NAMES, WORDS, WORDS) | NAMES


@thrown
@given(over=st.lists(RANGES, min_size=1, max_size=2), given_settings=SETTINGS)
@example(over=["n=1:1000000000000000"], given_settings=[])
def test_sweeping_over_anything(over, given_settings):
    ranges = [f"--over={text}" for text in over]
    check_outcome("sweep", "--op", "matmul", "--gpu", "t4", *ranges, *given_settings)


@pytest.mark.skipif("memory" not in COMMANDS, reason="there is no such command")
@thrown
@given(
    config=st.sampled_from(("gpt2-124m", "llama-2-7b-layer", "conv1d-8192")),
    given_settings=SETTINGS,
    phase=st.sampled_from(("prefill", "decode", "train")),
    zero=NAMES,
    solve=NAMES,
)
@example(config="gpt2-124m", given_settings=[], phase="train", zero="3", solve="B")
def test_the_memory_of_anything(config, given_settings, phase, zero, solve):
    asked = ("memory", "--config", config, "--gpu", "t4", "--phase", phase, "--format", "json")
    check_outcome(*asked, *given_settings)
    check_outcome(*asked, f"--zero={zero}", f"--solve={solve}", *given_settings)


@pytest.mark.skipif("compare" not in COMMANDS, reason="there is no such command")
@thrown
@given(given_settings=SETTINGS, part=NAMES | st.sampled_from(("softmax", "attention", "layernorm")), factor=WORDS)
@example(given_settings=[], part="layernorm", factor="15.8")
@example(given_settings=[], part="layernorm", factor="1e308")
def test_comparing_anything(given_settings, part, factor):
    asked = ("compare", "--config", "gpt2-124m", "--gpu", "t4", "--format", "json")
    check_outcome(*asked, f"--speedup={part}={factor}", *given_settings)


@costly
@given(gpus=st.lists(st.sampled_from(("t4", "a100", "h100")) | NAMES, max_size=2), given_settings=SETTINGS)
def test_a_roofline_of_anything(gpus, given_settings):
    check_outcome("roofline", *(f"--gpu={gpu}" for gpu in gpus), *given_settings, "show")
