"""How tokens choose experts: expected numbers against enumeration and against simulated choices, and where they enter."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from itertools import combinations, product
from math import comb

import pytest
from command import check_message, perfmodel
from many import for_each

from perfmodel import expert_tables, hardware, ops, routing
from perfmodel.analysis import analyse
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.plans.division import divided
from perfmodel.plans.plan import Plan


def chosen(shares, draw):
    """The experts of one token, each with its share as probability: systematic sampling in random order."""
    order = list(range(len(shares)))
    draw.shuffle(order)
    mark, reached, found = draw.random(), 0.0, []
    for expert in order:
        reached += shares[expert]
        if reached > mark + len(found):
            found.append(expert)
    return found


def simulated(E, A, tokens, how, batches, seed=5):
    """Rows of every expert in each of so many batches."""
    draw, shares = random.Random(seed), routing.shares(E, A, how)
    for _ in range(batches):
        rows = [0] * E
        for _ in range(tokens):
            for expert in chosen(shares, draw):
                rows[expert] += 1
        yield rows


def test_distinct_experts_are_the_mean_over_all_choices():
    """Uniform: every set of A experts is as likely. Skewed, one expert a token: every sequence, weighted by its shares."""
    for E, A, tokens in ((3, 1, 2), (4, 2, 2), (5, 2, 2)):
        choices = list(product(combinations(range(E), A), repeat=tokens))
        mean = Fraction(sum(len(set().union(*choice)) for choice in choices), len(choices))
        assert routing.distinct(E, A, tokens) == pytest.approx(float(mean))
    counts = (5, 3, 2)
    mean = Fraction(0)
    for choice in product(range(3), repeat=4):
        weight = Fraction(1)
        for expert in choice:
            weight *= Fraction(counts[expert], 10)
        mean += weight * len(set(choice))
    assert routing.distinct(3, 1, 4, counts) == pytest.approx(float(mean))


@pytest.mark.parametrize(
    ("E", "A", "tokens", "how"), [(8, 2, 5, 0), (16, 4, 20, 1.2), (6, 2, 9, (40, 30, 10, 10, 5, 5))]
)
def test_simulated_choices_have_the_expected_numbers(E, A, tokens, how):
    """3,000 batches: the standard error of a mean is below 0.5 % here."""
    batches = list(simulated(E, A, tokens, how, 3000))

    def mean(figure):
        return sum(map(figure, batches)) / len(batches)

    shares = routing.shares(E, A, how)
    assert mean(lambda rows: sum(row > 0 for row in rows)) == pytest.approx(
        routing.distinct(E, A, tokens, how), rel=0.01
    )
    for tile in (2, 4, 16):
        padded = mean(lambda rows, tile=tile: sum(-(-row // tile) * tile for row in rows))
        assert padded == pytest.approx(routing.padded_rows(E, A, tokens, tile, how), rel=0.01)
    assert mean(lambda rows: rows[0]) == pytest.approx(tokens * shares[0], rel=0.02)
    halves = (range(E // 2), range(E // 2, E)) if isinstance(how, tuple) else (range(0, E, 2), range(1, E, 2))
    fullest = mean(lambda rows: max(sum(rows[i] for i in half) for half in halves))
    assert fullest == pytest.approx(routing.fullest_rank_rows(E, A, tokens, 2, how), rel=0.03)


def test_padded_rows_are_the_mean_of_a_binomial_number():
    for tokens, share, tile in ((7, Fraction(1, 4), 3), (40, Fraction(1, 3), 8), (5, Fraction(1, 1), 4)):
        chances = [comb(tokens, k) * share**k * (1 - share) ** (tokens - k) for k in range(tokens + 1)]
        mean = sum(chance * -(-k // tile) * tile for k, chance in enumerate(chances))
        E = int(1 / share)
        assert routing.padded_rows(E, 1, tokens, tile) == pytest.approx(float(E * mean))


def test_large_batches_leave_half_a_tile_empty():
    """One expert in 8 of 10^6 tokens: 125,000 rows +- 331, and (tile - 1) / 2 more on average. Both ways of counting agree."""
    assert routing.padded_rows(8, 1, 10**6, 128) == pytest.approx(10**6 + 8 * 127 / 2)
    near = [
        routing.padded_rows(8, 1, tokens, 64) - tokens for tokens in (149_000, 151_000)
    ]  # on both sides of the limit
    assert near == pytest.approx([8 * 63 / 2] * 2, rel=1e-6)


def test_a_share_is_at_most_one():
    """Counts 90, 5, 5 with two experts a token: the first is always chosen, the others by half."""
    assert routing.shares(3, 2, (90, 5, 5)) == pytest.approx((1.0, 0.5, 0.5))
    assert routing.shares(3, 2, (1, 1, 0)) == pytest.approx((1.0, 1.0, 0.0))
    zipf = routing.shares(64, 8, 1.3)
    assert sum(zipf) == pytest.approx(8)
    assert max(zipf) <= 1
    assert list(zipf) == sorted(zipf, reverse=True)
    assert routing.shares(4, 1, 1) == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25])  # 1, 1/2, 1/3, 1/4 of 25/12


def test_more_skew_uses_fewer_experts():
    found = [routing.distinct(64, 8, 64, how) for how in (0, 0.5, 1, 1.5, 2)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 5


def test_the_busiest_rank_is_that_of_the_popular_experts():
    """Counts are placed as neighbours: 40 + 30 of 100, twice the mean of 4 ranks is 2.8. A Zipf law is dealt round."""
    counts = (40, 30, 10, 5, 5, 4, 3, 3)
    assert routing.busiest(8, 1, 4, counts).load == pytest.approx(0.7 * 4)
    assert routing.busiest(8, 1, 4, 0).load == pytest.approx(1)
    zipf = routing.shares(8, 1, 1)
    assert routing.busiest(8, 1, 4, 1).load == pytest.approx((zipf[0] + zipf[4]) * 4)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("1.2", 1.2), ("40:30:20:10", (40, 30, 20, 10)), ("0.5:0.25", (0.5, 0.25))]
)
def test_a_routing_is_read_from_text(text, value):
    assert routing.from_text(text, "routing") == value


@for_each("text", ["", "x", "-1", "17", "1:-2", "0:0", "nan", "inf", "1:inf", "1:"])
def test_a_text_that_is_no_routing_is_refused(text):
    with pytest.raises(InputError, match="the exponent of a Zipf law from 0 to 16, or a count for each expert"):
        routing.from_text(text, "routing")


def test_counts_must_be_those_of_all_experts():
    with pytest.raises(InputError, match="it has 3 counts for 8 experts"):
        ops.find("expert_linear")(B=1, N=1, D_in=3, D_out=4, E=8, A=2, routing=[1, 2, 3])
    with pytest.raises(InputError, match="experts with tokens: 1, fewer than the 2 that a token chooses"):
        ops.find("expert_linear")(B=1, N=1, D_in=3, D_out=4, E=3, A=2, routing=[1, 0, 0])


# --- where it enters


def test_a_skewed_batch_reads_fewer_weights():
    """16 tokens with 8 of 128 experts: the weights of the distinct ones."""
    read = {}
    for how in (0, 1.0):
        op = ops.find("expert_linear")(B=16, N=1, D_in=64, D_out=32, E=128, A=8, routing=how)
        read[how] = op.tensor("distinct experts").read_byte
        assert read[how] == 2 * round(routing.distinct(128, 8, 16, how) * 64 * 32)
    assert read[1.0] < read[0]


def test_a_model_a_sweep_and_a_case_take_a_routing(tmp_path):
    card = hardware.gpu("h100")
    settings = {"B": 16, "S": 1024}
    plain, skewed = (
        analyse(workload("qwen3-30b-a3b"), gpu=card, phase="decode", settings={**settings, **more}).total
        for more in ({}, {"routing": 1.2})
    )
    assert skewed.traffic_byte < plain.traffic_byte
    assert skewed.flops == plain.flops
    assert skewed.expected.expected_s < plain.expected.expected_s
    rows = tmp_path / "rows.jsonl"
    given = ("--gpu", "h100", "--phase", "decode", "--over", "B=1:16:2", "--set", "S=1024", "--set", "routing=1.2")
    perfmodel("sweep", "--config", "qwen3-30b-a3b", *given, "-o", str(rows))
    last = json.loads(rows.read_text().splitlines()[-1])
    assert (last["B"], last["traffic_byte"]) == (16, skewed.traffic_byte)
    case = {
        "op": "expert_linear",
        "shape": {"B": 1, "N": 4, "D_in": 64, "D_out": 32, "E": 4, "A": 1, "routing": [4, 3, 2, 1]},
    }
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(case))
    (found,) = json.loads(perfmodel("predict", "--cases", str(path), "--gpu", "h100", "--format", "json").out)["cases"]
    distinct = sum(1 - (1 - share) ** 4 for share in (0.4, 0.3, 0.2, 0.1))
    assert found["traffic_byte"] == 2 * (4 * 64 + 4 * 32 + round(distinct * 64 * 32))


def test_many_cases_at_once_agree_with_single_ones():
    from perfmodel.case_files import read
    from perfmodel.prediction import predictions

    def lines(number):
        shape = {"B": 1, "D_in": 512, "D_out": 256, "E": 16, "A": 2}
        return [
            json.dumps({"op": "expert_linear", "shape": {**shape, "N": 3 + n, "routing": how}, "impl": "serving"})
            for n in range(number)
            for how in (0, 1.1)
        ]

    card = hardware.gpu("h100")
    together = [one.expected.expected_s for one in predictions(read(lines(9), "cases"), card)]
    alone = [next(iter(predictions(read([line], "case"), card))).expected.expected_s for line in lines(9)]
    assert together == pytest.approx(alone, rel=1e-12)


def test_the_busiest_rank_of_an_expert_parallel_group_sets_the_pace():
    """Mixtral's 8 experts with these counts on 4 ranks of neighbours: 70 of 100 rows meet on the first, 2.8 times the mean."""
    found = workload("mixtral-8x7b")
    counts = (40, 30, 10, 5, 5, 4, 3, 3)
    dims = {"causal": 0, **found.dims("decode", {"B": 64, "routing": counts})}
    plan = Plan(dp=4, ep=4, microbatch=16)
    division = divided(found.steps_in("decode"), dims, plan, train=False)
    (step,) = (piece for piece in division.pieces if piece.step.name.endswith("gate_up"))
    load = routing.busiest(8, 2, 4, counts).load
    assert (step.values["E"], step.values["A"]) == (2, 1)
    assert step.values["N"] == -(-2 * load // 1)  # a token of each sequence, two choices
    assert any("2.8 times the mean" in note or f"{load:.3g} times the mean" in note for note in division.notes)
    even = divided(found.steps_in("decode"), {**dims, "routing": 0}, plan, train=False)
    byte = {
        name: [e.byte for e in one.exchanges if e.axis == "ep"] for name, one in (("busy", division), ("even", even))
    }
    assert [round(byte["even"][0] * load)] == pytest.approx([byte["busy"][0]], abs=1)


def test_the_page_of_an_expert_layer_shows_the_spread():
    out = perfmodel("explain", "expert_linear", "--set", "B=256", "--set", "N=1", "--set", "E=64", "--set", "A=8").out
    words = " ".join(out.split())
    assert "256 tokens make 2,048 rows: 32.00 for an expert on average, 32.00 for the most popular one." in words
    assert "64.000 of 64 experts have rows, 32.00 each (expected numbers)." in words
    # One token chooses A of 128 experts with one row each: 8 / 128 on average, and 1 for each of those that it chooses.
    one = ("--set", "B=1", "--set", "N=1", "--set", "E=128", "--set", "A=8")
    words = " ".join(perfmodel("explain", "expert_linear", *one).out.split())
    assert "1 token makes 8 rows: 0.06250 for an expert on average" in words
    assert "8.0000 of 128 experts have rows, 1.000 each" in words


def test_a_routing_is_written_as_it_is_given():
    ran = perfmodel("flops", "--op", "expert_linear", "--set", "E=4", "--set", "routing=4:3:2:1", "--gpu", "h100")
    assert "routing = 4:3:2:1" in " ".join(ran.out.split())
    told = perfmodel("flops", "--op", "expert_linear", "--set", "E=2", "--set", "routing=0:0").err
    assert "'0:0' has no expert with tokens" in told
    found = expert_tables.of(64, 8, 256)
    assert [one.tile for one in found.padding] == sorted(one.tile for one in found.padding)
    assert all(one.rows >= 2048 for one in found.padding)
    assert [one.load for one in found.ranks] == pytest.approx([1.0] * len(found.ranks))
    assert all(a.with_chance < b.with_chance for a, b in zip(found.ranks, found.ranks[1:], strict=False))


def test_a_service_takes_a_routing_and_refuses_sizes_of_its_load():
    given = ("serve", "--config", "qwen3-30b-a3b", "--gpu", "h100", "--batch", "16", "--format", "json")
    plain, skewed = (json.loads(perfmodel(*given, *more).out) for more in ((), ("--set", "routing=1.2")))
    assert plain != skewed
    told = perfmodel("serve", "--config", "qwen3-30b-a3b", "--gpu", "h100", "--set", "N=1")
    assert told.code == 2
    assert "this size follows from the load" in told.err


@for_each(
    "command",
    (
        "flops --config mixtral-8x7b --symbolic --set routing=1.2",
        "solve --op expert_linear --gpu h100 --for E --set routing=1",
        "solve --config mixtral-8x7b --gpu h100 --for A --set routing=1 --phase decode",
        "sweep --op expert_linear --gpu h100 --over E=8:16:2 --set routing=1",
    ),
)
def test_a_routing_needs_numbers_of_experts(command):
    done = perfmodel(*command.split())
    assert done.code == 1
    check_message(done.err)


def test_the_page_of_experts_takes_a_routing_and_a_card():
    done = perfmodel("explain", "expert_linear", "--set", "routing=40:30:20:10", "--set", "E=4", "--gpu", "h100")
    assert done.code == 0
    assert "rows with padding" in done.out
