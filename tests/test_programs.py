"""Programs of a few calls on a card, with the arithmetic beside the expected values; their tables; the command line.

No test but those of the command line needs torch: a program is data.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from itertools import pairwise

import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel.answers.programs import CapturedProgram
from perfmodel.aten.asking import compact
from perfmodel.aten.calls import Call
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.programs import run as runs
from perfmodel.programs.charted import MOST, card
from perfmodel.programs.hosts import HostTimes, host_times
from perfmodel.programs.memory import WORKSPACE_BYTE, usage
from perfmodel.programs.pricing import START_S, Prices
from perfmodel.programs.program import Host, Program, Resident, Step
from perfmodel.programs.reuse import Reuse
from perfmodel.programs.summary import by_kernel, by_place
from perfmodel.report import programs as report

H100 = gpu("h100")
BANDWIDTH, L2 = H100.bandwidth_byte_per_s.value, H100.caches["l2"].value


IDLE = Host()


def t(number, *shape, dtype="bf16"):
    """A contiguous tensor in a storage of its own."""
    whole = compact(shape, dtype)
    return whole._replace(storage=number, storage_byte=whole.byte)


def step(name, *arguments, out, frees=(), host=IDLE, module="", phase="forward"):
    results = out if type(out) is tuple else (out,)
    return Step(Call(name, arguments, {}, results), module, phase, 0, host, frees, f"aten::{name}")


def program(*steps, resident=(), **more):
    held = {x.storage: Resident(x.storage_byte, role) for role, x in resident}
    return CapturedProgram("sketch", steps, held, **more)


def on(*steps, run="graph", resident=(), card="h100"):
    return program(*steps, resident=resident).on(card, run)


# A perceptron: x (64, 128) by (128, 256), ReLU, by (256, 32).
X, W, H, R, V, Y = t(1, 64, 128), t(2, 128, 256), t(3, 64, 256), t(4, 64, 256), t(5, 256, 32), t(6, 64, 32)
MLP = (
    step("mm", X, W, out=H, module="up"),
    step("relu", H, out=R, frees=(3,), module="act"),
    step("mm", R, V, out=Y, frees=(4,), module="down"),
)
HELD = (("input", X), ("parameter", W), ("parameter", V))
WIDE = 50_000_000  # elements: 100 MB, two times the L2 of an H100


# --- sums


def test_a_program_is_the_sum_of_its_kernels():
    answer = on(*MLP, resident=HELD)
    total = answer.total
    # 2 x 64 x 128 x 256 = 4,194,304 and 2 x 64 x 256 x 32 = 1,048,576; a maximum for 64 x 256 elements
    assert total.contraction_flops == 4_194_304 + 1_048_576
    assert total.flops == total.contraction_flops + 16_384
    # two bytes for each: 8192 + 32768 + 16384, two times 16384, 16384 + 8192 + 2048 elements
    assert [row.read_byte + row.write_byte for row in answer.rows] == [114_688, 65_536, 53_248]
    assert total.traffic_byte == 114_688 + 65_536 + 53_248
    assert (total.kernels, [row.operation for row in answer.rows]) == (3, ["matmul", "relu", "matmul"])
    assert total.kernel_s == pytest.approx(sum(row.expected_s for row in answer.rows))
    assert total.lower_s == pytest.approx(sum(row.lower_s for row in answer.rows))
    assert total.no_overlap_s == pytest.approx(sum(row.no_overlap_s for row in answer.rows))
    assert total.unknown_s == 0


@pytest.mark.parametrize("run", runs.RUNS)
@pytest.mark.parametrize("card", ["h100", "a100", "t4", "v100"])
def test_the_bound_is_never_above_the_expected_time(run, card):
    answer = on(
        *MLP, step("clone", t(7, WIDE), out=t(8, WIDE)), run=run, resident=(*HELD, ("input", t(7, WIDE))), card=card
    )
    assert all(0 <= row.lower_s <= row.expected_s for row in answer.rows)
    total = answer.total
    assert total.lower_s <= total.expected_low_s <= total.expected_s <= total.expected_high_s
    assert total.kernel_s <= total.expected_s
    assert total.lower_s <= total.no_overlap_s


def test_what_a_program_cannot_avoid_are_its_inputs_and_what_it_leaves():
    # x, w and v are read, y stays: 8192 + 32768 + 8192 + 2048 elements; h and r are inner
    assert on(*MLP, resident=HELD).total.compulsory_byte == 2 * (8192 + 32768 + 8192 + 2048)
    kept = (MLP[0], MLP[1]._replace(frees=()), MLP[2]._replace(frees=()))
    assert on(*kept, resident=HELD).total.compulsory_byte == 2 * (8192 + 32768 + 8192 + 2048 + 2 * 16384)


def test_first_reads_of_what_exists_come_from_memory():
    """Ten tensors of 20 MB: each kernel's bytes fit in L2, the 200 MB of all do not."""
    size = 10_000_000
    tensors = [t(n, size) for n in range(1, 11)]
    steps = [step("argmax", x, out=t(100 + x.storage, 1, dtype="int64")) for x in tensors]
    resident = [("input", x) for x in tensors]
    first = on(*steps, resident=resident)
    assert first.total.lower_s == pytest.approx((200e6 - L2) / BANDWIDTH, rel=0.02)
    again = on(*steps, *steps, resident=resident).total.lower_s  # what was read may be in L2 afterwards
    assert again == pytest.approx(first.total.lower_s, rel=0.02)
    assert on(*steps).total.lower_s < 0.1 * first.total.lower_s  # nothing is known to come from memory


