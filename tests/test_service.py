"""Serving: mixed steps, chunks, speculation, paging, queueing laws, and ``perfmodel serve``."""

from __future__ import annotations

import json
import math
import random

import pytest
from command import check_refused, perfmodel
from many import for_each

import perfmodel as library
from perfmodel import InputError, systems
from perfmodel.config_files import workload
from perfmodel.hardware import gpu
from perfmodel.service import queueing
from perfmodel.service.load import Stack
from perfmodel.service.pricing import StackPrices
from perfmodel.service.queueing import Moments
from perfmodel.service.request import Request
from perfmodel.service.speculation import accepted, break_even, speculation
from perfmodel.service.step import Chunk, Stepper

H100 = gpu("h100")
PRICES = StackPrices(H100, systems.of(H100), "fp16")


def stepper(name, tp=1):
    return Stepper(workload(name), PRICES, tp)


LLAMA = stepper("llama-2-7b")


# --- the step


@pytest.mark.parametrize("name", ["llama-2-7b", "gpt2", "mixtral-8x7b", "gemma-2-2b", "deepseek-v2-lite", "mamba-130m"])
def test_a_step_of_one_kind_is_its_phase(name):
    """A prompt alone is the prefill phase with the logits of the last position; decoding alone is the decode phase."""
    causal = None if name == "mamba-130m" else True
    prompt = library.analyse(name, phase="prefill", N=300, causal=causal, logits="last").total
    decode = library.analyse(name, phase="decode", B=4, S=512, causal=causal).total
    for chunk, whole in ((Chunk(300), prompt), (Chunk(1, 512, 4), decode)):
        found = stepper(name).cost((chunk,))
        assert (found.flops, found.contraction_flops) == (whole.flops, whole.contraction_flops)
        assert found.traffic_byte == whole.traffic_byte


def test_a_mixed_step_by_hand():
    # 300 new tokens over 100 cached ones and 5 sequences that decode over 400: 305 tokens pass the weights of 32 layers,
    # 4 x 4096^2 + 3 x 4096 x 11008 each = 6,476,005,376. 6 positions have logits. Pairs of attention: 300 x 100 +
    # 300 x 301 / 2 = 75,150, and 5 x 401 = 2005; each 4 x 4096 FLOP in 32 layers.
    found = LLAMA.cost((Chunk(300, 100), Chunk(1, 400, 5)))
    assert found.tokens == 305
    assert found.contraction_flops == (
        2 * 305 * 6_476_005_376 + 2 * 6 * 4096 * 32_000 + 4 * 4096 * 32 * (75_150 + 2005)
    )


def test_the_weights_are_read_once():
    together = LLAMA.cost((Chunk(256), Chunk(1, 400, 8)))
    apart = [LLAMA.cost((Chunk(256),)), LLAMA.cost((Chunk(1, 400, 8),))]
    # Apart, the layers and the output matrix are read twice: 2 x (6,476,005,376 + 4096 x 32,000) bytes more, norms aside.
    spared = sum(one.traffic_byte for one in apart) - together.traffic_byte
    assert spared == pytest.approx(2 * (6_476_005_376 + 4096 * 32_000), rel=1e-3)
    assert max(one.expected_s for one in apart) < together.expected_s < sum(one.expected_s for one in apart)


def test_equal_sequences_are_counted_together():
    assert LLAMA.cost((Chunk(1, 400), Chunk(1, 400), Chunk(1, 400, 2))) == LLAMA.cost((Chunk(1, 400, 4),))


@pytest.mark.parametrize("chunks", [(), (Chunk(0),), (Chunk(1, -1),), (Chunk(1, 1, 0),)])
def test_an_impossible_step_is_refused(chunks):
    with pytest.raises(InputError, match="serve: step"):
        LLAMA.cost(chunks)


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_divide_the_work(tp):
    whole, part = (stepper("llama-2-7b", p).cost((Chunk(64), Chunk(1, 400, 8))) for p in (1, tp))
    assert part.contraction_flops == pytest.approx(whole.contraction_flops / tp, rel=1e-2)
    assert whole.expected_s / tp < part.expected_s < whole.expected_s
    assert "tensor parallelism" in {term.name for term in part.terms}
    assert sum(term.seconds for term in part.terms) == pytest.approx(part.expected_s)


