"""Protocols: one shape has one expected time under one protocol, and no bound exceeds what L2 allows."""

from __future__ import annotations

import json

import pytest
from command import perfmodel

from perfmodel.cases import case
from perfmodel.hardware import gpu
from perfmodel.ops import find
from perfmodel.prediction import predictions
from perfmodel.roofline import bounds, rates, reusing_l2


def predicted(line, card="a100", **more):
    return next(iter(predictions([case(line)], gpu(card), **more)))


SCALE = {"op": "elementwise", "kind": "scale", "shape": {"numel": 20_000_000}, "dtype": "fp16"}


def test_the_bound_belongs_to_the_operation_and_the_card():
    """20 M halves are 80 MB of traffic and L2 has 41.9 MB: memory-bound under every protocol."""
    found = {protocol: predicted({**SCALE, "protocol": protocol}).total for protocol in ("cold", "warm", "eager")}
    assert {total.bound for total in found.values()} == {"memory"}
    assert len({total.no_overlap_s for total in found.values()}) == 1
    # 8192 x 8192 x 128 in fp16 has 124 FLOP/B, below the ridge of 153
    product = {"op": "matmul", "shape": {"m": 8192, "k": 8192, "n": 128}, "dtype": "fp16"}
    assert {predicted({**product, "protocol": p}).total.bound for p in ("cold", "warm", "eager")} == {"memory"}


def test_one_l2_is_subtracted_once():
    """Reads of 40 MB and writes of 40 MB share 40 MiB of L2. Traffic served by L2 is charged at 7219.2 GB/s."""
    byte, l2 = 80e6, 40 * 2**20
    total = predicted({**SCALE, "protocol": "warm"}).total
    assert total.lower_s == pytest.approx(max((byte - l2) / 2039e9, byte / 7219.2e9, 20e6 / 78e12))
    assert predicted({**SCALE, "protocol": "cold"}).total.lower_s == pytest.approx(byte / 2039e9)


def test_a_pause_lets_l2_write_back():
    """Reads of 64 MB and writes of 64 MB on an L4, whose L2 has 50.3 MB: after a pause L2 saves that much of each."""
    line = {"op": "elementwise", "kind": "scale", "shape": {"numel": 32_000_000}, "dtype": "fp16"}
    l2 = 48 * 2**20
    lower_s = {
        protocol: predicted({**line, "protocol": protocol}, "l4").total.lower_s for protocol in ("warm", "eager")
    }
    assert lower_s["warm"] == pytest.approx((128e6 - l2) / 300e9)
    assert lower_s["eager"] == pytest.approx((128e6 - 2 * l2) / 300e9)


def test_what_fits_in_l2_need_not_come_from_memory():
    """A LayerNorm of 16 MB on a card with 48 MiB of L2 and an unknown L2 rate is bound by arithmetic."""
    line = {"op": "layernorm", "shape": {"rows": 1024, "cols": 4096}, "dtype": "fp16"}
    for protocol in ("warm", "eager"):
        lower_s = predicted({**line, "protocol": protocol}, "l4").total.lower_s
        assert lower_s < 0.5 * 16.8e6 / 300e9


def test_the_tensors_that_move_most_often_stay_in_l2():
    """An accumulating product reads and writes C, so each byte of C in L2 saves two transfers."""
    card = rates(gpu("a100"), "fp16")
    op = find("gemm")(m=4096, k=4096, n=4096)  # 33.6 MB each of a, b and c; L2 holds 41.9 MB
    plain, kept = bounds(op, card).memory_s, reusing_l2(op, card)
    tensor_s = 2 * 4096**3 / 312e12
    assert kept == pytest.approx(
        max(tensor_s, (4 * 2 * 4096**2 - 2 * 2 * 4096**2 - (40 * 2**20 - 2 * 4096**2)) / 2039e9)
    )
    assert kept <= max(plain, tensor_s)