def test_a_small_first_read_leaves_the_rest_of_a_tensor_to_arrive_later():
    """Two tables of 42 MB, of each a few rows first and then all: L2 holds either, but not both."""
    tables, rows, taken = (t(1, 20480, 1024), t(2, 20480, 1024)), t(3, 64, dtype="int64"), t(4, 64, 1024)
    steps = [step("embedding", table, rows, out=taken) for table in tables]
    steps += [step("mm", taken, table._replace(shape=(1024, 20480), strides=(1, 1024)), out=t(5, 64, 20480)) for table in tables]  # fmt: skip
    held = [*(("parameter", table) for table in tables), ("input", rows)]
    once = on(*steps, resident=held)
    least_s = (2 * (tables[0].byte - 2 * taken.byte - t(5, 64, 20480).byte) - L2) / BANDWIDTH
    assert once.rows[2].lower_s + once.rows[3].lower_s >= least_s > 0
    again = on(*steps, *steps[2:], resident=held).rows
    assert again[4].lower_s + again[5].lower_s < least_s  # nothing arrives for the second time


def test_an_empty_program_takes_no_time():
    answer = on()
    assert (answer.rows, answer.total.expected_s, answer.total.flops, answer.total.traffic_byte) == ((), 0, 0, 0)
    for form in ("table", "csv", "markdown", "json"):
        assert report.render(answer, form)
    assert "No kernel is launched." in report.render(answer, "table")


# --- the host

ZERO = HostTimes(*(0.0 for _ in HostTimes._fields))


@pytest.fixture
def host(monkeypatch):
    """Sets the times of the host; those that are not given are 0."""
    return lambda **times: monkeypatch.setattr(runs, "host_times", lambda: ZERO._replace(**times))


def relus(count=3, numel=1024, waits_after=None):
    """Calls that read one tensor each and write another."""
    return [
        step("relu", t(n, numel), out=t(n + 100, numel), host=Host(waits=n - 1 == waits_after))
        for n in range(1, count + 1)
    ]


def test_a_slow_host_keeps_the_device_waiting(host):
    host(start_s=0.5, operator_s=1.0, latency_s=0.25, gap_s=0.125, end_s=0.0625)
    answer = on(*relus(), run="eager")
    *_, last = answer.rows
    # the last kernel is launched at 0.5 + 3 x 1 s, starts 0.25 s later and is noticed 0.0625 s after its end
    assert answer.total.expected_s == pytest.approx(3.5 + 0.25 + last.expected_s + 0.0625)
    assert answer.rows[0].waits_s == 0
    for before, row in pairwise(answer.rows):
        assert row.waits_s == pytest.approx(1.0 - before.expected_s)
    assert answer.total.waits_s == pytest.approx(sum(row.waits_s for row in answer.rows))


def test_a_fast_host_is_hidden_behind_the_kernels(host):
    host(start_s=1e-6, operator_s=1e-6, latency_s=2e-6, gap_s=3e-6, end_s=4e-6)
    answer = on(*relus(numel=WIDE), run="eager")  # kernels of some 70 µs
    # the first starts after 1 + 1 + 2 µs; two gaps of 3 µs; the end is noticed after 4 µs
    assert answer.total.expected_s == pytest.approx(4e-6 + answer.total.kernel_s + 2 * 3e-6 + 4e-6)
    assert [row.waits_s for row in answer.rows] == [0, pytest.approx(3e-6), pytest.approx(3e-6)]


def test_the_host_waits_where_it_reads_a_value(host):
    host(operator_s=1e-6, read_s=5e-6)
    free, bound = (on(*relus(numel=WIDE, waits_after=at), run="eager") for at in (None, 1))
    first, second, third = bound.rows
    assert free.total.expected_s == pytest.approx(1e-6 + free.total.kernel_s)
    # the third is launched 5 + 1 µs after the end of the second
    assert third.waits_s == pytest.approx(6e-6)
    whole = 1e-6 + first.expected_s + second.expected_s + 6e-6 + third.expected_s
    assert bound.total.expected_s == pytest.approx(whole)


def test_the_host_ends_last_where_it_reads_the_last_value(host):
    host(operator_s=1e-6, read_s=5e-6, end_s=1e-6)
    answer = on(*relus(count=1, waits_after=0), run="eager")
    assert answer.total.expected_s == pytest.approx(1e-6 + answer.total.kernel_s + 5e-6)


def test_further_kernels_of_one_call_are_launched_one_after_another(host):
    host(operator_s=1.0, kernel_s=0.5)
    call = step("scatter", t(1, 64), 0, t(2, 8, dtype="int64"), t(3, 8), out=t(4, 64))
    copied, scattered = on(call, run="eager").rows
    assert (copied.operation, scattered.operation) == ("copy", "scatter")
    assert scattered.waits_s == pytest.approx(0.5 - copied.expected_s)