def test_the_terms_are_not_below_the_bound():
    for chunk in (Chunk(1, 10), Chunk(2000), Chunk(1, 4000, 64)):
        found = LLAMA.cost((chunk,))
        assert 0 < found.lower_s <= found.expected_s


# --- chunks and prefixes


def stack(most=64, **request):
    return Stack(LLAMA, Request(**request), most)


def test_the_steps_of_a_prompt():
    # 1000 tokens in chunks of 256: 3 full ones, whose mean is that of the first and the third, and 232 tokens over 768.
    steps = stack(prompt=1000, chunk=256).steps(1000)
    assert steps == ((Chunk(256, 0, 1, 0), 1.5), (Chunk(256, 512, 1, 0), 1.5), (Chunk(232, 768), 1.0))
    assert stack(chunk=256).steps(512) == ((Chunk(256, 0, 1, 0), 1.0), (Chunk(256, 256), 1.0))
    assert stack().steps(1000) == ((Chunk(1000), 1.0),)
    # A quarter of the prompt is in the cache.
    assert stack(prefix=0.25).steps(1000) == ((Chunk(750, 250), 1.0),)


def test_chunks_do_the_work_of_the_whole_prompt():
    whole = LLAMA.cost((Chunk(1000),)).contraction_flops
    parts = sum(LLAMA.cost((chunk,)).contraction_flops * times for chunk, times in stack(chunk=256).steps(1000))
    assert parts == whole


def test_chunks_slow_a_prompt_and_spare_the_others():
    longest = [stack(prompt=2048, chunk=chunk).prompt_s(2048) for chunk in (0, 1024, 512, 256)]
    assert longest == sorted(longest)
    assert stack(prompt=2048, chunk=512).prompt_s(2048, 8) > stack(prompt=2048, chunk=512).prompt_s(2048)


def test_a_prefix_saves_time():
    times = [stack(prompt=2048, prefix=share).prompt_s(2048) for share in (0.0, 0.25, 0.5, 0.9)]
    assert times == sorted(times, reverse=True)


# --- speculation


@pytest.mark.parametrize(("acceptance", "length"), [(0.0, 4), (0.6, 1), (0.7, 4), (0.95, 8), (1.0, 3)])
def test_accepted_tokens_against_a_simulated_chain(acceptance, length):
    source, rounds, tokens = random.Random(7), 20_000, 0
    for _ in range(rounds):
        tokens += 1  # the corrected token, or the one after the last proposal
        for _ in range(length):
            if source.random() >= acceptance:
                break
            tokens += 1
    assert accepted(acceptance, length) == pytest.approx(tokens / rounds, rel=0.02)


def test_a_round_by_hand():
    # 4 steps of 2 ms and a verification of 12 ms against 10 ms: 1 + .5 + .25 + .125 + .0625 = 1.9375 tokens in 20 ms.
    found = speculation(0.5, 4, 2e-3, 12e-3, 10e-3)
    assert found.tokens == 1.9375
    assert found.token_s == pytest.approx(20e-3 / 1.9375)
    assert found.speedup == pytest.approx(0.96875)
    # Break-even at 2 tokens per round: slightly above one half.
    assert accepted(found.break_even, 4) == pytest.approx(2.0)


def test_break_even():
    assert break_even(1.3, 1) == pytest.approx(0.3)  # one proposal: 1 + a = cost
    assert break_even(5.5, 4) is None  # a round yields at most 5 tokens
    assert break_even(0.9, 4) == 0.0


# --- paging


def test_memory_by_hand():
    # Llama-2-7B: 2 x 32 layers x 4096 numbers of 2 bytes = 524,288 bytes per token; 500 + 130 = 630 tokens are 40 blocks
    # of 16. Weights: 2 x 6,738,415,616 bytes. A block wastes 7.5 of 630 + 7.5 tokens on average.
    found = library.serve("llama-2-7b", "h100", prompt=500, output=130).memory
    assert (found.token_byte, found.sequence_byte) == (524_288, 640 * 524_288)
    assert found.weight_byte == 2 * 6_738_415_616
    assert found.waste == pytest.approx(7.5 / 637.5)
    assert found.largest_batch == found.room_byte // found.sequence_byte