def test_the_bound_reads_rotating_operands_from_memory():
    """The right operand of a product is replaced as the weights of a layer are: 4096 x 4096 x 2 bytes at 3.352 TB/s."""
    product = {"op": "matmul", "shape": {"m": 64, "k": 4096, "n": 4096}}
    layer = {"op": "linear", "shape": {"B": 1, "N": 64, "D_in": 4096, "D_out": 4096}}
    for line in (product, layer):
        total = predicted({**line, "dtype": "bf16", "protocol": "rotating"}, "h100").total
        assert total.lower_s == pytest.approx(4096 * 4096 * 2 / 3.352e12)
    quantised = predicted({**product, "dtype": "fp8", "impl": "static_scale", "protocol": "rotating"}, "h100").total
    assert quantised.lower_s >= 4096 * 4096 / 3.352e12
    kept = predicted({**product, "dtype": "bf16", "protocol": "warm"}, "h100").total
    assert kept.lower_s == pytest.approx(2 * 64 * 4096 * 4096 / 989.4e12, rel=1e-3)  # all operands fit in L2


def test_rotating_weights_come_from_memory():
    """The kernel alone: the launches of the protocols differ."""
    product = {"op": "matmul", "shape": {"m": 1, "k": 4096, "n": 4096}, "dtype": "fp16"}
    warm, rotating, cold = (
        sum(body.seconds for body in predicted({**product, "protocol": p}, "h200").expected.bodies)
        for p in ("warm", "rotating", "cold")
    )
    assert warm < rotating <= cold * 1.01


@pytest.mark.parametrize("card", ["a100", "h100", "t4"])
@pytest.mark.parametrize("op", ["softmax", "layernorm", "rmsnorm", "matmul", "attention"])
def test_eager_is_the_same_kernels_and_the_host(card, op):
    shapes = {
        "matmul": {"m": 4096, "k": 4096, "n": 4096},
        "attention": {"B": 1, "H": 16, "N": 1024, "d": 64},
    }
    line = {"op": op, "shape": shapes.get(op, {"rows": 4096, "cols": 4096}), "dtype": "fp16"}
    warm, eager = (predicted({**line, "protocol": p}, card).expected for p in ("warm", "eager"))
    assert [body.choice for body in warm.bodies] == [body.choice for body in eager.bodies]
    assert eager.expected_s >= warm.expected_s


def test_an_older_torch_is_named_where_its_kernels_differ():
    line = {"op": "softmax", "shape": {"rows": 4096, "cols": 4096}, "dtype": "fp32", "protocol": "eager"}
    new, old = (predicted({**line, **more}).expected for more in ({}, {"torch": "2.1"}))
    assert "three passes" in old.bodies[0].choice
    assert "three passes" not in new.bodies[0].choice
    assert predicted({**line, "torch": "2.3"}).expected == new


@pytest.mark.parametrize("torch", [2.1, "two", "2", ""])
def test_a_version_is_a_text_of_two_numbers(torch):
    from perfmodel.errors import InputError

    with pytest.raises(InputError, match="is not a version"):
        case({"op": "softmax", "shape": {"rows": 1, "cols": 1}, "torch": torch})


@pytest.mark.parametrize("name", ["h100", "a100", "t4"])
def test_one_shape_has_one_time(name, tmp_path):
    """flops, explain, sweep and predict print the same time for 512 rows of 512 under one protocol."""
    line = {"op": "softmax", "shape": {"rows": 512, "cols": 512}, "dtype": "fp16", "protocol": "cold"}
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps(line))
    shown = json.loads(perfmodel("predict", "--cases", str(cases), "--gpu", name, "--format", "json").out)
    expected_s = shown["cases"][0]["expected_s"]
    assert predicted(line, name).expected.expected_s == expected_s
    rows = tmp_path / "rows.jsonl"
    words = ["--op", "softmax", "--gpu", name, "--over", "rows=512:512:1", "--set", "cols=512", "--expected"]
    assert perfmodel("sweep", *words, "-o", str(rows)).code == 0
    assert json.loads(rows.read_text().splitlines()[0])["expected_s"] == pytest.approx(expected_s, rel=1e-12)
    from perfmodel.analysis import analyse
    from perfmodel.workload import single

    answer = analyse(single(find("softmax")), gpu=gpu(name), settings={"rows": 512, "cols": 512})
    assert answer.total.expected.expected_s == pytest.approx(expected_s, rel=1e-12)
    assert answer.protocol == "cold"
