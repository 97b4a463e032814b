"""One vocabulary of operations for every command, and every given key is used or refused."""

from __future__ import annotations

import json

import click
import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import ops, records
from perfmodel.analysis import analyse
from perfmodel.cases import case
from perfmodel.cli import COMMANDS, cli
from perfmodel.cli.command import Command, Group
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.prediction import predictions
from perfmodel.symbols import SYMBOLS
from perfmodel.vocabulary import COMPOSITES, IMPLEMENTATIONS, NAMES, implementations, kind, splits
from perfmodel.workload import single

A100 = gpu("a100")
MATMUL = {"op": "matmul", "shape": {"m": 64, "k": 64, "n": 64}}
ATTENTION = {"op": "attention", "shape": {"B": 1, "H": 4, "N": 512, "d": 64}}


def predicted(*lines, card="a100", code=0):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    ran = perfmodel("predict", "--cases", "-", "--gpu", card, "--format", "json", stdin=text)
    assert ran.code == code, ran
    return json.loads(ran.out)["cases"]


def example(operation):
    """Returns a case of the operation at the sizes of its worked example."""
    at = operation.example.at
    line = {"op": operation.name, "shape": {name: size for name, size in at.items() if SYMBOLS[name].kind != "flag"}}
    return {**line, "causal": True} if at.get("causal") else line


# --- one vocabulary


@for_each("name", [name for name in ops.FAMILY_OF if name not in COMPOSITES])
def test_a_case_of_every_operation_has_the_counts_of_its_worked_example(name):
    """Item sizes are those of fp16 unless the example states others in its shape."""
    operation = ops.find(name)
    shape = {**{s: d for s, d in operation.defaults.items() if SYMBOLS[s].kind == "item"}, **operation.example.at}
    line = example(operation)
    line["shape"] |= {symbol: size for symbol, size in shape.items() if SYMBOLS[symbol].kind == "item"}
    (found,) = predictions([case(line)], A100)
    assert found.error == ""
    traffic = operation.example.unfused if operation.apart else operation.example.traffic
    assert (found.total.flops, found.total.traffic_byte) == (operation.example.flops, traffic)
    assert found.expected.expected_s > 0