def test_the_waste_of_blocks_against_all_lengths():
    """The last block of a sequence of 1 to 160 tokens."""
    block, lengths = 16, range(1, 161)
    wasted = sum(-length % block for length in lengths) / len(lengths)
    assert wasted == (block - 1) / 2


# --- queueing laws


def simulated_wait(rate, times, seed, arrivals=100_000):
    """The mean wait of one server, arrival by arrival (Lindley's recursion)."""
    source, wait, total = random.Random(seed), 0.0, 0.0
    for _ in range(arrivals):
        total += wait
        wait = max(0.0, wait + source.choice(times) - source.expovariate(rate))
    return total / arrivals


@pytest.mark.parametrize("times", [(1.0,), (0.25, 0.25, 2.5)])
def test_pollaczek_khinchine_against_a_simulated_queue(times):
    service = Moments(sum(times) / len(times), sum(t * t for t in times) / len(times))
    found = queueing.pollaczek_khinchine(0.6, service)
    assert simulated_wait(0.6, times, 3) == pytest.approx(found, rel=0.05)
    assert found <= queueing.daley(0.6, service)


def test_pollaczek_khinchine_by_hand():
    # Load 0.5 x 1 s; constant: 0.5 x 1 / (2 x 0.5) = 0.5 s. Exponential service has twice the second moment.
    assert queueing.pollaczek_khinchine(0.5, Moments(1.0, 1.0)) == 0.5
    assert queueing.pollaczek_khinchine(0.5, Moments(1.0, 2.0)) == 1.0
    assert queueing.pollaczek_khinchine(1.0, Moments(1.0, 1.0)) == math.inf


def simulated_sharing(rate, tokens, step_s, seed, requests=20_000):
    """The mean time per token where n sequences advance 1 / step_s(n) tokens per second each; exponential lengths."""
    source, now, after, left = random.Random(seed), 0.0, 0.0, list[list[float]]()
    done, spent, generated = 0, 0.0, 0.0
    after = source.expovariate(rate)
    while done < requests:
        pace = step_s(len(left)) if left else math.inf
        ends = now + min((one[0] for one in left), default=math.inf) * (pace if left else 1.0)
        until = min(ends, after)
        for one in left:
            one[0] -= (until - now) / pace
        now = until
        if after <= ends:
            length = source.expovariate(1 / tokens)
            left.append([length, now, length])
            after = now + source.expovariate(rate)
        else:
            first = min(left)
            left.remove(first)
            done, spent, generated = done + 1, spent + now - first[1], generated + first[2]
    return spent / generated


def test_the_decode_law_against_simulated_sharing():
    """With t(n) = 10 ms + 2 ms n, 2 requests/s of 100 tokens: t(1) / (1 - 2 x 100 x 2 ms) = 12 / 0.6 = 20 ms."""
    step_s = lambda number: 0.010 + 0.002 * number  # noqa: E731
    n = queueing.fixed_point(200.0, step_s, 1e6)
    assert n / 200.0 == pytest.approx(0.020)
    assert simulated_sharing(2.0, 100.0, step_s, 5) == pytest.approx(0.020, rel=0.05)


class Affine(Stack):
    """A stack whose prompts take ``prompt`` seconds (with chunks, as many mixed steps), and steps of n sequences a + b n."""

    def __init__(self, prompt, chunks, a, b, **request):
        super().__init__(LLAMA, Request(**request), 4096)
        self.prompt, self.chunks, self.a, self.b = prompt, chunks, a, b

    def _decode_s(self, number):
        return self.a + self.b * number

    def _prompt_s(self, length, decoding):
        return self.prompt + self.chunks * self._decode_s(decoding) if self.chunks else self.prompt

    @property
    def step_count(self):
        return self.chunks or 1