def test_the_time_of_an_operator_by_phase():
    times = ZERO._replace(
        operator_s=1.0, recorded_s=0.5, backward_s=2.0, optimizer_s=4.0, view_s=0.25, backward_view_s=0.125, module_s=8.0,
        compiled_s=16.0,
    )  # fmt: skip
    before = lambda run="eager", recorded=False, **more: times.before_s(step("relu", X, out=X, **more), run, recorded)  # noqa: E731
    assert before() == 1.0
    assert before(recorded=True) == 1.5
    assert before(host=Host(views=3, modules=2)) == 1.0 + 3 * 0.25 + 2 * 8.0
    assert before(phase="backward", recorded=True, host=Host(views=2, modules=2)) == 2.0 + 2 * 0.125
    assert before(phase="optimizer", recorded=True) == 4.0
    assert before("compiled", host=Host(views=3)) == 16.0


def test_only_eager_and_compiled_runs_have_a_host(monkeypatch):
    monkeypatch.setattr(runs, "host_times", lambda: pytest.fail("the host is asked for"))
    for run in ("graph", "ideal"):
        answer = on(*MLP, run=run)
        assert answer.total.expected_s == pytest.approx(answer.total.kernel_s)
        assert answer.total.waits_s == 0


def test_a_compiled_run_starts_with_its_guards(host):
    host(compiled_start_s=1.0, compiled_s=0.5, operator_s=100.0)
    answer = on(*MLP, run="compiled", resident=HELD)
    assert answer.total.expected_s == pytest.approx(1.0 + 3 * 0.5 + answer.rows[-1].expected_s)


def test_the_gaps_of_a_graph_are_a_figure_of_their_own():
    answer, node_s = on(*relus(5)), Prices(H100).card.node_s
    assert answer.total.gaps_s == pytest.approx(4 * (node_s - START_S))
    assert on(*relus(1)).total.gaps_s == 0


def test_the_shipped_host_has_every_time():
    times = host_times()
    assert all(0 < seconds < 1e-3 for seconds in times)
    assert times.backward_s > times.operator_s > times.compiled_s / 2


# --- fusion

ROWS, COLS = 1024, 256
A, B = t(1, ROWS, COLS), t(2, COLS)
ADDED, POSITIVE, SUMS, SCALED = t(3, ROWS, COLS), t(4, ROWS, COLS), t(5, ROWS, 1), t(6, ROWS, COLS)
CHAIN = (
    step("add", A, B, out=ADDED),
    step("relu", ADDED, out=POSITIVE, frees=(3,)),
    step("sum", POSITIVE, (-1,), True, out=SUMS),
    step("mul", POSITIVE, SUMS, out=SCALED, frees=(4, 5)),
)
GIVEN = (("input", A), ("parameter", B))


def test_a_chain_of_elementwise_calls_and_a_reduction_is_one_kernel():
    answer = on(*CHAIN, run="ideal", resident=GIVEN)
    (row,) = answer.rows
    assert (row.operation, row.source) == ("fused", "fused add, relu, sum, mul")
    # read: 1024 x 256 and 256 elements; written: 1024 sums and 1024 x 256 elements; each of two bytes
    assert (row.read_byte, row.write_byte) == (2 * (262_144 + 256), 2 * (1024 + 262_144))
    assert row.flops == 4 * 262_144  # an addition, a maximum, an addition of the sum, a product
    eager = on(*CHAIN, resident=GIVEN)
    assert (eager.total.kernels, eager.total.flops) == (4, row.flops)
    assert eager.total.traffic_byte > 2 * answer.total.traffic_byte
    assert eager.total.compulsory_byte == answer.total.compulsory_byte
    assert answer.total.expected_s < eager.total.expected_s


def test_a_product_separates_two_kernels():
    steps = (
        step("relu", X, out=t(7, 64, 128)),
        step("mm", t(7, 64, 128), W, out=H, frees=(7,)),
        step("relu", H, out=R, frees=(3,)),
        step("neg", R, out=t(8, 64, 256), frees=(4,)),
    )
    rows = on(*steps, run="ideal", resident=HELD).rows
    assert [row.operation for row in rows] == ["fused", "matmul", "fused"]
    assert rows[0].write_byte == 2 * 64 * 128  # the product reads it
    assert (rows[2].read_byte, rows[2].write_byte) == (2 * 64 * 256, 2 * 64 * 256)


def test_what_leaves_the_program_is_written():
    inner = step("exp", A, out=ADDED), step("neg", ADDED, out=POSITIVE, frees=(3,))
    outer = step("exp", A, out=ADDED), step("neg", ADDED, out=POSITIVE)
    (one,), (both,) = (on(*steps, run="ideal", resident=GIVEN).rows for steps in (inner, outer))
    assert (one.write_byte, both.write_byte) == (2 * 262_144, 2 * 2 * 262_144)
    assert one.read_byte == both.read_byte == 2 * 262_144


def test_what_is_changed_in_place_is_written():
    steps = step("add_", A, 1.0, out=A), step("neg", A, out=POSITIVE)
    rows = on(*steps, run="ideal", resident=GIVEN).rows
    assert sum(row.write_byte for row in rows) == 2 * 2 * 262_144


