"""The headroom in every document that has times: seconds above the lower bound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import perfmodel

from perfmodel.api import predict

STORED = Path(__file__).parent.parent / "benchmarks" / "results" / "h200-counters.jsonl"
ADD = {"op": "add", "shape": {"numel": 1 << 27}, "dtype": "fp16"}


def document(*arguments):
    return json.loads(perfmodel(*arguments, "--format", "json").out)


def timed(value):
    """Yields every object of a document that has a bound."""
    if isinstance(value, dict):
        if "lower_s" in value:
            yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from timed(inner)


@pytest.mark.parametrize(
    "line",
    [
        "flops --config deepseek-v2-lite --gpu a100 --phase decode",
        "flops --op softmax --gpu t4",
        "compare --config gpt2 --gpu t4 --gpu a100",
        "predict --cases cases --gpu t4",
    ],
)
def test_without_a_measurement_it_is_expected_less_bound(line):
    found = list(timed(document(*line.split())))
    assert found
    for one in found:
        assert one["headroom_s"] == one["expected_s"] - one["lower_s"] >= 0


def test_without_a_card_there_is_none():
    assert not list(timed(document("flops", "--config", "gpt2")))
    assert "headroom_s" not in json.dumps(document("flops", "--config", "gpt2"))


def test_with_a_measurement_it_is_measured_less_bound():
    """3 x 2^27 elements of 2 bytes at 4.8 TB/s are 167.77 us: a kernel of 200 us could be 32.23 us faster."""
    (found,) = predict({**ADD, "measured_us": 200}, "h200").cases
    one = json.loads(predict({**ADD, "measured_us": 200}, "h200").to_json())["cases"][0]
    assert one["headroom_s"] == pytest.approx(200e-6 - 3 * 2 * 2**27 / 4.8e12)
    assert one["headroom_s"] == one["measured_s"] - found.total.lower_s


def test_a_stored_run_has_it_in_every_case():
    found = list(timed(document("validate", "--from", str(STORED))))
    assert len(found) == 12
    assert all(one["headroom_s"] == one["measured_s"] - one["lower_s"] for one in found)