def simulated_stack(served, rate, seed, requests=8000):
    """Mean TTFT and TPOT, step by step: prompts first, or one chunk of the first prompt in every step."""
    source, now, times = random.Random(seed), 0.0, []
    for _ in range(requests):
        now += source.expovariate(rate)
        times.append(now)
    now, waiting, left, running = 0.0, 0, served.chunks, list[list[float]]()
    first_s, token_s, tokens = [], [], served.request.output - 1
    while len(token_s) < requests:
        arrived = waiting < requests and times[waiting] <= now
        if not arrived and not running:
            now = times[waiting]
            continue
        if arrived and not served.chunks:
            now += served.prompt
        else:
            now += served.a + served.b * len(running) + (served.prompt / served.chunks if arrived else 0.0)
            for one in running:
                one[0] -= 1
            token_s += [(now - one[1]) / tokens for one in running if not one[0]]
            running = [one for one in running if one[0]]
            left -= arrived
        if arrived and left <= 0:
            first_s.append(now - times[waiting])
            running.append([tokens, now])
            waiting, left = waiting + 1, served.chunks
    return sum(first_s) / requests, sum(token_s) / requests


@pytest.mark.parametrize(
    ("rate", "prompt", "chunks", "output", "a", "b", "within"),
    [
        (2.0, 0.1, 0, 50, 0.01, 0.001, 0.04),
        (4.0, 0.1, 0, 50, 0.01, 0.001, 0.06),
        (8.0, 0.02, 0, 20, 0.01, 0.002, 0.04),
        (2.0, 0.08, 4, 50, 0.01, 0.001, 0.05),
        (4.0, 0.08, 4, 50, 0.01, 0.001, 0.12),
    ],
)
def test_a_stack_against_its_simulation(rate, prompt, chunks, output, a, b, within):
    served = Affine(prompt, chunks, a, b, output=output, chunk=128 if chunks else 0)
    found, runs = served.at(rate), [simulated_stack(served, rate, seed) for seed in (1, 2)]
    first_s, token_s = (sum(times) / len(runs) for times in zip(*runs, strict=True))
    assert found.first_s == pytest.approx(first_s, rel=within)
    assert found.token_s == pytest.approx(token_s, rel=within)


def test_a_cluster_by_hand():
    # Load 0.5 and equal prompts: a busy period has 2 on average, E[X^2] = var + 4 = 0.5 / 0.125 + 4 = 8: 8 / 2 = 4.
    assert queueing.cluster(0.5, Moments(1.0, 1.0)) == 4.0
    assert queueing.cluster(0.0, Moments(1.0, 1.0)) == 1.0
    # Time to first token 3 s at load 0.5: 1.5 prompts are left behind, each starts 1 / (1 - 0.5) = 2 s.
    assert queueing.behind(0.5, 3.0) == 3.0


def test_a_fixed_point_beyond_the_largest_batch_is_none():
    assert queueing.fixed_point(200.0, lambda n: 0.010 + 0.006 * n, 1e6) is None  # 200 x 6 ms exceeds 1
    assert queueing.fixed_point(200.0, lambda n: 0.010 + 0.002 * n, 3.9) is None  # n would be 4


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
def test_lengths_have_their_mean_and_deviation(cv):
    found = queueing.lengths(10_000, cv)
    mean = sum(length * weight for length, weight in found)
    square = sum(length**2 * weight for length, weight in found)
    assert sum(weight for _, weight in found) == pytest.approx(1.0)
    assert mean == pytest.approx(10_000, rel=1e-2)
    assert math.sqrt(max(0.0, square - mean**2)) / mean == pytest.approx(cv, rel=0.06)


# --- under load


@pytest.mark.parametrize(
    "request_",
    [{}, {"chunk": 128}, {"disaggregated": "network"}, {"prompt_cv": 1.0, "prefix": 0.5}],
    ids=lambda request: next(iter(request), "plain"),
)
def test_without_load_the_times_are_those_of_single_steps(request_):
    served = stack(**request_)
    found = served.at(1e-6)
    assert found.wait_s == pytest.approx(0.0, abs=1e-6)
    assert found.first_s == pytest.approx(served.prompt_moments(0.0).mean_s, rel=1e-4)
    assert found.token_s == pytest.approx(served.decode_s(1), rel=1e-4)
    if not request_:
        assert served.decode_s(1) == LLAMA.cost((Chunk(1, 576),)).expected_s