def test_a_result_that_two_products_read_is_written_once():
    steps = (
        step("relu", X, out=t(7, 64, 128)),
        step("mm", t(7, 64, 128), W, out=H),
        step("mm", t(7, 64, 128), t(9, 128, 32), out=Y, frees=(7,)),
    )
    assert [row.operation for row in on(*steps, run="ideal", resident=HELD).rows] == ["fused", "matmul", "matmul"]


def test_kernels_of_other_sizes_are_not_fused():
    steps = step("relu", A, out=ADDED), step("relu", X, out=t(7, 64, 128))
    assert on(*steps, run="ideal").total.kernels == 2


def test_memory_is_freed_where_its_last_kernel_ends():
    from perfmodel.programs.fusion import fused

    found = fused(program(*CHAIN, resident=GIVEN))
    assert [set(one.frees) for one in found.steps] == [{5}]  # the sums; the other two are not stored


def test_rows_of_odd_length_are_padded_in_a_compiled_product():
    narrow, wide = t(1, 512, 1023), t(2, 1023, 512)
    rows = on(step("mm", narrow, wide, out=t(3, 512, 512)), run="compiled").rows
    assert [row.operation for row in rows] == ["copy", "matmul"]  # rows of 2046 bytes; those of 1024 bytes are aligned
    assert rows[0].read_byte == 2 * 512 * 1023
    plain = on(step("mm", t(1, 512, 1024), t(2, 1024, 512), out=t(3, 512, 512)), run="compiled").rows
    assert [row.operation for row in plain] == ["matmul"]


def test_a_compiler_sees_the_program_that_it_traces():
    other = Program("traced", MLP[:2])
    assert program(*MLP, resident=HELD, traced=other).on("h100", "compiled").total.kernels == 2
    assert program(*MLP, resident=HELD, traced=other).on("h100", "eager").total.kernels == 3


# --- what is still in L2


def test_a_tensor_read_again_right_away_is_in_l2():
    steps = [step("relu", A, out=t(10 + n, ROWS, COLS)) for n in range(2)]
    first, second = on(*steps, resident=GIVEN).rows
    # of the bytes of the second, the half that it reads
    assert (first.l2_share, second.l2_share) == (0.0, pytest.approx(0.5))
    assert second.expected_s < first.expected_s


def test_a_result_that_is_read_next_is_in_l2_and_one_that_was_long_ago_is_not():
    write, read = step("relu", A, out=ADDED), step("neg", ADDED, out=POSITIVE)
    other = step("neg", t(8, WIDE), out=t(9, WIDE))
    assert on(write, read).rows[1].l2_share == pytest.approx(0.5)
    assert on(write, other, read).rows[2].l2_share == 0.0


