"""Model FLOPs utilisation: GPT-2 by hand, the published conventions, mixed data types, recomputation, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from many import for_each

import perfmodel
from perfmodel import InputError, UsageError, mfu
from perfmodel.paths import files

# GPT-2 124M at 1024 tokens: L = 12 layers of width C = 768, F = 4 C, V = 50257.
L, C, T, V = 12, 768, 1024, 50257
WEIGHTS = L * (3 * C * C + C * C + 2 * 4 * C * C)  # q, k, v, projection, two products of the MLP
LOGITS = V * C
PARAMETERS = 124_439_808  # published; 38,597,376 of them embed tokens, 786,432 positions
SPEED = {"tokens_per_s": 180e3, "gpu": "a100", "dtype": "bf16"}  # 312 TFLOP/s in bf16


def gpt2(**options):
    return mfu("gpt2-124m", **{**SPEED, **options})


def test_the_flops_of_a_token_by_hand():
    """Each multiply-add is 2 FLOP, forward once and backward twice: 6 for each weight. Attention multiplies each query
    with T keys and T values of width C: 2 x 2 x C x T FLOP forward, three times that in all.
    """
    found = gpt2()
    assert (WEIGHTS, LOGITS) == (84_934_656, 38_597_376)
    assert found.parts == {"weights": 6 * WEIGHTS, "attention": 12 * L * C * T, "logits": 6 * LOGITS}
    assert found.flops_per_token == 509_607_936 + 113_246_208 + 231_584_256 == 854_438_400
    # 180,000 tokens/s x 854,438,400 FLOP = 153.8 TFLOP/s, of 312.
    assert found.flop_per_s == pytest.approx(153.8e12, rel=1e-4)
    assert found.peak_flop_per_s == 312e12
    assert found.mfu == pytest.approx(0.4929, abs=1e-4)


def test_the_conventions_of_other_programs():
    """They count parameters instead of products, so biases and normalisations are in it and the MFU is a little higher.

    nanoGPT: 6 N + 12 L H Q T, with N without the embedding of positions. llm.c: 6 N + 6 L C T, N with a vocabulary that
    is padded to 50304. PaLM's appendix B is nanoGPT's formula. The rule 6 N leaves attention out.
    """
    nanogpt = 6 * (PARAMETERS - 1024 * C) + 12 * L * C * T
    llm_c = 6 * (PARAMETERS + (50304 - V) * C) + 6 * L * C * T
    assert (nanogpt, llm_c) == (855_166_464, 803_478_528)
    exact, causal = gpt2(), gpt2(causal=True)
    assert nanogpt / exact.flops_per_token == pytest.approx(1.0009, abs=1e-4)
    # Query i sees i keys: (T + 1) / 2 of T on average, and llm.c counts T / 2.
    assert causal.parts["attention"] == 12 * L * C * (T + 1) // 2 == 56_678_400
    assert llm_c / causal.flops_per_token == pytest.approx(1.0070, abs=1e-4)
    assert 6 * PARAMETERS / exact.flops_per_token == pytest.approx(0.8738, abs=1e-4)


def test_both_conventions_of_masked_pairs_are_stated():
    full, causal = gpt2(), gpt2(causal=True)
    (told,) = (line for line in full.because if line.startswith("Attention counts"))
    assert told == (
        "Attention counts all query-key pairs (as PaLM and nanoGPT do). "
        f"With visible query-key pairs only (as llm.c does), MFU is {causal.mfu:.2%}."
    )
    assert any(f"MFU is {full.mfu:.2%}." in line for line in causal.because)
    assert any("6 FLOP for each active parameter would be 746,638,848" in line for line in full.because)


def test_the_figures_that_palm_published():
    """Appendix B of Chowdhery et al. 2022: 540.35e9 parameters, 118 layers, 48 heads of width 256, 2048 tokens; 238.3
    thousand tokens/s on 6144 chips of 275 TFLOP/s are an MFU of 46.2 %, and of 45.7 % without attention.
    """
    speed = {"tokens_per_s": 238.3e3, "peak_flop_per_s": 275e12, "gpus": 6144}
    weights, attention = 6 * 540.35e9, 12 * 118 * 48 * 256 * 2048
    assert mfu(flops_per_token=weights + attention, **speed).mfu == pytest.approx(0.462, abs=5e-4)
    assert mfu(flops_per_token=weights, **speed).mfu == pytest.approx(0.457, abs=5e-4)


# --- what runs


def test_hardware_flops_add_what_is_computed_again():
    """Flash attention computes its scores again, 2 C T FLOP for each layer. Full recomputation adds the forward pass of
    the layers, without the logits. Selective recomputation adds both products of attention, 4 C T for each layer.
    """
    scores, forward = L * 2 * C * T, 2 * WEIGHTS + L * 4 * C * T
    model = 854_438_400
    for options, more in (
        ({}, scores),
        ({"fused": False}, 0),
        ({"fused": False, "recompute": "selective"}, 2 * scores),
        ({"recompute": "selective"}, scores),
        ({"fused": False, "recompute": "full"}, forward),
        ({"recompute": "full"}, forward + scores),
        ({"phase": "prefill", "recompute": "full"}, 0),
    ):
        found = gpt2(**options)
        needed = model // 3 if options.get("phase") else model
        assert (found.flops_per_token, found.executed_flops_per_token) == (needed, needed + more), options
        assert found.hfu / found.mfu == pytest.approx((needed + more) / needed)


def test_a_model_needs_three_times_its_forward_pass():
    """The gradient of a product is two products of its size. A first convolution on pixels or sounds has only one."""
    for name in ("llama-3-8b", "deepseek-v3", "mixtral-8x7b", "mamba-130m", "bert-base-uncased", "t5-small"):
        assert name in files("configs")
        train, prefill = (mfu(name, **SPEED, phase=phase, causal=False) for phase in ("train", "prefill"))
        ratio = train.flops_per_token / prefill.flops_per_token
        assert ratio == pytest.approx(3, rel=1e-9), name


# --- data types


def test_each_part_is_measured_against_the_peak_of_its_type():
    """On an H100, fp8 runs at 1979 TFLOP/s and bf16 at 989.4. The time at peak is 509.6e6 / 1979e12 + 344.8e6 / 989.4e12
    = 606.1 ns for a token: 180,000 tokens/s are 10.91 %.
    """
    mixed = {"weights": "fp8", "attention": "bf16", "logits": "bf16"}
    found = gpt2(gpu="h100", dtype=mixed)
    seconds = 509_607_936 / 1979e12 + (113_246_208 + 231_584_256) / 989.4e12
    assert found.mfu == pytest.approx(180e3 * seconds, rel=1e-3)
    assert found.peak_flop_per_s == pytest.approx(854_438_400 / seconds, rel=1e-3)
    assert gpt2(gpu="h100").mfu == pytest.approx(180e3 * 854_438_400 / 989.4e12, rel=1e-3)


def test_flops_and_peaks_by_data_type():
    """3e12 FLOP at 2e15/s and 1e12 at 1e15/s need 2.5 ms of the 5 ms that were measured on two GPUs: 25 %."""
    peaks = {"fp8": 2e15, "bf16": 1e15}
    found = mfu(flops_per_step={"fp8": 3e12, "bf16": 1e12}, seconds_per_step=5e-3, peak_flop_per_s=peaks, gpus=2)
    assert found.mfu == found.hfu == pytest.approx(0.25)
    assert found.peak_flop_per_s == pytest.approx(4e12 / 2.5e-3)
    assert found.flops_per_token is None
    assert found.parts == {"fp8": 3e12, "bf16": 1e12}


def test_a_card_without_the_type_says_at_which_rate_it_runs():
    assert any("no tensor rate for bf16" in line for line in gpt2(gpu="t4").because)
    assert "Peak of one GPU: bf16 312.0 TFLOP/s (NVIDIA A100 SXM4 80 GB, dense)." in gpt2().because


# --- speeds and counts


def test_a_step_is_as_good_as_a_rate():
    """32 sequences of 1024 tokens in 0.5 s are 65,536 tokens/s."""
    rate = gpt2(tokens_per_s=65_536)
    for options in ({"B": 32}, {"tokens_per_step": 32 * 1024}, {"settings": {"B": 32}, "N": 1024}):
        assert gpt2(tokens_per_s=None, seconds_per_step=0.5, **options).mfu == pytest.approx(rate.mfu)


def test_several_gpus_share_the_work():
    assert gpt2(gpus=8).mfu == pytest.approx(gpt2().mfu / 8)


def test_a_number_of_flops_and_its_recomputation():
    """Of 6 FLOP, 2 are the forward pass: with full recomputation 8 run."""
    found = mfu(flops_per_token=6e9, tokens_per_s=1e4, peak_flop_per_s=1e14, recompute="full")
    assert (found.mfu, found.hfu) == (pytest.approx(0.6), pytest.approx(0.8))


def test_a_program_that_counts_its_products():
    answer = perfmodel.analyse("gpt2-124m", phase="train")
    program = SimpleNamespace(contraction_flops=answer.total.contraction_flops)
    speed = {"seconds_per_step": 0.01, "gpu": "a100"}
    for counted in (program, answer, SimpleNamespace(contraction_flops=lambda: answer.total.contraction_flops)):
        found = mfu(counted, tokens_per_step=1024, **speed)
        assert found.mfu == found.hfu == pytest.approx(894_272_274_432 / 0.01 / 312e12)
        assert found.flops_per_token == 894_272_274_432 // 1024
    assert mfu(program, **speed).flops_per_token is None


def test_numbers_of_other_libraries():
    class Scalar:
        def __float__(self):
            return 180e3

    assert gpt2(tokens_per_s=Scalar()).mfu == gpt2().mfu


def test_the_answer_cannot_be_changed():
    with pytest.raises(AttributeError):
        gpt2().mfu = 1


COUNT = {"flops_per_token": 6e9, "tokens_per_s": 1e4, "peak_flop_per_s": 1e14}
REFUSED = [
    ({**SPEED}, "mfu: none of model, flops_per_token, flops_per_step is given; exactly one of model, flops_per_token and"),
    ({"model": "gpt2", **COUNT}, "mfu: model and flops_per_token are given;"),
    ({"model": "gpt2", "gpu": "a100"}, "mfu: none of tokens_per_s, seconds_per_step is given;"),
    ({"model": "gpt2", "tokens_per_s": 1}, "mfu: none of gpu, peak_flop_per_s is given;"),
    ({"model": 6e9, **SPEED}, "mfu: the number 6000000000.0 is given as the model; a number is accepted as flops_per_token="),
    ({"model": "gpt3", **SPEED}, "config 'gpt3': there is no operation or configuration with this name;"),
    ({"model": "softmax", **SPEED}, "softmax: it has no matrix products;"),
    ({"model": "gpt2", **SPEED, "recompute": "some"}, "recompute: 'some' is not known; one of none, selective, full is"),
    ({"model": "gpt2", **SPEED, "dtype": {"mlp": "fp8"}}, "dtype 'mlp': it is not a part; weights, attention, logits are"),
    ({"model": "gpt2", **SPEED, "dtype": "fp12"}, "dtype 'fp12': it is not a data type;"),
    ({"model": "gpt2", **SPEED, "gpus": 0}, "gpus: 0 is not accepted here; a number of GPUs, a whole number from 1"),
    ({"model": "gpt2", **SPEED, "tokens_per_s": 0}, "tokens_per_s: 0 is not accepted here; a rate in tokens per second,"),
    ({"model": "gpt2", **SPEED, "tokens_per_s": float("nan")}, "tokens_per_s: nan is not accepted here;"),
    ({"model": "gpt2", **SPEED, "tokens_per_s": "fast"}, "tokens_per_s: 'fast' is not accepted here;"),
    ({"model": "gpt2", **SPEED, "M": 5}, "gpt2: set M: it is not a symbol of this workload;"),
    (
        {"model": "gpt2", "gpu": "a100", "seconds_per_step": 1},
        "seconds_per_step: the batch of a step is not given; B= or tokens_per_step= is accepted. Add it.",
    ),
    (
        {"flops_per_token": 6e9, "seconds_per_step": 1, "gpu": "a100"},
        "seconds_per_step: the FLOPs are those of one token; tokens_per_step= is accepted.",
    ),
    (
        {"flops_per_step": 6e9, "tokens_per_s": 1, "gpu": "a100"},
        "tokens_per_s: the FLOPs are those of a step of unknown tokens; tokens_per_step= is accepted.",
    ),
    ({**COUNT, "recompute": "selective"}, "recompute: 'selective' is given with a number of FLOPs; a configuration is"),
    ({**COUNT, "causal": True}, "mfu: causal is given with counted FLOPs; it is accepted with a configuration."),
    ({**COUNT, "N": 1024}, "mfu: N is given with counted FLOPs;"),
    ({**COUNT, "flops_per_token": {"fp8": 1e9}, "dtype": "fp8"}, "mfu: dtype and flops_per_token by data type are given;"),
    ({**COUNT, "flops_per_token": {}}, "flops_per_token: it is empty;"),
    ({**COUNT, "peak_flop_per_s": {"fp8": 1e15}}, "peak_flop_per_s: bf16 has no peak; a peak of each data type (bf16) is"),
]  # fmt: skip


@for_each(("options", "told"), REFUSED)
def test_what_is_refused(options, told):
    with pytest.raises((InputError, UsageError)) as caught:
        mfu(**options)
    assert str(caught.value).startswith(told)