@pytest.mark.parametrize("request_", [{}, {"chunk": 128}], ids=["plain", "chunk"])
def test_times_increase_with_the_rate(request_):
    served = stack(most=256, **request_)
    limit = served.limit_per_s()
    points = [served.at(share * limit) for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    for name in ("load", "wait_s", "first_s", "token_s", "decoding", "wait_at_most_s"):
        values = [getattr(point, name) for point in points]
        assert values == sorted(values), name
    assert all(point.wait_s <= point.wait_at_most_s for point in points)
    assert served.at(limit * 1.01).reason


def test_goodput_meets_its_targets():
    served = stack(most=256)
    rate = served.highest(0.5, 0.02)
    assert 0 < rate < served.limit_per_s()
    at, above = served.at(rate), served.at(rate * 1.001)
    assert at.token_s <= 0.02 < above.token_s
    assert served.highest(0.5, served.decode_s(1) / 2) == 0.0


def test_littles_law_holds():
    found = stack(most=256).at(5.0)
    assert found.decoding == pytest.approx(5.0 * 127 * found.token_s)


# --- the command


SERVE = ("serve", "--config", "llama-2-7b", "--gpu", "h100")


def test_the_document_has_every_figure_with_its_formula():
    ran = perfmodel(*SERVE, "--rate", "5", "--prompt", "1Ki", "--ttft", "0.5", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["figures"].keys() == found["formulas"].keys()
    assert all(found["formulas"].values())
    figures = found["figures"]
    assert figures["ttft_s"] == pytest.approx(figures["wait_s"] + figures["prompt_s"])
    answer = library.serve("llama-2-7b", "h100", rate=5.0, prompt=1024, ttft=0.5)
    assert json.loads(answer.to_json()) == found
    assert repr(answer).startswith("<ServiceAnswer llama-2-7b on 1 x h100-sxm5-80gb: TTFT ")


def test_the_time_of_the_host_is_part_of_every_step():
    one, other = (library.serve("llama-2-7b", "h100", host_gap=gap).decode.expected_s for gap in (0.0, 2e-3))
    assert other - one == pytest.approx(2e-3)


def test_verbose_shows_the_formulas():
    ran = perfmodel(*SERVE, "--rate", "2", "--draft", "tinyllama-1.1b", "--verbose")
    assert ran.code == 0
    for words in ("Pollaczek-Khinchine", "(1 - a^(g+1)) / (1 - a)", "Little: n = rate x (output - 1)", "Lower bound"):
        assert words in " ".join(ran.out.split())


@for_each(
    ("options", "words"),
    [
        (("--rate", "500"), "the queue grows without limit, because processing prompts alone takes"),
        (("--rate", "-1"), "-1.0 is out of range"),
        (("--rate", "nan"), "nan is out of range"),
        (("--prefix", "1"), "1.0 is out of range"),
        (("--host-gap", "-1"), "-1.0 is out of range"),
        (("--output", "1"), "1 is out of range"),
        (("--prompt", "many"), "'many' is not a size"),
        (("--chunk", "64", "--disaggregated", "network"), "it is given together with --disaggregated"),
        (("--chunk", "64", "--draft", "gpt2"), "it is given together with --chunk"),
        (("--batch", "100k"), "100,000 sequences of 640 tokens need"),
    ],
)
def test_bad_requests_are_refused(options, words):
    assert words in check_refused(perfmodel(*SERVE, *options))["found"]


def test_the_limit_is_stated():
    found = check_refused(perfmodel(*SERVE, "--rate", "500"))
    limit = library.serve("llama-2-7b", "h100").limit_per_s
    assert found["accepted"] == f"rates below {limit:.4g} requests/s are accepted"


@pytest.mark.parametrize("name", ["t5-base", "bert-base-uncased", "mlp-4096", "llama-2-7b-layer"])
def test_a_model_that_is_no_decoder_is_refused(name):
    ran = perfmodel("serve", "--config", name, "--gpu", "h100")
    assert check_refused(ran)["found"].endswith("it is not a decoder that generates tokens")


def test_a_model_that_does_not_fit_is_refused():
    ran = perfmodel("serve", "--config", "llama-2-70b", "--gpu", "h100")
    assert check_refused(ran)["action"].startswith("Increase --tp")


def test_an_unknown_field_of_a_request_is_refused():
    with pytest.raises(InputError, match="Did you mean 'prompt'"):
        library.serve("llama-2-7b", "h100", promt=3)
