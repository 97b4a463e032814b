"""Serving: bounds of each phase, the optimizer step, and the forms of a decoding step."""

from __future__ import annotations

import json
import re

import pytest
from command import check_refused, perfmodel
from many import for_each

from perfmodel import InputError, analyse
from perfmodel.serving import speed

A100 = "a100-sxm4-80gb"  # 312 TFLOP/s dense fp16, 2039 GB/s


def document(*arguments):
    ran = perfmodel("flops", *arguments, "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def notes(*arguments):
    """Returns the notes below the table with all columns, as one line."""
    ran = perfmodel("flops", *arguments, "--verbose")
    assert (ran.code, ran.err) == (0, "")
    return " ".join(ran.out.rpartition("─\n")[2].partition("\n\n")[2].split())


# --- times and rates


def test_a_memory_bound_token_takes_its_bytes_over_the_bandwidth():
    answer = analyse("llama-2-7b", gpu=A100, phase="decode", settings={"B": 4})
    assert {row.bounds.bound for row in answer.rows} == {"memory"}
    # Weights but the table of tokens, 2 x (6,738,415,616 - 32,000 x 4096) = 13.21 GB, and 2049 tokens of 4 sequences,
    # 4 x 2049 x 524,288 = 4.30 GB: 17.51 GB. Activations add 0.3 %.
    assert 17.51e9 < answer.total.traffic_byte < 17.57e9
    found = speed(answer)
    assert found.complete
    assert found.time_at_least_s == pytest.approx(answer.total.traffic_byte / 2039e9)
    assert found.tokens_at_most_per_s == pytest.approx(4 / (answer.total.traffic_byte / 2039e9))


def test_several_tokens_of_a_sequence_share_a_decoding_step():
    answer = analyse("llama-2-7b", gpu=A100, phase="decode", settings={"B": 4, "N": 3})
    found = speed(answer)
    assert found.tokens == 12
    assert found.time_at_least_s == pytest.approx(answer.total.lower_s / 3)
    assert found.tokens_at_most_per_s == pytest.approx(12 / answer.total.lower_s)


def test_the_use_of_the_tensor_peak_is_what_the_products_take_of_the_time():
    found = speed(analyse("mlp-4096", gpu=A100))
    # Two products of 2 x 2048 x 4096 x 16384 FLOP at 312 TFLOP/s: 1762.04 us. Between them the activation reads and
    # writes 2048 x 16384 elements of 2 bytes at 2039 GB/s: 65.83 us.
    products, activation = 4 * 2048 * 4096 * 16384 / 312e12, 2 * 2 * 2048 * 16384 / 2039e9
    assert found.flops_utilisation_at_most == pytest.approx(products / (products + activation), rel=1e-4)
    assert found.flops_utilisation_at_most == pytest.approx(0.964, abs=5e-4)
    assert not found.complete


def test_the_prompt_of_an_encoder_is_what_it_reads():
    answer = analyse("whisper-base", gpu="t4", settings={"B": 2, "N": 4})
    assert speed(answer).tokens == 2 * 1500
    assert speed(analyse("whisper-base", gpu="t4", phase="decode", settings={"B": 2})).tokens == 2


def test_without_a_card_there_are_no_rates():
    assert speed(analyse("gpt2")) is None
    assert "rates" not in document("--config", "gpt2")


@for_each(
    ("config", "phase", "only", "time", "tokens"),
    [
        ("gpt2", "prefill", ("--logits", "last"), "time_to_first_token", "prompt_tokens"),
        ("gpt2", "decode", (), "time_per_output_token", "output_tokens"),
        ("gpt2", "train", (), "step_time", "tokens"),
        ("llama-2-7b-layer", "prefill", (), "time", "tokens"),
        ("llama-2-7b-layer", "decode", (), "time_per_token", "tokens"),
        ("bert-base-uncased", "prefill", (), "time", "tokens"),
    ],
)
def test_rates_have_the_names_of_their_phase(config, phase, only, time, tokens):
    """A part of a model, or a model that generates no tokens, has no first token."""
    found = document("--config", config, "--gpu", "h100", "--phase", phase, *only)
    lower_s, dims = found["total"]["lower_s"], found["dims"]
    assert found["rates"] == {
        f"{time}_at_least_s": lower_s,
        f"{tokens}_at_most_per_s": pytest.approx(dims["B"] * dims["N"] / lower_s),
        "flops_utilisation_at_most": pytest.approx(found["total"]["contraction_flops"] / lower_s / 989.4e12, rel=1e-3),
        "flops_utilisation_of": "tensor fp16",
        **({"logits": "last"} if only else {}),
    }


# --- the first token needs the logits of one position


@pytest.mark.parametrize("config", ["gpt2", "gemma-2-2b", "t5-small", "phi-2"])
def test_the_time_to_first_token_has_the_logits_of_the_last_position(config):
    """The time is that with --logits last, for both options."""
    whole, last = (analyse(config, gpu=A100, logits=which) for which in ("all", "last"))
    assert last.total.lower_s < whole.total.lower_s
    assert speed(whole).last_logits
    assert speed(last).last_logits
    for figure in ("time_at_least_s", "tokens_at_most_per_s", "flops_utilisation_at_most"):
        assert getattr(speed(whole), figure) == pytest.approx(getattr(speed(last), figure), rel=1e-9)


def test_the_logits_of_the_last_position_by_hand():
    # GPT-2 124M at 1 x 1024: logits of 1023 positions fewer, 2 x 1023 x 768 x 50257 FLOP.
    whole, last = (analyse("gpt2-124m", settings={"N": 1024}, logits=which).total for which in ("all", "last"))
    assert whole.contraction_flops == 291_648_307_200
    assert whole.contraction_flops - last.contraction_flops == 2 * 1023 * 768 * 50_257
    # The cap of Gemma's logits is a separate step: one tanh per logit, at one position per sequence.
    capped = {row.name: row for row in analyse("gemma-2-2b", settings={"B": 3}, logits="last").rows}["logits.softcap"]
    assert capped.work["tanh"] == 3 * 256_000


def test_logits_are_kept_in_the_counts_unless_asked_for():
    asked = document("--config", "gpt2", "--gpu", "h100", "--logits", "all")
    assert asked == document("--config", "gpt2", "--gpu", "h100")
    assert asked["logits"] == "all"
    assert asked["rates"]["time_to_first_token_at_least_s"] < asked["total"]["lower_s"]
    assert document("--config", "gpt2", "--logits", "last")["logits"] == "last"


@pytest.mark.parametrize("config", ["llama-2-7b-layer", "bert-base-uncased", "vit-base-patch16-224"])
def test_a_workload_without_logits_of_a_next_token_refuses_the_last_ones(config):
    found = check_refused(perfmodel("flops", "--config", config, "--logits", "last"))
    assert found["found"].endswith("the workload computes no logits of a next token")


def test_training_reads_the_logits_of_every_position():
    ran = perfmodel("flops", "--config", "gpt2", "--phase", "train", "--logits", "last")
    assert check_refused(ran)["found"].endswith("the loss of a training step reads the logits of every position")


def test_a_workload_without_products_has_no_tokens_no_cache_and_no_tensor_peak():
    found = document("--config", "conv1d-8192", "--gpu", "t4")
    rates = {"time_at_least_s": found["total"]["lower_s"], "tokens_at_most_per_s": None}
    assert found["rates"] == {**rates, "flops_utilisation_at_most": None, "flops_utilisation_of": None}
    below = notes("--config", "conv1d-8192", "--gpu", "t4")
    assert below.startswith("Time: at least 839.1 µs (this part of a model only). Sizes: ")
    assert not re.search("token|cache|peak", below)


def test_the_roof_that_serves_the_products_is_named():
    """The tensor cores of a T4 do not support bf16, so products run in fp32 on the vector engine."""
    assert "; utilisation of the vector fp32 peak at most " in notes(
        "--config", "mlp-4096", "--gpu", "t4", "--dtype", "bf16"
    )


def test_rates_stand_below_the_table():
    assert notes("--config", "llama-2-7b-layer", "--gpu", A100).startswith(
        "Time: at least 3.059 ms; at most 669,583 tokens/s; utilisation of the tensor fp16 peak at most 94.1 % (this part of a model only)."
    )
    assert notes("--config", "llama-3-8b", "--gpu", A100, "--phase", "decode").startswith(
        "Time per output token: at least "
    )
    prompt = ("--config", "llama-3-8b", "--gpu", A100)
    assert notes(*prompt).startswith("Time to first token: at least ")
    assert " (logits of the last position only). Attention counts all query-key pairs, masked ones too." in notes(
        *prompt
    )
    assert " (logits of the last position only). Attention counts visible query-key pairs only." in notes(
        *prompt, "--causal"
    )


# --- the optimizer's step


def test_a_training_step_ends_with_the_optimizer():
    forward, train = analyse("gpt2-124m", fused=False), analyse("gpt2-124m", phase="train", fused=False)
    update = train.rows[-1]
    assert (update.name, update.operation, update.repeat) == ("optimizer", "adam", 1)
    # Gradient of 2 bytes, weight of 2, and 3 numbers of 4 bytes read and written: 28 bytes; 15 primitives.
    assert update.traffic_byte == 28 * 124_439_808
    assert update.flops == 15 * 124_439_808
    # Every product has two of its size in the backward pass; the optimizer has none.
    assert update.contraction_flops == 0
    assert train.total.contraction_flops == 3 * forward.total.contraction_flops
    assert (
        train.total.traffic_byte - sum(row.traffic_byte * row.repeat for row in train.rows[:-1]) == update.traffic_byte
    )


def test_shared_weights_are_updated_once():
    """The head of GPT-2 shares the table of tokens."""
    assert analyse("gpt2", phase="train").rows[-1].traffic_byte == 28 * analyse("gpt2").parameters.total


@pytest.mark.parametrize(
    ("config", "phase"), [("attention-16x16384", "train"), ("gpt2", "prefill"), ("gpt2", "decode")]
)
def test_there_is_no_optimizer_without_parameters_or_training(config, phase):
    assert all(row.operation != "adam" for row in analyse(config, phase=phase).rows)


def test_the_optimizer_is_in_the_document():
    steps = document("--config", "mlp-4096", "--phase", "train", "--gpu", "h100")["steps"]
    assert steps[-1]["name"] == "optimizer"
    # Two matrices of 4096 x 16384; bytes at 3352 GB/s, for it waits for memory.
    assert steps[-1]["traffic_byte"] == 28 * 2 * 4096 * 16384
    assert steps[-1]["bound"] == "memory"


# --- forms of a decoding step

# DeepSeek-V2-Lite, one token after 1024: FLOP of products, and bytes of cache per token, 27 layers of 2 bytes each:
# r + d_r = 512 + 64 numbers, or 16 heads of d + d_r + d_v = 128 + 64 + 128.
FORMS = {
    "absorbed": (5_866_149_888, 27 * 2 * (512 + 64)),
    "re-expanded": (121_150_126_080, 27 * 2 * (512 + 64)),
    "expanded cache": (5_186_009_088, 27 * 2 * 16 * (128 + 64 + 128)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_chosen_and_all_are_shown(form):
    found = document("--config", "deepseek-v2-lite", "--phase", "decode", "--set", "S=1024", "--form", form)
    assert found["form"] == form
    assert {name: (f["contraction_flops"], f["kv_cache_byte_per_token"]) for name, f in found["forms"].items()} == FORMS
    assert (found["total"]["contraction_flops"], found["kv_cache_byte_per_token"]) == FORMS[form]
    assert found["total"] == {key: found["forms"][form][key] for key in found["total"]}


def test_the_first_form_is_the_default_and_said_to_be():
    below = notes("--config", "deepseek-v2-lite", "--phase", "decode", "--gpu", "h100")
    assert "Form absorbed (shown, the default): " in below
    assert "Form re-expanded: 237.40 GFLOP of matrix products, " in below
    assert "the code of transformers re-expands the latent" in below
    below = notes("--config", "deepseek-v2-lite", "--phase", "decode", "--form", "re-expanded")
    assert "Form absorbed (the default): " in below
    assert "Form re-expanded (shown): " in below


def test_a_single_form_is_not_listed():
    found = document("--config", "t5-base", "--phase", "decode")
    assert found["form"] == "cross-attention cached"
    assert "forms" not in found
    assert document("--config", "gpt2", "--phase", "decode")["form"] is None


@pytest.mark.parametrize(
    ("config", "phase", "form", "accepted", "action"),
    [
        (
            "deepseek-v3",
            "decode",
            "re-expandd",
            "the name of one of its forms is accepted",
            "Did you mean 're-expanded'?",
        ),
        ("deepseek-v3", "prefill", "absorbed", "it has a single form without a name", "Choose --phase decode."),
        ("gpt2", "decode", "absorbed", "it has a single form without a name", "Remove --form."),
    ],
)
def test_an_unknown_form_is_refused(config, phase, form, accepted, action):
    found = check_refused(perfmodel("flops", "--config", config, "--phase", phase, "--form", form), 1)
    assert found["found"] == f"form '{form}': its {phase} phase has no form of that name"
    assert found["accepted"] == accepted
    assert found["action"] == action


def test_the_library_chooses_a_form_too():
    settings = {"S": 1024}
    answer = analyse("deepseek-v2-lite", phase="decode", settings=settings, form="expanded cache")
    assert answer.total.contraction_flops == FORMS["expanded cache"][0]
    with pytest.raises(InputError, match="has no form of that name"):
        analyse("deepseek-v2-lite", phase="decode", settings=settings, form="")


@pytest.mark.parametrize(("form", "letters"), [("expanded cache", "B H S N d d_r d_v"), ("absorbed", "B H S N r d_r")])
def test_formulas_are_those_of_the_form(form, letters):
    """The cached form determines the head size: d + d_r and d_v, or r + d_r and r."""
    from perfmodel import symbolic
    from perfmodel.config_files import workload

    model = workload("deepseek-v2-lite")
    found = symbolic.kernels_of(model, "decode", {}, fused=True, causal=False, form=form)
    attention = next(kernel for kernel in found if kernel.name == "layers.dense.attention")
    assert {str(letter) for letter in attention.op.flops().free_symbols} == set(letters.split())