@for_each("name", ops.FAMILY_OF)
def test_every_operation_has_an_answer_in_flops(name):
    ran = perfmodel("flops", "--op", name, "--gpu", "t4", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    steps = json.loads(ran.out)["steps"]
    names = [part for part, _ in ops.find(name)(**ops.find(name).example.at).kernels()]
    assert [step["op"] for step in steps] == (names if ops.find(name).apart else [name])
    assert all(step["expected_s"] > 0 for step in steps)


@pytest.mark.parametrize("name", ["mlp", "gated_mlp", "qkv", "attention", "softmax"])
def test_an_operation_and_its_case_have_one_time(name, tmp_path):
    sizes = ops.find(name).example.at
    words = [word for symbol, size in sizes.items() for word in ("--set", f"{symbol}={size}")]
    flops = json.loads(perfmodel("flops", "--op", name, "--gpu", "a100", *words, "--format", "json").out)["total"]
    path = tmp_path / "case.jsonl"
    path.write_text(json.dumps({"op": name, "shape": sizes}))
    case_ = json.loads(perfmodel("predict", "--cases", str(path), "--gpu", "a100", "--format", "json").out)["cases"][0]
    for field in ("flops", "traffic_byte", "lower_s", "expected_s"):
        assert case_[field] == pytest.approx(flops[field], rel=1e-12), field


@for_each("name", ops.FAMILY_OF)
def test_every_operation_can_be_swept_and_its_rows_are_cases(name, tmp_path):
    operation = ops.find(name)
    symbol = next(name for name in operation.required if SYMBOLS[name].kind == "size" and not SYMBOLS[name].card)
    path = tmp_path / "rows.jsonl"
    low = SYMBOLS[symbol].typical
    ran = perfmodel("sweep", "--op", name, "--gpu", "t4", "--over", f"{symbol}={low}:{2 * low}:2", "-o", str(path))
    assert ran.code == 0, ran.err
    if name in COMPOSITES:  # a case of that name runs as three kernels, the operation as one
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows
    for row, found in zip(rows, predictions(map(case, rows), gpu("t4")), strict=True):
        assert (found.total.flops, found.total.traffic_byte) == (row["flops"], row["traffic_byte"])


def test_a_case_and_flops_agree_on_sizes_that_are_left_out():
    """S defaults to N, H_kv to H, F to 4 D, and on-chip memory to that of the card."""
    shape = {"B": 1, "H": 32, "N": 512, "d": 128}
    (found,) = predictions([case({"op": "flash_attention", "shape": shape})], A100)
    answer = analyse(single(ops.find("flash_attention"), "fp16", A100.sizes()), gpu=A100, settings=shape)
    assert found.total.traffic_byte == answer.total.traffic_byte
    other = gpu("t4")
    (smaller,) = predictions([case({"op": "flash_attention", "shape": shape})], other)
    assert A100.sizes()["M"] > other.sizes()["M"]
    assert smaller.total.traffic_byte > found.total.traffic_byte
    assert case({"op": "gated_mlp", "shape": {"B": 1, "N": 8, "D": 16}}).dims["F"] == 64


def test_an_elementwise_case_is_the_operation_that_its_kind_names():
    by_kind, by_name = predicted(
        {"op": "elementwise", "kind": "gelu", "shape": {"numel": 4096}}, {"op": "gelu", "shape": {"numel": 4096}}
    )
    assert {**by_kind, "op": "gelu", "kind": None} == {**by_name, "kind": None}


def test_the_names_of_cases_are_the_operations_and_few_workloads():
    assert set(NAMES) - set(ops.FAMILY_OF) == {"elementwise", "layer"}
    assert set(COMPOSITES) == {"mlp", "layer"}


# --- implementations


@for_each("name", [*ops.FAMILY_OF, "layer"])
def test_naive_is_accepted_where_there_are_several_kernels(name):
    split = name in COMPOSITES or splits(ops.find(name), backward=True)
    assert ("naive" in kind(name).words.get("impl", ())) == split


@pytest.mark.parametrize("name", ["silu_gate", "gelu_gate", "gelu_tanh_gate", "clamped_swiglu"])
def test_torch_runs_a_gate_in_two_kernels(name):
    """Fused, 2 x 4096 elements are read and 4096 written. torch writes and reads 4096 more, 2 bytes each."""
    fused, torch = predicted(*({"op": name, "shape": {"numel": 4096}, "impl": impl} for impl in ("fused", "torch")))
    assert (fused["traffic_byte"], torch["traffic_byte"]) == (2 * 3 * 4096, 2 * 5 * 4096)


@for_each(("line", "told"), [
        ({**MATMUL, "impl": "ours"}, "impl: 'ours' is not an implementation of matmul; torch, static_scale,"),
        ({**MATMUL, "impl": "flash"}, "impl: 'flash' is not an implementation of matmul;"),
        ({**ATTENTION, "impl": "ours"}, "impl: 'ours' is not an implementation of attention; torch, flash, cudnn,"),
        ({"op": "rmsnorm_backward", "shape": {"rows": 8, "cols": 8}, "impl": "ours"}, "impl: 'ours' is not an"),
        ({"op": "wkv", "shape": {"B": 1, "N": 8, "D": 8}, "impl": "torch"}, "impl: 'torch' is given, but wkv does not"),
        ({"op": "layernorm", "shape": {"rows": 8, "cols": 8}, "impl": "naive"}, "impl: naive is given, but layernorm"),
    ])  # fmt: skip
def test_an_implementation_that_does_not_exist_is_refused(line, told):
    with pytest.raises(InputError) as refused:
        case(line, "x:1")
    assert str(refused.value).startswith(f"x:1: {told}")


def test_the_implementations_of_what_is_measured_are_programs_or_say_why_not():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.workloads import FAMILY, build

    def reason(line):
        try:
            build(torch, "cpu", case(line))
        except InputError as error:
            return str(error)
        return ""

    shapes = {
        "B": 1, "H": 2, "H_kv": 2, "N": 8, "S": 8, "d": 8, "D": 16, "F": 32, "K": 3, "V": 32, "run": 4, "taps": 4, "reads": 2,
        "K_h": 3,
    }  # fmt: skip
    followed = ("W", "batch", "h_out", "w_out", "K_w", "groups")
    reasons = (
        "GPU",
        "serving stack",
        "its separate kernels",
        "measures the backward pass",
        "quantises",
        "torch has no such",
        "no kernel of torch",
    )
    for name in FAMILY:
        shape = {size: shapes.get(size, 16) for size in kind(name).shape if size not in followed}
        for impl in implementations(name):
            told = reason({"op": name, "shape": shape, "dtype": "fp32", "impl": impl})
            assert not told or any(because in told for because in reasons) or impl == "naive", told


def test_every_name_of_the_table_exists():
    assert set(IMPLEMENTATIONS) <= {*ops.FAMILY_OF, *COMPOSITES}


# --- keys of a case


@for_each(
    ("line", "told"),
    [
        ({**MATMUL, "measured": 312}, "'measured' is not a key of a case; matmul accepts op, shape,"),
        ({**MATMUL, "mesured_us": 312}, "Did you mean 'measured_us'?"),
        ({**MATMUL, "m": 512}, "'m' is not a key of a case"),
        ({**MATMUL, "window": 256}, "window: 256 is given, but matmul does not accept this key;"),
        ({**ATTENTION, "W": 256}, "Move it into shape."),
        ({**ATTENTION, "window": 256, "causal": False}, "causal: false is given together with a window;"),
        ({**ATTENTION, "window": 0}, "window: 0 is out of range;"),
        ({**ATTENTION, "shape": {**ATTENTION["shape"], "W": 8}, "window": 8}, "window: the shape gives W as well;"),
        ({**MATMUL, "dtypes": {"cache": "fp8"}}, "dtypes: 'cache' is not a role of matmul; its roles are activation."),
        ({**MATMUL, "dtypes": {"activation": "fp9"}}, "dtypes: activation: 'fp9' is not known;"),
        ({**MATMUL, "dtypes": "int8"}, "dtypes: 'int8' is not an object;"),
        (
            {**MATMUL, "measured_us": 0},
            "measured_us: 0 is not accepted here; a time in microseconds, a number from 1e-06",
        ),
        ({**MATMUL, "measured_us": "3"}, "measured_us: '3' is not accepted here;"),
        ({**MATMUL, "measured_us": 10**400}, "measured_us: 1000"),
        ({**MATMUL, "measured_us": 3, "median_us": 4}, "measured_us and median_us give different times;"),
    ],
)
def test_a_key_is_honoured_or_refused(line, told):
    with pytest.raises(InputError) as refused:
        case(line, "x:1")
    assert told in str(refused.value)


def test_a_window_of_a_case_is_the_size_w():
    """512 queries see at most 32 keys: 32 x 512 - (1 + ... + 31) = 15,888 pairs, 4 heads, 2 products of 64."""
    window, size = predicted({**ATTENTION, "window": 32}, {**ATTENTION, "shape": {**ATTENTION["shape"], "W": 32}})
    assert window["contraction_flops"] == size["contraction_flops"] == 2 * 2 * 4 * 15_888 * 64


def test_data_types_by_role_reach_the_traffic():
    """x and y have 8 x 16 and 8 x 32 elements of 2 bytes, the weight 16 x 32 of 1 byte."""
    (found,) = predicted(
        {"op": "linear", "shape": {"B": 1, "N": 8, "D_in": 16, "D_out": 32}, "dtypes": {"weight": "int8"}}
    )
    assert found["traffic_byte"] == 2 * (8 * 16 + 8 * 32) + 16 * 32


def test_what_predict_writes_can_be_read_again():
    first = predicted(MATMUL, {**ATTENTION, "measured_us": 50, "causal": True}, {**MATMUL, "comment": "of mine"})
    assert predicted(*first) == first


def test_every_field_of_a_measurement_is_known_to_a_case():
    from perfmodel.measure.counters import BYTES, INSTRUCTIONS
    from perfmodel.measure.environment import State
    from perfmodel.measure.stopwatch import Samples
    from perfmodel.report.rows import EXPECTED, FIGURES

    fields = {*Samples((1.0, 2.0)).fields(), *State._fields, *BYTES, *INSTRUCTIONS, *FIGURES, *EXPECTED}
    assert fields <= records.WRITTEN
    record = {"schema": 1, **MATMUL, "median_us": 20.0, "p25_us": 19.0, "p75_us": 21.0, "n": 9, "flags": ["noisy"]}
    (found,) = predicted(record)
    assert found["measured_s"] == pytest.approx(20e-6)


def test_a_record_that_failed_is_predicted_as_any_case():
    (found,) = predicted({**MATMUL, "error": "out of memory"})
    assert found["lower_s"] > 0
    assert "error" not in found


# --- share of the bound and of the expected time


def test_predict_prints_the_shares_of_a_measured_time():
    plain, measured = predicted(MATMUL, {**MATMUL, "measured_us": 100})
    assert "measured_s" not in plain
    assert measured["measured_s"] == pytest.approx(100e-6)
    assert measured["of_bound"] == measured["of_roofline"] == pytest.approx(measured["lower_s"] / 100e-6)
    assert measured["of_expected"] == pytest.approx(measured["expected_s"] / 100e-6)
    assert measured["error"] == pytest.approx(measured["expected_s"] / 100e-6 - 1)


def test_the_table_has_the_columns_only_where_something_was_measured(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for line, shown in ((MATMUL, False), ({**MATMUL, "measured_us": 100}, True)):
        ran = perfmodel("predict", "--cases", "-", "--gpu", "a100", stdin=json.dumps(line))
        assert all((column in ran.out) == shown for column in ("measured", "of bound", "of expected"))


def test_a_time_below_the_bound_is_reported():
    line = json.dumps({**MATMUL, "measured_us": 1e-3})
    ran = perfmodel("predict", "--cases", "-", "--gpu", "a100", stdin=line)
    assert "1 of 1 cases were measured below the lower bound." in ran.out


# --- options


def commands():
    """Yields every command with its words, including those of groups."""
    for name in COMMANDS:
        found = cli.get_command(click.Context(cli), name)
        yield [name], found
        if isinstance(found, click.Group):
            yield from (([name, inner], command) for inner, command in found.commands.items())


def test_every_command_looks_for_options_that_stand_twice():
    assert all(isinstance(found, (Command, Group)) for _, found in commands())


ONCE = [
    (words, option)
    for words, found in commands()
    for option in found.params
    if isinstance(option, click.Option) and not option.multiple
]


@for_each(("words", "option"), ONCE)  # fmt: skip
def test_an_option_that_counts_once_is_refused_twice(words, option):
    given = [option.opts[0]] if option.is_flag else [option.opts[0], "1"]
    ran = perfmodel(*words, *given, *given)
    check_refused(ran, 2)
    assert "is given 2 times; it is accepted once." in ran.err


def test_a_second_card_of_flops_is_refused_with_the_command_that_takes_it():
    ran = perfmodel("flops", "--op", "matmul", "--gpu", "a100", "--gpu", "h100")
    check_refused(ran, 2)
    assert "Use 'perfmodel compare' for several GPUs." in ran.err


def test_a_chart_shows_every_workload_that_is_named():
    ran = perfmodel("roofline", "--config", "mlp-4096", "--gpu", "a100", "show", "--config", "conv1d-8192")
    assert ran.code == 0
    assert {"mlp-4096", "conv1d-8192"} <= set(ran.out.split())
    assert "mlp-4096, conv1d-8192" in ran.out.splitlines()[0]


@for_each(("arguments", "told"), [
        (("flops", "--op", "matmul", "--causal"), "--causal is given, but matmul has no attention with a mask;"),
        (("flops", "--config", "mlp-4096", "--causal"), "--causal is given, but mlp-4096 has"),
        (("flops", "--op", "softmax", "--fused"), "--fused is given, but every operation of softmax has only one form;"),
        (("flops", "--op", "softmax", "--unfused"), "--unfused is given, but every operation of softmax"),
        (("flops", "--op", "attention", "--causal", "--set", "causal=0"), "--causal and --set causal are both given;"),
        (("flops", "--op", "attention", "--set", "W=8"), "--set W is given, but attention has no causal mask;"),
        (("flops", "--op", "matmul", "--knowledge", "family"), "--knowledge is given without --gpu;"),
        (("flops", "--op", "matmul", "--symbolic", "--gpu", "t4"), "--symbolic and --gpu are both given;"),
        (("flops", "--op", "matmul", "--symbolic", "--count", "all"), "--symbolic and --count are both given;"),
        (("explain", "matmul", "--knowledge", "family"), "--knowledge is given without --gpu;"),
        (("explain", "attention", "--set", "W=8"), "--set W is given, but attention has no causal mask;"),
        (("explain", "--time", "{}", "--gpu", "t4", "--latex"), "--time and --latex are both given;"),
        (("explain", "--time", "{}", "--gpu", "t4", "--set", "m=1"), "--time and --set are both given;"),
        (("explain", "--time", "{}", "--gpu", "t4", "--dtype", "fp32"), "--time and --dtype are both given;"),
        (("solve", "--op", "matmul", "--gpu", "t4", "--for", "m", "--unfused"), "--unfused is given, but"),
        (("sweep", "--op", "matmul", "--gpu", "t4", "--over", "m=1:8", "--causal"), "--causal is given, but"),
        (("compare", "--config", "mlp-4096", "--causal"), "--causal is given, but"),
        (("memory", "--config", "mlp-4096", "--unfused"), "--unfused is given, but"),
        (("roofline", "--gpu", "t4", "--config", "mlp-4096", "--unfused", "show"), "--unfused is given, but"),
        (("roofline", "--gpu", "t4", "--phase", "train", "show", "--phase", "prefill"), "--phase is given 2 times;"),
        (("memory", "--config", "gpt2", "--phase", "prefill", "--optimizer", "sgd"), "--optimizer: a prefill phase has no"),
        (("validate", "--from", "x.jsonl", "--limit", "5"), "--from and --limit are both given;"),
    ])  # fmt: skip
def test_an_option_that_would_change_nothing_is_refused(arguments, told):
    ran = perfmodel(*arguments)
    check_refused(ran, 2)
    assert told in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--op", "layernorm", "--unfused", "--phase", "train"),
        ("--op", "attention", "--causal", "--set", "W=8"),
        ("--op", "attention", "--set", "causal=1", "--set", "W=8"),
        ("--config", "mistral-7b-v0.1", "--phase", "decode", "--set", "W=128"),
    ],
)
def test_an_option_that_changes_something_is_accepted(arguments):
    assert perfmodel("flops", *arguments).code == 0