def test_a_new_tensor_takes_the_place_of_a_freed_one():
    steps = step("relu", A, out=ADDED, frees=(3,)), step("neg", A, out=POSITIVE)
    assert on(*steps).rows[1].l2_share == pytest.approx(1.0)
    smaller = t(4, ROWS, COLS // 2)
    assert on(steps[0], step("neg", smaller, out=smaller._replace(storage=5))).rows[1].l2_share == 0.0


def test_reuse_counts_the_bytes_between():
    reuse = Reuse(Prices(H100).card)
    assert reuse.found([A], [ADDED], 2 * A.byte) == (0.0, 0.0)
    assert reuse.found([A], [], A.byte) == (1.0, 1.0)
    assert reuse.touched_byte == 3 * A.byte
    big = t(7, WIDE)
    reuse.found([big], [], big.byte)
    assert reuse.found([A], [], A.byte) == (0.0, 0.0)
    assert reuse.found([], [], 0).share == 0.0
    table = reuse.touched_byte
    assert reuse.found([big], [], 4096).share == 0.0  # a few rows of a table
    assert reuse.touched_byte == table


# --- memory


def test_memory_over_time_of_a_perceptron():
    """float32 tensors, rounded up to 512 bytes."""
    x, w, h, r, v, y = (
        t(n, *shape, dtype="fp32")
        for n, shape in enumerate(((7, 10), (10, 33), (7, 33), (7, 33), (33, 10), (7, 10)), 1)
    )
    steps = (
        step("mm", x, w, out=h), step("relu", h, out=r, frees=(3,)), step("mm", r, v, out=y, frees=(4,)),
    )  # fmt: skip
    found = usage(program(*steps, resident=(("input", x), ("parameter", w), ("parameter", v))))
    # x: 280 -> 512; w and v: 1320 -> 1536 each
    assert found.resident_byte == 512 + 2 * 1536
    # h and r: 924 -> 1024 each; y: 280 -> 512
    assert found.over_time == (3584 + 1024, 3584 + 1024, 3584 + 512)
    assert (found.peak_byte, found.peak_step) == (3584 + 2048, 1)
    assert found.peak_roles == {"input": 512, "parameter": 3072, "activation": 2048}


def test_gradients_and_scratch_memory_count():
    q = t(1, 2, 8, 64, 64)
    name = "_scaled_dot_product_flash_attention_backward"
    gradients = tuple(t(n, 2, 8, 64, 64) for n in (2, 3, 4))
    found = usage(program(step(name, q, q, q, q, q, out=gradients, phase="backward"), resident=(("input", q),)))
    # four tensors of 2 x 8 x 64 x 64 elements of two bytes, and the gradient of q in float32 while the kernel runs
    assert found.peak_byte == 4 * 131_072 + 4 * 65_536
    assert found.peak_roles == {"input": 131_072, "gradient": 3 * 131_072}
    assert found.over_time == (4 * 131_072,)


@pytest.mark.parametrize(("name", "byte"), [("h100", 32 * 2**20), ("a100", 8 * 2**20 + 128 * 2**10)])
def test_the_workspace_of_cublas_is_part_of_the_peak(name, byte):
    answer = on(*MLP, resident=HELD, card=name)
    assert byte in WORKSPACE_BYTE.values()
    assert answer.peak_byte == usage(answer.program).peak_byte + byte
    assert answer.memory.peak_roles["workspace"] == byte


# --- tables and documents


def long(count=60):
    """A program of many layers, of several phases, with an unknown operator."""
    steps = [
        step("mm", t(1, 64, 64 + 8 * n), t(2, 64 + 8 * n, 64), out=t(50 + n, 64, 64), module=f"model.layers.{n}.attention.projection")
        for n in range(count)
    ]  # fmt: skip
    last = step("fft_r2c", t(3, 64, 64), out=t(4, 64, 64), phase="backward")
    return program(
        *steps, last, guesses=tuple(f"model.py:{n}: an integer taken as 1" for n in range(5)), notes=("A note.",)
    )


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("run", runs.RUNS)
def test_a_table_fits_the_terminal(monkeypatch, columns, steps, verbose, run):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = report.render(long().on("h100", run), "table", steps=steps, verbose=verbose)
    assert max(map(len, text.splitlines())) <= columns
    assert text.startswith("sketch, ")
    for word in ("total", "kernel time", "at least", "100.0 %", "Peak memory: ", "A note.", "fft_r2c"):
        assert word in text
    assert text.count("Guess: ") == (5 if verbose else 3)
    assert ("2 more guesses: --verbose." in text) is not verbose


def test_layers_are_one_line_and_many_kernels_end_in_one():
    answer = long().on("h100", "graph")
    layers, other = by_place(answer.rows)
    assert (layers.name, layers.kernels, layers.names) == ("model.layers.*.attention.projection", 60, ("matmul",))
    assert (other.name, other.phase, other.kernels) == ("(no module)", "backward", 1)
    assert layers.share + other.share == pytest.approx(1.0)
    lines = report.shortened(by_kernel(answer.rows), verbose=False)
    assert len(lines) == report.MOST
    assert lines[-1].name == f"{61 - report.MOST + 1} others (--verbose)"
    assert sum(line.kernels for line in lines) == 61
    assert sum(line.expected_s for line in lines) == pytest.approx(answer.total.kernel_s)
    assert len(report.shortened(by_kernel(answer.rows), verbose=True)) == 61


def test_an_unknown_operator_is_listed_with_its_share():
    answer = long(3).on("h100", "graph")
    row = answer.rows[-1]
    assert not row.known
    assert answer.total.unknown_s == row.expected_s
    share = 100 * row.expected_s / answer.total.kernel_s
    assert f"Priced by bytes alone, with a wide range ({share:.0f} % of the kernel time): fft_r2c." in report.render(
        answer, "table"
    )
    assert report.document(answer)["unknown"] == [{"op": "fft_r2c", "expected_s": row.expected_s}]


def test_the_document_has_the_keys_of_every_answer():
    answer = on(*MLP, run="eager", resident=HELD)
    document = json.loads(answer.to_json())
    assert document["schema"] == 2
    assert list(document) == [
        "schema",
        "program",
        "run",
        "gpu",
        "steps",
        "total",
        "peak_byte",
        "memory",
        "guesses",
        "notes",
        "unknown",
    ]
    assert document["gpu"]["name"] == "h100-sxm5-80gb"
    assert [one["op"] for one in document["steps"]] == ["matmul", "relu", "matmul"]
    first = document["steps"][0]
    assert first["name"] == "up"
    assert first["sizes"] == {"m": 64, "k": 128, "n": 256, "batch": 1}
    assert first["headroom_s"] == pytest.approx(first["expected_s"] - first["lower_s"])
    assert document["total"]["expected_s"] == answer.total.expected_s
    assert document["total"]["headroom_s"] == pytest.approx(answer.total.expected_s - answer.total.lower_s)
    assert document["peak_byte"] == document["memory"]["peak_byte"] == answer.peak_byte
    assert sum(document["memory"]["peak_byte_by_role"].values()) <= answer.peak_byte


@pytest.mark.parametrize("run", runs.RUNS)
def test_csv_has_a_line_for_every_kernel(run):
    answer = on(*MLP, run=run, resident=HELD)
    rows = list(csv.DictReader(io.StringIO(report.render(answer, "csv"))))
    assert len(rows) == answer.total.kernels == 3
    assert {*report.document(answer)["steps"][0]} <= {*rows[0]}
    assert sum(float(row["expected_s"]) for row in rows) == pytest.approx(answer.total.kernel_s)
    assert rows[0]["sizes"] == "m=64 k=128 n=256 batch=1"


def test_one_line_and_html_of_an_answer():
    answer = on(*MLP, resident=HELD)
    assert repr(answer).startswith("<ProgramAnswer sketch, graph on h100-sxm5-80gb: expected ")
    assert "\n" not in repr(answer)
    assert repr(answer.program) == "<CapturedProgram sketch: 3 calls>" or answer.program.name == "sketch"
    assert "<table>" in answer._repr_html_()


def test_a_small_program_is_not_compared_with_its_bound():
    assert "times the bound" not in report.render(on(*relus(1)), "table")
    assert "1 kernel takes " in report.render(on(*relus(1)), "table")
    assert "times the bound" in report.render(on(*relus(numel=WIDE)), "table")


def test_the_kernels_are_drawn_on_the_roofline(tmp_path):
    answer = long().on("h100", "graph")
    path = tmp_path / "program.svg"
    assert answer.plot(str(path)) == str(path)
    assert "sketch" in path.read_text(encoding="utf-8")
    points = card(answer).points
    assert len(points) == MOST + 1
    assert points[-1].name.startswith(f"others ({61 - MOST} kernels, ")
    assert sum(point.share for point in points) == pytest.approx(1.0)
    with pytest.raises(InputError, match="png"):
        answer.plot(str(tmp_path / "program.txt"))


def test_unknown_names_are_refused():
    with pytest.raises(
        InputError, match=r"run 'eagr': it is not a way to run a program; .* accepted\. Did you mean 'eager'\?"
    ):
        on(*MLP, run="eagr")
    with pytest.raises(InputError, match=r"gpu 'h1000': .* Did you mean 'h100'\?"):
        on(*MLP, card="h1000")
    with pytest.raises(InputError, match="knowledge 'guessed'"):
        program(*MLP).on("h100", "graph", "guessed")


# --- the command line

SOURCE = """\
import torch


class Mlp(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        return self.down(torch.nn.functional.gelu(self.up(x)))


def build():
    return Mlp()


def with_input():
    return Mlp().to(torch.bfloat16), torch.empty(8, 64, dtype=torch.bfloat16)


def add(x, y):
    return x + y


def raises():
    raise ValueError("no luck\\nat all")


def mismatched():
    return torch.ones(2, 3, device="cuda") @ torch.ones(2, 3, device="cuda")


def nothing():
    return None


model = Mlp()
number = 3
"""
NAME = "sketch_of_a_program"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A module of the user in the current folder."""
    pytest.importorskip("torch", reason="a program is read by torch")
    (tmp_path / f"{NAME}.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / f"{NAME}_broken.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    (tmp_path / f"{NAME}_wrong.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in (NAME, f"{NAME}_broken", f"{NAME}_wrong"):
        sys.modules.pop(name, None)


def flops(target, *options, card="t4"):
    gpus = ("--gpu", card) if card else ()
    return perfmodel("flops", "--module", f"{NAME}:{target}", *gpus, *options)


def document(*arguments, **options):
    ran = flops(*arguments, "--format", "json", **options)
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


INPUT = ("--input", "x=fp32[8,64]")


@pytest.mark.parametrize(
    ("target", "options"),
    [("build", INPUT), ("Mlp", INPUT), ("model", INPUT), ("with_input", ()), ("build", ("--input", "fp32[8, 64]"))],
)
def test_a_module_is_named_as_a_class_a_factory_or_an_instance(source, target, options):
    found = document(target, *options)
    # two layers of 2 x 8 x 64 x 256 each
    assert found["total"]["contraction_flops"] == 2 * 262_144
    assert [one["name"] for one in found["steps"] if one["contraction_flops"]] == ["up", "down"]
    assert found["run"] == "eager"


def test_a_training_step_has_three_phases(source):
    found = document("build", *INPUT, "--phase", "train", "--run", "graph")
    phases = {one["phase"] for one in found["steps"]}
    assert phases == {"forward", "backward", "optimizer"}
    # forward, the gradients of both weights, and of the second layer's input
    assert found["total"]["contraction_flops"] == 262_144 * (2 + 2 + 1)


def test_a_function_is_a_program_itself(source):
    found = document("add", "--input", "x=fp16[4,4] y=fp16[4]")
    assert [(one["op"], one["sizes"]) for one in found["steps"]] == [("add", {"numel": 16})]
    assert document("nothing")["steps"] == []


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_every_format_of_a_program(source, form):
    ran = flops("build", *INPUT, "--format", form, "--steps", "--verbose")
    assert (ran.code, ran.err) == (0, "")
    assert "linear_bias" in ran.out
    some = flops("build", *INPUT, "--format", form, "--columns", "name,expected_s").out
    assert len(some) < len(ran.out)


REFUSED = [
    # options
    (("build", *INPUT), {"card": None}, 2, "perfmodel flops: no GPU is named; a program needs --gpu. Add --gpu, such as --gpu h100."),
    (("build", *INPUT, "--causal"), {}, 2, "perfmodel flops: --module and --causal are both given; it changes formulas, and a program runs the code as it is. Remove --causal."),
    (("build", *INPUT, "--unfused"), {}, 2, "perfmodel flops: --module and --fused/--unfused are both given;"),
    (("build", *INPUT, "--count", "leading"), {}, 2, "perfmodel flops: --module and --count are both given;"),
    (("build", *INPUT, "--symbolic"), {}, 2, "perfmodel flops: --module and --symbolic are both given;"),
    (("build", *INPUT, "--logits", "last"), {}, 2, "perfmodel flops: --module and --logits are both given;"),
    (("build", "--config", "gpt2"), {}, 2, "perfmodel flops: --module and --config are both given; one program is accepted,"),
    (("build", "--op", "softmax"), {}, 2, "perfmodel flops: --module and --op are both given; one program is accepted,"),
    (("build", "--via", "torch"), {}, 2, "perfmodel flops: --module and --via are both given; one program is accepted,"),
    (("build", "--dtype", "fp16"), {}, 2, "perfmodel flops: --module and --dtype are both given; its types are those of --input."),
    (("build", *INPUT, "--set", "N=4"), {}, 2, "--set N: --input names no such size; the sizes that it names are accepted: none, because --input has numbers alone. Remove --set N,"),
    (("build", "--input", "x=fp32[N,64]", "--set", "M=4"), {}, 2, "--set M: --input names no such size; the sizes that it names are accepted: N. Remove --set M,"),
    (("build", *INPUT, "--phase", "decode"), {}, 2, "--phase decode: a module has no such phase; prefill and train are accepted. Name a function that decodes one token."),
    (("add", "--input", "fp32[2] fp32[2]", "--phase", "train"), {}, 1, "--phase train: add() returns no module; a module, or a function that returns one, is accepted. Remove --phase train,"),
    (("build", *INPUT, "--columns", "nonsense"), {}, 2, "--columns 'nonsense': it is not a column of this table;"),
    (("build", *INPUT), {"card": "t44"}, 1, "gpu 't44': no file has this name;"),
    # names
    (("buil",), {}, 1, f"--module {NAME}:buil: '{NAME}' has no 'buil'; a torch module, a class or a function is accepted. Did you mean 'build'?"),
    (("number",), {}, 1, f"--module {NAME}:number: 'number' is of type int; a torch module, a class or a function is accepted. Name something that can be called."),
    (("bu ild",), {}, 1, f"--module {NAME}:bu ild: it does not name a callable; PACKAGE.MODULE:CALLABLE is accepted."),
    (("",), {}, 1, f"--module {NAME}:: it does not name a callable;"),
    # inputs
    (("build",), {}, 1, f"--module {NAME}:build: forward() needs x; NAME=TYPE[SIZE,SIZE,...] is accepted, such as input_ids=int64[1,2048] or x=bf16[8,3,224,224]. Give each as --input."),
    (("add", "--input", "x=fp32[2]"), {}, 1, f"--module {NAME}:add: add() needs x, y; NAME=TYPE[SIZE,SIZE,...] is accepted,"),
    (("build", "--input", "x=fp31[2]"), {}, 1, "--input x=fp31[2]: 'fp31' is not a data type; NAME=TYPE[SIZE,SIZE,...] is accepted, such as input_ids=int64[1,2048] or x=bf16[8,3,224,224]. Did you mean 'fp32'?"),
    (("build", "--input", "x=fp32[2-3]"), {}, 1, "--input x=fp32[2-3]: '2-3' is not a list of sizes; NAME=TYPE[SIZE,SIZE,...] is accepted,"),
    (("build", "--input", "x=fp32"), {}, 1, "--input: 'x=fp32' is not an input; NAME=TYPE[SIZE,SIZE,...] is accepted,"),
    # code that raises
    (("raises",), {}, 1, f"--module {NAME}:raises: its code raised ValueError: 'no luck'; code that runs on tensors without data is accepted. Correct "),
    (("mismatched",), {}, 1, f"--module {NAME}:mismatched: its code raised RuntimeError: 'a and b must have same reduction dim, "),
    (("build", "--input", "x=fp32[8,65]"), {}, 1, f"--module {NAME}:build: its code raised RuntimeError: "),
    (("build", "--input", "z=fp32[8,64]"), {}, 1, "--input: forward() does not accept these inputs (missing a required argument: 'x'); given: z; forward(x) is called. Known: x."),
    (("build", "--input", "x=fp32[8,64] x=fp32[8,64]"), {}, 1, "--input x=fp32[8,64]: x is given twice; each input is accepted once. Remove one of the two."),
]  # fmt: skip


@for_each(("arguments", "options", "code", "start"), REFUSED)
def test_a_program_that_cannot_be_read_is_refused_in_one_line(source, arguments, options, code, start):
    ran = flops(*arguments, **options)
    check_refused(ran, code)
    assert ran.err.startswith(start)


def test_set_gives_numbers_to_the_sizes_that_input_names(source):
    expected = document("build", "--input", "x=fp32[48,64]")
    found = document("build", "--input", "x=fp32[N,64]", "--set", "N=48")
    assert found["notes"] == ["Sizes: N = 48.", *expected["notes"]]
    assert found["total"] == expected["total"]
    assumed = document("build", "--input", "x=fp32[N,64]")
    assert assumed["notes"][0] == "Sizes: N = 1664; N assumed, change with --set."


def test_the_place_in_the_user_s_code_is_named(source):
    line = SOURCE.splitlines().index('    raise ValueError("no luck\\nat all")') + 1
    assert flops("raises").err.endswith(f"Correct {source / NAME}.py:{line}.\n")


@pytest.mark.parametrize(
    ("module", "found", "action"),
    [
        ("no_module_of_this_name", "ModuleNotFoundError: No module named 'no_module_of_this_name'", "Run perfmodel in the folder of"),
        (f"{NAME}_broken", "ModuleNotFoundError: No module named 'nothing_of_this_name'", "Run perfmodel in the folder of"),
        (f"{NAME}_wrong", "ZeroDivisionError: division by zero", f"Correct '{NAME}_wrong'."),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_refused(source, module, found, action):
    ran = perfmodel("flops", "--module", f"{module}:build", "--gpu", "t4")
    check_refused(ran, 1)
    assert ran.err.startswith(
        f"--module {module}:build: '{module}' cannot be imported ({found}); a module that Python imports is accepted."
    )
    assert action in ran.err


CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 256,
    "head_dim": 16, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture
def config(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="a program is read by torch")
    pytest.importorskip("transformers", reason="the model's code is that of transformers")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "model"


def via_torch(*options):
    return perfmodel("flops", "--config", "model", "--via", "torch", "--gpu", "h100", *options)


def test_a_config_runs_by_the_code_of_transformers(config):
    ran = via_torch("--set", "N=32", "--format", "json", "--run", "graph")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    # Of each of 32 tokens: projections of q, k, v and o, three of the MLP, logits; two products of attention.
    layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128
    attention = 2 * 2 * 4 * 16 * (32 * 33 // 2)  # causal: two multiply-adds for each visible pair, head and element
    expected = 2 * 32 * (2 * layer + 64 * 320) + 2 * attention
    assert found["total"]["contraction_flops"] == expected
    assert found["program"] == "model/config.json: prefill, B = 1, N = 32, bf16"


def test_a_decoding_step_over_a_cache(config):
    ran = via_torch("--phase", "decode", "--set", "S=64", "--set", "B=2", "--dtype", "fp16", "--steps")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(
        "model/config.json: decode, B = 2, S = 64, fp16, eager: every kernel launched by the host"
    )


REFUSED_CONFIGS = [
    (("--set", "S=64"), 2, "--set S: a program of phase prefill has no such size; B, N are accepted. Remove --set S."),
    (("--phase", "decode", "--set", "N=64"), 2, "--set N: a program of phase decode has no such size; B, S are accepted."),
    (("--set", "N=0"), 1, "--set N: 0 is out of range;"),
    (("--set", "N=B"), 1, "--set N: 'B' in 'B' has no value;"),
    (("--dtype", "fp4"), 2, "--dtype fp4: transformers does not run it; fp16, bf16, fp32, fp64 are accepted. Name one of these."),
    (("--causal",), 2, "perfmodel flops: --via torch and --causal are both given; it changes formulas,"),
    (("--op", "softmax"), 2, "perfmodel flops: --via torch and --op are both given; one program is accepted,"),
    (("--input", "x=fp32[2]"), 2, "perfmodel flops: --via torch and --input are both given; one program is accepted,"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "start"), REFUSED_CONFIGS, ids=[" ".join(case[0]) for case in REFUSED_CONFIGS]
)
def test_options_that_a_config_s_program_ignores_are_refused(config, options, code, start):
    ran = via_torch(*options)
    check_refused(ran, code)
    assert ran.err.startswith(start)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "gpt2-124m",
            "--config gpt2-124m: it is a workload file; --via torch needs the config.json of a Hugging Face model.",
        ),
        ("gpt3", "--config gpt3: no file has this name; --via torch needs the config.json of a Hugging Face model."),
        ("nowhere.json", "nowhere.json: "),
    ],
)
def test_a_config_that_transformers_cannot_read_is_refused(config, name, start):
    ran = perfmodel("flops", "--config", name, "--via", "torch", "--gpu", "t4")
    check_refused(ran, 1)
    assert ran.err.startswith(start)


def test_a_config_of_an_unknown_model_type_is_refused(config, tmp_path):
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "nonesuch"}), encoding="utf-8")
    check_refused(via_torch(), 1)


def test_a_run_of_formulas_is_ideal():
    ran = perfmodel("flops", "--config", "gpt2", "--run", "eager")
    check_refused(ran, 2)
    assert ran.err == (
        "--run eager: a config describes an ideal program; it is accepted with --module and --via torch. Add --via torch, or "
        "remove it.\n"
    )


@pytest.mark.parametrize(
    ("options", "where"),
    [(("--module", "a:b"), "--module"), (("--config", "gpt2", "--via", "torch"), "--via torch")],
)
def test_a_machine_without_torch_is_told_so(monkeypatch, options, where):
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "torch" else found(name, *rest))
    ran = perfmodel("flops", *options, "--gpu", "t4")
    check_refused(ran, 1)
    assert (
        ran.err
        == f"{where}: torch is not installed; a program is read by torch. Run 'pip install torch transformers'.\n"
    )
