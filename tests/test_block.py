"""Composed operations: fused into one kernel, run as steps, repeated, and compared with the block that they form."""

from __future__ import annotations

import pytest

from perfmodel.api import analyse, load
from perfmodel.errors import InputError
from perfmodel.mixes import SCALE, SUM
from perfmodel.op import Engine, Op, Tensor, Work, each, fuse

# --- fuse: x -> hidden -> y, 10 elements of 2 bytes each


def chained(shape=(10,)):
    first = Op(
        (Tensor("x", (10,), 2, reads=1), Tensor("c", (5,), 2, reads=1), Tensor("hidden", (10,), 2, writes=1)),
        (Work("scale", each(SCALE, 10), Engine.VECTOR),),
    )
    second = Op(
        (Tensor("hidden", shape, 2, reads=1), Tensor("c", (5,), 2, reads=1), Tensor("y", (10,), 2, writes=1)),
        (Work("add", each(SUM, 10), Engine.VECTOR),),
    )
    return first, second


def test_fusing_keeps_what_passes_on_chip():
    op = fuse(*chained(), on_chip={"hidden"})
    assert op.flops() == 20
    # x, the shared c once, and y. Unfused, both kernels read c, and hidden is written and read.
    assert op.traffic_byte() == op.compulsory_byte() == 20 + 10 + 20
    assert [(name, kernel.traffic_byte()) for name, kernel in op.kernels()] == [("scale", 50), ("add", 50)]


def test_what_is_fused_can_be_fused_again():
    third = Op(
        (Tensor("y", (10,), 2, reads=1), Tensor("z", (10,), 2, writes=1)), (Work("add", each(SUM, 10), Engine.VECTOR),)
    )
    op = fuse(fuse(*chained(), on_chip={"hidden"}), third, on_chip={"y"})
    assert op.flops() == 30
    assert op.traffic_byte() == 20 + 10 + 20
    assert [kernel.traffic_byte() for _, kernel in op.kernels()] == [50, 50, 40]


def test_fusing_without_staying_on_chip_moves_what_passes():
    op = fuse(*chained(), on_chip=())
    assert op.traffic_byte() == 20 + 10 + 20 + 20 + 20


def test_fusing_refuses_shapes_that_differ():
    with pytest.raises(
        InputError, match=r"fuse: tensor 'hidden': the first operation has shape \(10,\) and the second \(12,\)"
    ):
        fuse(*chained((12,)), on_chip={"hidden"})


@pytest.mark.parametrize("name", ["x", "y", "c", "other"])
def test_fusing_refuses_to_keep_what_does_not_pass(name):
    with pytest.raises(
        InputError, match=f"fuse: tensor '{name}': it is not written by the first operation and read by"
    ):
        fuse(*chained(), on_chip={name})


# --- steps


@pytest.fixture
def answer(tmp_path):
    """Analyses a workload from text. Tensors have 10 elements of 2 bytes unless stated otherwise."""

    def analysed(steps, before="", **options):
        file = tmp_path / "block.yaml"
        file.write_text(f"title: a block\nsizes: {{numel: 10, B: 1, N: 1, D: 10, L: 3}}\n{before}steps:\n{steps}")
        return analyse(load(str(file)), **options)

    return analysed


CHAIN = """\
  - {name: first, op: relu, flow: {x: x, y: hidden}}
  - {name: second, op: relu, flow: {x: hidden, y: y}}
"""


def test_the_compulsory_bytes_of_a_chain_are_its_two_ends(answer):
    total = answer(CHAIN).total
    assert total.traffic_byte == 4 * 20
    assert total.compulsory_byte == 2 * 20


def test_what_has_no_place_in_the_flow_is_outer(answer):
    assert answer("  - {op: relu}\n  - {op: relu}\n").total.compulsory_byte == 4 * 20


def test_an_input_that_two_steps_read_comes_in_once(answer):
    steps = "  - {name: a, op: add, flow: {a: x, b: x, y: h}}\n  - {name: b, op: add, flow: {a: h, b: x, y: y}}\n"
    assert answer(steps).total.compulsory_byte == 2 * 20


REPEATED = """\
  - name: layers
    repeat: L
    steps:
      - {name: product, op: linear, sizes: {D_in: D, D_out: D}, flow: {x: stream, y: hidden}}
      - {name: relu, op: relu, flow: {x: hidden, y: stream}}
"""