def test_explain_rests_on_the_knowledge_that_it_is_asked_for():
    pages = {
        state: perfmodel("explain", "matmul", "--gpu", "h200", "--knowledge", state).out
        for state in ("datasheet", "family")
    }
    assert pages["datasheet"] != pages["family"]


# --- measuring


DIRECT = [
    {"op": "gelu", "shape": {"numel": 64}},
    {"op": "residual", "shape": {"B": 2, "N": 3, "D": 8}},
    {"op": "stream_triad", "shape": {"numel": 64}},
    {"op": "saxpy", "shape": {"numel": 64}},
    {"op": "gemm", "shape": {"m": 6, "k": 8, "n": 10}},
    {"op": "linear_bias", "shape": {"B": 2, "N": 3, "D_in": 8, "D_out": 10}, "direction": "forward_backward"},
    {"op": "output_projection", "shape": {"B": 2, "N": 3, "D": 16, "H": 2, "d": 8}},
    {"op": "logits", "shape": {"B": 2, "N": 3, "D": 8, "V": 20}},
    {"op": "qkv", "shape": {"B": 2, "N": 3, "D": 16, "H": 4, "H_kv": 2}, "impl": "naive"},
    {"op": "multi_head_attention", "shape": {"B": 2, "N": 8, "D": 16, "H": 2}, "causal": True},
    {"op": "cross_attention", "shape": {"B": 2, "N": 4, "S": 8, "D": 16, "H": 2}},
    {"op": "attention_decode", "shape": {"B": 2, "H": 4, "H_kv": 2, "S": 8, "d": 8}},
]


