"""Sweeps: every point has the results of a single analysis, for any grid, chunk size and output format."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import ops
from perfmodel.analysis import analyse
from perfmodel.arithmetic import ceil_div, floor_div, remainder
from perfmodel.cases import case
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.prediction import predictions
from perfmodel.report import rows
from perfmodel.report.sample import SHOWN, Sample
from perfmodel.sweep import axis, axis_from_text, doubled, exact, features, plan, spaced, sweep
from perfmodel.sweep.digits import Lines, Slot, slot
from perfmodel.symbols import SYMBOLS
from perfmodel.workload import setting, single

A100, T4 = gpu("a100"), gpu("t4")
WHERE = "a test"


pytestmark = pytest.mark.usefixtures("small_pictures")


def points_of(chunks):
    """Yields every row as (gpu, sizes, figures)."""
    for chunk in chunks:
        for i, bound in enumerate(chunk.bound_names):
            at = {name: int(values[i]) for name, values in chunk.at.items()}
            yield chunk.gpu, at, {name: getattr(chunk, name)[i] for name in rows.FIGURES} | {"bound": bound}


def check_against_analysis(found, over, *, cards=(A100,), settings=None, **choices):
    """Checks that the rows are the points that the analysis accepts, with its figures."""
    swept = {
        (card.name, *at.values()): figures
        for card, at, figures in points_of(sweep(found, cards, over, settings=settings, **choices))
    }
    expected = {}
    for card in cards:
        for values in np.ndindex(*(len(values) for values in over.values())):
            at = {name: int(listed[i]) for (name, listed), i in zip(over.items(), values, strict=True)}
            try:
                total = analyse(found, gpu=card, settings={**(settings or {}), **at}, **choices).total
            except InputError:
                continue
            expected[(card.name, *at.values())] = total
    assert swept.keys() == expected.keys()
    for key, total in expected.items():
        assert total.flops < 2**53
        figures = swept[key]
        counts = (total.flops, total.contraction_flops, total.traffic_byte, total.bound)
        assert tuple(figures[name] for name in ("flops", "contraction_flops", "traffic_byte", "bound")) == counts, key
        assert figures["lower_s"] == pytest.approx(total.lower_s, rel=1e-12)
        assert figures["no_overlap_s"] == pytest.approx(total.no_overlap_s, rel=1e-12)
        assert figures["intensity_flop_per_byte"] == pytest.approx(total.intensity_flop_per_byte, rel=1e-12)
    return expected


# --- the figures


@pytest.mark.parametrize(
    ("name", "over", "choices"),
    [
        ("llama-2-7b-layer", {"N": [1, 100, 4096], "B": [1, 3]}, {}),
        ("llama-2-7b-layer", {"N": [7, 4096], "B": [1, 16]}, {"count": "all", "causal": True}),
        ("llama-2-7b-layer", {"S": [1, 2047, 10**6], "B": [1, 64]}, {"phase": "decode"}),
        ("llama-2-7b-layer", {"N": [1, 300], "D": [1024, 4096]}, {"phase": "train", "fused": False}),
        ("llama-2-7b-layer", {"H_kv": range(1, 33), "W": [1, 512]}, {"causal": True}),
        ("gpt2-124m", {"L": [1, 12], "N": [1, 1024], "V": [50257, 50304]}, {}),
        ("gpt2-124m", {"L": [1, 12], "H": [1, 12]}, {"phase": "train"}),
        ("decoder-block", {"B": [1, 32], "S": [100, 512], "act": [1, 2, 4]}, {}),
        ("decoder-block", {"weight": [1, 2, 4, 8]}, {"phase": "train"}),
        ("encoder-block", {"H": range(1, 9)}, {"fused": False}),
        ("attention-stages", {"N": [64, 2048]}, {"fused": False, "phase": "train"}),
        ("attention-16x16384", {"H": [1, 16, 32, 33, 64]}, {"fused": False}),
        ("flash-table-flash", {"N": [1000, 1024], "M": [10000, 167936]}, {"phase": "train", "causal": True}),
        ("conv1d-8192", {"K": [1, 3, 128], "D": [1, 8192]}, {"phase": "train"}),
    ],
)
def test_every_value_is_the_analysis_of_its_point(name, over, choices):
    assert check_against_analysis(workload(name), over, cards=(A100, T4), **choices)


@pytest.mark.parametrize(
    ("name", "over", "choices"),
    [
        ("mistral-nemo-12b", {"B": [1, 2, 3, 64, 96, 128], "N": [64, 96, 128, 4096, 6144]}, {}),
        ("mistral-nemo-12b", {"S": range(100, 40000, 3000), "B": [1, 64, 256]}, {"phase": "decode"}),
        ("gpt2-124m", {"B": [1, 2, 4], "N": [256, 512, 1024]}, {"phase": "train", "fused": False}),
        ("gpt2-124m", {"L": [1, 12], "V": [50257, 50304]}, {"phase": "train"}),
    ],
)
@pytest.mark.parametrize("card", [A100, T4, gpu("h100")], ids=lambda card: card.name)
def test_every_time_is_that_of_its_point(card, name, over, choices):
    """Many points at once, and those that share their kernels, have the times of single points."""
    found = workload(name)
    for chunk in sweep(found, [card], over, expected=True, **choices):
        for i, times in enumerate(zip(chunk.expected_s, chunk.expected_low_s, chunk.expected_high_s, strict=True)):
            at = {name: int(values[i]) for name, values in chunk.at.items()}
            alone = analyse(found, gpu=card, settings=at, **choices).total.expected[:3]
            assert times == pytest.approx(alone, rel=1e-12), at


PER_TOKEN = [operation for operation in ops.every() if operation.per_token]


@pytest.mark.parametrize("operation", PER_TOKEN, ids=lambda operation: operation.name)
@pytest.mark.parametrize("phase", ["prefill", "train"])
def test_one_sequence_of_all_tokens_is_the_same_work(operation, phase):
    assert {"B", "N"} <= set(operation.arguments)
    found = single(operation, "bf16")
    for B, N in ((3, 5), (8, 512), (64, 33)):
        apart, joined = (
            analyse(found, phase=phase, gpu=A100, settings=at).total for at in ({"B": B, "N": N}, {"B": 1, "N": B * N})
        )
        assert (apart.flops, apart.traffic_byte, apart.lower_s) == (joined.flops, joined.traffic_byte, joined.lower_s)
        assert apart.expected == joined.expected


@for_each("operation", list(ops.every()))
def test_every_operation_takes_arrays(operation):
    sizes = {name: value for name, value in operation.example.at.items() if SYMBOLS[name].kind != "flag"}
    symbol = next(name for name in operation.required if SYMBOLS[name].kind == "size")
    over = {symbol: [sizes[symbol], 2 * sizes[symbol]]}
    others = {name: value for name, value in sizes.items() if name != symbol}
    for choices in ({}, {"fused": False, "phase": "train"}):
        assert check_against_analysis(single(operation), over, settings=others, **choices)


def test_the_cards_are_swept_one_after_the_other_and_the_last_symbol_varies_fastest():
    found = list(points_of(sweep(workload("mlp-4096"), [T4, A100], {"N": [1, 2], "B": [3, 4]})))
    order = [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert [(card.name, at["N"], at["B"]) for card, at, _ in found] == [
        (card.name, *pair) for card in (T4, A100) for pair in order
    ]


def test_counts_beyond_2_to_the_53_are_right_to_16_digits():
    """2 m k n of 10^6 each is 2 10^18, about 220 times 2^53."""
    ((chunk),) = sweep(single(ops.find("matmul")), [A100], {"m": [10**6]}, settings={"k": 10**6, "n": 10**6})
    assert chunk.flops[0] == pytest.approx(2 * 10**18, rel=1e-15)


def test_arrays_round_down_as_integers_do():
    """Up to the largest numerator with an exact float64 quotient, and just below and above whole quotients."""
    random = np.random.default_rng(3)
    below = random.integers(1, 10**6, 3000)
    above = np.concatenate([random.integers(0, 2**53, 1500), random.integers(1, 2**33, 1500) * below[:1500]])
    for nudge in (-1, 0, 1):
        a, b = np.abs(above + nudge), below
        ints = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
        for function in (floor_div, remainder, ceil_div):
            found = function(a.astype(float), b.astype(float))
            assert found.astype(int).tolist() == [function(x, y) for x, y in ints]


def test_a_quotient_in_a_backward_pass_is_guarded_by_its_operation():
    """The sweep checks for fractional quotients only in expressions of the workload."""
    for operation in ops.every():
        for _, text in (size for gradient in operation.backward for size in gradient.sizes):
            if "/" in text:
                above, below = text.split("/")
                assert f"{above.strip()} % {below.strip()} == 0" in [rule.condition for rule in operation.valid]


@pytest.mark.parametrize("points", [1, 7, 4096])
def test_chunks_of_any_length_give_the_same_rows(points):
    over = {"N": spaced("N", 1, 500, 9), "H_kv": [1, 2, 3, 4, 32], "B": [1, 2, 3]}
    whole = list(points_of(sweep(workload("llama-2-7b-layer"), [A100, T4], over)))
    pieces = list(sweep(workload("llama-2-7b-layer"), [A100, T4], over, points=points))
    assert len(whole) == 2 * 9 * 4 * 3  # 3 does not divide 32
    assert [len(chunk.flops) for chunk in pieces if chunk.points == points] or points > 135
    for (card, at, figures), (other, there, others) in zip(points_of(pieces), whole, strict=True):
        assert (card, at, figures["flops"], figures["bound"]) == (other, there, others["flops"], others["bound"])
        assert figures["lower_s"] == pytest.approx(others["lower_s"], rel=1e-15)


def test_steps_that_do_the_same_are_evaluated_once():
    """Two norms and two residuals among eleven steps."""
    layer = workload("llama-2-7b-layer")
    assert (len(layer.steps), len(plan(layer, [A100], {"N": [1]}).steps)) == (11, 9)


def test_a_million_points_need_no_more_memory_than_a_chunk():
    """About 30 arrays of 16,384 float64 exist at a time, 4 MB. One column of all points would be 8 MB."""
    over = {"N": spaced("N", 128, 32768, 1000), "B": spaced("B", 1, 1000, 1000)}
    tracemalloc.start()
    rows_found = sum(chunk.flops.size for chunk in sweep(workload("llama-2-7b-layer"), [A100], over))
    _, peak_byte = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows_found == 10**6
    assert peak_byte < 40e6


# --- skipped points


def skipped(found, over, points, **choices):
    """Returns the number of skipped points, and the reason for the first."""
    ready = plan(found, [A100], over, **choices)
    chunks = list(ready.chunks(points))
    first = next((chunk.skipped for chunk in chunks if chunk.skipped), None)
    return sum(chunk.points - chunk.flops.size for chunk in chunks), first and ready.why(first)


@for_each(
    ("over", "choices", "count", "reason"),
    [
        ({"H_kv": [1, 2, 3]}, {}, 1, "H_kv = 3: attention: H % H_kv == 0 does not hold at H = 32, H_kv = 3"),
        ({"H": [32, 24]}, {}, 1, "H = 24: "),  # D/H = 4096/24
        ({"N": [4, 5, 6], "S": [5]}, {"causal": True}, 1, "N = 6, S = 5: attention: causal * N <= S does not hold"),
        ({"B": [10**7, 10**8]}, {}, 1, "B = 100000000: "),  # B N F = 2.3 10^15 elements
        ({"N": [64, 65]}, {"settings": dict([setting("B=N/2*2"), setting("S=N")])}, 1, "N = 65: "),
        ({"N": [8, 9]}, {"settings": dict([setting("S=N"), setting("B=N-8")])}, 1, "N = 8: "),
        ({"N": [1, 2]}, {}, 0, None),
    ],
)
@for_each("points", [1, 2, 100])
def test_points_outside_the_domain_are_skipped_and_counted(over, choices, count, reason, points):
    found, why = skipped(workload("llama-2-7b-layer"), over, points, **choices)
    assert found == count
    assert why is None if reason is None else why.startswith(reason)
    if count and "B" not in over:
        check_against_analysis(workload("llama-2-7b-layer"), over, **choices)


def test_a_grid_without_a_valid_point_is_an_error():
    with pytest.raises(InputError, match=r"none of the 2 points; .* H_kv = 3: attention: H % H_kv == 0"):
        list(sweep(workload("llama-2-7b-layer"), [A100], {"H_kv": [3, 5]}))


@for_each(
    ("over", "settings", "message"),
    [
        ({}, {}, "no symbol is swept"),
        ({"V": [1]}, {}, "sweep over V: it is not a size of this workload"),
        ({"causal": [1]}, {}, "sweep over causal: it is not a size"),
        ({"N": [1]}, {"N": 2}, "sweep over N: it is also set"),
        ({"N": [1.5]}, {}, "sweep over N: 1.5 is not a whole number"),
        ({"N": [0]}, {}, "sweep over N: 0 is out of range"),
        ({"N": ["1"]}, {}, "sweep over N: '1' is not a whole number"),
        ({"N": []}, {}, r"sweep over N: the values have shape \(0,\)"),
    ],
)
def test_symbols_and_values_that_cannot_be_swept(over, settings, message):
    with pytest.raises(InputError, match=message):
        plan(workload("llama-2-7b-layer"), [A100], over, settings=settings)


# --- ranges


def values(axis):
    return axis.all().astype(int).tolist()


@for_each(
    ("text", "expected"),
    [
        ("N=1:5", [1, 2, 3, 4, 5]),
        ("N=1:65", list(range(1, 66))),
        ("N=5:5", [5]),
        ("N=5:5:1", [5]),
        ("N=1:10:4", [1, 4, 7, 10]),
        ("N=1:4:100", [1, 2, 3, 4]),
        ("N=1:2:2", [1, 2]),
        ("N=1:8:3", [1, 5, 8]),  # 4.5 is rounded up
        ("N=128:1Ki:log", [128, 256, 512, 1024]),
        ("N=100:1k:log", [100, 200, 400, 800, 1000]),
        ("N=7:7:log", [7]),
        ("N=1k:1M:4:log", [1000, 10_000, 100_000, 1_000_000]),
        ("N=1:8:8:log", [1, 2, 3, 4, 6, 8]),  # 1 1.3 1.8 2.4 3.3 4.4 5.9 8
        (" H_KV = 2:3 ", [2, 3]),
    ],
)
def test_ranges(text, expected):
    assert values(axis_from_text(text)) == expected


def test_a_range_without_a_count_has_65_values():
    """The step is (8192 - 128) / 64 = 126."""
    assert values(axis_from_text("N=128:8192")) == list(range(128, 8193, 126))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("first", "last", "count"), [(1, 1000, 999), (3, 10**15, 77), (1, 50, 49), (999, 12345, 5000)])
def test_values_are_distinct_whole_rising_and_end_where_they_should(first, last, count, log):
    found = values(spaced("N", first, last, count, log))
    assert (found[0], found[-1]) == (first, last)
    assert all(b > a for a, b in itertools.pairwise(found))
    assert len(found) == count if not log else len(found) <= count


def test_an_axis_of_a_hundred_million_values_is_not_made_at_once():
    long = spaced("N", 1, 10**15, 10**8)
    assert long.listed is None
    assert values(long._replace(number=1)) == [1]
    assert int(long.at(np.array([10**8 - 1]))[0]) == 10**15


def test_doublings_end_at_the_last_value():
    assert values(doubled("N", 3, 3 * 2**40)) == [3 << i for i in range(41)]


def test_the_library_takes_ranges_in_text():
    assert values(axis("N", "128:1Ki:log")) == [128, 256, 512, 1024]


def test_lists_keep_their_order_and_thin_evenly():
    assert values(axis("N", np.array([5, 1, 9]))) == [5, 1, 9]
    assert values(axis("N", range(1, 11)).thinned(4)) == [1, 4, 7, 10]


@for_each(("text", "message"), [
        ("N", "--over 'N': it is not a range; SYMBOL=FROM:TO, SYMBOL=FROM:TO:COUNT and either with :log after it are "
         "accepted. Write, for example, N=128:8192:64; use --set for a single value."),
        ("N=5", "--over 'N=5': it is not a range; "),
        ("N=1:2:3:4", "--over 'N=1:2:3:4': it is not a range; "),
        ("N=1:2:3:lag", "--over 'N=1:2:3:lag': it is not a range; "),
        ("Batch=1:2", "--over Batch: it is not a symbol; the letters of 'perfmodel symbols' are accepted. Did you mean 'batch'?"),
        ("N=x:2", "--over N: from: 'x' is not a size; "),
        ("N=1:-2", "--over N: to: -2 is out of range; "),
        ("N=1:2:0", "--over N: count: 0 is out of range; "),
        ("N=1:nan", "--over N: to: 'nan' is not a size; "),
        ("N=9:5", "--over N: FROM = 9 is larger than TO = 5; a FROM of at most TO is accepted. Swap them."),
        ("N=1:9:1", "--over N: count: a range of 1 value; at least 2 values are accepted. Write 2, or use --set."),
        ("N=1:1G:11M:log", "--over N: count: 11,000,000 values on a logarithmic scale; at most 10,000,000 are accepted. "
         "Remove :log, or reduce the count."),
    ])  # fmt: skip
def test_ranges_that_cannot_be_read(text, message):
    with pytest.raises(InputError) as refused:
        axis_from_text(text)
    assert str(refused.value).startswith(message)


# --- rows as text


def test_numbers_as_text_are_what_python_prints():
    whole = np.array([0, 1, 9, 10, 9999, 10_000, 10_001, 99_999_999, 10**8, 10**12, 123456789012345, 2**53 - 1], float)
    lines = Lines([Slot("n", "whole"), "\n"]).filled({"n": whole})
    assert lines.decode().split() == [str(int(value)) for value in whole]


def test_longer_whole_numbers_are_written_digit_by_digit():
    numbers = [0, 7, 9999, 10**16, 2**53 + 1, 10**18 + 10**4, 2**62]
    for values in (np.array(numbers), np.array([*numbers, 2**64, 10**40 + 1], object)):
        found = Lines(["<", slot("n", values), ">"]).filled({"n": values})
        assert found.decode() == "".join(f"<{number}>" for number in values)


def test_counts_are_exact_whatever_their_size(tmp_path):
    """2 m k n with odd m of 2^53 + 1 and more, beside smaller values. Python integers from 2^62 on."""
    path, over = tmp_path / "rows.csv", {"m": [3, 2**29 + 1, 10**15 - 1]}
    for k in (10**7 + 1, 10**15 - 3):
        ready = plan(single(ops.find("matmul")), [T4], over, settings={"k": k, "n": 1})
        rows.write(str(path), ready, ready.chunks(1 if k < 10**8 else 3), WHERE)
        with path.open(encoding="utf-8", newline="") as file:
            found = [(int(row["flops"]), int(row["traffic_byte"])) for row in csv.DictReader(file)]
        assert found == [(2 * m * k, 2 * (m * k + k + m)) for m in over["m"]]


@for_each("operation", list(ops.every()))
def test_large_counts_of_every_operation_are_those_of_its_analysis(operation):
    """The example with every size times 2^6, 2^9 and 2^20: below 2^53, below 2^62 and above."""
    sizes = {name: value for name, value in operation.example.at.items() if SYMBOLS[name].kind in ("size", "optional")}
    symbol = next(name for name in operation.required if SYMBOLS[name].kind == "size")
    for scale in (2**6, 2**9, 2**20):  # a tile of all sizes is their square
        large = {name: value * scale ** (2 if name == "M" else 1) for name, value in sizes.items()}
        over = {symbol: [large.pop(symbol)]}
        ready = plan(single(operation), [T4], over, settings=large, count="all")
        (chunk,) = ready.chunks()
        total = analyse(ready.workload, settings={**large, symbol: over[symbol][0]}, count="all").total
        found = {**{name: getattr(chunk, name) for name in exact.COUNTS}, **exact.counts(ready, chunk)}
        assert [int(found[name][0]) for name in exact.COUNTS] == [getattr(total, name) for name in exact.COUNTS]


def test_real_numbers_as_text_are_right_to_13_digits():
    random = np.random.default_rng(7)
    real = np.concatenate(
        [random.uniform(1, 10, 4000) * 10.0 ** random.integers(-30, 30, 4000), 10.0 ** np.arange(-20, 20)]
    )
    real = np.concatenate([real, np.nextafter(real[-40:], 0), np.nextafter(real[-40:], np.inf)])
    lines = Lines([Slot("x", "real"), "\n"]).filled({"x": real}).decode().split()
    for text, value in zip(lines, real, strict=True):
        assert len(text) == len(f"{value:.12e}")
        assert float(text) == pytest.approx(value, rel=5.1e-13)
    assert Lines([Slot("x", "real")]).filled({"x": np.zeros(1)}) == b"0.000000000000e+00"


@pytest.fixture
def ready():
    over = {"N": [1, 128, 100_000], "H_kv": [1, 3, 32]}
    return plan(workload("llama-2-7b-layer"), [A100, T4], over, settings={"B": 100})


@pytest.mark.parametrize("ending", rows.ENDINGS)
def test_a_file_read_back_is_the_sweep(ready, ending, tmp_path):
    path = tmp_path / f"rows{ending}"
    assert rows.write(str(path), ready, ready.chunks(2), WHERE) == 2 * 3 * 2
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file)) if ending == ".csv" else [json.loads(line) for line in file]
    expected = list(points_of(ready.chunks()))
    assert len(found) == len(expected)
    for row, (card, at, figures) in zip(found, expected, strict=True):
        assert (row["gpu"], row["bound"]) == (card.name, figures["bound"])
        assert [int(row[name]) for name in ("N", "H_kv")] == list(at.values())
        for name, kind in rows.FIGURES.items():
            if kind == "whole":
                assert int(row[name]) == pytest.approx(figures[name], rel=0 if figures[name] < 2**53 else 1e-15)
            elif kind != "bound":
                assert float(row[name]) == pytest.approx(figures[name], rel=5.1e-13)
    assert list(found[0])[-len(rows.FIGURES) :] == list(rows.FIGURES)


def test_a_gpu_whose_name_needs_quotes_gets_them(ready, tmp_path):
    odd = A100._replace(name='my "best", card')
    named = ready._replace(cards=(ready.cards[0]._replace(gpu=odd),))
    for ending in rows.ENDINGS:
        rows.write(str(tmp_path / f"x{ending}"), named, named.chunks(), WHERE)
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        assert {row["gpu"] for row in csv.DictReader(file)} == {odd.name}
    assert {json.loads(line)["gpu"] for line in (tmp_path / "x.jsonl").read_text().splitlines()} == {odd.name}


@pytest.mark.parametrize(
    ("name", "symbol", "choices"),
    [
        ("matmul", "m", {"settings": dict([setting("n=2*m")])}),
        ("gelu", "numel", {}),
        ("rmsnorm", "rows", {}),
        ("attention", "N", {"causal": True, "settings": dict([setting("S=N")])}),
        ("attention", "S", {"phase": "train", "fused": False}),
    ],
)
def test_lines_of_an_operation_are_cases(name, symbol, choices, tmp_path):
    """A row read as a case has the same bounds."""
    found = plan(single(ops.find(name), "bf16"), [A100], {symbol: [2048, 4096]}, **choices)
    path = tmp_path / "rows.jsonl"
    rows.write(str(path), found, found.chunks(), WHERE)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["dtype"] for line in lines] == ["bf16", "bf16"]
    for line, prediction in zip(lines, predictions(map(case, lines), A100), strict=True):
        assert prediction.total.lower_s == pytest.approx(line["lower_s"], rel=1e-12)
        assert prediction.total.flops == line["flops"]


def test_an_interruption_leaves_the_file_that_was_there(ready, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("before")

    def interrupted():
        yield next(ready.chunks())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows.write(str(path), ready, interrupted(), WHERE)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("rows.csv", "before")]


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGHUP, "stopped by SIGHUP"), (signal.SIGINT, "interrupted")],
)
def test_a_signal_leaves_nothing_half_written(tmp_path, number, word):
    """Fifty million rows, far more than are written before the signal arrives."""
    words = ["--op", "matmul", "--gpu", "t4", "--over", "m=1:100000000:50000000", "-o", str(tmp_path / "rows.csv")]
    process = subprocess.Popen(
        [sys.executable, "-m", "perfmodel", "sweep", *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        end = time.monotonic() + 30
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        err = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert err.strip() == f"perfmodel: {word}; no partly written file is left."
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_sentence(ready, tmp_path):
    def full():
        yield next(ready.chunks())
        raise OSError(errno.ENOSPC, "the disk is full")

    with pytest.raises(InputError, match=r"cannot be written \(the disk is full\); "):
        rows.write(str(tmp_path / "rows.csv"), ready, full(), WHERE)
    assert list(tmp_path.iterdir()) == []


# --- the command


def run(*arguments):
    return perfmodel("sweep", "--config", "llama-2-7b-layer", *arguments)


def test_a_table_of_every_row():
    ran = run("--gpu", "a100", "--over", "N=128:512:log")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[0] for line in ran.out.splitlines()[4:7]] == ["128", "256", "512"]
    assert "S = N" in ran.out


def test_a_table_of_many_rows_shows_some_of_them_evenly():
    ran = run("--gpu", "a100", "--over", "N=1:100k:100k")
    shown = [int(line.split()[0]) for line in ran.out.splitlines()[4 : 4 + SHOWN]]
    assert (shown[0], shown[-1]) == (1, 100_000)
    steps = np.diff(shown)
    assert steps.max() < 1.05 * steps.min()
    assert f"{SHOWN} of 100,000 rows are shown; -o FILE.csv or FILE.jsonl writes all." in ran.out


def test_a_sample_of_a_sample_is_still_even():
    ready = plan(single(ops.find("add")), [A100], {"numel": spaced("numel", 1, 99_999, 99_999)})
    sample = Sample()
    for chunk in ready.chunks(1000):
        sample.add(chunk)
    assert sample.rows == 99_999
    assert [round(row["numel"] / 10_000) for row in sample.shown(11)] == list(range(11))


def test_skipped_points_are_told_on_stderr(tmp_path):
    path = tmp_path / "rows.csv"
    ran = run("--gpu", "a100", "--gpu", "t4", "--over", "H_kv=1:4", "-o", str(path))
    assert (ran.code, ran.out) == (0, f"{path}\n")
    assert ran.err.splitlines() == [
        "6 rows",
        "perfmodel sweep: 1 of 4 points skipped: H_kv = 3: attention: H % H_kv == 0 does not hold at H = 32, H_kv = 3; "
        "each group of query heads shares one key-value head, so H_kv must divide H.",
    ]
    assert len(path.read_text().splitlines()) == 1 + 6


@for_each(("arguments", "code", "found"), [
        (["--over", "N=1:5"], 2, "no GPU is named"),
        (["--gpu", "a100"], 2, "no range is given"),
        (["--gpu", "a100", "--over", "N=1:5", "--over", "N=1:6"], 2, "it is set twice"),
        (["--gpu", "a100", "--over", "N=1:5", "--op", "add"], 2, "--op and --config are both given"),
        (["--gpu", "a100", "--over", "N=5:1"], 1, "FROM = 5 is larger than TO = 1"),
        (["--gpu", "no-such-card", "--over", "N=1:5"], 1, "no file has this name"),
        (["--gpu", "a100", "--over", "H_kv=3:3"], 1, "sweep: the operations accept none of the 1 points"),
        (["--gpu", "a100", "--over", "N=1:5", "-o", "rows.txt"], 1, "'.txt' is not a format of rows"),
        (["--gpu", "a100", "--over", "N=1:5", "-o", "rows"], 1, "'rows' has no ending that names a format"),
        (["--gpu", "a100", "--over", "N=1:5", "-o", "no-folder/rows.csv"], 1, "there is no folder 'no-folder'"),
        (["--gpu", "a100", "--over", "N=1:5", "--plot", "time.gif"], 1, "'.gif' is not a format of pictures"),
        (["--gpu", "a100", "--over", "N=1:5", "--over", "B=1:2", "--over", "D=32:64", "--plot", "t.png"], 1, "3 sizes are swept"),
    ])  # fmt: skip
def test_what_is_refused(arguments, code, found):
    assert check_refused(run(*arguments), code)["found"].startswith(found)


# --- pictures


def texts(figure):
    return [text.get_text() for text in figure.texts if text.get_visible()]


def test_a_line_names_the_first_size_of_another_bound(tmp_path):
    """The values are far apart, but the size at which the bottleneck changes is still found between them."""
    from perfmodel.report import picture, sweep_plot

    layer = workload("llama-2-7b-layer")
    figure = sweep_plot.figure(plan(layer, [A100, T4], {"N": doubled("N", 16, 4096)}))
    for card in (A100, T4):
        names = {n: analyse(layer, gpu=card, settings={"N": n}).total.bound for n in range(100, 300)}
        first = next(n for n, bound in names.items() if bound == "tensor")
        assert f"memory → tensor at N = {first}" in texts(figure)
    for ending in (".png", ".svg", ".pdf"):
        picture.save(figure, str(tmp_path / f"time{ending}"), WHERE)
        assert (tmp_path / f"time{ending}").stat().st_size > 3_000


LAYER = {
    "line": ({"N": "16:128Ki:log"}, {}),
    "expected": ({"N": "16:8Ki:log"}, {"expected": True}),
    "map": ({"N": "16:4Ki:17:log", "B": "1:64:log"}, {}),
    "expected map": ({"N": "16:1Ki:log", "B": "1:8:log"}, {"expected": True}),
}


@pytest.mark.parametrize("which", LAYER)
@pytest.mark.parametrize("cards", [1, 2])
def test_no_text_of_a_picture_overlaps_another_or_leaves_the_page(which, cards):
    from test_roofline import apart, written

    from perfmodel.report import sweep_plot

    over, choices = LAYER[which]
    figure = sweep_plot.figure(plan(workload("llama-2-7b-layer"), [A100, T4][:cards], over, **choices))
    found = written(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        assert all(-1 <= x <= width + 1 and -1 <= y <= height + 1 for x, y in box), text
    for (text, box), (other, room) in itertools.combinations(found, 2):
        assert apart(box, room), f"{text!r} lies on {other!r}"


def test_expected_times_are_drawn_with_their_range(tmp_path):
    """--expected and --plot were refused together."""
    path = tmp_path / "time.svg"
    ran = run("--gpu", "a100", "--over", "N=128:2Ki:log", "--expected", "--plot", str(path))
    assert (ran.code, ran.out) == (0, f"{path}\n")
    drawn = path.read_text("utf-8")
    assert all(f">{text}</text>" in drawn for text in ("expected", "its range", "at least (full overlap)"))
    found = plan(workload("llama-2-7b-layer"), [A100], {"N": doubled("N", 128, 2048)}, expected=True)
    (line,) = features.lines(found)
    expected_s, low_s, high_s = line.expected_s
    total = analyse(found.workload, gpu=A100, settings={"N": 2048}).total.expected
    assert (expected_s[-1], low_s[-1], high_s[-1]) == pytest.approx(total[:3], rel=1e-12)


def test_all_changes_have_a_label_or_none(monkeypatch):
    """Without room on the axes, the page lists them below."""
    from perfmodel.report import sweep_plot

    ready = plan(workload("llama-2-7b-layer"), [A100, T4], {"N": doubled("N", 16, 4096)})
    monkeypatch.setattr(sweep_plot, "settled", lambda *given: None)
    found = texts(sweep_plot.figure(ready))
    assert not any(text.startswith("memory") for text in found)
    (below,) = [text.replace("\N{NO-BREAK SPACE}", " ") for text in found if text.startswith("Changes:")]
    assert below.count("memory → tensor at N = ") == 2
    monkeypatch.undo()
    monkeypatch.setattr(features, "CHANGES", 0)
    figure = sweep_plot.figure(ready)
    assert not any("→" in text for text in texts(figure))
    told = figure.get_supxlabel().replace("\n", " ")
    assert told.endswith("The bottleneck changes at 1 size on NVIDIA A100 SXM4 80 GB and at 1 size on NVIDIA T4; these "
                         "changes are not marked.")  # fmt: skip


def test_sizes_on_an_axis_have_one_form():
    """65536 stood beside 131 k."""
    from test_roofline import written

    from perfmodel.report import sweep_plot

    figure = sweep_plot.figure(plan(workload("llama-2-7b-layer"), [A100], {"N": doubled("N", 2**13, 2**17)}))
    labels = {text for text, _ in written(figure)}
    assert {"8 Ki", "16 Ki", "32 Ki", "64 Ki", "128 Ki"} <= labels
    assert not any(text.isdigit() and len(text) > 3 for text in labels)


def test_listed_sizes_of_a_constant_ratio_are_a_logarithmic_range():
    over = {"N": [16, 32, 64, 128]}
    assert plan(workload("llama-2-7b-layer"), [A100], over).axes[0].log
    assert not plan(workload("llama-2-7b-layer"), [A100], {"N": [10, 11, 12]}).axes[0].log


def test_a_map_draws_the_border_between_bounds(tmp_path):
    from perfmodel.report import sweep_plot

    over = {"N": doubled("N", 16, 4096), "S": doubled("S", 16, 4096)}
    ready = plan(workload("llama-2-7b-layer"), [A100], over, causal=True)
    panel, bar = sweep_plot.figure(ready).axes
    assert {text.get_text() for text in panel.texts} == {"memory", "tensor"}
    assert "grey: not defined" in bar.get_ylabel()  # N > S under a causal mask
    ((segment,),) = [
        collection.get_segments() for collection in panel.collections if hasattr(collection, "get_segments")
    ]
    assert segment[:, 0] == pytest.approx(math.sqrt(128 * 256))  # memory up to 128, tensor from 256 on


@pytest.mark.parametrize(("number", "symbols"), [(1, 1), (1, 2), (4, 2)])
def test_a_picture_of_little(number, symbols, tmp_path):
    """One value per symbol, one card or several: a small picture without errors."""
    from perfmodel.report import picture, sweep_plot

    over = {name: [7] for name in ("N", "B")[:symbols]}
    ready = plan(workload("llama-2-7b-layer"), [A100] * number, over)
    sweep_plot.check(ready, WHERE)
    picture.save(sweep_plot.figure(ready), str(tmp_path / "one.png"), WHERE)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_draws(tmp_path):
    path = tmp_path / "time.svg"
    ran = run("--gpu", "a100", "--over", "N=1:100", "--plot", str(path))
    assert (ran.code, ran.out, ran.err) == (0, f"{path}\n", "")
    assert path.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("found", "over", "settings", "choices"),
    [
        (single(ops.find("matmul"), "fp16"), {"m": [8, 96, 4096]}, {"k": 512, "n": 768}, {}),
        (workload("llama-2-7b-layer"), {"N": [128, 2048], "B": [1, 3]}, {}, {"phase": "train", "causal": True}),
        (workload("llama-3-8b"), {"S": [512, 8192]}, {}, {"phase": "decode", "fused": False}),
    ],
    ids=["operation", "training", "decoding"],
)
def test_the_expected_time_of_a_point_is_its_analysis(found, over, settings, choices):
    for card in (A100, T4):
        for chunk in sweep(found, (card,), over, settings=settings, expected=True, **choices):
            for i in range(chunk.flops.size):
                at = {name: int(values[i]) for name, values in chunk.at.items()}
                told = analyse(found, gpu=card, settings={**settings, **at}, **choices).total.expected
                times = (chunk.expected_s[i], chunk.expected_low_s[i], chunk.expected_high_s[i])
                assert times == pytest.approx(told[:3], rel=1e-12)


def test_expected_times_come_where_they_are_asked_for(tmp_path):
    line = ("sweep", "--op", "matmul", "--gpu", "t4", "--over", "m=8:800:300", "--set", "k=64", "--set", "n=64")
    path = tmp_path / "rows.csv"
    assert perfmodel(*line, "--expected", "-o", str(path)).code in (0, None)
    listed = list(csv.DictReader(path.read_text().splitlines()))
    assert len(listed) == 300  # more than one chunk
    for row in listed:
        assert float(row["lower_s"]) <= float(row["expected_low_s"]) <= float(row["expected_s"])
        assert float(row["expected_s"]) <= float(row["expected_high_s"])
    assert "expected" in perfmodel(*line, "--expected").out
    assert "expected" not in perfmodel(*line).out


def test_a_grid_whose_expected_times_take_minutes_is_said(monkeypatch):
    monkeypatch.setattr("perfmodel.sweep.times.SECONDS_A_KERNEL", 60.0)  # 5 points of one kernel: 5 minutes
    ran = perfmodel("sweep", "--op", "gelu", "--gpu", "t4", "--over", "numel=1:5", "--expected")
    assert ran.code in (0, None)
    assert "computing the expected times of 5 points takes about 5 minutes" in ran.err


def test_elements_of_more_than_16_bytes_are_left_out(tmp_path):
    """A sweep over bytes per element accepts what --set accepts: 1 to 16."""
    out = tmp_path / "rows.jsonl"
    perfmodel("sweep", "--op", "softmax", "--gpu", "h100", "--over", "act=1:64:log", "--set", "rows=8", "--set", "cols=64",
              "--expected", "--output", str(out))  # fmt: skip
    found = [json.loads(line)["act"] for line in out.read_text().splitlines() if "act" in json.loads(line)]
    assert found == [1, 2, 4, 8, 16]
