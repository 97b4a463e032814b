"""The example of fused kernels in training: gradients, losses in every way, shapes, and Amdahl's arithmetic."""

from __future__ import annotations

import json
from math import isclose

import pytest

torch = pytest.importorskip("torch", reason="the example trains with torch")

from examples.fused_training import amdahl, data, kernels, measure, report, rows, train  # noqa: E402
from examples.fused_training.model import Sizes, Translator  # noqa: E402

SMALL = Sizes(vocabulary=50, width=16, heads=2, inner=24, layers=1)


def doubles(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_the_fused_softmax_is_that_of_its_differences(masked):
    mask = torch.full((3, 5), float("-inf"), dtype=torch.float64).triu(3) if masked else None
    scores = doubles(2, 2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rows.softmax("fused", x, mask, 0.3), scores)


def test_the_gradients_of_the_fused_layer_norm_are_those_of_its_differences():
    x, gamma, beta = (one.requires_grad_() for one in (doubles(2, 3, 6), doubles(6), doubles(6) + 1))
    assert torch.autograd.gradcheck(lambda *given: rows.layer_norm("fused", *given), (x, gamma, beta))


@pytest.mark.parametrize("op", kernels.OPS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_three_ways_agree(op, direction):
    shape = (10, 12) if op == "LayerNorm" else (2, 3, 4, 6)
    for way in rows.WAYS:
        case = kernels.Case(op, direction, way, shape, "fp32", "warm")
        assert kernels.built(case, "cpu").relative_norm < 1e-6


def test_a_wrong_result_is_noticed():
    wanted = doubles(4, 4)
    assert kernels.relative(wanted + 0.1, wanted) > 0.05
    assert kernels.relative(wanted / 0, wanted) == float("inf")


def test_the_default_model_has_60_million_parameters():
    with torch.device("meta"):
        model = Translator("torch")
    # Embedding 32000 x 512. A layer: norms 2 x 512 each, attention 4 x (512 x 512 + 512), inner 2 x 512 x 2048 + 2048 + 512.
    attention, inner, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    encoder, decoder = attention + inner + 2 * norm, 2 * attention + inner + 3 * norm
    assert sum(p.numel() for p in model.parameters()) == 32000 * 512 + 6 * (encoder + decoder) + 2 * norm == 60_524_544
    assert sum(type(module).__name__ == "Softmax" for module in model.modules()) == 18
    assert sum(type(module).__name__ == "Norm" for module in model.modules()) == 32


def test_a_target_is_the_translation_of_the_source_in_reverse_order():
    found = data.batches(2, 3, 5, 20, seed=4)
    assert found.source.shape == found.target.shape == found.wanted.shape == (2, 3, 5)
    assert bool((found.target[..., 0] == data.START).all())
    assert torch.equal(found.target[..., 1:], found.wanted[..., :-1])
    pairs = set(zip(found.source.flip(-1).flatten().tolist(), found.wanted.flatten().tolist(), strict=True))
    assert len(pairs) == len({source for source, _ in pairs}) == len({wanted for _, wanted in pairs})


def test_a_decoder_does_not_see_the_future():
    torch.manual_seed(0)
    model = Translator("fused", SMALL, longest=8)
    source, target = torch.randint(1, 50, (1, 8)), torch.randint(1, 50, (1, 8))
    changed = target.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50
    with torch.no_grad():
        difference = (model(source, target) - model(source, changed)).abs().amax((0, 2))
    assert difference[:5].tolist() == [0] * 5
    assert float(difference[5]) > 0


def test_the_three_ways_train_to_equal_losses():
    losses = {}
    for way in rows.WAYS:
        training = train.Training(train.Setting(way, "fp32", 8, 6, SMALL), "cpu")
        training.take(data.batches(1, 8, 6, SMALL.vocabulary).at(0))
        losses[way] = [float(training.step()) for _ in range(8)]
    assert losses["naive"][-1] < losses["naive"][0]
    for way in ("torch", "fused"):
        assert losses[way] == pytest.approx(losses["naive"], rel=1e-5)


# --- Amdahl


def test_a_tenth_that_becomes_twice_as_fast():
    part = amdahl.Part("softmax", 0.1, 0.05)
    assert isclose(amdahl.speedup(1.0, [part]), 1 / 0.95)
    assert isclose(amdahl.limit(1.0, [part]), 1 / 0.9)
    # Two parts: 1 - 0.3 + 0.1 / 2 + 0.2 / 4 = 0.8.
    assert isclose(amdahl.speedup(1.0, [part, amdahl.Part("norm", 0.2, 0.05)]), 1 / 0.8)


def test_the_law_and_the_captured_fused_program_agree():
    found = amdahl.predicted(train.Setting("naive", "bf16", 4, 32, Sizes(layers=1)), "h100")
    assert found.step_s["naive"] > found.step_s["torch"] > found.step_s["fused"]
    assert [part.name for part in found.parts] == list(amdahl.PARTS)
    assert all(part.speedup > 1 for part in found.parts)
    whole = found.step_s["naive"] / found.step_s["fused"]
    assert whole == pytest.approx(found.speedup, rel=0.05)
    assert found.speedup < amdahl.limit(found.step_s["naive"], found.parts)


# --- the script


def test_a_part_that_fails_does_not_end_the_others(tmp_path):
    def fails():
        raise RuntimeError("no such kernel")

    every = [({"kind": "kernel", "op": "a"}, fails), ({"kind": "kernel", "op": "b"}, lambda: {"median_us": 1.5})]
    path = tmp_path / "run.jsonl"
    assert measure.measure(path, iter(every), {"schema": 2}, limit_s=60) == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"schema": 2}
    assert lines[1]["error"] == "RuntimeError: no such kernel"
    assert lines[2]["median_us"] == 1.5
    assert measure.measure(path, iter(every), {}, limit_s=-1) == 2
    assert "not started" in path.read_text()


def test_the_record_of_an_epoch_has_its_quartiles_and_losses():
    found = measure.of_epoch(train.Epoch([3.0, 2.0, 1.0, 0.5], [9.0, 1.0, 2.0, 3.0], 7), skipped=1)
    assert (found["median_ms"], found["total_s"], found["losses"]) == (2.0, 0.015, [3.0, 2.0, 1.0, 0.5])


def test_the_calls_of_a_step_are_those_of_the_model():
    ways = {"naive": 10.0, "fused": 2.0}
    lines = [
        {"kind": "kernel", "op": op, "direction": direction, "way": way, "shape": shape, "dtype": "bf16",
         "protocol": "warm", "median_us": time}
        for op, shape in (("softmax", [4, 8, 16, 16]), ("masked softmax", [4, 8, 16, 16]), ("LayerNorm", [64, 512]))
        for direction in ("forward", "backward")
        for way, time in ways.items()
    ]  # fmt: skip
    found = {part.name: part for part in report.parts(lines, "bf16", 4, 16)}
    # 12 layers attend to themselves, 6 of them masked, and 6 to the encoder; 2 norms in 6 layers, 3 in 6, and 2 at the end.
    assert found["masked softmax forward"].before_s == pytest.approx(6 * 10e-6)
    assert found["softmax backward"].after_s == pytest.approx(12 * 2e-6)
    assert found["LayerNorm forward"].before_s == pytest.approx(32 * 10e-6)
    with torch.device("meta"):
        model = Translator("fused")
    assert sum(type(one).__name__ == "Softmax" for one in model.modules()) == 6 + 12


def test_losses_are_compared_by_their_largest_difference():
    assert report.apart({"losses": [1.0, 2.2]}, {"losses": [1.0, 2.0]}) == pytest.approx(0.1)