@pytest.mark.parametrize("line", DIRECT, ids=lambda line: line["op"])
def test_an_operation_that_has_a_program_is_measured_by_its_own_name(line):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.program import verdict
    from perfmodel.measure.workloads import build

    program = build(torch, "cpu", case({**line, "dtype": "fp32"}))
    assert not verdict(program.compare(program.run()), "fp32", torch).wrong


def test_a_mask_that_is_written_as_a_word_is_the_mask():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perfmodel.measure.workloads import Bench

    assert [Bench(torch, "cpu", case({**ATTENTION, "causal": word})).causal for word in ("false", "true")] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"op": "wkv", "shape": {"B": 1, "N": 8, "D": 8}}, "no program measures wkv;"),
        ({**ATTENTION, "window": 8}, "no program has an attention window;"),
        ({**ATTENTION, "protocol": "rotating"}, "protocol: no run of this case replaces its weights;"),
        ({**MATMUL, "torch": "2.1"}, "torch: version 2.1 is requested; the installed version is measured."),
        (
            {"op": "linear", "shape": {"B": 1, "N": 8, "D_in": 8, "D_out": 8}, "dtypes": {"weight": "int8"}},
            "no program mixes data types;",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(line, told, tmp_path, monkeypatch):
    from perfmodel.measure import session

    monkeypatch.setattr(session, "processor", lambda note: session.Device("cpu", A100))
    file = tmp_path / "suite.jsonl"
    file.write_text(json.dumps(line))
    ran = perfmodel("validate", "--gpu", "cpu", "--suite", str(file))
    assert ran.code == 1
    assert told in ran.err


# --- similar names with another meaning


def test_a_model_type_is_never_answered_with_a_similar_architecture(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama5"}))
    ran = perfmodel("flops", "--config", str(file))
    check_refused(ran, 1)
    assert "Did you mean" not in ran.err
    assert "Describe this model in a workload file" in ran.err


def test_measurements_of_another_card_are_reported():
    lines = [{"environment": {"gpu": "NVIDIA H200"}}, {**MATMUL, "measured_us": 50}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    told = perfmodel("predict", "--cases", "-", "--gpu", "a100", stdin=text).err
    assert told.startswith("standard input:1: these cases were measured on 'NVIDIA H200', which is not NVIDIA A100")
    assert perfmodel("predict", "--cases", "-", "--gpu", "h200", stdin=text).err == ""


def test_cases_that_differ_in_a_word_are_named_differently():
    from perfmodel.report.predictions import how
    from perfmodel.validation import described

    plain = {**ATTENTION, "causal": "false"}
    others = [{**ATTENTION, "causal": "true"}, {**ATTENTION, "window": 8}, {**ATTENTION, "impl": "naive"}]
    others.append({"op": "mlp", "shape": {"B": 1, "N": 8, "D": 8}, "activation": "relu"})
    assert len({how(line) for line in (plain, *others)}) == len({described(line) for line in (plain, *others)}) == 5
    assert "causal" not in how(plain) + described(plain)
