"""The bottleneck of a whole workload: one definition in every answer, on each side of every crossing."""

from __future__ import annotations

import pytest
from command import perfmodel
from many import for_each

from perfmodel import api

ASKED = [
    ("attention-16x16384", "H", "a100", {}, False),
    ("llama-2-7b-layer", "N", "a100", {}, True),
    ("llama-2-7b-layer", "N", "h100", {}, False),
    ("llama-2-7b-layer", "B", "a100", {"N": 16, "S": 16}, True),
    ("mlp-4096", "N", "a100", {}, True),
    ("decoder-block", "N", "t4", {}, True),
    ("llama-3-8b", "N", "h100", {}, True),
]


def bound(config, card, symbol, value, settings, fused):
    return api.analyse(config, gpu=card, settings={**settings, symbol: value}, fused=fused).total.bound


@pytest.mark.parametrize(("config", "symbol", "card", "settings", "fused"), ASKED)
def test_flops_solve_and_sweep_agree_on_each_side_of_every_crossing(config, symbol, card, settings, fused):
    whole = api.crossings(config, symbol, card, settings=settings, fused=fused).answers[0]
    assert whole.crossings, whole.reason
    for crossing in whole.crossings:
        sides = {crossing.below: crossing.bound_below, crossing.above: crossing.bound_above}
        assert crossing.bound_below != crossing.bound_above
        assert {n: bound(config, card, symbol, n, settings, fused) for n in sides} == sides
        for size, expected in sides.items():
            (chunk,) = api.sweep_over(config, card, {symbol: [size]}, settings=settings, fused=fused)
            assert chunk.bound_names == [expected]


@for_each("size", [1, 100, 163, 168, 174, 2000])
def test_the_bound_is_what_has_most_seconds_of_its_own(size):
    """Computed from the rows: bytes over the bandwidth, and FLOPs of each engine over its peak."""
    answer = api.analyse("llama-2-7b-layer", gpu="a100", settings={"N": size}, fused=True)
    peaks = {"vector": 78e12, "tensor": 312e12, "special": 16 * 108 * 1.41e9}
    seconds = {"memory": sum(row.traffic_byte * row.repeat for row in answer.rows) / 2039e9}
    seconds |= {e: sum(row.engines[e] * row.repeat for row in answer.rows) / peak for e, peak in peaks.items()}
    assert answer.total.bound == max(seconds, key=seconds.get)


@pytest.mark.parametrize("arguments", [
    ("flops", "--config", "llama-2-7b-layer", "--gpu", "a100", "--verbose"),
    ("solve", "--config", "llama-2-7b-layer", "--gpu", "a100", "--for", "N"),
])  # fmt: skip
def test_both_answers_say_what_together_means(arguments):
    text = " ".join(perfmodel(*arguments).out.split())
    assert "The bottleneck of the total is the resource (memory or one engine) with the largest total time." in text


def test_nothing_is_said_where_there_is_one_bound():
    assert "bottleneck of the total" not in perfmodel("flops", "--config", "conv1d-8192", "--gpu", "a100", "-v").out