def test_repeats_multiply_work_and_weights_but_not_the_stream(answer):
    found = answer(REPEATED)
    assert [(row.name, row.repeat) for row in found.rows] == [("layers.product", 3), ("layers.relu", 3)]
    assert found.total.flops == 3 * (2 * 10 * 10 + 10)
    assert found.total.traffic_byte == 3 * (20 + 200 + 20 + 20 + 20)
    # The stream comes in and goes out once; three matrices of 100.
    assert found.total.compulsory_byte == 20 + 20 + 3 * 200
    assert found.parameters.total == 3 * 100


def test_repeats_within_repeats_multiply(answer):
    nested = "  - {name: outer, repeat: 2, steps: [{name: inner, repeat: L, steps: [{op: relu}]}]}\n"
    (row,) = answer(nested).rows
    assert (row.name, row.repeat) == ("outer.inner.relu", 6)


def test_tied_weights_are_held_once(answer):
    steps = "".join(
        f"  - {{name: {n}, op: linear, sizes: {{D_in: D, D_out: D}}{t}}}\n"
        for n, t in (("a", ""), ("b", ", tied: yes"))
    )
    found = answer(steps)
    assert found.parameters.total == 100
    assert found.total.traffic_byte == 2 * (20 + 200 + 20)


@pytest.mark.parametrize(
    ("kernels", "fused", "number"),
    [("either", True, 1), ("either", False, 3), ("together", False, 1), ("apart", True, 3), ("apart", False, 3)],
)
def test_a_step_may_fix_how_its_kernels_run(answer, kernels, fused, number):
    assert len(answer(f"  - {{op: mlp, kernels: {kernels}, sizes: {{F: 20}}}}\n", fused=fused).rows) == number


def test_a_file_may_say_its_usual_form(answer):
    steps = "  - {op: mlp, sizes: {F: 20}}\n"
    assert len(answer(steps, "kernels: unfused\n").rows) == 3
    assert len(answer(steps, "kernels: unfused\n", fused=True).rows) == 1


def test_the_cache_of_a_token_counts_every_layer_and_no_batch(answer):
    steps = "  - {name: layers, repeat: L, steps: [{op: attention, sizes: {B: 4, H: 8, H_kv: 2, N: 5, S: 7, d: 16}}]}\n"
    # A key and a value of 2 heads of 16 numbers of 2 bytes in 3 layers.
    assert answer(steps).kv_cache_byte_per_token == 3 * 2 * 2 * 16 * 2


def test_a_step_takes_its_own_sizes_before_the_blocks(answer):
    found = answer("  - {name: a, op: relu, sizes: {numel: 2*numel}}\n  - {name: b, op: relu}\n")
    assert [row.flops for row in found.rows] == [20, 10]
    assert answer("  - {name: a, op: relu, sizes: {numel: 2*numel}}\n", settings={"numel": 7}).total.flops == 14


def test_training_runs_the_gradients_in_reverse(answer):
    steps = "  - {name: a, op: relu}\n  - {name: b, op: tanh}\n"
    names = [row.name for row in answer(steps, phase="train").rows if row.name != "optimizer"]
    assert names == ["a", "b", "b.backward", "a.backward"]


def test_item_sizes_follow_the_data_types(answer):
    step = "  - {op: linear, sizes: {D_in: D, D_out: D}}\n"
    # x and y of 10, W of 100 elements.
    assert answer(step, "dtype: fp32\n").total.traffic_byte == 4 * 120
    mixed = "dtypes: {weight: int8, activation: fp16, cache: fp16}\n"
    assert answer(step, mixed).total.traffic_byte == 100 * 1 + 20 * 2


def test_phases_set_sizes_over_the_files_and_settings_over_both(answer):
    phases = "phases: {prefill: {numel: 20}, decode: {numel: 30}}\n"
    step = "  - {op: relu}\n"
    assert answer(step, phases).total.flops == 20
    assert answer(step, phases, phase="decode").total.flops == 30
    assert answer(step, phases, phase="decode", settings={"numel": 40}).total.flops == 40
    with pytest.raises(InputError, match="this workload has no phase 'train'; prefill, decode are accepted"):
        answer(step, phases, phase="train")
